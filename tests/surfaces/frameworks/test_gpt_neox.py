"""gpt-neox's files."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.reading import fact, line, model, remarks, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Origin

_PATH, _TEXT = SAMPLES["gpt-neox"]

_LLAMA = """\
{
  "pipe_parallel_size": 0,
  "model_parallel_size": 2,
  "make_vocab_size_divisible_by": 1,
  "num_layers": 40,
  "hidden_size": 5120,
  "intermediate_size": 41472,
  "num_attention_heads": 40,
  "num_kv_heads": 8,
  "seq_length": 4096,
  "max_position_embeddings": 4096,
  "pos_emb": "rotary",
  "no_weight_tying": true,
  "norm": "rmsnorm",
  "attention_config": [[["flash"], 40]],
  "activation": "swiglu",
  "use_bias_in_attn_linear": false,
}
"""


def test_a_run_that_one_file_says():
    found = sheet("gpt-neox", _TEXT, _PATH)
    assert says(
        found, "layers", "hidden_size", "intermediate_size", "sequence_length", "micro_batch_size", "tied_embeddings"
    ) == {
        "layers": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "sequence_length": 2048,
        "micro_batch_size": 8,
        "tied_embeddings": False,
    }
    assert says(found, "precision", "zero_stage", "optimizer", "gradient_accumulation_steps", "objective") == {
        "precision": "bf16-mixed",
        "zero_stage": 1,
        "optimizer": "deepspeed.FusedAdam",
        "gradient_accumulation_steps": 2,
        "objective": "pretrain",
    }
    assert line(found, "layers") == 6
    assert fact(found, "intermediate_size").origin is Origin.DEFAULT
    assert says(found, "reduce_bucket_size", "attention_implementation", "activation_checkpointing") == {
        "reduce_bucket_size": 500_000_000,
        "attention_implementation": "eager",
        "activation_checkpointing": True,
    }
    assert model(found)["model_type"] == "gpt_neox"
    assert model(found)["vocab_size"] == 50304
    assert remarks(found) == []


def test_a_gate_divides_the_stored_width_by_three():
    found = sheet("gpt-neox", _LLAMA)
    assert says(found, "intermediate_size", "key_value_heads", "attention_implementation", "pipeline_parallel") == {
        "intermediate_size": 13824,
        "key_value_heads": 8,
        "attention_implementation": "flash_attention_2",
        "pipeline_parallel": 1,
    }
    assert model(found)["model_type"] == "llama"
    rounded = sheet(
        "gpt-neox", _LLAMA.replace("41472", "14336").replace('swiglu"', 'swiglu", "mlp_multiple_of": 14336')
    )
    assert says(rounded, "intermediate_size") == {"intermediate_size": 14336}


@pytest.mark.parametrize(
    "name", ["micro_batch_size", "gradient_accumulation_steps", "precision", "optimizer", "zero_stage"]
)
def test_what_another_file_of_the_command_says_is_unknown(name):
    said = fact(sheet("gpt-neox", _LLAMA), name)
    assert said.origin is Origin.UNKNOWN
    assert "another file" in said.reason


def test_objectives():
    def objective(more: str) -> object:
        return says(sheet("gpt-neox", _LLAMA.rstrip()[:-1] + more + "\n}\n"), "objective")["objective"]

    assert objective('"train_impl": "dpo",') == "dpo"
    assert objective('"train_impl": "rm",') == "reward"
    assert objective('"train_label_data_paths": ["data/sft_label"],') == "sft"


@pytest.mark.parametrize(
    ("written", "optimizer"),
    [
        ('"use_bnb_optimizer": true, "optimizer": {"type": "Adam", "params": {"lr": 0.1}},', "adamw_bnb_8bit"),
        ('"optimizer": {"type": "cpu_adam", "params": {"lr": 0.1}},', "deepspeed_cpu_adam"),
        ('"optimizer": {"type": "sm3", "params": {"lr": 0.1}},', "sm3"),
    ],
)
def test_optimizers(written, optimizer):
    assert says(sheet("gpt-neox", f"{{ {written} 'num_layers': 2 }}"), "optimizer") == {"optimizer": optimizer}


def test_mamba_is_counted_by_its_sizes():
    found = sheet(
        "gpt-neox",
        """\
        num_layers: 24
        hidden_size: 768
        num_attention_heads: 12
        attention_config: [[["mamba"], 24]]
        train_micro_batch_size_per_gpu: 4
        """,
    )
    # state-spaces/mamba-130m has 129,135,360 with its 50280 tokens; 24 more rows are padding here
    assert says(found, "parameters", "attention_kind") == {
        "parameters": 129_135_360 + 24 * 768,
        "attention_kind": "mamba",
    }


def test_a_dropped_key_without_a_pin_is_an_older_release():
    assert remarks(sheet("gpt-neox", "num-layers: 2\nsave-interval: 10\n")) == []


def test_keys_that_it_does_not_take():
    found = sheet("gpt-neox", "num-layers: 2\nhiden-size: 3\nsave-interval: 10\n", release="2.0")
    assert remarks(found) == [
        ("unknown-key", "hiden_size", "hidden_size"),
        ("removed-key", "save_interval", "checkpoint_factor"),
    ]


def test_rwkv_is_counted_by_its_sizes():
    found = sheet(
        "gpt-neox",
        """\
        num_layers: 12
        hidden_size: 768
        num_attention_heads: 12
        attention_config: [[["rwkv"], 12]]
        no_weight_tying: true
        train_micro_batch_size_per_gpu: 32
        """,
    )
    assert says(found, "intermediate_size", "attention_kind") == {"intermediate_size": 2688, "attention_kind": "rwkv"}
    parameters = fact(found, "parameters").value
    # its 12 layers by hand: 5 · 768² of time mix, 768² + 2 · 768 · 2688 of channel mix, 0.35 M of low-rank factors
    assert isinstance(parameters, int)
    assert 12 * (6 * 768**2 + 2 * 768 * 2688) < parameters - 2 * 768 * 50304 < 12 * (6.8 * 768**2 + 2 * 768 * 2688)


def test_a_file_of_paths_alone_is_no_run():
    found = sheet(
        "gpt-neox", '{"data_path": "data/enwik8", "vocab_file": "gpt2-vocab.json", "merge_file": "merges.txt"}'
    )
    assert says(found, "run_kind") == {"run_kind": "library"}


def test_fields_that_a_fork_in_the_project_declares_are_known(explained):
    text = '{"pipe_parallel_size": 1, "num_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "seq_length": 64,\n'
    text += '"train_micro_batch_size_per_gpu": 1, "no_weight_tying": true, "moe_warmup": 3}\n'
    explained.write("fork/megatron/neox_arguments/neox_args.py", "class NeoXArgs:\n    moe_warmup: int = 0\n")
    assert explained.findings("fork/configs/a.yml", text) == []
    assert len(explained.findings("configs/a.yml", text)) == 1


def test_accumulation_as_the_first_releases_call_it():
    found = sheet("gpt-neox", "num-layers: 2\ntrain_micro_batch_size_per_gpu: 4\ngas: 32\n")
    assert says(found, "gradient_accumulation_steps") == {"gradient_accumulation_steps": 32}
    assert remarks(found) == []


def test_what_another_file_may_offload_is_not_known():
    """configs/llama2 says the model alone; stage and offloading come from the file beside it."""
    found = sheet("gpt-neox", _LLAMA, "configs/13B.yml")

    assert {name: fact(found, name).origin for name in ("zero_stage", "deepspeed_config")} == dict.fromkeys(
        ("zero_stage", "deepspeed_config"), Origin.UNKNOWN
    )
