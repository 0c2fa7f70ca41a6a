"""The names that rules can read, in `when` and in message templates.

Every name is in `NAMES`; a rule with any other name is refused when it is loaded. A `Scope` gives the values for one
run. What is not known, ambiguous or absent is `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from vramlint.engine.causes import decisive
from vramlint.engine.expression import UNKNOWN, Term
from vramlint.engine.job_terms import JOB_TERMS
from vramlint.engine.types import Type
from vramlint.engine.vocabulary import ENTRIES
from vramlint.estimate import Estimate, Reach
from vramlint.facts import Origin, Remark
from vramlint.job import Job
from vramlint.resolve.run import Run

GIB = 2**30

_CONSTANTS: Mapping[str, Term] = MappingProxyType({"true": True, "false": False, "null": None})

NAMES: Mapping[str, str] = MappingProxyType({name: entry.meaning for name, entry in ENTRIES.items()})
"""Every name with its meaning."""


def type_of(name: str) -> Type:
    """The type of a name that exists."""
    return ENTRIES[name].type


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
    reach: Reach | None = None
    """What shorter rows would need, where it matters."""

    @classmethod
    def of(cls, run: Run, estimates: Sequence[Estimate], headroom: float = 0.95, reach: Reach | None = None) -> Scope:
        """The scope of a run with the estimates of its jobs."""
        low = min(estimates, key=lambda estimate: estimate.device_low, default=None)
        high = max(estimates, key=lambda estimate: estimate.device_high, default=None)
        return cls(run, low, high, None, headroom, estimates=estimates, reach=reach)

    def lookup(self, name: str) -> Term:
        """The value of a dotted name, UNKNOWN when it has none."""
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in NAMES:
            return UNKNOWN
        head, _, rest = name.partition(".")
        return _READERS[head](self, rest)


def need(low: Estimate, high: Estimate) -> str:
    """The needed device memory as text: `23.41 GiB`, `23.41 to 30.02 GiB`, `at least 23.41 GiB` of a lower bound."""
    least, most = f"{low.device_low / GIB:.2f}", f"{high.device_need / GIB:.2f}"
    if high.method != "simulated":
        return f"at least {most} GiB" if least == most else f"{least} to at least {most} GiB"
    return f"{least} GiB" if least == most else f"{least} to {most} GiB"


def _run(scope: Scope, name: str) -> Term:
    run = scope.run
    if run is None:
        return UNKNOWN
    special = _RUN_TERMS.get(name)
    return getattr(run, name) if special is None else special(run)


_STAGE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "gpt-neox": "`pipe_partition_method: parameters` weighs embedding and head, as `type:…` does not",
        "dtensor": "`pipeline_parallel_first_stage_less_layers`, `pipeline_parallel_last_stage_less_layers`",
    }
)
"""Keys by the fact `divided_by`: gpt-neox's (neox_args.py), torchtitan's (config/job_config.py)."""
_MEGATRONS = (
    "`--decoder-first-pipeline-num-layers`, `--decoder-last-pipeline-num-layers`, or count embedding and head as "
    "layers: `--account-for-embedding-in-pipeline-split`, `--account-for-loss-in-pipeline-split`"
)


def _stage_keys(run: Run) -> str:
    divided = run.get("divided_by")
    return _STAGE_KEYS.get(str(divided.value) if divided is not None else "", _MEGATRONS)


def _may_share_further(run: Run) -> bool:
    """Whether no file says how the GPUs share the model's states, or how many of them do."""
    world = run.get("world_size")
    shared = (job.parallelism for job in run.jobs)
    assumed = world is not None and world.origin is Origin.ASSUMED and "world_size" in run.open_facts
    shares = any(one.strategy in _SHARING or one.optimizer_shards > 1 for one in shared)
    return "parallelism" in run.open_facts or (assumed and shares)


_SHARING = frozenset({"deepspeed", "fsdp"})
_SETTLING = frozenset({"tuning", "parallelism", "deepspeed_config", "accelerate_config", "attention_implementation"})


def _settled(run: Run) -> bool:
    """Whether nothing is unresolved with which the step could need far less than any figure says."""
    return not _SETTLING.intersection(run.unresolved) and not _may_share_further(run)


_RUN_TERMS: Mapping[str, Callable[[Run], Term]] = MappingProxyType(
    {
        "jobs": lambda run: len(run.jobs),
        "may_share_further": _may_share_further,
        "settled": _settled,
        "stage_keys": _stage_keys,
    }
)


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
    if name == "shortest":
        return scope.reach.shortest.device_low if scope.reach else low.device_low
    if name == "fitting_length":
        return (scope.reach and scope.reach.fitting) or UNKNOWN
    if name == "exact":
        return low is high and low.device_low == high.device_need
    if name == "need":
        return need(low, high)
    if name == "depends_on":
        opened = decisive(scope.run, scope.estimates) if scope.run else ()
        return (*opened, *(("architecture",) if high.stand_in else ()))
    end, _, field = name.partition(".")
    estimate = low if end == "low" else high
    return _of_phases(estimate, _PHASES[field]) if field in _PHASES else getattr(estimate, field)


_PHASES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "training": frozenset({"forward", "backward", "optimizer"}),
        "evaluation": frozenset({"evaluation"}),
        "generation": frozenset({"generation"}),
        "loading": frozenset({"loading"}),
        "merging": frozenset({"merging"}),
        "saving": frozenset({"saving"}),
    }
)


def _of_phases(estimate: Estimate, names: frozenset[str]) -> Term:
    """The highest point of some phases, with what lies outside of torch's allocator; 0 where there are none."""
    if estimate.method != "simulated":
        return UNKNOWN
    reached = [phase.allocated for phase in estimate.phases if phase.phase in names]
    return max(reached) + estimate.outside if reached else 0


def _job(scope: Scope, name: str) -> Term:
    """The value if all possible jobs agree on it."""
    special = JOB_TERMS.get(name)
    jobs = scope.run.jobs if scope.run else ()
    values = {_at(job, name) if special is None else special(job) for job in jobs}
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
