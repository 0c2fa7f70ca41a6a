"""Overrides of Megatron-Bridge's recipes, and recipes that a program makes."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.surfaces.frameworks.reading import fact, line, remarks, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.catalog.recipes import recipe, recipes
from vramlint.facts import Origin, Sheet
from vramlint.readers.python import read_program
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.python_configs import recipe_config
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.text import Document, Place, Span
from vramlint.values import Invocation, Scalar

_PATH, _TEXT = SAMPLES["megatron-bridge"]
_HERE = Place("run.sh", Span(1, 1, 1, 2))


def program(source: str, path: str = "train.py") -> Sheet | None:
    read, problems = read_program(Document.of(path, dedent(source)), {})
    assert not problems
    assert read is not None
    config = recipe_config(read)
    return read_config(framework_of(config.recognised.kind), path, config.table) if config else None


def test_overrides_say_what_they_write_and_leave_the_rest_to_the_recipe():
    found = sheet("megatron-bridge", _TEXT, _PATH)
    assert says(found, "sequence_length", "tensor_parallel", "micro_batch_size", "tuning", "lora_r", "lora_alpha") == {
        "sequence_length": 4096,
        "tensor_parallel": 2,
        "micro_batch_size": 1,
        "tuning": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
    }
    assert line(found, "tensor_parallel") == 4
    for name in ("model", "precision", "optimizer"):
        assert fact(found, name).origin is Origin.UNKNOWN
        assert "recipe" in fact(found, name).reason
    assert found.get("pipeline_parallel") is None
    assert remarks(found) == []


def test_a_named_recipe_fills_in_its_defaults():
    found = sheet("megatron-bridge", "recipe: llama32_1b_pretrain_config\ntrain:\n  micro_batch_size: 4\n")
    assert says(found, "model", "micro_batch_size", "global_batch_size", "precision", "objective", "tuning") == {
        "model": "meta-llama/Llama-3.2-1B",
        "micro_batch_size": 4,
        "global_batch_size": 512,
        "precision": "bf16-mixed",
        "objective": "pretrain",
        "tuning": "full",
    }
    assert fact(found, "micro_batch_size").origin is Origin.WRITTEN
    assert fact(found, "global_batch_size").origin in (Origin.DERIVED, Origin.DEFAULT)
    assert fact(found, "global_batch_size").place is None


@pytest.mark.parametrize(
    ("more", "objective"),
    [("model: {kd_config: {logit_kl_temperature: 1.0}}", "distillation"), ("peft: {dim: 8}", "sft")],
)
def test_objectives(more, objective):
    assert says(sheet("megatron-bridge", more + "\n"), "objective") == {"objective": objective}


def test_a_program_that_makes_a_recipe_and_sets_its_attributes():
    found = program(
        """\
        from megatron.bridge.recipes.llama import llama3_8b_pretrain_config
        from megatron.bridge.training.pretrain import pretrain

        config = llama3_8b_pretrain_config()
        config.train.micro_batch_size = 2
        config.model.tensor_model_parallel_size = 4
        pretrain(config=config, forward_step_func=None)
        """
    )
    assert found is not None
    assert says(found, "model", "micro_batch_size", "tensor_parallel", "sequence_length") == {
        "model": "meta-llama/Meta-Llama-3-8B",
        "micro_batch_size": 2,
        "tensor_parallel": 4,
        "sequence_length": 8192,
    }
    assert line(found, "tensor_parallel") == 6


def test_a_recipe_of_nemo_in_a_program():
    found = program(
        """\
        from nemo.collections import llm

        recipe = llm.llama3_8b.finetune_recipe(num_nodes=2, num_gpus_per_node=4, peft_scheme="none")
        recipe.data.micro_batch_size = 2
        """
    )
    assert found is not None
    assert says(found, "model", "tuning", "objective", "world_size", "micro_batch_size", "tensor_parallel") == {
        "model": "meta-llama/Meta-Llama-3-8B",
        "tuning": "full",
        "objective": "sft",
        "world_size": 8,
        "micro_batch_size": 2,
        "tensor_parallel": 2,
    }


def test_other_programs_make_no_recipe():
    assert program("from mine import llama3_8b_pretrain_config\nllama3_8b_pretrain_config()\n") is None


@pytest.mark.parametrize("framework", ["megatron-bridge", "nemo"])
def test_every_recipe_can_be_read(framework):
    assert all(recipe(framework, name) for name in recipes(framework))


def test_a_misspelt_key():
    found = sheet("megatron-bridge", "train:\n  micro_batch_sizes: 2\n  train_iters: 3\n")
    assert remarks(found) == [("unknown-key", "train.micro_batch_sizes", "train.micro_batch_size")]


def test_a_started_program_takes_overrides_and_a_file():
    source = """\
    import argparse
    from megatron.bridge.recipes.llama import llama3_8b_pretrain_config
    from megatron.bridge.training.pretrain import pretrain

    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file", default="conf/usual.yaml")
    args, overrides = parser.parse_known_args()
    config = llama3_8b_pretrain_config()
    config.train.micro_batch_size = 2
    pretrain(config=config)
    """
    read, _ = read_program(Document.of("train.py", dedent(source)), {})
    assert read is not None
    config = recipe_config(read)
    assert config is not None
    assert [link.target for link in config.sheet("train.py").links] == ["conf/usual.yaml"]
    words = ("--config-file", "conf/mine.yaml", "train.micro_batch_size=4", "--peft", "lora")
    started = config.sheet("train.py", Invocation(tuple(Scalar(word, _HERE, "cli") for word in words), place=_HERE))
    assert [link.target for link in started.links] == ["conf/mine.yaml"]
    found = read_config(framework_of("megatron-bridge"), "train.py", started.tables[0][1])
    assert says(found, "micro_batch_size", "tuning") == {"micro_batch_size": 4, "tuning": "full"}


def test_a_recipe_with_the_precision_aware_optimizer_says_its_dtypes():
    found = sheet("megatron-bridge", "recipe: deepseek_v3_pretrain_1024gpu_h100_bf16_config\n")

    assert says(found, "precision", "precise_optimizer", "average_dtype", "variance_dtype", "wide_gradients") == {
        "precision": "bf16-mixed",
        "precise_optimizer": True,
        "average_dtype": "bfloat16",
        "variance_dtype": "bfloat16",
        "wide_gradients": False,
    }


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("recipe: llama3_8b_low_precision_pretrain_config", "8-bit products (mixed_precision)"),
        ("recipe: llama3_8b_peft_config", "adapters"),
        ("recipe: qwen3_30b_a3b_pretrain_16gpu_h100_bf16_config", "the token dispatcher flex"),
        ("recipe: llama3_8b_pretrain_config\nmodel: {cpu_offloading_num_layers: 4}", "activations on the host"),
        ("recipe: llama3_8b_pretrain_config\nddp: {use_megatron_fsdp: true}", "Megatron's own FSDP"),
    ],
)
def test_what_a_recipe_has_that_is_not_followed_says_why(written: str, reason: str):
    assert reason in fact(sheet("megatron-bridge", f"{written}\n"), "parallelism").reason


def test_a_recipe_says_what_its_ranks_recompute():
    text = "recipe: llama3_8b_pretrain_config\nmodel: {recompute_granularity: selective, recompute_modules: [mlp]}\n"
    found = sheet("megatron-bridge", text)

    assert says(found, "parallelism", "recompute", "recompute_modules") == {
        "parallelism": "megatron",
        "recompute": "selective",
        "recompute_modules": ("mlp",),
    }
