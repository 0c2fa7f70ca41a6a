"""SpecForge: a draft model trains beside a target."""

from __future__ import annotations

import json

from tests.surfaces.frameworks.explained import line, value, values

_DRAFT = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "num_hidden_layers": 1,
    "vocab_size": 151936,
    "draft_vocab_size": 32000,
}
_TRAINED = 1024 * 64 * 48 + 3 * 1024 * 2816 + 1024 * 32000
"""Matrices of the layer and the draft's head."""

_YAML = """\
model:
  target_model_path: Qwen/Qwen2.5-7B-Instruct
  draft_model_config: configs/draft.json
  torch_dtype: bfloat16
data:
  hidden_states_path: ./cache/hidden
  max_length: 4096
training:
  strategy: eagle3
  batch_size: 2
  accumulation_steps: 4
  attention_backend: fa
  ttt_length: 7
deployment:
  trainer: {nnodes: 1, nproc_per_node: 1}
"""


def test_the_draft_is_what_trains(explained):
    explained.write("configs/draft.json", json.dumps(_DRAFT))

    job = explained.job("examples/run.yaml", _YAML)

    assert job["vocabulary"]["name"] == "specforge"
    assert values(
        job, "objective", "model", "draft_model", "layers", "hidden_size", "vocabulary_size", "micro_batch_size",
        "gradient_accumulation_steps", "sequence_length", "load_dtype", "precision", "optimizer", "parallelism",
        "fsdp", "world_size", "inference_engine", "attention_implementation", "tuning", "max_grad_norm",
    ) == {
        "objective": "eagle3", "model": "Qwen/Qwen2.5-7B-Instruct", "draft_model": "configs/draft.json", "layers": 1,
        "hidden_size": 1024, "vocabulary_size": 32000, "micro_batch_size": 2, "gradient_accumulation_steps": 4,
        "sequence_length": 4096, "load_dtype": "bfloat16", "precision": "bf16-mixed", "optimizer": "adamw_torch",
        "parallelism": "fsdp", "fsdp": "shard_grad_op", "world_size": 1, "inference_engine": "none",
        "attention_implementation": "flash_attention_2", "tuning": "full", "max_grad_norm": 0.5,
    }  # fmt: skip
    assert line(job, "micro_batch_size") == 10
    assert job["status"] == "unresolved"
    assert "eagle3 is not simulated" in job["reason"]
    assert job["estimate"]["low"]["total_parameters"] == _TRAINED


def test_without_its_file_the_bound_is_of_one_layer_of_the_targets(explained):
    job = explained.job("run.yaml", _YAML)

    layer = 3584 * 128 * (2 * 28 + 2 * 4) + 3 * 3584 * 18944
    assert job["estimate"]["low"]["total_parameters"] == layer
    assert "layers" not in {fact["name"] for fact in job["facts"]}
    assert "is not found" in next(fact["reason"] for fact in job["facts"] if fact["name"] == "draft_model")


def test_of_an_unknown_target_nothing_follows(explained):
    job = explained.job("run.yaml", _YAML.replace("Qwen/Qwen2.5-7B-Instruct", "./my-target"))

    assert job["estimate"] is None
    assert "configs/draft.json" in job["reason"]


def test_a_draft_without_a_file_is_like_the_target(explained):
    job = explained.job("run.yaml", _YAML.replace("  draft_model_config: configs/draft.json\n", ""))

    assert values(job, "layers", "hidden_size", "intermediate_size") == {
        "layers": 1,
        "hidden_size": 3584,
        "intermediate_size": 18944,
    }


def test_every_key_is_known(explained):
    messages = explained.findings("run.yaml", _YAML.replace("batch_size: 2", "batchsize: 2"), "key")

    assert len(messages) == 1
    assert "training.batchsize" in messages[0]
    assert "training.batch_size" in messages[0]


def test_a_command_changes_keys_of_the_file(explained):
    explained.write("examples/run.yaml", _YAML)
    explained.write("configs/draft.json", json.dumps(_DRAFT))

    job = explained.job("run.sh", "specforge train --config examples/run.yaml training.batch_size=8\n")

    assert values(job, "micro_batch_size", "sequence_length", "entry") == {
        "micro_batch_size": 8,
        "sequence_length": 4096,
        "entry": "specforge train",
    }


def test_an_older_script_says_it_by_options(explained):
    explained.write("configs/draft.json", json.dumps(_DRAFT))

    job = explained.job(
        "examples/run.sh",
        """\
        ROOT_DIR=$(dirname $0)/..
        NUM_GPUS=${1:-4}
        torchrun --standalone --nproc_per_node $NUM_GPUS $ROOT_DIR/scripts/train_eagle3_online.py \\
            --target-model-path Qwen/Qwen2.5-7B-Instruct \\
            --draft-model-config $ROOT_DIR/configs/draft.json \\
            --batch-size 2 --max-length 2048 --tp-size 4
        """,
    )

    assert values(
        job, "objective", "model", "micro_batch_size", "sequence_length", "inference_engine",
        "inference_tensor_parallel", "hidden_size",
    ) == {
        "objective": "eagle3", "model": "Qwen/Qwen2.5-7B-Instruct", "micro_batch_size": 2, "sequence_length": 2048,
        "inference_engine": "sglang", "inference_tensor_parallel": 4, "hidden_size": 1024,
    }  # fmt: skip
    assert value(job, "world_size") in (4, None)
