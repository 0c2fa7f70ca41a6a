"""What a change does to the memory of runs, for `diff` to print. All figures are bytes of one GPU."""

from __future__ import annotations

from msgspec import Struct


class Cause(Struct, frozen=True):
    """A part of a run that changed, and what it does to the peak."""

    name: str
    """`sequence length`, `optimizer`."""
    before: str
    after: str
    bytes: int
    """What the peak rises by when this part changes after those before it."""


class Side(Struct, frozen=True):
    """A run on one side."""

    status: str
    """checked, unresolved, skipped."""
    need: int | None
    """Device memory with which it surely runs, of the high end; None where there is no figure."""
    usable: int | None = None
    """What the declared GPU offers."""
    gpu: str = ""
    reason: str = ""
    """Why there is no figure, or only a bound."""

    @property
    def fits(self) -> bool | None:
        """Whether it fits the declared GPU; None where either is not known."""
        return None if self.need is None or self.usable is None else self.need <= self.usable


class Changed(Struct, frozen=True):
    """A run on both sides; one of them is None where it is new or gone."""

    name: str
    path: str
    before: Side | None
    after: Side | None
    causes: tuple[Cause, ...] = ()

    @property
    def rise(self) -> int | None:
        """Bytes by which the peak rises; None where it is not known on both sides."""
        if self.before is None or self.after is None or self.before.need is None or self.after.need is None:
            return None
        return self.after.need - self.before.need

    @property
    def broke(self) -> bool:
        """It fitted, and does no more."""
        return bool(self.before and self.before.fits) and self.after is not None and self.after.fits is False


class Comparison(Struct, frozen=True):
    """All runs of two states of a project."""

    before: str
    """What the sides are called: a revision, a path."""
    after: str
    changed: tuple[Changed, ...]
    """Those whose figure, or what is known of it, changed; new and gone ones too."""
    unchanged: int
