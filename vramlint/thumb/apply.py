"""Which rules of thumb speak about a job, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from vramlint.job import Job, Model
from vramlint.thumb import formulas
from vramlint.thumb.rules import RULES, Rule


class ThumbResult(Struct, frozen=True):
    """What one rule says about a job."""

    rule: Rule
    value: int
    """In `rule.unit`."""

    @property
    def name(self) -> str:
        """What people call the rule."""
        return self.rule.label

    @property
    def bytes(self) -> int:
        """The figure of a rule that speaks about bytes."""
        return self.value

    @property
    def why(self) -> str:
        """Why the figure differs from the simulated one."""
        return self.rule.coarse


class Dimensions(Struct, frozen=True):
    """The sizes that activation rules take."""

    hidden: int
    layers: int
    heads: int


def applicable(job: Job, parameters: int) -> tuple[ThumbResult, ...]:
    """The rules about bytes that people would take for this job, with their figures for one GPU.

    `parameters` is the number of parameters of the whole model. Rules about optimizer states are left out when
    only adapters are trained; activation rules when the config lacks the dimensions.
    """
    return tuple(result for result in figures(job, parameters) if result.rule.unit == "bytes")


def figures(job: Job, parameters: int) -> tuple[ThumbResult, ...]:
    """The same, rules about model size and compute included."""
    rules = _training(job, parameters) if job.objective.kind == "training" else _inference(job, parameters)
    return tuple(ThumbResult(RULES[name], round(value)) for name, value in rules)


def dimensions(model: Model) -> Dimensions | None:
    """Hidden size, layers and heads under whichever names the config has them, of the text part if it is nested."""
    nested = model.config.get("text_config")
    for config in (model.config, nested if isinstance(nested, Mapping) else {}):
        found = [next((config[key] for key in names if isinstance(config.get(key), int)), None) for names in _NAMES]
        hidden, layers, heads = found
        if isinstance(hidden, int) and isinstance(layers, int) and isinstance(heads, int):
            return Dimensions(hidden, layers, heads)
    return None


_NAMES = (
    ("hidden_size", "n_embd", "d_model"),
    ("num_hidden_layers", "n_layer", "num_layers"),
    ("num_attention_heads", "n_head", "num_heads"),
)

_ADAM_STATES = {
    "fp32": ("states-24",),
    "mixed": ("states-16", "states-18", "states-20"),
    "16-bit": ("states-with-updates",),
}
_STATES = {
    "states-16": formulas.states_16,
    "states-18": formulas.states_18,
    "states-20": formulas.states_20,
    "states-24": formulas.states_24,
    "states-with-updates": formulas.states_with_updates,
}


def _training(job: Job, parameters: int) -> Iterator[tuple[str, float]]:
    yield "weights", formulas.weights(parameters, _weight_precision(job))
    full = job.adapter is None and job.quantization is None
    if full and "adam" in job.optimizer.name:
        for name in _ADAM_STATES[_regime(job)]:
            yield name, _STATES[name](parameters)
    zero = job.parallelism.zero
    if full and zero is not None and zero.stage and job.parallelism.world_size > 1:
        yield "zero-sharded", formulas.zero_sharded(parameters, job.parallelism.world_size)
    yield from _activations(job)
    if job.gpu is not None and full:
        yield "largest-model", formulas.largest_model(job.gpu.memory_bytes)
        yield "largest-model-half-card", formulas.largest_model_half_card(job.gpu.memory_bytes)
    tokens = job.batch.micro_batch_size * job.batch.sequence_length * job.batch.gradient_accumulation_steps
    yield "training-compute", formulas.training_compute(parameters, tokens)


def _inference(job: Job, parameters: int) -> Iterator[tuple[str, float]]:
    weights = formulas.weights(parameters, _weight_precision(job))
    yield "weights", weights
    yield "inference", formulas.inference(weights)


def _activations(job: Job) -> Iterator[tuple[str, float]]:
    sizes = dimensions(job.model)
    if sizes is None:
        return
    b, s = job.batch.micro_batch_size, job.batch.sequence_length
    if job.checkpointing.mode != "none":
        yield "activations-full", formulas.activations_full(b, s, sizes.hidden, sizes.layers)
    elif job.attention.implementation == "eager":
        yield "activations", formulas.activations(b, s, sizes.hidden, sizes.heads, sizes.layers)
    else:
        yield "activations-selective", formulas.activations_selective(b, s, sizes.hidden, sizes.layers)


def _regime(job: Job) -> str:
    if job.precision.autocast:
        return "mixed"
    return "fp32" if job.precision.weights == "float32" else "16-bit"


def _weight_precision(job: Job) -> str:
    if job.quantization is not None:
        return "int8" if job.quantization.kind == "int8" else "int4"
    return {"bfloat16": "bf16", "float16": "fp16"}.get(job.precision.weights, "fp32")
