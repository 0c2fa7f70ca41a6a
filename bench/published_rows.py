"""Published measurements as jobs.

A row says what was run in free text; `job_of` reads it by the tables of `published_words` and `published_models`. What
a row leaves open, or what the simulator does not follow, is a reason to skip it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from bench import published_words as words
from bench.published_models import OWN_MODELS, model_of
from bench.published_words import Framework, meaning
from vramlint.catalog.gpus import find_gpu
from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Gpu,
    Job,
    Libraries,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Quantization,
    Zero,
)

MIB = 1 << 20
Row = Mapping[str, Any]
FIRST = "forced first"
"""What a row's `seq_note` says where its longest sample comes in the first step, and no later step is as long."""
TASKS = {"train": "training", "inference": "inference", "load": "training"}


class Skip(Exception):  # noqa: N818  no error: the row is counted under its reason
    """The row cannot be compared; the message says why."""


def job_of(row: Row) -> Job:
    """The run that a row measured.

    Raises:
        Skip: the row does not say enough, or something that is not simulated.
    """
    if row["task"] not in TASKS:
        raise Skip(f"task {row['task']}")
    framework: Framework = meaning(words.FRAMEWORKS, row.get("framework", ""), Framework())
    loading = row["task"] == "load"
    checkpointing = Checkpointing() if loading else _checkpointing(row, framework)
    return Job(
        model=_model(row, framework),
        precision=_precision(row),
        optimizer=Optimizer("sgd") if loading else _optimizer(row),
        batch=Batch(1, 8) if loading else _batch(row),
        attention=Attention(meaning(words.ATTENTIONS, row.get("attention", ""), "sdpa"), framework.caches),
        checkpointing=checkpointing,
        adapter=_adapter(row, framework),
        quantization=_quantization(row, framework),
        parallelism=_parallelism(row, framework),
        objective=Objective(
            kind=TASKS[row["task"]],
            loss=_loss(row, framework),
            loop=framework.loop,
            max_grad_norm=1.0 if framework.clips else 0.0,
        ),
        libraries=libraries_of(row),
        gpu=gpu_of(row),
        compiled=row.get("compile") == "torch.compile",
        kernels=meaning(words.KERNELS, row.get("extra", ""), ()),
    )


def _model(row: Row, framework: Framework) -> Model:
    model = model_of(row["model"])
    if model is None:
        raise Skip("the model is in no table")
    if not framework.model_type:
        return model
    own = OWN_MODELS[framework.model_type](model)
    if own is None:
        raise Skip(f"{framework.model_type} has no {model.model_type}")
    return own


def _precision(row: Row) -> Precision:
    text = row.get("params_dtype", "")
    weights = meaning(words.DTYPES, text)
    if weights is None:
        raise Skip("the dtype of the weights is not said")
    autocast = meaning(words.AUTOCASTS, row.get("autocast", "none"))
    if autocast is None and re.search(r"fsdp2? bf16 compute|bf16 compute", text, re.IGNORECASE):
        autocast = "bfloat16"
    if weights == "float16" and autocast == "bfloat16":
        autocast = "float16"
    return Precision(weights, autocast, grad_scaler=autocast == "float16")


def _optimizer(row: Row) -> Optimizer:
    if row["task"] == "inference":
        return Optimizer("sgd")
    text = row.get("optimizer", "")
    name = meaning(words.OPTIMIZERS, text)
    if name is None:
        raise Skip(f"the optimizer {text} is not simulated" if text else "the optimizer is not said")
    fused = {"layerwise": True} if "fused into backward" in text else {}
    return Optimizer(name, fused, wide_embeddings="embeddings 32-bit" in text)


def _batch(row: Row) -> Batch:
    reason = meaning(words.UNREALISED, row.get("seq_note", "")) or meaning(words.UNKNOWN, row.get("missing", ""))
    if reason:
        raise Skip(reason)
    if row["task"] == "inference":
        return _prompt(row)
    size, length = row.get("micro_batch"), row.get("seq_len")
    if not isinstance(size, int) or not isinstance(length, int):
        raise Skip("batch size or length is not said")
    text = f"{row.get('extra', '')} {row.get('seq_note', '')}"
    packed = re.search(r"packing on|packing$|packed", text) is not None
    return Batch(size, length, _accumulation(row, size), packing=packed)


def _prompt(row: Row) -> Batch:
    """What is generated behind what; a row's length is that of both together."""
    text = f"{row.get('seq_note', '')}; {row.get('extra', '')}; {row.get('missing', '')}"
    found = re.search(r"(\d+) (?:new|generated) tokens|generation of (\d+)|max_new_tokens=(\d+)", text)
    generated = next((int(group) for group in found.groups() if group), 0) if found else 0
    prompt, default = meaning(words.GENERATIONS, text, (0, 0))
    stated = re.search(r"prompt (?:about )?(\d+)", text)
    length, generated = row.get("seq_len", 0), generated or default
    prompt = int(stated[1]) if stated else prompt or max(0, length - generated)
    if "prefill only" in text or "after no-grad forward" in text:
        prompt, generated = prompt or length, 0
    if not prompt:
        raise Skip("the length of the prompt is not said")
    return Batch(int(row.get("micro_batch", 1)), prompt, generated_tokens=generated)


def _accumulation(row: Row, size: int) -> int:
    """Micro batches of a step, which some rows give by the size of the whole batch.

    Where only the first is of the length that the row gives, it stands alone.
    """
    if FIRST in row.get("seq_note", "") and row.get("n_gpus", 1) == 1:
        return 1
    found = re.search(r"minibatch (\d+) by accumulation", row.get("extra", ""))
    if not found:
        return int(row.get("grad_accum", 1))
    return max(1, int(found[1]) // (size * int(row.get("n_gpus", 1))))


def _checkpointing(row: Row, framework: Framework) -> Checkpointing:
    value = str(row.get("grad_ckpt", False))
    if row["task"] == "inference" or value == "False":
        return Checkpointing()
    if "per-op" in value:
        return Checkpointing(framework.checkpointing, selective=True)
    if "every 2nd" in value:
        return Checkpointing(framework.checkpointing, every_n_layers=2)
    if value == "unstated":
        raise Skip("whether layers are checkpointed is not said")
    if value.startswith("selective"):
        raise Skip("this form of activation checkpointing is not simulated")
    if "unsloth" in value:
        return Checkpointing("reentrant", offload=True)
    form = "nonreentrant" if "non-reentrant" in value else "reentrant" if "(reentrant" in value else ""
    return Checkpointing(
        form or framework.checkpointing,
        offload="activations" in row.get("offload", ""),
        within_units=framework.within_units,
    )


def _adapter(row: Row, framework: Framework) -> Adapter | None:
    text = row.get("peft")
    if not text:
        return None
    if row.get("adapter", {}).get("peft_type") in words.METHODS:
        return _of_config(row["adapter"])
    if not re.match(r"(LoRA|DoRA) r=\d+", text):
        raise Skip(f"the adapter {text.split(',')[0]} is not simulated or not described")
    rank = re.search(r"r=(\d+)", text)
    dropout = re.search(r"dropout=([\d.]+)", text)
    adapter = Adapter(
        r=int(rank[1]) if rank else 8,
        dropout=float(dropout[1]) if dropout else framework.dropout,
        target_modules=_named(_targets(text), framework),
        dora=text.startswith("DoRA"),
        from_peft=framework.adapter_in_float32,
    )
    return replace(adapter, modules_to_save=("wte", "lm_head")) if "trainable wte" in text else adapter


def _of_config(config: Mapping[str, Any]) -> Adapter:
    """The adapter of an adapter_config.json of another method than LoRA."""
    method = words.METHODS[config["peft_type"]]
    targets, rank = config.get("target_modules"), config.get("init_r" if method == "adalora" else "r")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    return Adapter(
        r=Adapter().r if rank is None else rank,
        target_modules=tuple(targets) if isinstance(targets, list) else targets,
        method=method,
        virtual_tokens=config.get("num_virtual_tokens") or 0,
        options={key: value for key, value in options.items() if isinstance(value, int | str | tuple)},
    )


def _targets(text: str) -> tuple[str, ...] | str:
    found = re.search(r"targets[= ]([^);]+)", text) or re.search(r"r=\d+(?: alpha=\d+)? ([^(=]+)", text)
    if not found:
        raise Skip("the modules under the adapter are not said")
    listed = found[1].split(", ")[0].strip()
    known = meaning(words.TARGETS, listed)
    if known is not None:
        return known if isinstance(known, str) else tuple(known)
    return tuple(re.split(r"[ ,]+", listed))


def _named(targets: tuple[str, ...] | str, framework: Framework) -> tuple[str, ...] | str:
    """The framework's own names of those modules."""
    names = words.OWN_TARGETS.get(framework.model_type, {})
    if isinstance(targets, str) and framework.model_type == "torchtune":
        return ("q_proj", "k_proj", "v_proj", "output_proj", "mlp")
    return targets if isinstance(targets, str) else tuple(names.get(target, target) for target in targets)


def _quantization(row: Row, framework: Framework) -> Quantization | None:
    text = row.get("quant")
    if not text or text == "none":
        return None
    found = meaning(words.QUANTIZATIONS, text)
    if found is None or ("torchao" in text and framework.model_type != "torchtune"):
        raise Skip(f"the quantization {text} is not simulated")
    if "awq" in text.lower() and row["task"] == "train":
        raise Skip("adapters on AWQ weights are not simulated")
    kind, double = found
    dtype = meaning(words.DTYPES, row.get("params_dtype", ""), "float32")
    sharded = "FSDP" in row.get("parallel", "")
    prepares = framework.prepares_kbit or "prepare_model_for_kbit_training" in row.get("extra", "")
    prepared = prepares and row["task"] == "train" and not sharded
    return Quantization(
        kind,
        double or framework.double_quantization,
        dtype,
        prepared,
        narrowed_embeddings=prepared
        and (
            (framework.narrows and row.get("autocast", "").startswith("bf16"))
            or "embeddings kept" in row.get("extra", "")
        ),
        source_dtype=framework.quantizes_from,
        bits=meaning(words.BITS, text, 4),
        group_size=meaning(words.GROUP_SIZES, row["model"], 128),
        experts="experts too" in text,
    )


def _parallelism(row: Row, framework: Framework) -> Parallelism:
    text = row.get("parallel", "none")
    gpus = int(row.get("n_gpus", 1))
    offload = row.get("offload", "")
    reason = meaning(words.PARALLEL, text)
    if reason:
        raise Skip(reason)
    if text == "none":
        if gpus > 1:
            raise Skip("how the run is shared between GPUs is not said")
        return Parallelism()
    stage = re.search(r"ZeRO-(\d)", text)
    if stage:
        where = "cpu" if offload else "none"
        parameters = "cpu" if "params" in offload else "none"
        zero = Zero(int(stage[1]), offload_optimizer=where, offload_parameters=parameters)
        return Parallelism(gpus, "deepspeed", zero)
    if "FSDP" in text:
        return Parallelism(
            gpus,
            "fsdp",
            fsdp_version=2 if "FSDP2" in text else 1,
            fsdp_reduce_dtype=framework.reduces_in,
            fsdp_offload="params" in offload,
            fsdp_adapters_apart=framework.adapters_apart,
            sync_each_batch=framework.synchronises,
        )
    if text.startswith("DDP"):
        return Parallelism(gpus, "ddp")
    raise Skip("how the run is shared between GPUs is not said")


def _loss(row: Row, framework: Framework) -> str:
    if row["task"] != "train":
        return framework.loss
    return str(meaning(words.LOSSES, row.get("extra", ""), framework.loss))


def libraries_of(row: Row) -> Libraries:
    """The versions that a row names; of the others, those of its month."""
    month = str(row.get("date", "2024-06"))[:7]
    releases: dict[str, tuple[int, ...]] = {}
    for since, current in words.RELEASES:
        if since <= month or not releases:
            releases = {**releases, **current}
    text = row.get("versions", "")
    for name in ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "deepspeed"):
        found = re.search(rf"\b{name} (\d+)\.(\d+)(?:\.(\d+))?", text)
        if found:
            releases[name] = tuple(int(part or 0) for part in found.groups())
    return Libraries(**releases)


def gpu_of(row: Row) -> Gpu | None:
    """The card, with the total memory that torch saw where the row says it."""
    text = row.get("gpu", "")
    name = re.sub(r"\s*\(.*\)", "", text)
    size = row.get("gpu_mem_gb")
    candidates = (name, re.sub(r"[- ]?\d+ ?GB?\b", "", name), f"{size}GB" if size else "")
    gpu = next((found for part in candidates if part and isinstance(found := find_gpu(part.strip()), Gpu)), None)
    seen = re.search(r"\(([\d.]+) (?:GB by torch|GiB(?: usable)?)\)", text)
    if gpu is not None and seen:
        return replace(gpu, usable_bytes=int(float(seen[1]) * 1024 * MIB))
    return gpu
