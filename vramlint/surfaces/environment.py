"""Environment variables that a script sets for itself, or is given by its launcher."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Drawn, draw
from vramlint.values import Call, Entry, Scalar

_SETS = ("os.environ.__setitem__", "os.environ.setdefault", "os.putenv")
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""Names under which torch reads its allocator's settings (torch 2.13 c10/core/AllocatorConfig.h)."""


def allocator_settings(calls: Sequence[Call]) -> Drawn:
    """The settings of the caching allocator, from the first assignment on every path."""
    for call in calls:
        if call.callee in _SETS and len(call.args) > 1 and not call.conditions:
            name, value = call.args[:2]
            if isinstance(name, Scalar) and name.value in _ALLOCATOR:
                return draw("allocator_settings", value, CONVERTERS["text"], str(name.value), call.place)
    return None


def allocator_of_variables(environment: Sequence[Entry]) -> Drawn:
    """The settings of the caching allocator that a launcher hands to the program."""
    for entry in reversed(environment):
        if entry.key in _ALLOCATOR:
            return draw("allocator_settings", entry.value, CONVERTERS["text"], entry.key, entry.key_place)
    return None
