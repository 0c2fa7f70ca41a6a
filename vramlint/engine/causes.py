"""What causes the peak: which facts stand behind which component, and what every open fact adds to the range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from vramlint.estimate import Amount, Estimate
from vramlint.facts import Fact, Origin
from vramlint.findings import Label
from vramlint.job import Job
from vramlint.resolve.run import Run
from vramlint.text import Place

GIB = 2**30

SHARE_WORTH_A_LABEL = 0.04
"""Components below this part of the peak get no label: they are not why it doesn't fit."""

FACTS_BEHIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "weights": ("model", "load_dtype", "quantization_bits"),
        "autocast weight copies": ("bf16", "fp16", "precision"),
        "master weights": ("bf16", "fp16", "precision", "zero_stage"),
        "gradients": ("tuning", "zero_stage"),
        "optimizer states": ("optimizer", "zero_stage"),
        "activations": ("micro_batch_size", "sequence_length", "activation_checkpointing"),
        "logits and loss": ("micro_batch_size", "sequence_length", "fused_loss"),
        "batch": ("micro_batch_size", "sequence_length"),
        "quantization": ("quantization_bits",),
        "adapters": ("lora_r", "lora_target_modules"),
        "gathered parameters": ("zero_stage", "fsdp", "max_live_parameters", "prefetch_bucket_size"),
        "communication buffers": ("reduce_bucket_size", "allgather_bucket_size", "zero_stage"),
        "DDP buckets": ("world_size",),
    }
)
"""Component of an estimate to the facts that decide its size, the most telling first. A component that is not
here (temporaries, rounding) has no fact of its own."""

FACTS_BEHIND_EVALUATION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "activations": ("eval_micro_batch_size", "sequence_length"),
        "logits and loss": ("evaluation_keeps_logits", "eval_micro_batch_size", "eval_accumulation_steps"),
        "key/value cache": ("evaluation_generates", "eval_micro_batch_size"),
        "batch": ("eval_micro_batch_size", "sequence_length"),
    }
)
"""The same where the peak is in evaluation."""

_READ: Mapping[str, Callable[[Job], object]] = MappingProxyType(
    {
        "model": lambda job: job.model.name,
        "model_type": lambda job: job.model.model_type,
        "load_dtype": lambda job: job.precision.weights,
        "precision": lambda job: job.precision,
        "bf16": lambda job: job.precision.autocast == "bfloat16",
        "fp16": lambda job: job.precision.autocast == "float16",
        "optimizer": lambda job: job.optimizer.name,
        "micro_batch_size": lambda job: job.batch.micro_batch_size,
        "eval_micro_batch_size": lambda job: job.evaluation and job.evaluation.micro_batch_size,
        "evaluation_keeps_logits": lambda job: job.evaluation and job.evaluation.keeps_logits,
        "evaluation_generates": lambda job: job.evaluation and job.evaluation.generated_tokens,
        "gradient_accumulation_steps": lambda job: job.batch.gradient_accumulation_steps,
        "sequence_length": lambda job: job.batch.sequence_length,
        "target_length": lambda job: job.batch.target_length,
        "packing": lambda job: job.batch.packing,
        "padding": lambda job: job.batch.padding,
        "activation_checkpointing": lambda job: job.checkpointing.mode != "none",
        "checkpointing_reentrant": lambda job: job.checkpointing.mode,
        "checkpointing_every_n_layers": lambda job: job.checkpointing.every_n_layers,
        "checkpointing_offload": lambda job: job.checkpointing.offload,
        "padding_free": lambda job: job.batch.padding_free,
        "label_smoothing": lambda job: job.objective.label_smoothing,
        "attention_implementation": lambda job: job.attention.implementation,
        "use_cache": lambda job: job.attention.use_cache,
        "experts_implementation": lambda job: job.model.config.get("experts_implementation"),
        "router_logits": lambda job: job.model.config.get("output_router_logits"),
        "max_grad_norm": lambda job: job.objective.max_grad_norm,
        "objective": lambda job: job.objective.loss,
        "fused_loss": lambda job: job.objective.loss,
        "loop": lambda job: job.objective.loop,
        "tuning": lambda job: (job.adapter and job.adapter.method, job.quantization is not None),
        "quantization_bits": lambda job: job.quantization.kind if job.quantization else None,
        "quantization_type": lambda job: job.quantization.kind if job.quantization else None,
        "double_quantization": lambda job: job.quantization.double_quantization if job.quantization else None,
        "quantization_compute_dtype": lambda job: job.quantization.compute_dtype if job.quantization else None,
        "prepared_for_kbit": lambda job: job.quantization.prepared_for_kbit if job.quantization else None,
        "lora_r": lambda job: job.adapter.r if job.adapter else None,
        "lora_dropout": lambda job: job.adapter.dropout if job.adapter else None,
        "lora_target_modules": lambda job: job.adapter.target_modules if job.adapter else None,
        "lora_modules_to_save": lambda job: job.adapter.modules_to_save if job.adapter else None,
        "use_dora": lambda job: job.adapter.dora if job.adapter else None,
        "adapter_bias": lambda job: job.adapter.bias if job.adapter else None,
        "lora_rank_pattern": lambda job: tuple(job.adapter.rank_pattern.items()) if job.adapter else None,
        "lora_layers": lambda job: job.adapter.layers_to_transform if job.adapter else None,
        "lora_exclude_modules": lambda job: job.adapter.exclude_modules if job.adapter else None,
        "lora_target_parameters": lambda job: job.adapter.target_parameters if job.adapter else None,
        "trained_tokens": lambda job: tuple(job.adapter.trained_tokens.items()) if job.adapter else None,
        "adapter_cast": lambda job: job.adapter.autocast_adapter_dtype if job.adapter else None,
        "virtual_tokens": lambda job: job.adapter.virtual_tokens if job.adapter else None,
        "world_size": lambda job: job.parallelism.world_size,
        "parallelism": lambda job: job.parallelism.strategy,
        "zero_stage": lambda job: job.parallelism.zero.stage if job.parallelism.zero else None,
        "offload_optimizer": lambda job: job.parallelism.zero.offload_optimizer if job.parallelism.zero else None,
        "offload_parameters": lambda job: job.parallelism.zero.offload_parameters if job.parallelism.zero else None,
    }
)
"""Where the value of a fact stands in a job."""


def contributions(run: Run, estimates: Sequence[Estimate]) -> tuple[tuple[str, int], ...]:
    """(open fact, bytes of the range that it alone causes), the largest first.

    For each open fact, jobs that agree on all other open facts are compared; the largest difference counts. Of facts
    that change together, as the number of GPUs and what these share, the first stands for all.
    """
    values = _leading({name: [_READ[name](job) for job in run.jobs] for name in run.open_facts if name in _READ})
    result = []
    for name in values:
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, estimate in enumerate(estimates):
            rest = tuple(column[index] for other, column in values.items() if other != name)
            groups.setdefault(rest, []).append(estimate.device_low)
        spread = max((max(sizes) - min(sizes) for sizes in groups.values()), default=0)
        result.append((name, spread))
    return tuple(sorted(result, key=lambda pair: (-pair[1], pair[0])))


def _leading(values: Mapping[str, list[object]]) -> dict[str, list[object]]:
    """The columns of which no earlier one takes the same number of values at the same time."""
    kept: dict[str, list[object]] = {}
    for name, column in values.items():
        pairs = [set(zip(other, column, strict=True)) for other in kept.values() if len(set(other)) > 1]
        if not any(len(set(column)) == len({first for first, _ in found}) == len(found) for found in pairs):
            kept[name] = column
    return kept


def decisive(run: Run, estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """The open facts that the range comes from, the largest part first; all of them where only several together do."""
    sizes = contributions(run, estimates)
    least = max((size for _, size in sizes), default=0) * SHARE_WORTH_A_LABEL
    return tuple(name for name, size in sizes if size > least) or run.open_facts


def peak_labels(run: Run, estimate: Estimate) -> tuple[Label, ...]:
    """A label on each written value that causes the peak; the one behind the largest component is primary.

    Empty when no such value is written in a file.
    """
    said: dict[Place, list[str]] = {}
    evaluates = estimate.peak_phase in ("evaluation", "generation")
    causes = {**FACTS_BEHIND, **(FACTS_BEHIND_EVALUATION if evaluates else {})}
    components = sorted(estimate.components, key=lambda amount: -amount.bytes)
    for amount in components:
        if amount.bytes < SHARE_WORTH_A_LABEL * estimate.allocated:
            break
        behind = [fact for fact in map(run.get, causes.get(amount.name, ())) if _pointable(fact)]
        for index, fact in enumerate(behind):
            if fact is None or fact.place is None:
                continue
            words = said.setdefault(fact.place, [])
            if index == 0:
                words.append(_share(amount, fact))
            elif not words:
                words.append(name_in_words(fact.name))
    return tuple(
        Label(place, "; ".join(words), primary=index == 0) for index, (place, words) in enumerate(said.items())
    )


def name_in_words(name: str) -> str:
    """`micro batch size` of `micro_batch_size`."""
    return name.replace("_", " ")


def _pointable(fact: Fact | None) -> bool:
    return fact is not None and fact.origin is Origin.WRITTEN and fact.place is not None


def _share(amount: Amount, fact: Fact) -> str:
    """`12.55 GiB of weights`, with a range's extent said where the fact has several values."""
    text = f"{amount.bytes / GIB:.2f} GiB of {amount.name}"
    if len(fact.candidates) > 1:
        text += f", at the most ({len(fact.candidates)} values are possible)"
    return text
