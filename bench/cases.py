"""Rows of traced steps as jobs.

A row has `case` (what was run), `config` (the model's config.json), `versions`, `task` and `result`; one that was
measured on a GPU has `gpu` too.
"""

from __future__ import annotations

from typing import Any

from vramlint.catalog.gpus import find_gpu
from vramlint.catalog.liger import CROSS_ENTROPY, FUSED_HEAD
from vramlint.job import (
    Adapter,
    Argument,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Gpu,
    Job,
    Libraries,
    Model,
    Objective,
    Optimizer,
    Precision,
    Quantization,
)
from vramlint.memory.ops.dynamic_loss import DYNAMIC
from vramlint.memory.ops.fused_head import FUSED_FROM

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "liger_kernel")
REAL_TRAINER = "transformers"
"""The loop of rows for which transformers.Trainer itself ran."""
METHODS = {"prompt": "prompttuning", "prefix": "prefixtuning", "ptuning": "promptencoder"}
"""Short names of adapters that are not in their config's name."""
RANKS = {"vera": 256, "miss": 64, "oft": 0, "adalora": 12}
"""Ranks by default, where it is not 8."""
OTHERS = {
    "hqq4": ("hqq", 4, 64),
    "hqq8": ("hqq", 8, 64),
    "quanto8": ("quanto", 8, 128),
    "torchao8": ("torchao", 8, 128),
    "awq": ("awq", 4, 128),
}
"""Quantizations beside those of bitsandbytes: kind, bits, group size."""
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def job_of(row: dict[str, Any]) -> Job:
    """The job that a row traced."""
    case, config = row["case"], row["config"]
    autocast = case.get("autocast")
    return Job(
        model=Model(case["model"], config.get("model_type", ""), config, task=row["task"]),
        precision=Precision(DTYPES[case.get("param_dtype", "fp32")], DTYPES.get(autocast), autocast == "fp16"),
        optimizer=_optimizer(case),
        batch=Batch(
            case["batch"],
            case["seq"],
            case.get("accum", 1),
            target_length=case.get("target_seq"),
            padding=case.get("mask", "ones") == "pad",
            attention_mask=case.get("mask", "ones") != "none",
            padding_free=case.get("padding_free", False),
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
            loss=_loss(case),
            sft="trl" in case,
            loop="trainer" if case.get("loop") == REAL_TRAINER else case.get("loop", "trainer"),
            max_grad_norm=case.get("max_grad_norm", 1.0),
            label_smoothing=case.get("label_smoothing", 0.0),
        ),
        libraries=_libraries(row),
        gpu=_gpu(row),
        evaluation=_evaluation(case.get("eval")),
        kernels=tuple(case.get("liger") or ()),
        frozen_parameters=tuple(case.get("freeze", ())),
    )


def _loss(case: dict[str, Any]) -> str:
    """`trl` of a case is the release whose SFTTrainer takes the loss, and its `loss_type`."""
    trainer = case.get("trl", {})
    if trainer and (trainer.get("loss_type") == "chunked_nll" or _numbers(trainer["version"]) >= FUSED_FROM):
        return "chunked"
    if trainer.get("loss_type") == DYNAMIC:
        return DYNAMIC
    kernels = case.get("liger") or ()
    return "fused" if FUSED_HEAD in kernels else "liger-cross-entropy" if CROSS_ENTROPY in kernels else "causal-lm"


def _libraries(row: dict[str, Any]) -> Libraries:
    versions = {name: _numbers(row["versions"][name]) for name in LIBRARIES if name in row["versions"]}
    trainer = row["case"].get("trl")
    return Libraries(**versions) if not trainer else Libraries(**versions, trl=_numbers(trainer["version"]))


def _optimizer(case: dict[str, Any]) -> Optimizer:
    """A row's `optim_args` and `targets` are the Trainer's optim_args and optim_target_modules."""
    name = case.get("optimizer", "adamw_torch_fused")
    pairs = (pair.split("=") for pair in case.get("optim_args", "").split(",") if pair)
    arguments: dict[str, Argument] = dict(pairs)
    if name == "sgd_momentum":
        name, arguments = "sgd", {"momentum": 0.9}
    targets = case.get("targets")
    return Optimizer(
        name,
        arguments,
        weight_decay=case.get("weight_decay", 0.0),
        wide_embeddings=case.get("wide_embeddings", case.get("loop") == REAL_TRAINER),
        target_modules=tuple(targets) if isinstance(targets, list) else targets,
    )


def _gpu(row: dict[str, Any]) -> Gpu | None:
    found = find_gpu(row["gpu"]["name"]) if "gpu" in row else None
    return found if isinstance(found, Gpu) else None


def _evaluation(evaluated: dict[str, Any] | None) -> Evaluation | None:
    if not evaluated:
        return None
    return Evaluation(
        evaluated.get("batch", 8),
        keeps_logits=evaluated.get("logits", False),
        accumulation_batches=evaluated.get("accumulation_batches"),
        samples=evaluated.get("samples"),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])


def _adapter(peft: dict[str, Any] | None) -> Adapter | None:
    if not peft:
        return None
    tokens = peft.get("trainable_token_indices") or len(peft.get("token_indices", ()))
    method = METHODS.get(peft.get("kind", "lora"), peft.get("kind", "lora"))
    return Adapter(
        r=peft.get("r", peft.get("init_r", RANKS.get(method, 8))),
        method=method,
        virtual_tokens=peft.get("num_virtual_tokens", 0),
        options={key: tuple(value) if isinstance(value, list) else value for key, value in peft.items()}
        if method != "lora"
        else {},
        dropout=peft.get("dropout", 0.0),
        target_modules=_names(peft.get("targets")),
        modules_to_save=tuple(peft.get("modules_to_save") or ()),
        dora=peft.get("dora", False),
        bias=peft.get("bias", "none"),
        lora_bias=peft.get("lora_bias", False),
        rank_pattern=peft.get("rank_pattern", {}),
        layers_to_transform=tuple(peft.get("layers_to_transform", ())),
        exclude_modules=_names(peft.get("exclude_modules")),
        target_parameters=tuple(peft.get("target_parameters", ())),
        trained_tokens={"embed_tokens": tokens} if tokens else {},
        autocast_adapter_dtype=peft.get("autocast_adapter_dtype", True),
        dtype="bfloat16" if peft.get("trl") == "0.26" else None,
    )


def _names(value: list[str] | str | None) -> tuple[str, ...] | str | None:
    return tuple(value) if isinstance(value, list) else value


def _quantization(case: dict[str, Any]) -> Quantization | None:
    kind = case.get("quant")
    if kind is None:
        return None
    compute = DTYPES[case.get("bnb_compute_dtype", "bf16")]
    trl = case["peft"].get("trl")
    if kind in OTHERS:
        name, bits, group = OTHERS[kind]
        return Quantization(name, bits=bits, group_size=group)
    return Quantization(
        kind,
        kind != "int8" and case.get("double_quant", True),
        compute,
        prepared_for_kbit=case["peft"].get("prepare_kbit", trl != "0.26"),
        narrowed_embeddings=trl in ("0.23", "0.25"),
        only_norms=trl == "0.25",
        skipped_modules=tuple(case.get("skip", ())),
        source_dtype=compute,
    )
