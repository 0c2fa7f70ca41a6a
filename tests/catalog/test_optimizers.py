import pytest

from vramlint.catalog import all_optimizers, find_optimizer, nearest_optimizers
from vramlint.catalog.optimizers import BlockQuantization, State

WIDTHS = {"param": (4, 2), "fp32": (4, 4), "u8": (1, 1), "u4": (0.5, 0.5), "fp8": (1, 1)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw_torch_fused", "adamw_torch_fused"),
        ("torch.optim.AdamW", "adamw_torch"),
        ("AdamW", "adamw_torch"),
        ("torch.optim.SGD", "sgd"),
        ("torch.optim.Adafactor", "torch_adafactor"),
        ("transformers.Adafactor", "adafactor"),
        ("paged_adamw_8bit", "paged_adamw_8bit"),
        ("paged_adamw", "paged_adamw_32bit"),
        ("adamw_8bit", "adamw_bnb_8bit"),
        ("bitsandbytes.optim.PagedAdamW8bit", "paged_adamw_8bit"),
        ("bnb.optim.AdamW8bit", "adamw_bnb_8bit"),
        ("bitsandbytes.optim.AdamW", "adamw_bnb_32bit"),
        ("deepspeed.ops.adam.FusedAdam", "deepspeed_adamw"),
        ("deepspeed.ops.adam.DeepSpeedCPUAdam", "deepspeed_cpu_adam"),
        ("ds:AdamW", "deepspeed_adamw"),
        ("ds:lion", "deepspeed_lion"),
    ],
)
def test_names(name, expected):
    assert find_optimizer(name).name == expected


def test_unknown_names():
    assert find_optimizer("adamw_nope") is None
    assert find_optimizer("") is None
    assert "adamw_torch" in nearest_optimizers("adamw_torh")


def test_adamw_keeps_two_states_of_the_parameters_dtype():
    row = find_optimizer("adamw_torch")
    assert row.states == (State("exp_avg", "param"), State("exp_avg_sq", "param"))
    assert (row.state_bytes_fp32, row.state_bytes_low) == (8, 4)
    assert (row.step_temp_scope, row.step_temp_fp32) == ("group", 4)
    assert find_optimizer("adamw_torch_fused").step_temp_scope == "none"


def test_quantised_states():
    row = find_optimizer("paged_adamw_8bit")
    assert row.quantised == BlockQuantization(block=256, min_numel=4096, small="fp32")
    assert row.place == "managed"
    assert row.embedding_state_bytes == 8


def test_layerwise_rows_take_the_rest_from_their_base():
    row = find_optimizer("galore_adamw_layerwise")
    assert row.grads_fused
    assert row.low_rank
    assert row.states == find_optimizer("galore_adamw").states


IN_WORDS = {"megatron_adam", "adam_mini", "shampoo", "deepspeed_onebit"}
"""Rows that keep more than their dense states; a note or a formula says what."""


def test_stated_bytes_follow_from_the_states():
    rows = [
        row for row in all_optimizers() if row.states and not row.factored and not row.low_rank and row.place != "host"
    ]
    assert len(rows) > 40
    for row in rows:
        if row.name in IN_WORDS:
            assert row.notes or row.state_formula
            continue
        scales = len(row.states) * 4 / row.quantised.block if row.quantised else 0
        fp32, low = (sum(WIDTHS[state.dtype][column] for state in row.states) + scales for column in (0, 1))
        low += sum(WIDTHS[state.dtype][1] for state in row.states_of_16bit)
        assert row.state_bytes_fp32 == pytest.approx(fp32), row.name
        assert row.state_bytes_low == pytest.approx(low), row.name


def test_every_row_is_sane():
    for row in all_optimizers():
        assert row.source
        assert row.step_temp_scope in ("group", "largest", "none"), row.name
        assert row.place in ("gpu", "host", "managed", "device"), row.name
        assert all(state.dtype in WIDTHS for state in (*row.states, *row.states_of_16bit)), row.name
        assert row.factored in ("", "grad", "fp32"), row.name
