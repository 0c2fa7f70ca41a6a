"""From one run to its findings and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from vramlint.catalog.gpus import CONTEXT_BYTES, smallest_gpus
from vramlint.engine.causes import contributions
from vramlint.engine.check import Mender, check
from vramlint.engine.selection import RuleSet
from vramlint.estimate import Cost, Estimate, Reach
from vramlint.facts import FactValue
from vramlint.findings import Finding, Fix, JobReport
from vramlint.job import Gpu, Job
from vramlint.resolve.run import Run
from vramlint.text import Document, Edit


class Simulate(Protocol):
    """The memory model. Without `reserved` it leaves out the allocator, which takes most of its time.

    With a `limit` in bytes it may then stop with a lower bound beyond that, an estimate of the method `BEYOND`.
    """

    def __call__(self, job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
        """Peak memory of one GPU."""


_WHY_SKIPPED = {
    "inference": "generates only, no training step",
    "library": "neither trains nor generates by itself",
    "data": "a configuration without a training script: only its keys were checked",
}

_NO_UPPER_END = frozenset({"model", "micro_batch_size", "quantization_skip_modules"})
"""Facts that nothing bounds from above: without them the high end of the range says nothing."""
_SHARING = frozenset(
    {"parallelism", "deepspeed_config", "accelerate_config", "attention_implementation", "loop", "model_class"}
)
"""Facts without which a figure that fits nowhere says nothing: the GPUs may share what it consists of, or kernels
that are not simulated need less."""


_OF_ENGINES = ("zero_", "offload_", "fsdp")
"""How facts begin that a file of DeepSpeed or Accelerate may say, whatever the run's own vocabulary is."""
_ROOMY = 2
"""Reserved memory over allocated that no step comes near: 1.31 is the most in bench/data/traced_steps.jsonl."""


def judge(
    run: Run,
    rules: RuleSet,
    documents: Mapping[str, Document],
    simulate: Simulate,
    headroom: float,
    *,
    thorough: bool,
    timeline: bool = False,
    mender: Mender | None = None,
) -> tuple[tuple[Finding, ...], JobReport]:
    """What the rules find in a run, and the report on it.

    The report is `thorough` with the rules of thumb, and with the allocator's segments where they can't matter too;
    with `timeline` the high end has the log of its step. `mender` makes edits for remarks.
    """
    estimates = _estimates(run, simulate, 0 if thorough or run.gpu is None else headroom * run.gpu.usable_bytes)

    def planner(subject: Run, job: Job, gpu: Gpu) -> Fix | None:
        from vramlint.fixes.plan import plan

        return plan(
            subject,
            job,
            gpu,
            lambda changed: simulate(changed, reserved=False),
            writer,
            closed=closed_facts(subject) | _unsettled(subject, estimates),
            played=simulate,
        )

    def writer(owner: Run, changes: Mapping[str, FactValue]) -> tuple[str, tuple[Edit, ...]] | None:
        return write_changes(owner, changes, documents)

    def scaler(job: Job, gpu: Gpu) -> int | None:
        from vramlint.fixes.scaling import gpus_needed

        limit = int(headroom * gpu.usable_bytes) + 1
        return gpus_needed(job, gpu, lambda changed: simulate(changed, reserved=False, limit=limit), headroom)

    reach = _reach(run, estimates, simulate)
    findings = check(run, estimates, rules, planner, headroom, scaler, reach, writer, mender)
    report = report_on(run, estimates)
    if timeline and report.high is not None:
        logged = simulate(run.jobs[estimates.index(report.high)], log=True)
        report = replace(report, high=logged)
    if not thorough:
        return findings, report
    return findings, replace(report, thumb=_thumb(run.jobs, estimates), cost=_cost(run, estimates))


def outcome(run: Run, rules: RuleSet, simulate: Simulate, headroom: float) -> tuple[Finding, ...]:
    """What the rules find in a run, without advice."""
    estimates = _estimates(run, simulate, headroom * run.gpu.usable_bytes if run.gpu else 0)
    return check(run, estimates, rules, None, headroom, None, _reach(run, estimates, simulate))


def peak_of(run: Run, simulate: Simulate) -> int | None:
    """Bytes that a GPU needs at the most, with what the caching allocator keeps; None where there is no figure."""
    worst = max(run.jobs, key=lambda job: simulate(job, reserved=False).device_high, default=None)
    return None if worst is None else simulate(worst).device_need


def _estimates(run: Run, simulate: Simulate, room: float) -> tuple[Estimate, ...]:
    """The estimates of the jobs, those of both ends of the range with what the caching allocator makes of them.

    Where all of that fits in `room` bytes whatever it is, the allocator is left out.
    """
    tensors = [simulate(job, reserved=False) for job in run.jobs]
    if all(_ROOMY * estimate.device_low <= room for estimate in tensors):
        return tuple(tensors)
    ordered = sorted(range(len(tensors)), key=lambda index: tensors[index].device_low)
    ends = {*ordered[:1], *ordered[-1:]}
    return tuple(simulate(job) if index in ends else tensors[index] for index, job in enumerate(run.jobs))


def _reach(run: Run, estimates: Sequence[Estimate], simulate: Simulate) -> Reach | None:
    """What rows shorter than their bound need, where the least that the run may be does not fit with full ones."""
    least = min(range(len(estimates)), key=lambda index: estimates[index].device_low, default=None)
    if least is None or run.gpu is None or estimates[least].device_low <= run.gpu.usable_bytes:
        return None
    if not run.jobs[least].batch.varies:
        return None
    from vramlint.fixes.lengths import reach

    return reach(run.jobs[least], run.gpu, lambda changed: simulate(changed, reserved=False))


def write_changes(
    run: Run, changes: Mapping[str, FactValue], documents: Mapping[str, Document]
) -> tuple[str, tuple[Edit, ...]] | None:
    """Changed facts in the vocabulary of the run's files: (description, edits); None where no file can say them."""
    settings = changes.get("allocator_settings")
    if isinstance(settings, str):
        from vramlint.surfaces.allocating import write_settings

        return write_settings(settings, run.facts, documents)
    processes = _processes(run, changes, documents)
    if processes is not None:
        rest = {name: value for name, value in changes.items() if name not in ("world_size", "launcher")}
        others = write_changes(run, rest, documents) if rest else ("", ())
        return others and (", ".join(filter(None, (processes[0], others[0]))), (*processes[1], *others[1]))
    if run.framework:
        from vramlint.surfaces.frameworks import framework_of
        from vramlint.surfaces.frameworks.writing import write_facts

        said = write_facts(framework_of(run.framework), changes, run.facts, documents)
        if said is not None or not all(name.startswith(_OF_ENGINES) for name in changes):
            return (said.description, said.edits) if said else None
    from vramlint.surfaces.writing import write

    written = write(changes, run.facts, run.anchor, documents)
    if written is None or (run.framework and not _elsewhere(run, written.edits)):
        return None
    return written.description, written.edits


def _processes(
    run: Run, changes: Mapping[str, FactValue], documents: Mapping[str, Document]
) -> tuple[str, tuple[Edit, ...]] | None:
    """Another number of processes in the words of the command that starts the run."""
    if "world_size" not in changes:
        return None
    from vramlint.surfaces.launch.processes import write_processes

    return write_processes(changes, run.facts, documents)


def _elsewhere(run: Run, edits: Sequence[Edit]) -> bool:
    """Whether edits are of files of other vocabularies than the run's own."""
    return bool(edits) and all(edit.place.path != run.path for edit in edits)


def closed_facts(run: Run) -> frozenset[str]:
    """Facts that the code of the run's framework alone decides."""
    if not run.framework:
        return frozenset()
    from vramlint.surfaces.frameworks import framework_of

    return framework_of(run.framework).closed


def _unsettled(run: Run, estimates: Sequence[Estimate]) -> frozenset[str]:
    """What is not worth changing where GPUs that share the model, which the launch decides, are enough."""
    fits = run.gpu is not None and any(estimate.device_need <= run.gpu.usable_bytes for estimate in estimates)
    return frozenset({"tuning"}) if fits and {"world_size", "parallelism"} & set(run.open_facts) else frozenset()


def report_on(run: Run, estimates: tuple[Estimate, ...]) -> JobReport:
    """What is known of a run, given the estimates of its jobs."""
    low = min(estimates, key=lambda estimate: estimate.device_low, default=None)
    high = max(estimates, key=lambda estimate: estimate.device_high, default=None)
    if low is not None and low == high:
        low = high
    status, reason = _status(run, low, high)
    return JobReport(
        name=run.name,
        path=run.path,
        status=status,
        reason=reason,
        facts=run.facts,
        low=low,
        high=high,
        gpu=run.gpu.name if run.gpu else None,
        gpu_usable=run.gpu.usable_bytes if run.gpu else None,
        ram=run.ram,
        nvme=run.nvme,
        versions=tuple((item.library, ".".join(map(str, item.version)), item.source) for item in run.versions),
        contributions=tuple((name, size) for name, size in contributions(run, estimates) if size),
        fits_on=_fits_on(run, high) if high and not run.gpu else (),
        kind=run.kind,
        gpu_origin=run.gpu_origin,
        unresolved=run.unresolved,
        recognised=run.recognised,
        job=run.jobs[estimates.index(high)] if high in estimates else None,
    )


def _fits_on(run: Run, high: Estimate) -> tuple[str, ...]:
    """The smallest common devices; without a declared one the estimate lacks the CUDA context."""
    bf16 = any(job.precision.bf16 for job in run.jobs)
    return tuple(gpu.name for gpu in smallest_gpus(high.device_high + CONTEXT_BYTES, bf16=bf16))


def _status(run: Run, low: Estimate | None, high: Estimate | None) -> tuple[str, str]:
    """checked, unresolved or skipped, with the reason. A range is judged; a mere lower bound only if it is too much."""
    if run.kind in _WHY_SKIPPED and high is None:
        return "skipped", _WHY_SKIPPED[run.kind]
    unknown = (
        _NO_UPPER_END if run.gpu and high and high.device_need <= run.gpu.usable_bytes else _NO_UPPER_END | _SHARING
    )
    reasons = [_why(run, name) for name in run.unresolved if name in unknown]
    if low is None or high is None:
        return "unresolved", "; ".join(reasons) or "no job could be built"
    unshared = not _SHARING & set(run.unresolved)
    exceeds = run.gpu is not None and low.device_low > run.gpu.usable_bytes and unshared
    reasons += [high.why or "the figure is only a lower bound"] if high.method != "simulated" else []
    if exceeds or not reasons:
        return "checked", ""
    return "unresolved", "; ".join(reasons)


def _why(run: Run, name: str) -> str:
    fact = run.get(name)
    reason = f" ({fact.reason})" if fact and fact.reason else ""
    if fact and fact.candidates and name.endswith("_config"):
        return f"{name.replace('_', ' ')} {fact.value} cannot be read{reason}"
    return f"{name.replace('_', ' ')} is not known{reason}"


def _cost(run: Run, estimates: tuple[Estimate, ...]) -> Cost | None:
    """What a step of the job that needs the most computes and moves."""
    from vramlint.cost import cost_of

    worst = max(range(len(run.jobs)), key=lambda index: estimates[index].device_high, default=None)
    cost = None if worst is None else cost_of(run.jobs[worst], estimates[worst])
    limit = run.get("max_steps")
    steps = limit.value if limit is not None else None
    if cost is None or not isinstance(steps, int) or steps <= 0:  # -1: epochs decide
        return cost
    return replace(cost, steps=steps)


def _thumb(jobs: tuple[Job, ...], estimates: tuple[Estimate, ...]) -> tuple[tuple[str, int, str], ...]:
    """The rules of thumb for the job that needs the most."""
    from vramlint.thumb import applicable

    if not estimates:
        return ()
    worst = max(range(len(jobs)), key=lambda index: estimates[index].device_high)
    results = applicable(jobs[worst], estimates[worst].total_parameters)
    return tuple((result.name, result.bytes, result.why) for result in results)
