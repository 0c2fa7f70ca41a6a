"""Rows of traced steps as jobs.

A row has `case` (what was run), `config` (the model's config.json), `versions`, `task` and `result`.
"""

from __future__ import annotations

from typing import Any

from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Job,
    Libraries,
    Model,
    Objective,
    Optimizer,
    Precision,
    Quantization,
)

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def job_of(row: dict[str, Any]) -> Job:
    """The job that a row traced."""
    case, config = row["case"], row["config"]
    autocast = case.get("autocast")
    return Job(
        model=Model(case["model"], config.get("model_type", ""), config, task=row["task"]),
        precision=Precision(DTYPES[case.get("param_dtype", "fp32")], DTYPES.get(autocast), autocast == "fp16"),
        optimizer=_optimizer(case.get("optimizer", "adamw_torch_fused")),
        batch=Batch(
            case["batch"],
            case["seq"],
            case.get("accum", 1),
            target_length=case.get("target_seq"),
            padding=case.get("mask", "ones") == "pad",
            attention_mask=case.get("mask", "ones") != "none",
        ),
        attention=Attention(case.get("attn", "sdpa"), case.get("use_cache", False)),
        checkpointing=Checkpointing(
            case.get("checkpointing", "none"),
            every_n_layers=case.get("every_n_layers", 1),
            selective=case.get("selective", False),
            offload=case.get("offload", False),
        ),
        adapter=_adapter(case.get("peft")),
        quantization=_quantization(case),
        objective=Objective(
            loop=case.get("loop", "trainer"),
            max_grad_norm=case.get("max_grad_norm", 1.0),
            label_smoothing=case.get("label_smoothing", 0.0),
        ),
        libraries=Libraries(**{name: _version(row, name) for name in ("torch", "transformers", "peft", "accelerate")}),
        frozen_parameters=tuple(case.get("freeze", ())),
    )


def _optimizer(name: str) -> Optimizer:
    return Optimizer("sgd", momentum=0.9) if name == "sgd_momentum" else Optimizer(name)


def _version(row: dict[str, Any], library: str) -> tuple[int, ...]:
    return tuple(int(part) for part in row["versions"][library].split(".")[:3])


def _adapter(peft: dict[str, Any] | None) -> Adapter | None:
    if not peft:
        return None
    targets = peft.get("targets")
    return Adapter(
        r=peft.get("r", 8),
        dropout=peft.get("dropout", 0.0),
        target_modules=tuple(targets) if isinstance(targets, list) else targets,
        modules_to_save=tuple(peft.get("modules_to_save") or ()),
        dora=peft.get("dora", False),
    )


def _quantization(case: dict[str, Any]) -> Quantization | None:
    if case.get("quant") != "nf4":
        return None
    compute = DTYPES[case.get("bnb_compute_dtype", "bf16")]
    return Quantization("nf4", case.get("double_quant", True), compute, prepared_for_kbit=True)
