"""Jobs that do not fit, from a table: models of several sizes and families in several regimes, on three GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.catalog.gpus import find_gpu
from vramlint.catalog.models import find_model
from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Gpu,
    Job,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Quantization,
    Zero,
)

GPUS = ("rtx3090", "a100-40gb", "h100")
MODELS: Mapping[str, str] = MappingProxyType(
    {
        "openai-community/gpt2": "causal-lm",
        "Qwen/Qwen2.5-0.5B": "causal-lm",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "causal-lm",
        "meta-llama/Llama-3.2-1B": "causal-lm",
        "EleutherAI/pythia-1.4b": "causal-lm",
        "google/gemma-2-2b": "causal-lm",
        "microsoft/phi-2": "causal-lm",
        "meta-llama/Llama-2-7b-hf": "causal-lm",
        "mistralai/Mistral-7B-v0.1": "causal-lm",
        "Qwen/Qwen3-8B": "causal-lm",
        "meta-llama/Llama-2-13b-hf": "causal-lm",
        "google-bert/bert-base-uncased": "masked-lm",
        "google-t5/t5-base": "seq2seq-lm",
    }
)

_PLAIN = Job(Model("", ""), optimizer=Optimizer("adamw_torch"), objective=Objective())
_NARROW = Precision("bfloat16")
_MIXED = Precision("float32", "bfloat16")
REGIMES: Mapping[str, Job] = MappingProxyType(
    {
        "float32": replace(_PLAIN, batch=Batch(16, 512), attention=Attention("eager")),
        "mixed, evaluated": replace(
            _PLAIN, precision=_MIXED, batch=Batch(16, 1024, 2), evaluation=Evaluation(32, True)
        ),
        "bf16": replace(_PLAIN, precision=_NARROW, batch=Batch(16, 2048), optimizer=Optimizer("adamw_torch_fused")),
        "bf16, checkpointed": replace(
            _PLAIN, precision=_NARROW, batch=Batch(32, 2048), checkpointing=Checkpointing("nonreentrant")
        ),
        "lora": replace(
            _PLAIN, precision=_NARROW, batch=Batch(16, 2048, 1), adapter=Adapter(16, target_modules="all-linear")
        ),
        "qlora": replace(
            _PLAIN,
            precision=_NARROW,
            batch=Batch(16, 2048, 1, padding=True),
            adapter=Adapter(64, target_modules="all-linear"),
            quantization=Quantization(
                "nf4", double_quantization=True, compute_dtype="bfloat16", prepared_for_kbit=True
            ),
            checkpointing=Checkpointing("nonreentrant"),
        ),
        "ddp": replace(_PLAIN, precision=_MIXED, batch=Batch(8, 1024), parallelism=Parallelism(4, "ddp")),
        "zero": replace(
            _PLAIN, precision=_NARROW, batch=Batch(8, 2048, 2), parallelism=Parallelism(8, "deepspeed", Zero(2))
        ),
        "fsdp": replace(
            _PLAIN,
            precision=_MIXED,
            batch=Batch(8, 2048, 2),
            parallelism=Parallelism(8, "fsdp", fsdp_sharding="grad-op"),
        ),
    }
)


class Subject(NamedTuple):
    """A job on a GPU."""

    name: str
    job: Job
    gpu: Gpu


def subjects() -> Iterator[Subject]:
    """All models in all regimes on all GPUs; lengths go no further than the model's positions."""
    for name, task in MODELS.items():
        row = find_model(name)
        if row is None:
            raise LookupError(name)
        for regime, job in REGIMES.items():
            model = Model(name, row.model_type, row.config, row.parameter_count, task)
            limit = row.config.get("max_position_embeddings") or row.config.get("n_positions") or 512
            length = min(job.batch.sequence_length, limit if isinstance(limit, int) else 512)
            for gpu in GPUS:
                card = find_gpu(gpu)
                if isinstance(card, Gpu):
                    batch = replace(job.batch, sequence_length=length)
                    yield Subject(f"{name}, {regime}, {gpu}", replace(job, model=model, batch=batch, gpu=card), card)
