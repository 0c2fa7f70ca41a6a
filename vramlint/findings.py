"""Findings: what the engine says and the renderers print."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct, field

from vramlint.estimate import Cost, Estimate, Slowdown
from vramlint.facts import Fact, Recognised
from vramlint.job import Job
from vramlint.text import Document, Edit, Place


class Severity(str, Enum):
    """How bad. Ordered: error > warning > info."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """2 for error, 1 for warning, 0 for info."""
        return {"error": 2, "warning": 1, "info": 0}[self.value]


class Label(Struct, frozen=True):
    """One place of a finding with what it says there. Exactly one label of a finding is primary."""

    place: Place
    text: str = ""
    primary: bool = False


class Step(Struct, frozen=True):
    """One change of a plan."""

    description: str
    """`optim="paged_adamw_8bit"`: the change in the file's own vocabulary, or in words."""
    saves: int
    """Bytes that this step takes off the peak."""
    cost: str
    """What it costs in speed or quality."""
    safe: bool
    """The training result doesn't change beyond numerics of the same precision."""
    edits: tuple[Edit, ...] = ()
    """Empty when the value cannot be edited in a file of this run."""
    slowdown: Slowdown | None = None
    """The step's time after this change over that before it, where it can be estimated."""
    package: str = ""
    """What has to be installed for it."""

    @property
    def sure(self) -> bool:
        """It is safe, and the run needs nothing for it that it may not have."""
        return self.safe and not self.package


class Change(Struct, frozen=True):
    """What takes a finding away."""

    steps: tuple[Step, ...]
    alone: tuple[Step, ...] = ()
    """Of steps that are safe and others: the safe ones that help by themselves too."""

    @property
    def applicability(self) -> str:
        """safe, unsafe, or display where nothing can be edited."""
        edited = [step for step in self.steps if step.edits]
        if not edited:
            return "display"
        return "safe" if all(step.sure for step in edited) else "unsafe"

    def taken(self, *, unsafe: bool) -> tuple[Step, ...]:
        """The steps that are made: those with edits, and unless `unsafe` is asked for only what is safe and helps."""
        edited = tuple(step for step in self.steps if step.edits)
        return edited if unsafe or all(step.sure for step in edited) else self.alone

    def edits(self, *, unsafe: bool) -> tuple[Edit, ...]:
        """The edits of those steps, each once."""
        return tuple(dict.fromkeys(edit for step in self.taken(unsafe=unsafe) for edit in step.edits))


class Fix(Change, frozen=True, kw_only=True):
    """A verified plan: all its steps together bring the peak to `peak` bytes."""

    peak: int
    """Re-estimated device_need (allocated, fragmentation and outside torch) after all steps, bytes."""
    fits: bool


class Finding(Struct, frozen=True):
    """One thing wrong with one run or file."""

    code: str
    name: str
    severity: Severity
    message: str
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    fix: Change | None = None
    estimate: Estimate | None = None
    """The high end, for findings about memory."""
    low: Estimate | None = None
    """The low end, when it differs."""
    jobs: tuple[str, ...] = ()
    """The jobs of launchers that it is about: `run.sh:12 [MODEL=gpt2] runs train.py`."""

    def fixable(self, *, unsafe: bool = False) -> bool:
        """Whether there are edits, safe ones unless others are allowed."""
        return self.fix is not None and bool(self.fix.edits(unsafe=unsafe))

    @property
    def place(self) -> Place:
        """The primary place."""
        return next(label.place for label in self.labels if label.primary)


class JobReport(Struct, frozen=True):
    """One job as checked: what was read and what it needs."""

    name: str
    """`train.py`, or `train.py with ds_config.json`."""
    path: str
    status: str
    """checked, unresolved, or skipped (inference and library code that no rule applies to)."""
    reason: str = ""
    """Why unresolved or skipped."""
    facts: tuple[Fact, ...] = ()
    low: Estimate | None = None
    high: Estimate | None = None
    gpu: str | None = None
    gpu_usable: int | None = None
    ram: int | None = None
    """Declared host memory of one machine, bytes."""
    nvme: int | None = None
    versions: tuple[tuple[str, str, str], ...] = ()
    """(library, version, where it was read or `newest known`)."""
    thumb: tuple[tuple[str, int, str], ...] = ()
    """(rule of thumb, bytes it predicts, why it differs)."""
    cost: Cost | None = None
    """What a step of the high end computes and moves."""
    contributions: tuple[tuple[str, int], ...] = ()
    """(unknown fact, bytes of range that it causes)."""
    fits_on: tuple[str, ...] = ()
    """The smallest common GPUs that would do."""
    kind: str = ""
    """training, inference, library or data."""
    gpu_origin: str = ""
    """Who declared the GPU: `--gpu`, `# vramlint: gpu=`, a settings file."""
    recognised: Recognised | None = None
    """Of a data file: the vocabulary that it was taken to be written in."""
    unresolved: tuple[str, ...] = ()
    """Names of the facts that stay open and without which no figure, or only a bound, can be given."""
    job: Job | None = None
    """That of the high end."""


class Report(Struct, frozen=True):
    """Everything a run of vramlint found."""

    findings: tuple[Finding, ...]
    jobs: tuple[JobReport, ...]
    files_checked: int = 0
    files_skipped: int = 0
    suppressed: int = 0
    known: int = 0
    """Findings that the baseline has, and `findings` no more."""
    fixed: int = 0
    """Findings that are gone because their files were fixed."""
    documents: dict[str, Document] = field(default_factory=dict)
    """Sources of the places in findings, by path, for renderers that show them."""
