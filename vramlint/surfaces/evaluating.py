"""Programs that make a trainer and only evaluate with it."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.surfaces.draft import options
from vramlint.surfaces.trainers import is_trainer
from vramlint.values import Call

_EVALUATES = (".evaluate", ".predict")


def evaluation_only(calls: Sequence[Call]) -> Call | None:
    """The first `evaluate()` or `predict()` of a program that makes trainers and calls `train()` of none."""
    asked = [call for call in calls if call.callee in _EVALUATES and _is_of_trainer(call)]
    trains = any(call.callee == ".train" for call in calls)
    return asked[0] if asked and not trains else None


def _is_of_trainer(call: Call) -> bool:
    made = (option.value for option in options(call.receiver)) if call.receiver is not None else ()
    return any(isinstance(item, Call) and is_trainer(item) for item in made)
