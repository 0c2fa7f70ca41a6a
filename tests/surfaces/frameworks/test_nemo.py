"""NeMo's YAML, and recipes on its command line."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.reading import fact, line, model, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.launch.options import options_table
from vramlint.text import Place, Span
from vramlint.values import Entry, Invocation, Scalar, Table

_PATH, _TEXT = SAMPLES["nemo"]
_HERE = Place("run.sh", Span(1, 1, 1, 2))

_GPT = """\
trainer: {devices: 8, num_nodes: 2, precision: 16, gradient_clip_val: 1.0}
model:
  mcore_gpt: true
  micro_batch_size: 4
  global_batch_size: 256
  tensor_model_parallel_size: 2
  encoder_seq_length: 4096
  max_position_embeddings: ${.encoder_seq_length}
  num_layers: 32
  hidden_size: 4096
  ffn_hidden_size: ${multiply:4, ${.hidden_size}}
  num_attention_heads: 32
  num_query_groups: 8
  activation: fast-swiglu
  bias: false
  share_embeddings_and_output_weights: false
  make_vocab_size_divisible_by: 128
  position_embedding_type: rope
  activations_checkpoint_granularity: full
  optim: {name: distributed_fused_adam}
"""


def command(program: str, *words: str) -> Table:
    table = options_table(Invocation(tuple(Scalar(word, _HERE, "cli") for word in words), place=_HERE))
    return Table((*table.entries, Entry(PROGRAM, None, Scalar(program))), _HERE)


def test_tuning_from_a_checkpoint():
    found = sheet("nemo", _TEXT, _PATH)
    assert says(
        found, "model", "tuning", "lora_r", "lora_alpha", "micro_batch_size", "sequence_length", "world_size"
    ) == {
        "model": "gpt.nemo",
        "tuning": "lora",
        "lora_r": 32,
        "lora_alpha": 16,
        "micro_batch_size": 2,
        "sequence_length": 2048,
        "world_size": 8,
    }
    assert says(found, "precision", "optimizer", "distributed_optimizer", "gradient_accumulation_steps") == {
        "precision": "bf16-mixed",
        "optimizer": "adamw_apex_fused",
        "distributed_optimizer": True,
        "gradient_accumulation_steps": 8,
    }
    assert line(found, "micro_batch_size") == 11


def test_a_model_by_its_sizes():
    found = sheet("nemo", _GPT)
    assert says(found, "layers", "intermediate_size", "key_value_heads", "activation", "tied_embeddings") == {
        "layers": 32,
        "intermediate_size": 16384,
        "key_value_heads": 8,
        "activation": "swiglu",
        "tied_embeddings": False,
    }
    assert says(found, "precision", "recompute", "activation_checkpointing", "world_size") == {
        "precision": "fp16-mixed",
        "recompute": "full",
        "activation_checkpointing": True,
        "world_size": 16,
    }
    assert model(found)["model_type"] == "llama"
    assert model(found)["max_position_embeddings"] == 4096


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (
            ("--factory", "llama3_8b", "trainer.num_nodes=2", "data.micro_batch_size=2"),
            {"model": "meta-llama/Meta-Llama-3-8B", "micro_batch_size": 2, "world_size": 16, "context_parallel": 2},
        ),
        (("model=mixtral_8x7b",), {"model": "mistralai/Mixtral-8x7B-v0.1", "expert_parallel": 8}),
        (("--factory", "qwen3_8b(num_nodes=1)"), {"model": "Qwen/Qwen3-8B", "tensor_parallel": 4}),
    ],
)
def test_recipes_on_the_command_line(words, facts):
    found = read_config(framework_of("nemo"), "run.sh", command("nemo llm pretrain", *words))
    assert says(found, *facts) == facts


def test_adapters_are_the_default_of_tuning_and_can_be_switched_off():
    tuned = read_config(framework_of("nemo"), "run.sh", command("nemo llm finetune", "--factory", "llama3_8b"))
    assert says(tuned, "tuning", "objective", "lora_r") == {"tuning": "lora", "objective": "sft", "lora_r": 8}
    whole = command("nemo llm finetune", "--factory", "llama3_8b", "peft=none")
    assert says(read_config(framework_of("nemo"), "run.sh", whole), "tuning") == {"tuning": "full"}


def test_commands_that_train_nothing():
    found = read_config(framework_of("nemo"), "run.sh", command("nemo llm export", "path=a"))
    assert fact(found, "run_kind").value == "library"


def test_a_recipe_is_a_job_of_megatrons_ranks():
    words = ("--factory", "llama3_70b", "trainer.strategy.tensor_model_parallel_size=8")
    found = read_config(framework_of("nemo"), "run.sh", command("nemo llm pretrain", *words))

    assert says(found, "parallelism", "tensor_parallel", "pipeline_parallel", "pipeline_chunks", "wide_gradients") == {
        "parallelism": "megatron",
        "tensor_parallel": 8,
        "pipeline_parallel": 4,
        "pipeline_chunks": 5,
        "wide_gradients": True,
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--factory", "llama3_8b", "trainer.plugins.fp8=hybrid"), "8-bit products"),
        (("--factory", "llama3_8b", "model.config.cpu_offloading_num_layers=4"), "activations on the host"),
        (("--factory", "mixtral_8x7b", "model.config.moe_token_dispatcher_type=flex"), "the token dispatcher flex"),
        (("--factory", "llama3_8b", "model.config.recompute_modules=[gdn_norm_out]"), "recomputing gdn_norm_out"),
    ],
)
def test_what_a_recipe_has_that_is_not_followed_says_why(words: tuple[str, ...], reason: str):
    found = read_config(framework_of("nemo"), "run.sh", command("nemo llm pretrain", *words))

    assert reason in fact(found, "parallelism").reason


def test_an_adapter_of_a_recipe_is_not_followed():
    found = read_config(framework_of("nemo"), "run.sh", command("nemo llm finetune", "--factory", "llama3_8b"))

    assert "adapters" in fact(found, "parallelism").reason


def test_nemo_1_has_optimizers_of_its_own():
    assert "NeMo 1's optimizer" in fact(sheet("nemo", _GPT), "parallelism").reason
