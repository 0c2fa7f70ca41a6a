"""The names that rules can read, in `when` and in message templates.

Every name is in `NAMES`; a rule with any other name is refused when it is loaded. A `Scope` gives the values for one
run. What is not known, ambiguous or absent is `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from vramlint import facts
from vramlint.engine.causes import decisive
from vramlint.engine.expression import UNKNOWN, Term
from vramlint.estimate import Estimate
from vramlint.facts import Origin, Remark
from vramlint.job import Job
from vramlint.resolve.run import Run

GIB = 2**30

_RUN = MappingProxyType(
    {
        "run.name": "name of the run, `train.py with ds_config.json`",
        "run.kind": "training, inference, library or data",
        "run.path": "file that the run is named after",
        "run.unresolved": "facts without which no job, or only a bounded one, can be built",
        "run.open_facts": "facts with several possible values",
        "run.jobs": "number of jobs that the files leave possible",
    }
)

_GPU = MappingProxyType(
    {
        "gpu.id": "catalog id of the declared GPU",
        "gpu.name": "its product name",
        "gpu.memory_bytes": "total device memory, bytes",
        "gpu.usable_bytes": "what torch sees as total memory, bytes",
        "gpu.compute_capability": "CUDA compute capability as [major, minor]",
        "gpu.bf16": "bfloat16 in hardware",
    }
)

_MACHINE = MappingProxyType(
    {
        "machine.ram": "declared host memory of one machine, bytes",
        "machine.nvme": "declared NVMe of one machine, bytes",
    }
)

_ESTIMATE = MappingProxyType(
    {
        "method": "simulated or bounded",
        "why": "why the step is bounded and not simulated",
        "stand_in": "the architecture that was simulated in place of an unknown one",
        "below": "bytes by which a stand-in may be too high",
        "above": "bytes by which a stand-in may be too low",
        "allocated": "peak of torch.cuda.memory_allocated, bytes",
        "reserved": "peak of torch.cuda.memory_reserved, bytes; `allocated` where twice as much would fit",
        "outside": "device memory outside torch's allocator, bytes",
        "device_low": "least device memory with which the step can run, bytes",
        "device_need": "device memory with which the step surely runs; more than device_low for a stand-in, bytes",
        "device_high": "device memory held if the allocator never gives back segments, bytes",
        "peak_phase": "phase of the step that has the peak",
        "parameters": "bytes of the model's parameters on one GPU",
        "trainable_parameters": "number of trainable parameters",
        "total_parameters": "number of parameters",
        "gradients": "bytes of gradients",
        "optimizer_states": "bytes of optimizer states",
        "saved_activations": "bytes kept between forward and backward",
        "host": "bytes of offloaded states in host memory, per rank",
        "ram": "host memory of one machine at its highest, bytes",
        "ram_loading": "host memory of one machine while its processes load the weights, bytes",
        "ram_running": "host memory of one machine during a step, bytes",
        "ram_rounding": "what of it is rounding of page-locked tensors to powers of two, bytes",
        "load_copies": "copies of the weights on one machine while they are loaded",
        "disk": "bytes that one machine swaps out to NVMe",
    }
)

_JOB = MappingProxyType(
    {
        "model.name": "model id or path",
        "model.model_type": "architecture",
        "model.task": "causal-lm, masked-lm, seq-cls, …",
        "model.parameter_count": "number of parameters by the catalog",
        "precision.weights": "dtype of the loaded weights",
        "precision.autocast": "autocast dtype",
        "precision.grad_scaler": "gradient scaler in use",
        "optimizer.name": "canonical optimizer name",
        "batch.micro_batch_size": "sequences per GPU and forward",
        "batch.sequence_length": "tokens per sequence",
        "batch.gradient_accumulation_steps": "micro batches per optimizer step",
        "batch.padding": "batches contain padding",
        "batch.packing": "rows are filled to the sequence length",
        "evaluation.micro_batch_size": "sequences per GPU and forward in evaluation",
        "attention.implementation": "eager, sdpa, flash_attention_2, …",
        "attention.use_cache": "key/value cache in the forward pass",
        "checkpointing.mode": "none, reentrant or nonreentrant",
        "adapter.r": "LoRA rank",
        "adapter.dora": "DoRA",
        "quantization.kind": "nf4, fp4 or int8",
        "quantization.compute_dtype": "dtype of the dequantized matmul",
        "parallelism.world_size": "number of GPUs",
        "parallelism.strategy": "none, ddp, dataparallel, deepspeed, fsdp, device_map",
        "parallelism.zero.stage": "ZeRO stage",
        "parallelism.zero.offload_optimizer": "none, cpu, nvme",
        "parallelism.zero.offload_parameters": "none, cpu, nvme",
        "objective.kind": "training or inference",
        "objective.loss": "causal-lm, fused, chunked, or an objective by its name (dpo, grpo, …)",
        "objective.max_grad_norm": "gradient clipping bound",
        "objective.reference_model": "a reference model is held beside the trained one",
    }
)

_REMARK = MappingProxyType(
    {
        "remark.subject": "key or file in question",
        "remark.message": "what was seen",
        "remark.suggestion": "nearest valid spelling",
        "remark.vocabulary": "training-arguments, deepspeed, trl, …",
    }
)

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "deepspeed")

_CONSTANTS: Mapping[str, Term] = MappingProxyType({"true": True, "false": False, "null": None})

NAMES: Mapping[str, str] = MappingProxyType(
    {
        **_RUN,
        **_GPU,
        **_MACHINE,
        **{f"facts.{name}": meaning for name, meaning in facts.NAMES.items()},
        **{f"origin.{name}": f"written, default, derived, assumed or unknown: {name}" for name in facts.NAMES},
        **{f"reason.{name}": f"why it is unknown, assumed or derived: {name}" for name in facts.NAMES},
        **{f"versions.{library}": f"version of {library} as a list of numbers" for library in LIBRARIES},
        **{f"estimate.{end}.{name}": meaning for end in ("low", "high") for name, meaning in _ESTIMATE.items()},
        "estimate.exact": "nothing is left open: low and high are the same",
        "estimate.depends_on": "what the range comes from: open facts, and the architecture where another stands in",
        "estimate.need": "the needed device memory in GiB, as text: one figure, or `a to b`",
        **{f"job.{name}": meaning for name, meaning in _JOB.items()},
        **_REMARK,
        "settings.headroom": "fraction of the usable memory above which a run is close to the limit",
        "predicate.detail": "what the rule's predicate found, in words",
        "true": "the truth value",
        "false": "the truth value",
        "null": "no value",
    }
)
"""Every name with its meaning."""


def complaint(name: str) -> str | None:
    """None for a name of the language, otherwise what is wrong with it, with the nearest one."""
    if name in NAMES:
        return None
    from difflib import get_close_matches  # only a wrong rule pays for it

    close = get_close_matches(name, NAMES, n=1, cutoff=0.6)
    return f"unknown name {name!r}" + (f", did you mean {close[0]!r}?" if close else "")


class Scope(NamedTuple):
    """What a rule sees of one run. `estimates` are those of `run.jobs`, in the same order."""

    run: Run | None = None
    low: Estimate | None = None
    high: Estimate | None = None
    remark: Remark | None = None
    headroom: float = 0.95
    detail: str = ""
    """What the rule's predicate said."""
    estimates: Sequence[Estimate] = ()

    @classmethod
    def of(cls, run: Run, estimates: Sequence[Estimate], headroom: float = 0.95) -> Scope:
        """The scope of a run with the estimates of its jobs."""
        low = min(estimates, key=lambda estimate: estimate.device_low, default=None)
        high = max(estimates, key=lambda estimate: estimate.device_high, default=None)
        return cls(run, low, high, None, headroom, estimates=estimates)

    def lookup(self, name: str) -> Term:
        """The value of a dotted name, UNKNOWN when it has none."""
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in NAMES:
            return UNKNOWN
        head, _, rest = name.partition(".")
        return _READERS[head](self, rest)


def need(low: Estimate, high: Estimate) -> str:
    """The needed device memory as text: `23.41 GiB`, `23.41 to 30.02 GiB`, or `at least 23.41 GiB`."""
    least, most = f"{low.device_low / GIB:.2f}", f"{high.device_need / GIB:.2f}"
    if high.method != "simulated":
        return f"at least {least} GiB"
    return f"{least} GiB" if least == most else f"{least} to {most} GiB"


def _run(scope: Scope, name: str) -> Term:
    run = scope.run
    if run is None:
        return UNKNOWN
    return len(run.jobs) if name == "jobs" else getattr(run, name)


def _gpu(scope: Scope, name: str) -> Term:
    gpu = scope.run.gpu if scope.run else None
    value: Term = None if gpu is None else getattr(gpu, name)
    return UNKNOWN if value is None else value


def _machine(scope: Scope, name: str) -> Term:
    value: Term = None if scope.run is None else getattr(scope.run, name)
    return UNKNOWN if value is None else value


def _fact(scope: Scope, name: str) -> Term:
    fact = scope.run.get(name) if scope.run else None
    return fact.value if fact is not None and fact.known else UNKNOWN


def _origin(scope: Scope, name: str) -> Term:
    fact = scope.run.get(name) if scope.run else None
    return Origin.UNKNOWN.value if fact is None else fact.origin.value


def _reason(scope: Scope, name: str) -> Term:
    fact = scope.run.get(name) if scope.run else None
    return fact.reason if fact is not None and fact.reason else UNKNOWN


def _version(scope: Scope, library: str) -> Term:
    versions = scope.run.versions if scope.run else ()
    return next((version.version for version in versions if version.library == library), UNKNOWN)


def _estimate(scope: Scope, name: str) -> Term:
    low, high = scope.low, scope.high
    if low is None or high is None:
        return UNKNOWN
    if name == "exact":
        return low is high and low.device_low == high.device_need
    if name == "need":
        return need(low, high)
    if name == "depends_on":
        opened = decisive(scope.run, scope.estimates) if scope.run else ()
        return (*opened, *(("architecture",) if high.stand_in else ()))
    end, _, field = name.partition(".")
    return getattr(low if end == "low" else high, field)


def _job(scope: Scope, name: str) -> Term:
    """The value if all possible jobs agree on it."""
    values = {_at(job, name) for job in scope.run.jobs} if scope.run else set()
    return values.pop() if len(values) == 1 else UNKNOWN


def _at(job: Job, path: str) -> Term:
    value: object = job
    for part in path.split("."):
        if value is None:
            return None
        value = getattr(value, part)
    return value


def _remark(scope: Scope, name: str) -> Term:
    return UNKNOWN if scope.remark is None else getattr(scope.remark, name)


def _settings(scope: Scope, _name: str) -> Term:
    return scope.headroom


def _predicate(scope: Scope, _name: str) -> Term:
    return scope.detail


_READERS = MappingProxyType(
    {
        "run": _run,
        "gpu": _gpu,
        "machine": _machine,
        "facts": _fact,
        "origin": _origin,
        "reason": _reason,
        "versions": _version,
        "estimate": _estimate,
        "job": _job,
        "remark": _remark,
        "settings": _settings,
        "predicate": _predicate,
    }
)
