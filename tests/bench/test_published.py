"""The bench against published measurements, on rows of its own data and on made-up ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli

from bench import published
from bench import published_notes as notes
from bench.published_outcomes import Outcome, outcome_of, outcome_of_figure
from bench.published_rows import Skip, job_of
from bench.published_tables import figures_of_table, versions_of

ROWS: list[Mapping[str, Any]] = tomli.loads(published.DEFAULT_ROWS.read_text(encoding="utf-8"))["row"]
TRAINED: Mapping[str, Any] = {
    "id": "made-up",
    "group": "fms",
    "task": "train",
    "model": "mistralai/Mistral-7B-v0.1",
    "metric": "allocated",
    "value_mib": 25467.5,
    "per": "gpu",
    "gpu": "A100-SXM4-80GB",
    "gpu_mem_gb": 80,
    "n_gpus": 1,
    "framework": "HF transformers Trainer (fms-hf-tuning)",
    "versions": "torch 2.4.1, transformers 4.48.1, accelerate 1.0.1, peft 0.13.2, trl 0.13.0, bitsandbytes 0.43.3",
    "params_dtype": "bfloat16",
    "autocast": "none",
    "optimizer": "AdamW (torch, foreach)",
    "micro_batch": 4,
    "seq_len": 4096,
    "grad_ckpt": True,
    "peft": "LoRA r=16 q,k,v,o, dropout=0.1",
    "attention": "flash_attention_2",
    "parallel": "none",
    "confidence": "high",
}


def rows_of(group: str, *, metric: str = "allocated", confidence: str = "high") -> list[Mapping[str, Any]]:
    return [r for r in ROWS if (r["group"], r["metric"], r["confidence"]) == (group, metric, confidence)]


def test_a_row_becomes_a_job() -> None:
    job = job_of({**TRAINED, "grad_accum": 3})

    assert job.model.model_type == "mistral"
    assert job.libraries.torch == (2, 4, 1)
    assert (job.batch.micro_batch_size, job.batch.sequence_length) == (4, 4096)
    assert job.batch.gradient_accumulation_steps == 3
    assert job.checkpointing.mode == "reentrant"
    assert job.attention.implementation == "flash_attention_2"
    assert (job.optimizer.name, job.precision.weights, job.precision.autocast) == ("adamw_torch", "bfloat16", None)
    assert job.adapter is not None
    assert (job.adapter.r, job.adapter.dropout) == (16, 0.1)
    assert job.adapter.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert job.gpu is not None
    assert 79 << 30 < job.gpu.usable_bytes < 80 << 30


def test_fully_sharded_rows_name_their_world() -> None:
    job = job_of({**TRAINED, "n_gpus": 2, "parallel": "FSDP x2"})

    assert (job.parallelism.strategy, job.parallelism.world_size) == ("fsdp", 2)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"task": "overhead"}, "task overhead"),
        ({"model": "nobody/has-this"}, "the model is in no table"),
        ({"seq_len": "unknown"}, "batch size or length is not said"),
        ({"seq_note": "no packing: real lengths"}, "the lengths of the real samples are not known"),
        ({"missing": "activation checkpointing mode not restated"}, "whether layers are checkpointed is not said"),
        ({"params_dtype": ""}, "the dtype of the weights is not said"),
        ({"optimizer": ""}, "the optimizer is not said"),
        ({"grad_ckpt": "unstated"}, "whether layers are checkpointed is not said"),
        ({"grad_ckpt": "selective (core attention)"}, "this form of activation checkpointing is not simulated"),
        ({"peft": "LoHa r=32"}, "the adapter LoHa r=32 is not simulated or not described"),
        ({"parallel": "tensor parallel x2"}, "tensor parallelism is not simulated"),
    ],
)
def test_a_row_that_says_too_little_is_skipped(changed: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        job_of({**TRAINED, **changed})

    assert outcome_of({**TRAINED, **changed}).skipped == reason


@pytest.mark.parametrize("row", rows_of("liger"), ids=lambda row: row["id"])
def test_single_operators_are_exact(row: Mapping[str, Any]) -> None:
    assert outcome_of(row).error == pytest.approx(0, abs=0.0005)


@pytest.mark.parametrize(
    "row",
    [r for r in rows_of("fms") if "mistral" in r["id"] or "powerlm" in r["id"]],
    ids=lambda row: row["id"],
)
def test_training_steps_of_one_and_two_gpus(row: Mapping[str, Any]) -> None:
    assert outcome_of(row).error == pytest.approx(0, abs=0.004)


@pytest.mark.parametrize("row", [*rows_of("litgpt"), *rows_of("preflight"), *rows_of("qwen25")], ids=lambda r: r["id"])
def test_other_loops(row: Mapping[str, Any]) -> None:
    found = outcome_of(row)

    assert found.skipped or found.error == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("gpu", "verdict", "right"),
    [("A100-SXM4-80GB", "fits", True), ("RTX 4090", "exceeds", False)],
)
def test_a_verdict_is_that_of_the_check(gpu: str, verdict: str, right: bool) -> None:
    memory = 80 if "A100" in gpu else 24
    found = outcome_of({**TRAINED, "metric": "verdict", "verdict": "fit", "gpu": gpu, "gpu_mem_gb": memory})

    assert (found.verdict, found.right, found.false_fit) == (verdict, right, False)


def test_a_fit_that_ran_out_of_memory_counts() -> None:
    found = outcome_of({**TRAINED, "metric": "verdict", "verdict": "oom"})

    assert (found.right, found.false_fit) == (False, True)


def test_the_figure_depends_on_the_metric() -> None:
    errors = {
        metric: outcome_of({**TRAINED, "metric": metric}).error or 0.0
        for metric in ("allocated", "reserved", "nvidia-smi")
    }

    assert errors["allocated"] < errors["reserved"] < errors["nvidia-smi"]


def test_an_unknown_unit_is_compared_with_its_range() -> None:
    row = {**TRAINED, "metric": "unknown"}
    within = outcome_of({**row, "value_mib": 27000.0, "value_mib_range": [26000.0, 28000.0]})
    above = outcome_of({**row, "value_mib": 50000.0, "value_mib_range": [48000.0, 52000.0]})

    assert within.error == 0
    assert above.error is not None
    assert -0.5 < above.error < -0.3


def test_figures_of_outcomes() -> None:
    known = ("fms", "allocated", "high")
    outcomes = [
        Outcome("a", *known, error=0.01),
        Outcome("b", *known, error=-0.03),
        Outcome("c", "fms", "reserved", "medium", error=0.2),
        Outcome("d", "fms", "verdict", "medium", verdict="exceeds", happened="oom"),
        Outcome("e", "fms", "verdict", "medium", verdict="close", happened="oom"),
        Outcome("f", *known, skipped="no word of it"),
    ]

    report = published.report_of(outcomes)

    assert report["groups"]["fms"] == {
        "n": 2,
        "mean_error": pytest.approx(0.02),
        "max_error": 0.03,
        "all_n": 3,
        "all_mean_error": pytest.approx(0.08),
        "all_max_error": 0.2,
        "ranges": 0,
        "verdicts": 2,
        "verdict_right": 0.5,
        "false_fits": 0,
    }
    assert report["skipped"] == {"no word of it": 1}
    assert [miss["id"] for miss in report["misses"]] == ["c"]


def test_json_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = tmp_path / "rows.toml"
    row = {**TRAINED, "value_mib": 20000.0}
    lines = [f"{name} = {json.dumps(value)}" for name, value in row.items()]
    chosen.write_text("[[row]]\n" + "\n".join(lines), encoding="utf-8")

    assert published.main(["--rows", str(chosen), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["groups"]["fms"]["n"] == 1

    assert published.main(["--rows", str(chosen), "--worst", "1"]) == 0
    shown = capsys.readouterr().out
    assert "fms" in shown
    assert "made-up" in shown.partition("worst")[2]


ADAPTER = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
FOLDER = "huggingface__peft/method_comparison/MetaMathQA/experiments/lora/rank8"
LINE = {
    "framework": "peft",
    "repo": "huggingface/peft",
    "config": f"{FOLDER.partition('/')[2]}/adapter_config.json",
    "gpu": "NVIDIA L40S",
    "n_gpus": "1",
    "metric": "max_memory_reserved over the run",
    "value": "4000000000",
    "unit": "bytes",
    "note": "model EleutherAI/pythia-160m; batch 2; max_seq 256; dtype bfloat16; gc False; optimizer AdamW",
}


def outcomes_of(folder: Path, *changes: Mapping[str, str]) -> list[Outcome]:
    """The outcomes of a table with a line for each of `changes`, which are changes of `LINE`."""
    config = folder / FOLDER / "adapter_config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(ADAPTER | {"target_modules": ["query_key_value"]}), encoding="utf-8")
    table = folder / "measured.tsv"
    rows = ["\t".join({**LINE, **change}.values()) for change in changes]
    table.write_text("\n".join(["\t".join(LINE), *rows]), encoding="utf-8")
    return [outcome_of_figure(figure) for figure in figures_of_table(table, folder)]


def test_a_figure_is_held_against_what_is_read_from_its_config(tmp_path: Path) -> None:
    small, large = outcomes_of(tmp_path, {}, {"note": LINE["note"].replace("256", "1024")})

    assert small.error is not None
    assert large.error is not None
    assert large.error > small.error


def test_a_card_or_a_failure_is_a_verdict(tmp_path: Path) -> None:
    card = {"note": f"{LINE['note']}; probably the card size, not a measurement", "unit": "GiB"}
    fitted, full, failed = outcomes_of(tmp_path, {**card, "value": "80"}, {**card, "value": "16"}, {"value": "OOM"})

    assert (fitted.verdict, fitted.right) == ("fits", True)
    assert (full.verdict, full.happened) == ("fits", "fit")
    assert (failed.verdict, failed.right, failed.false_fit) == ("fits", False, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_gpus": "4"}, "the run is on several GPUs"),
        ({"config": "gone.yaml"}, "the config is not beside the table"),
        ({"config": "?"}, "no config is named"),
        ({"config": "a.yaml with overrides"}, "the config was run with other values than it has"),
        ({"note": "WARNING 2 GPUs visible"}, "what stands beside the file contradicts it"),
        ({"note": "target experts (1x48GB @ ~34GiB/GPU)"}, "the config was run with other values than it has"),
        ({"note": "nothing"}, "model is not known"),
    ],
)
def test_lines_that_cannot_be_compared(tmp_path: Path, change: Mapping[str, str], reason: str) -> None:
    (found,) = outcomes_of(tmp_path, change)

    assert found.skipped.startswith(reason)


def test_a_rounded_figure_stands_for_a_range(tmp_path: Path) -> None:
    note = {"metric": "per GPU, header comment", "unit": "GiB"}
    near, far = outcomes_of(tmp_path, {**note, "value": "1"}, {**note, "value": "1.00"})

    assert near.error is not None
    assert far.error is not None
    assert abs(near.error) <= abs(far.error)


def test_a_figure_is_of_the_libraries_and_the_file_of_the_month_that_wrote_it() -> None:
    named = "axolotl examples/magistral/magistral-small-qlora.yaml"
    plugins = b"plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n"

    assert versions_of(named)["transformers"] == "4.52.3"
    assert notes.as_run(named, b"base_model: a/b\n" + plugins + b"bf16: auto\n") == b"base_model: a/b\nbf16: auto\n"
    assert notes.as_run("axolotl examples/plano/plano-4b-qlora.yaml", plugins) == plugins
    assert versions_of("litgpt a.yaml") == notes.VERSIONS["litgpt"]
    assert versions_of("unsloth nb/a.ipynb") == {}
    assert versions_of("ms-swift examples/train/full/train.sh")["torch"] == "2.4.1"
