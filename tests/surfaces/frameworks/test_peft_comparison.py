"""Experiments of PEFT's comparison of methods, and adapter_config.json by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vramlint.api import SourceFile, Surroundings, lint
from vramlint.engine.selection import RuleSet
from vramlint.findings import JobReport
from vramlint.settings import Settings

FOLDER = "comparison/experiments/lora/rank4"
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": None, "r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
DEFAULTS = {
    "model_id": "meta-llama/Llama-3.2-1B",
    "dtype": "bfloat16",
    "max_seq_length": 512,
    "batch_size": 4,
    "batch_size_eval": 50,
    "compile": False,
    "use_gc": True,
    "grad_norm_clip": 1.0,
    "optimizer_type": "AdamW",
    "optimizer_kwargs": {"lr": 1e-4, "weight_decay": 0.1},
    "use_amp": False,
    "autocast_adapter_dtype": True,
    "attn_implementation": None,
}


def jobs_of(path: str, files: Mapping[str, object]) -> tuple[JobReport, ...]:
    data = {name: json.dumps(value).encode() for name, value in files.items()}
    around = Surroundings(lambda name: data.get(name.removeprefix("./")), thorough=True, alone=True)
    return lint((SourceFile(path, "json", data[path], explicit=True),), Settings(), RuleSet(()), around).jobs


def values(job: JobReport) -> dict[str, object]:
    return {fact.name: fact.value for fact in job.facts}


def test_an_adapter_by_itself_is_data():
    path = f"{FOLDER}/adapter_config.json"
    (job,) = jobs_of(path, {path: ADAPTER | {"base_model_name_or_path": "gpt2"}})

    assert (job.kind, job.status) == ("data", "skipped")
    assert job.recognised is not None
    assert job.recognised.kind == "peft"
    found = values(job)
    assert (found["model"], found["tuning"], found["lora_r"], found["lora_dropout"]) == ("gpt2", "lora", 4, 0.1)


def test_an_experiment_is_a_run_with_the_parameters_around_it():
    path = f"{FOLDER}/adapter_config.json"
    files = {
        path: ADAPTER,
        "comparison/default_training_params.json": DEFAULTS,
        f"{FOLDER}/training_params.json": {"batch_size": 2},
    }
    adapter, run = jobs_of(path, files)

    assert values(adapter)["model"] is None
    found = values(run)
    assert (run.kind, run.status) == ("training", "checked")
    assert (found["model"], found["micro_batch_size"], found["sequence_length"]) == ("meta-llama/Llama-3.2-1B", 2, 512)
    assert (found["precision"], found["optimizer"], found["loop"]) == ("bf16-pure", "adamw_torch", "script")
    assert found["activation_checkpointing"] is True
    assert found["lora_target_modules"] == ("q_proj", "v_proj")


def test_parameters_of_an_experiment_lead_to_its_adapter():
    path = f"{FOLDER}/training_params.json"
    files = {
        path: {"optimizer_kwargs": {"lr": 0.3}},
        f"{FOLDER}/adapter_config.json": ADAPTER,
        "comparison/default_training_params.json": DEFAULTS,
    }
    (run,) = jobs_of(path, files)

    assert (values(run)["tuning"], values(run)["lora_r"]) == ("lora", 4)


def test_results_say_the_whole_run():
    info = {"train_config": DEFAULTS | {"dtype": "int4"}, "peft_config": ADAPTER | {"peft_type": "VERA", "r": 64}}
    (run,) = jobs_of("results/vera.json", {"results/vera.json": {"run_info": info, "train_info": {}}})

    found = values(run)
    assert (found["tuning"], found["quantization_bits"], found["lora_r"]) == ("vera", 4, 64)
    assert run.status == "checked"
