"""Adapters and quantized bases as the job has them."""

from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, run, script, written
from vramlint.facts import Fact
from vramlint.job import Job
from vramlint.values import Table

KNOWN = (written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "bfloat16"))


def job(*facts: Fact, **versions: str) -> Job:
    (found,) = run(script(LLAMA, *KNOWN, *facts), None, **versions).jobs
    return found


def test_everything_that_a_config_says_is_in_the_adapter() -> None:
    adapter = job(
        written("tuning", "lora"),
        written("lora_r", 16),
        written("adapter_bias", "all"),
        written("lora_bias", True),
        written("lora_rank_pattern", ("q_proj=64",)),
        written("lora_layers", ("0", "2")),
        written("lora_exclude_modules", ("lm_head",)),
        written("lora_target_parameters", ("experts.down_proj",)),
        written("trained_tokens", ("embed_tokens=3",)),
        written("adapter_cast", False),
    ).adapter

    assert adapter is not None
    assert (adapter.r, adapter.bias, adapter.lora_bias, adapter.autocast_adapter_dtype) == (16, "all", True, False)
    assert (adapter.rank_pattern, adapter.trained_tokens) == ({"q_proj": 64}, {"embed_tokens": 3})
    assert (adapter.layers_to_transform, adapter.exclude_modules) == ((0, 2), ("lm_head",))
    assert adapter.target_parameters == ("experts.down_proj",)


def test_options_keep_their_types() -> None:
    options = ("feedforward_modules=a,b", "coft=True", "oft_block_size=32", "decompose_factor=-1", "kind=MLP")
    adapter = job(written("tuning", "oft"), written("adapter_options", options)).adapter

    assert adapter is not None
    assert adapter.options == {
        "feedforward_modules": ("a", "b"),
        "coft": True,
        "oft_block_size": 32,
        "decompose_factor": -1,
        "kind": "MLP",
    }


def test_ranks_that_other_methods_have_by_default() -> None:
    ranks = {method: job(written("tuning", method)).adapter for method in ("vera", "miss", "oft", "adalora", "loha")}

    assert {method: adapter and adapter.r for method, adapter in ranks.items()} == {
        "vera": 256,
        "miss": 64,
        "oft": 0,
        "adalora": 12,
        "loha": 8,
    }


def test_before_peft_0_12_adapters_take_the_dtype_of_the_base() -> None:
    old, new = (job(written("tuning", "lora"), peft=version).adapter for version in ("0.11.1", "0.12.0"))

    assert old is not None
    assert new is not None
    assert (old.autocast_adapter_dtype, new.autocast_adapter_dtype) == (False, True)


def test_a_quantization_of_three_bits_is_one() -> None:
    base = job(
        written("quantization_bits", 3), written("quantization_type", "gptq"), written("quantization_group_size", 64)
    ).quantization

    assert base is not None
    assert (base.kind, base.bits, base.group_size) == ("gptq", 3, 64)


def trl(version: str, config: str = "SFTConfig", *facts: Fact) -> Job:
    base = (
        written("tuning", "qlora"),
        written("quantization_bits", 4),
        written("quantization_type", "nf4"),
        written("bf16", True),
    )
    sheet = script(LLAMA, *KNOWN, *base, *facts, tables=((config, Table(())),))
    (found,) = run(sheet, None, trl=version).jobs
    return found


@pytest.mark.parametrize(
    ("version", "prepared", "narrowed", "norms", "adapters"),
    [
        ("0.24.0", True, True, False, None),
        ("0.25.0", True, False, True, None),
        ("0.26.0", False, False, False, "bfloat16"),
        ("1.16.0", False, False, False, "bfloat16"),
    ],
)
def test_what_trl_makes_of_a_quantized_model(
    version: str, prepared: bool, narrowed: bool, norms: bool, adapters: str | None
) -> None:
    job = trl(version, "SFTConfig", written("adapter_by_trainer", True))

    assert job.quantization is not None
    assert job.adapter is not None
    base = job.quantization
    assert (base.prepared_for_kbit, base.narrowed_embeddings, base.only_norms) == (prepared, narrowed, norms)
    assert job.adapter.dtype == adapters


def test_trl_left_models_alone_that_had_their_adapter() -> None:
    base = trl("0.24.0").quantization

    assert base is not None
    assert not base.prepared_for_kbit


def test_parameters_frozen_by_hand_reach_the_job_unless_an_adapter_freezes_them_all() -> None:
    frozen = written("frozen_parameters", ("^model\\.",))

    assert job(written("tuning", "full"), frozen).frozen_parameters == ("^model\\.",)
    assert job(written("tuning", "lora"), frozen).frozen_parameters == ()
