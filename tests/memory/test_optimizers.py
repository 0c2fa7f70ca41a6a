"""States of the optimizers, and what their steps hold."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import GPT2, llama
from vramlint.catalog.optimizers import all_optimizers
from vramlint.estimate import Estimate
from vramlint.job import Argument, Batch, Job, Libraries, Model, Optimizer, Precision
from vramlint.memory import simulate
from vramlint.memory.optimizers import held
from vramlint.memory.recorder import Recorder
from vramlint.memory.tensor import Parameter
from vramlint.memory.timeline import Timeline
from vramlint.memory.updates import REFUSED, UPDATES, update_for
from vramlint.memory.updates.clipping import clip_by_norm
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Update

MATRIX = 10_000
"""Elements of the matrix 100 × 100."""


def weight(elements: int = MATRIX, dtype: str = "bfloat16") -> Parameter:
    return Parameter("w", (elements // 100, 100), dtype, trainable=True, multiplicity=1)


def vector(elements: int, dtype: str = "bfloat16") -> Parameter:
    return Parameter("b", (elements,), dtype, trainable=True, multiplicity=1)


def linear(rows: int, columns: int, dtype: str = "bfloat16") -> Parameter:
    parameter = Parameter("model.layers.0.mlp.up_proj.weight", (rows, columns), dtype, trainable=True, multiplicity=1)
    parameter.linear = True
    return parameter


def update(name: str, arguments: dict[str, Argument] | None = None, **others: object) -> Update:
    found = update_for(Optimizer(name, arguments or {}, **others))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_every_catalogued_optimizer_is_followed_or_refused_for_a_reason() -> None:
    names = {row.name for row in all_optimizers()}

    assert set(UPDATES) | set(REFUSED) == names
    assert not set(UPDATES) & set(REFUSED)


@pytest.mark.parametrize("name", UPDATES)
def test_every_update_runs(name: str) -> None:
    targets = ("up_proj",) if "galore" in name or "apollo" in name else None
    followed = update(name, target_modules=targets)

    sizes = followed.states(linear(300, 200))

    assert all(size > 0 for size in sizes)
    assert followed.in_backward or held(followed, [linear(300, 200), vector(300)]) >= 0


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("adamw_torch", "float32", [40_000, 40_000]),
        ("adamw_torch", "bfloat16", [20_000, 20_000]),
        ("adamw_torch_fused", "bfloat16", [4, 20_000, 20_000]),
        ("adamw_bnb_8bit", "bfloat16", [10_000, 10_000, 160, 160]),
        ("paged_adamw_32bit", "bfloat16", [40_000, 40_000]),
        ("lion_8bit", "float32", [10_000, 160]),
        ("sgd", "float32", []),
        ("adafactor", "float32", [400, 400, 4]),
        ("torch_adafactor", "bfloat16", [200, 200]),
        ("ademamix_8bit", "bfloat16", [20_000, 10_000, 320, 160]),
        ("stable_adamw", "bfloat16", [20_000, 20_000, 2, 20_000, 4]),
        ("stable_adamw", "float32", [40_000, 40_000, 4, 1, 4]),
        ("optimi_adamw", "bfloat16", [20_000, 20_000, 20_000]),
        ("adopt_adamw", "bfloat16", [20_000, 20_000]),
        ("lomo", "bfloat16", []),
        ("grokadamw", "bfloat16", []),
    ],
)
def test_states_of_a_matrix(name: str, dtype: str, expected: list[int]) -> None:
    assert update(name).states(weight(dtype=dtype)) == expected


def test_arguments_add_states() -> None:
    assert update("sgd", {"momentum": 0.9}).states(weight()) == [20_000]
    assert update("sgd", {"momentum": "0.0"}).states(weight()) == []
    assert update("adamw_torch", {"amsgrad": "true"}).states(weight()) == [20_000] * 3
    assert update("rmsprop", {"momentum": "0.9", "centered": "True"}).states(weight()) == [20_000] * 3


def test_paged_states_of_large_tensors_leave_the_allocator() -> None:
    paged = update("paged_adamw_8bit")

    assert paged.states(weight(200_000)) == [3128, 3128]
    assert paged.managed(weight(200_000)) == 400_000
    assert paged.managed(weight()) == 0


def test_small_tensors_of_8_bit_optimizers_stay_in_32_bit() -> None:
    narrow = update("adamw_bnb_8bit")

    assert narrow.states(weight(1000)) == [4000, 4000]
    assert narrow.shared([weight(1000)]) == []
    assert narrow.shared([weight()]) == [1024, 1024]


def test_torchao_quantizes_what_divides_into_blocks() -> None:
    assert update("adamw_torch_8bit").states(linear(64, 256)) == [16_384, 256, 1024] * 2
    assert update("adamw_torch_4bit").states(linear(64, 256)) == [8192, 256, 64] * 2
    assert update("adamw_torch_8bit").states(linear(101, 101)) == [20_402] * 2


def test_the_trainer_keeps_wide_states_for_embeddings() -> None:
    embedding = weight()
    embedding.embedding = True

    assert update("adamw_bnb_8bit", wide_embeddings=True).states(embedding) == [40_000, 40_000]
    assert update("adamw_bnb_8bit").states(embedding) == [10_000, 10_000, 160, 160]


def test_states_on_the_host_are_not_on_the_device() -> None:
    cpu_adam = update("deepspeed_cpu_adam")

    assert cpu_adam.states(weight()) == []
    assert cpu_adam.hosted(weight()) == 80_000


# ---------------------------------------------------------------------- steps


def test_foreach_holds_a_copy_of_the_largest_group() -> None:
    """Weights and gradients aside: the roots of AdamW, group after group."""
    parameters = [weight(20_000), weight(30_000)]

    assert held(update("adamw_torch"), parameters) == 40_448 + 60_416
    assert held(update("adamw_torch_fused"), parameters) == 0


def test_the_loop_holds_two_copies_of_one_parameter_and_the_one_before() -> None:
    loop = update("adamw_torch", {"foreach": False})

    assert held(loop, [weight(30_000)]) == 2 * 60_416
    assert held(loop, [weight(20_000), weight(20_000)]) == 3 * 40_448


def test_foreach_is_the_default_since_torch_2() -> None:
    older = update_for(Optimizer("adamw_torch"), Libraries(torch=(1, 13, 1)))

    assert older is not None
    assert held(older, [weight(20_000)] * 3) == 3 * 40_448


@pytest.mark.parametrize(("torch", "lists"), [((2, 0, 1), 2), ((2, 1, 0), 1)])
def test_torch_2_0_made_a_list_more(torch: tuple[int, ...], lists: int) -> None:
    older = update_for(Optimizer("adamw_torch"), Libraries(torch=torch))

    assert older is not None
    assert held(older, [weight(20_000)] * 3) == lists * 3 * 40_448


@pytest.mark.parametrize(
    ("name", "plain", "decayed"),
    [("sgd", 0, 1), ("adamw_torch", 1, 1), ("rmsprop", 1, 2), ("torch_nadam", 1, 2)],
)
def test_weight_decay_copies_gradients_where_it_is_added_to_them(name: str, plain: int, decayed: int) -> None:
    one = 20_480

    assert held(update(name), [weight()]) == plain * one
    assert held(update(name, weight_decay=0.1), [weight()]) == decayed * one


def test_muon_orthogonalizes_in_16_bit() -> None:
    """The float32 update, two results in bfloat16, and two square matrices."""
    matrix = Parameter("w", (256, 1024), "float32", trainable=True, multiplicity=1)

    assert held(update("torch_muon"), [matrix]) == 4 * 256 * 1024 + 2 * (2 * 256 * 1024) + 2 * (2 * 256 * 256)
    assert update("torch_muon").states(vector(1024)) == []


def test_clipping_takes_partial_norms_of_every_gradient() -> None:
    """As many of each as the largest tensor has chunks of 65536 elements."""
    recorder = Recorder()
    recorder.begin("clip")
    clip_by_norm(Memory(recorder, ""), [weight(650_000), *[vector(1000)] * 99])
    recorder.close()

    peak = Timeline(recorder.blocks, recorder.sizes, 0).peaks()["clip"].bytes
    assert peak == 100 * 512 + -(-4 * 100 * 10 // 512) * 512


# ---------------------------------------------------------------------- low rank


def test_galore_projects_its_targets() -> None:
    galore = update("galore_adamw", {"rank": 16}, target_modules=("mlp",))

    assert galore.states(linear(512, 128)) == [2 * 16 * 128, 2 * 512 * 16, 2 * 512 * 16]
    assert galore.states(weight()) == [20_000, 20_000]


def test_galore_keeps_all_singular_vectors_of_float32_gradients() -> None:
    galore = update("galore_adamw", {"rank": 16}, target_modules="all-linear")

    assert galore.states(linear(512, 128, "float32"))[0] == 4 * 128 * 128


def test_apollo_keeps_random_projections() -> None:
    apollo = update("apollo_adamw", {"rank": "16"}, target_modules=r".*up_proj")

    assert apollo.states(linear(512, 128)) == [2 * 16 * 128, 2 * 512 * 16, 2 * 512 * 16, 2]


def test_linear_layers_are_told_from_convolutions() -> None:
    """GPT-2's Conv1D are no nn.Linear: nothing of it is projected."""
    gpt2 = Job(Model("small", "gpt2", GPT2), optimizer=Optimizer("galore_adamw", target_modules="all-linear"))
    adamw = Job(Model("small", "gpt2", GPT2), optimizer=Optimizer("adamw_torch"))

    assert simulate(gpt2).optimizer_states == simulate(adamw).optimizer_states


# ---------------------------------------------------------------------- runs


def step_of(name: str, arguments: dict[str, Argument] | None = None, **others: Any) -> Estimate:
    job = llama(
        optimizer=Optimizer(name, arguments or {}, target_modules=("mlp", "attn")),
        precision=Precision("bfloat16"),
        **others,
    )
    return simulate(job)


def test_updates_in_backward_hold_no_set_of_gradients() -> None:
    assert step_of("lomo").gradients == 0
    assert step_of("apollo_adamw_layerwise").gradients == 0
    assert step_of("lomo", batch=Batch(1, 8)).allocated < step_of("sgd", batch=Batch(1, 8)).allocated


def test_states_come_with_the_first_step() -> None:
    estimate = step_of("adamw_torch")
    first = {phase.phase: phase.allocated for phase in estimate.first_step}
    steady = {phase.phase: phase.allocated for phase in estimate.phases}

    assert steady["backward"] - first["backward"] == pytest.approx(estimate.optimizer_states, rel=1e-2)


@pytest.mark.parametrize("name", UPDATES)
def test_repeated_layers_are_as_many_single_ones(name: str) -> None:
    """A pattern with a number makes every layer a kind of its own."""
    job = llama(
        {"num_hidden_layers": 9},
        optimizer=Optimizer(name, target_modules=("mlp", "attn")),
        precision=Precision("bfloat16"),
        batch=Batch(1, 8),
    )
    together, apart = simulate(job), simulate(replace(job, frozen_parameters=("layer 9",)))

    assert [phase.allocated for phase in together.phases] == [phase.allocated for phase in apart.phases]
    assert [phase.allocated for phase in together.first_step] == [phase.allocated for phase in apart.first_step]


def test_what_is_only_estimated_is_said() -> None:
    assert any("cuSOLVER" in note for note in step_of("galore_adamw").notes)
    assert any("torchao" in note for note in step_of("adamw_torch_8bit").notes)
    assert not step_of("adamw_torch").notes


@pytest.mark.parametrize("name", REFUSED)
def test_refused_optimizers_are_bounded_with_the_reason(name: str) -> None:
    estimate = step_of(name)

    assert estimate.method == "bounded"
    assert REFUSED[name] in estimate.why


def test_unknown_optimizers_are_not_followed() -> None:
    assert update_for(Optimizer("my_optimizer")) is None
    assert step_of("my_optimizer").why.startswith("the optimizer my_optimizer is not simulated")


@pytest.mark.parametrize(
    ("name", "bytes_per_parameter"), [("adamw_torch", 8), ("sgd", 0), ("adafactor", 0), ("lomo", 0)]
)
def test_a_bound_counts_states_that_no_shape_decides(name: str, bytes_per_parameter: int) -> None:
    unknown = Job(Model("x", "unheard-of", {}, parameter_count=1000), optimizer=Optimizer(name))
    estimate = simulate(unknown)

    assert estimate.method == "bounded"
    assert estimate.optimizer_states == 1000 * bytes_per_parameter
    assert estimate.gradients == (0 if name == "lomo" else 4000)
