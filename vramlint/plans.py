"""Plans: the ways in which a run fits its GPU, for `fit` to print. All figures are bytes of one GPU."""

from __future__ import annotations

from msgspec import Struct, field

from vramlint.estimate import Slowdown
from vramlint.text import Document, Edit


class Offer(Struct, frozen=True):
    """A machine that could be had."""

    gpu: str
    """`rtx3090`, `h100x8`."""
    price: float | None = None
    """Of one GPU for an hour, in any currency."""


class Change(Struct, frozen=True):
    """One change of a plan."""

    name: str
    """`8bit-optimizer`: what `--why-not` calls it."""
    description: str
    """`optim="paged_adamw_8bit"`: in the file's own vocabulary, or in words where no file can say it."""
    result: str
    """What it changes in the training's result; empty where nothing."""
    cost: str
    by_hand: bool
    """No file of the run has a place for it: it is left to the user."""
    package: str = ""
    """What has to be installed for it."""


class Plan(Struct, frozen=True):
    """Changes with which a run fits."""

    changes: tuple[Change, ...]
    peak: int
    """Device memory with which the changed run surely goes through; of the edited files, read again, where all of it
    could be written."""
    slowdown: Slowdown | None
    """Time of a step after all changes over that before."""
    alters: int
    """0: same result; 1: other numerics; 2: weights stored in another precision; 3: something else is trained;
    4: on a quantized base."""
    edits: tuple[Edit, ...] = ()
    ram: int = 0
    """Host memory of one machine, where it grows."""
    reread: int | None = None
    """The peak of the files after `edits` alone, read again; None where there are none."""
    gpus: int = 1
    """On which the run then is."""
    tokens_per_second: tuple[float, float] | None = None
    """Positions of all GPUs together, between two bounds; None where nothing tells."""
    gpu: str = ""
    """The machine as the user called it, where several are asked about."""
    price: tuple[float, float] | None = None
    """Of a million tokens, between two bounds, in the currency of the user's prices."""

    @property
    def complete(self) -> bool:
        """Whether edits make all of it."""
        return not any(change.by_hand for change in self.changes)


class Largest(Struct, frozen=True):
    """The largest value of a setting with which a run fits."""

    setting: str
    """micro-batch, seq-len, lora-rank."""
    now: int
    value: int | None
    """None: not even the smallest fits."""
    plan: Plan | None = None
    bound: str = ""
    """Why no larger value was tried, where the memory is not what ends it."""


class WhyNot(Struct, frozen=True):
    """What one change would do."""

    name: str
    words: str
    reason: str
    """Why it is no part of the first plan, or does not apply."""
    before: int = 0
    after: int | None = None
    """The peak with this change alone; None where it does not apply."""
    slowdown: Slowdown | None = None
    result: str = ""


class Refused(Struct, frozen=True):
    """A machine on which a job has no plan."""

    gpu: str
    """As the user called it."""
    need: int = 0
    """What the nearest plan needs."""
    limit: int = 0
    reason: str = ""
    """Why it cannot be judged; empty where nothing fits."""


class Fitting(Struct, frozen=True):
    """One job, and what makes it fit."""

    name: str
    path: str
    status: str
    """fits, plans, tight (plans that leave no headroom), nothing (no plan fits), unresolved."""
    gpu: str = ""
    usable: int = 0
    limit: int = 0
    """Bytes to stay within: the headroom taken off."""
    need: int = 0
    """What the job needs as it is."""
    reason: str = ""
    """Why it is unresolved."""
    plans: tuple[Plan, ...] = ()
    """The first one first."""
    nearest: Plan | None = None
    """Where nothing fits: what comes nearest."""
    larger_gpus: tuple[str, ...] = ()
    """The smallest GPUs that the job, or where nothing fits the nearest plan, fits on."""
    more_gpus: int | None = None
    """GPUs of the same kind on which it fits as it is."""
    more_gpus_changed: int | None = None
    """Where nothing fits: GPUs of the same kind on which the nearest plan fits."""
    allowances: tuple[str, ...] = ()
    """Where nothing fits: what would have to be allowed for a plan that does, each by itself."""
    allowed_gpus: int | None = None
    """GPUs of that plan, where more of them are among what would have to be allowed."""
    notes: tuple[str, ...] = ()
    """What the reader must know: what is assumed."""
    largest: Largest | None = None
    why_not: WhyNot | None = None
    gpus: int = 1
    tokens_per_second: tuple[float, float] | None = None
    """Of the job as it is, as those of a plan."""
    offers: int = 0
    """Machines that were asked about, where there are several: a plan then names its own, and the figures of one
    machine are 0."""
    refused: tuple[Refused, ...] = ()
    """Those of them without a plan."""
    simulations: int = 0
    """Steps that were simulated to their end for the search."""


class FitReport(Struct, frozen=True):
    """What `fit` found."""

    jobs: tuple[Fitting, ...]
    documents: dict[str, Document] = field(default_factory=dict)
