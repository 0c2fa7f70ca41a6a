"""Which vocabulary a data file is written in: recipes of TRL, FSDP's options, a model's sizes, frameworks."""

from __future__ import annotations

import pytest

from vramlint.facts import Recognised
from vramlint.readers.json import read_json
from vramlint.readers.toml import read_toml
from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.recognising import recognise
from vramlint.text import Document
from vramlint.values import Table

ARGUMENTS = "output_dir: out\nper_device_train_batch_size: 4\nlearning_rate: 1.0e-5\nbf16: true\n"
MODEL = "model_name_or_path: Qwen/Qwen2.5-1.5B-Instruct\n"


def told(path: str, text: str) -> Recognised | None:
    document = Document.of(path, text)
    read = read_json if path.endswith(".json") else read_toml if path.endswith(".toml") else read_yaml
    root = read(document).root
    assert isinstance(root, Table)
    return recognise(path, root)


def kind(path: str, text: str) -> str:
    found = told(path, text)
    return found.kind if found else ""


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("args.yaml", "", "training-args-yaml"),
        ("run.yaml", MODEL, "training-args-yaml"),
        ("run.yaml", MODEL + "max_length: 1024\n", "trl"),
        ("run.yaml", MODEL + "lora_r: 16\nuse_peft: true\n", "trl"),
        ("run.yaml", MODEL + "max_length: 1024\ndataset_mixture:\n  datasets:\n  - id: x\n", "alignment-handbook"),
        ("run.yaml", MODEL + "max_seq_length: 1024\ndataset_mixer:\n  HuggingFaceH4/x: 1.0\n", "alignment-handbook"),
        ("run.yaml", MODEL + "num_generations: 8\nbenchmarks:\n- math\ndataset_prompt_column: q\n", "open-r1"),
        ("open-r1/recipes/run.yaml", MODEL + "max_length: 1024\n", "open-r1"),
        ("huggingface__alignment-handbook/recipes/run.yaml", MODEL + "max_length: 1024\n", "alignment-handbook"),
        ("run.yaml", MODEL + "with_tracking: true\nuse_slow_tokenizer: false\n", "open-instruct"),
    ],
)
def test_recipes(path: str, more: str, expected: str) -> None:
    assert kind(path, ARGUMENTS + more) == expected


def test_recipes_of_one_project_with_keys_of_another_go_by_the_repository() -> None:
    text = ARGUMENTS + MODEL + "dataset_mixture:\n  datasets:\n  - id: x\nmax_length: 1024\n"
    assert kind("open-r1/recipes/run.yaml", text) == "open-r1"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("fsdp.json", '{"transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"}', "fsdp-json"),
        ("fsdp.json", '{"fsdp_version": 2, "reshard_after_forward": true, "_note": "x"}', "fsdp-json"),
        ("fsdp2.json", '{"_note": "x", "fsdp": "full_shard", "fsdp_config": {"fsdp_version": 2}}', "fsdp-json"),
        ("run.json", '{"output_dir": "o", "per_device_train_batch_size": 1, "fsdp_config": {}}', "training-args-json"),
        ("config.json", '{"model_type": "llama", "hidden_size": 64}', "model-config"),
        ("175b.json", '{"num_layers": 96, "n_head": 96, "hidden_dim": 12288, "vocab_size": 9}', "model-config"),
        ("bert.json", '{"bert_model_config": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,'
                      ' "intermediate_size": 128}, "data": {}}', "model-config"),
        ("adapter_config.json", '{"peft_type": "LORA", "r": 8}', "peft"),
        ("training_params.json", '{"optimizer_kwargs": {"lr": 1e-3}}', "peft"),
        ("run.toml", "model = '/m/Llama'\nmicro_batch_size_per_gpu = 1\npipeline_stages = 2\n", "qlora-pipe"),
        ("flux.toml", "micro_batch_size_per_gpu = 1\npipeline_stages = 2\n[model]\ntype = 'flux'\n", ""),
        ("notes.json", '{"num_layers": 3, "title": "no model"}', ""),
    ],
)  # fmt: skip
def test_parts_of_runs_and_frameworks(path: str, text: str, expected: str) -> None:
    assert kind(path, text) == expected


def test_the_reason_names_keys() -> None:
    found = told("run.yaml", ARGUMENTS + MODEL + "max_length: 1024\n")
    assert found is not None
    assert found.why == "by its keys `model_name_or_path`, `max_length`"
    assert 0.5 < found.confidence < 1


def test_a_short_file_for_a_command_of_trl() -> None:
    text = MODEL + "dataset_name: stanfordnlp/imdb\nlearning_rate: 1.0e-4\nlr_scheduler_type: cosine\n"
    assert kind("config.yaml", text) == "trl"
    assert kind("config.yaml", text + "colour: blue\n") == ""


def test_the_record_of_a_run_that_is_over_is_no_configuration() -> None:
    kept = '{"model": "Qwen/Qwen3-8B", "tuner_type": "lora", "output_dir": "out", "per_device_train_batch_size": 1'
    assert kind("out/v0/args.json", kept + "}") == "ms-swift"
    assert told("out/v0/args.json", kept + ', "swift_version": "4.2.0", "rank": 0}') is None


@pytest.mark.parametrize(
    "measured", ['"peak_memory_allocated_gb": 5.7', '"train_runtime": 812.3', '"tokens_per_second": 9']
)
def test_figures_that_were_measured_make_a_record(measured: str) -> None:
    kept = '{"distributed_backend": "nccl", "data_path": "data.jsonl", "micro_batch_size": 4'
    assert kind("results/run.json", kept + "}") == "gpt-neox"
    assert told("results/run.json", f"{kept}, {measured}}}") is None


def test_the_root_of_hydras_configurations_is_none_of_llama_factory() -> None:
    root = "defaults:\n- trainer: sft\npeft_config:\n  r: 16\nlearning_rate: 1.0e-4\n"
    assert kind("configs/sft.yaml", root) == ""
    assert kind("run.yaml", "model: Qwen/Qwen3-8B\npeft_config:\n  name: lora\n  r: 16\n") == "llama-factory"


def test_a_key_that_axolotl_has_another_word_for_tells_that_it_is_somebody_elses() -> None:
    own = "base_model: Qwen/Qwen3-8B\noptimizer: adamw\ngradient_accumulation_steps: 1\n"
    assert kind("run.yaml", own + "micro_batch_size: 4\n") == "axolotl"
    assert kind("run.yaml", own + "per_device_train_batch_size: 4\n") == "custom-yaml"
