"""What is on the device while a model is loaded."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA, llama
from vramlint.estimate import Estimate
from vramlint.job import Adapter, Batch, Job, Loading, Model, Objective, Parallelism, Precision, Quantization, Zero
from vramlint.memory import simulate

LARGEST_LINEAR = LLAMA["hidden_size"] * LLAMA["intermediate_size"]
VOCABULARY = LLAMA["vocab_size"] * LLAMA["hidden_size"]


def loading(estimate: Estimate) -> int:
    return next(peak.allocated for peak in estimate.phases if peak.phase == "loading")


def qlora(**quantization: Any) -> Job:
    return llama(
        precision=Precision("bfloat16"),
        adapter=Adapter(8, 0.0, ("q_proj",)),
        quantization=Quantization("nf4", compute_dtype="bfloat16", **quantization),
    )


def resident(estimate: Estimate) -> int:
    names = {"weights", "buffers", "quantization constants"}
    return sum(part.bytes for part in estimate.components if part.name in names)


def test_a_model_that_is_loaded_as_it_is_holds_no_more_than_itself():
    estimate = simulate(llama(), reserved=False)

    assert loading(estimate) == resident(estimate)
    assert estimate.phases[0].phase == "loading"
    assert estimate.peak_phase == "backward"


def test_a_weight_is_there_in_both_forms_while_it_is_quantized():
    tied = simulate(
        replace(qlora(), model=Model("small", "llama", {**LLAMA, "tie_word_embeddings": True})), reserved=False
    )
    adapters_and_norms = 200_000

    assert (
        resident(tied) + 2 * LARGEST_LINEAR - adapters_and_norms < loading(tied) <= resident(tied) + 2 * LARGEST_LINEAR
    )


def test_eight_bit_weights_arrive_as_halves_and_once_were_quantized_by_columns_too():
    tied = replace(
        qlora(),
        model=Model("small", "llama", {**LLAMA, "tie_word_embeddings": True}),
        precision=Precision("float32"),
        quantization=Quantization("int8"),
    )
    now, before = (
        simulate(replace(tied, libraries=replace(tied.libraries, bitsandbytes=version)), reserved=False)
        for version in ((0, 45, 0), (0, 44, 1))
    )
    adapters_and_norms = 400_000

    assert 0 <= resident(now) + 2 * LARGEST_LINEAR - loading(now) < adapters_and_norms
    assert loading(before) == loading(now) + LARGEST_LINEAR


def test_what_comes_later_can_hide_it():
    """The head, which is not quantized, came last; by name, as since transformers 5, it is the first."""
    job = qlora()
    older = simulate(replace(job, libraries=replace(job.libraries, transformers=(4, 57, 0))), reserved=False)
    newer = simulate(job, reserved=False)

    assert 2 * LARGEST_LINEAR < 2 * VOCABULARY
    assert loading(older) == resident(older)
    assert loading(newer) > resident(newer) + LARGEST_LINEAR


def test_widening_needs_room_for_a_narrow_copy_besides():
    plain, prepared = (simulate(qlora(prepared_for_kbit=yes), reserved=False) for yes in (False, True))

    assert loading(prepared) >= resident(prepared)
    assert loading(prepared) > loading(plain) + 2 * VOCABULARY


TRACED = {
    ("float32", "float16", False): 13_950_976,
    ("float32", "bfloat16", True): 11_853_824,
    ("bfloat16", "float32", False): 13_950_976,
    ("bfloat16", "float32", True): 11_155_968,
}
"""Highest sum of the storages of a real model while `half()`, `bfloat16()` or `float()` runs over it (torch 2.13,
transformers 5.23), by the dtypes before and after, and whether the head is tied."""


@pytest.mark.parametrize(("before", "after", "tied"), TRACED)
def test_a_model_that_is_cast_on_the_device_is_whole_there_as_it_was_loaded(
    before: str, after: str, tied: bool
) -> None:
    config = {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2048,
        "tie_word_embeddings": tied,
    }
    job = llama(config, precision=Precision(after), loading=Loading(before, mapped=True, arrives=before))
    adapted = replace(job, adapter=Adapter(8, 0.0, ("q_proj",)))

    assert loading(simulate(job, reserved=False)) == TRACED[before, after, tied]
    assert loading(simulate(adapted, reserved=False)) == TRACED[before, after, tied]


@pytest.mark.parametrize(
    "changes",
    [
        {"loading": Loading("float32", mapped=True)},
        {"loading": None},
        {"parallelism": Parallelism(2, "deepspeed", zero=Zero(3))},
        {"parallelism": Parallelism(2, "device_map")},
    ],
)
def test_it_is_not_where_nothing_is_cast_or_shares_are_loaded(changes: dict[str, Any]) -> None:
    job = replace(
        llama(precision=Precision("bfloat16"), loading=Loading("float32", mapped=True, arrives="float32")), **changes
    )

    assert loading(simulate(job, reserved=False)) == loading(simulate(replace(job, loading=None), reserved=False))


def test_loading_can_be_the_peak_and_the_components_say_so():
    config = {**LLAMA, "num_hidden_layers": 1, "intermediate_size": 60_000, "vocab_size": 100}
    job = replace(
        qlora(),
        model=Model("small", "llama", config),
        batch=Batch(1, 8, generated_tokens=1),
        objective=Objective(kind="inference"),
        adapter=None,
    )
    estimate = simulate(job, reserved=False)

    assert sum(part.bytes for part in estimate.components) == estimate.allocated
    assert estimate.allocated == max(peak.allocated for peak in estimate.phases)
