"""PEFT's rarer methods: how much trains, as PEFT's own comparison counted it, and what they keep for backward."""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory.runs import LLAMA, llama
from vramlint.catalog import find_model
from vramlint.job import Adapter, Job, Model, Precision
from vramlint.memory import simulate

QV = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj")
OSF_RANKS = {"q_proj": 2944, "o_proj": 2944, "k_proj": 896, "v_proj": 896} | dict.fromkeys(ALL[4:], 2944)
WIDTH, LAYERS = 256, 6


def adapter(method: str, rank: int, targets: tuple[str, ...] = QV, **options: Any) -> Adapter:
    pattern = options.pop("rank_pattern", {})
    cast = options.pop("cast", True)
    return Adapter(
        rank,
        target_modules=targets,
        method=method,
        options=options,
        rank_pattern=pattern,
        autocast_adapter_dtype=cast,
    )


def counted(chosen: Adapter) -> int:
    row = find_model("meta-llama/Llama-3.2-3B")
    assert row is not None
    estimate = simulate(Job(Model(row.id, row.model_type, row.config), Precision("bfloat16"), adapter=chosen))
    assert estimate.method == "simulated"
    return estimate.trainable_parameters


@pytest.mark.parametrize(
    ("chosen", "trained"),
    [
        (adapter("adamss", 100, num_subspaces=32), 293_888),
        (adapter("beft", 8, ("v_proj",)), 28_672),
        (adapter("boft", 8), 802_816),
        (adapter("c3a", 8, block_size=64), 5_505_024),
        (adapter("deft", 32, decomposition_method="relu"), 9_175_040),
        (adapter("deft", 32, para=True), 3_670_016),
        (adapter("delora", 32), 9_175_096),
        (adapter("glora", 8, config_A_B="lora"), 4_587_520),
        (adapter("glora", 8, config_A_B="vector"), 229_376),
        (adapter("gralora", 32), 9_175_040),
        (adapter("hira", 32), 9_175_040),
        (adapter("osf", 8, ALL, rank_pattern=OSF_RANKS, cast=False), 194_535_936),
        (adapter("peanut", 32), 7_340_032),
        (adapter("pvera", 256), 143_360),
        (adapter("randlora", 32), 9_289_728),
        (adapter("road", 8, variant="road_2"), 229_376),
        (adapter("shira", 32), 9_175_040),
        (adapter("unilora", 32), 256),
        (adapter("vblora", 4), 1_212_416),
    ],
    ids=lambda value: value.method if isinstance(value, Adapter) else "",
)
def test_what_trains_is_what_the_comparison_counted(chosen: Adapter, trained: int) -> None:
    """peft 0.20 method_comparison/MetaMathQA/results, num_trainable_params."""
    assert counted(chosen) == trained


def kept(chosen: Adapter) -> int:
    return simulate(llama(precision=Precision("bfloat16"), adapter=chosen), reserved=False).saved_activations


@pytest.mark.parametrize(
    ("chosen", "dense"),
    [
        (adapter("hira", 8), 4),  # the changed weight, which the input's gradient needs
        (adapter("shira", 8), 2),
        (adapter("peanut", 8), 8),  # the widened weight for the factor's gradient, and the delta
        (adapter("glora", 8, config_A_B="vector"), 2),
    ],
    ids=lambda value: value.method if isinstance(value, Adapter) else "",
)
def test_a_dense_weight_of_every_layer_is_kept(chosen: Adapter, dense: int) -> None:
    """Beside those of LoRA of the same targets, which keeps its input in float32 as well."""
    shapes = WIDTH * WIDTH + WIDTH * WIDTH // 2
    beyond = kept(chosen) - kept(adapter("lora", 8))
    rows = 2 * 128 * WIDTH * 4
    assert beyond == pytest.approx(LAYERS * dense * shapes, abs=LAYERS * 3 * rows)


def test_boft_keeps_three_matrices_of_the_width_of_the_input() -> None:
    """The permutation, the unit matrix and the rotation, in 16 bits, of both layers that it is put around."""
    small, large = (
        simulate(llama(layers, precision=Precision("bfloat16"), adapter=adapter("boft", 8)), reserved=False)
        for layers in ({"num_hidden_layers": 2}, {})
    )
    a_layer = (large.saved_activations - small.saved_activations) // (LAYERS - 2)
    assert a_layer > 2 * 3 * WIDTH * WIDTH * 2


def test_adamss_appends_ones_where_the_layer_has_a_bias() -> None:
    plain, biased = (
        simulate(llama({"attention_bias": bias}, precision=Precision("bfloat16"), adapter=adapter("adamss", 8)))
        for bias in (False, True)
    )
    assert (plain.method, biased.method) == ("simulated", "simulated")
    assert biased.trainable_parameters == plain.trainable_parameters


def test_bases_of_full_rank_are_one_for_all_layers() -> None:
    small = simulate(llama({"num_hidden_layers": 2}, precision=Precision("bfloat16"), adapter=adapter("randlora", 32)))
    large = simulate(llama(precision=Precision("bfloat16"), adapter=adapter("randlora", 32)))
    buffers = [{part.name: part.bytes for part in found.components}["buffers"] for found in (small, large)]
    assert buffers[0] == buffers[1]


def test_forms_that_are_not_followed_say_so() -> None:
    forms = (
        adapter("peanut", 8, depth=1),
        adapter("glora", 8, config_A_B="constant"),
        adapter("adamss", 8, use_dynamic_rank=True),
        adapter("gralora", 8, hybrid_r=4),
        adapter("vblora", 4, vector_length=96),
        adapter("boft", 8, boft_dropout=0.1),
    )
    for chosen in forms:
        estimate = simulate(llama(precision=Precision("bfloat16"), adapter=chosen))
        assert estimate.method == "bounded"
        assert "the form of" in estimate.why
    assert LLAMA["hidden_size"] == WIDTH
