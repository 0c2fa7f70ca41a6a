"""In which parts two jobs differ, and what each part does to the peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from vramlint.comparison import Cause
from vramlint.estimate import Estimate
from vramlint.job import Job

Simulate = Callable[[Job], Estimate]


class _Part(Struct, frozen=True):
    """A field of a job, or one of its batch."""

    name: str
    """In words."""
    path: tuple[str, ...]


_APART = MappingProxyType({"batch": ("micro_batch_size", "sequence_length", "target_length", "packing", "padding")})
"""Fields of a part that are causes of their own; the part's other fields count as one."""
_WORDS: Mapping[str, str] = MappingProxyType(
    {"checkpointing": "activation checkpointing", "libraries": "library versions", "gpu": "GPU"}
)
_LAST = ("batch", "gpu")
"""Parts whose effect depends most on the others."""
_MOST_SHOWN = 3
"""Fields of one part whose values are shown."""


def causes(before: Job, after: Job, simulate: Simulate) -> tuple[Cause, ...]:
    """The parts in which two jobs differ, the largest effect first.

    The parts change one after the other, so that their effects add up to the whole; those that do nothing are left out.

    Args:
        before: the job that is changed.
        after: what it becomes.
        simulate: the memory model; with `device_need` of both ends it gives what is explained.
    """
    found: list[Cause] = []
    current, reached = before, simulate(before).device_need
    for part in _differing(before, after):
        changed = _with(current, part.path, _at(after, part.path))
        need = simulate(changed).device_need
        old, new = _shown(_at(current, part.path), _at(after, part.path))
        if need != reached:
            found.append(Cause(part.name, old, new, need - reached))
        current, reached = changed, need
    return tuple(sorted(found, key=lambda cause: -abs(cause.bytes)))


def _differing(before: Job, after: Job) -> Iterator[_Part]:
    names = Job.__struct_fields__
    for name in sorted(names, key=lambda name: name in _LAST):
        for inner in _APART.get(name, ()):
            if _at(before, (name, inner)) != _at(after, (name, inner)):
                yield _Part(inner.replace("_", " "), (name, inner))
        rest = _at(before, (name,)), _at(after, (name,))
        for inner in _APART.get(name, ()):
            rest = replace(rest[0], **{inner: getattr(rest[1], inner)}), rest[1]  # type: ignore[type-var]
        if rest[0] != rest[1]:
            yield _Part(_WORDS.get(name, name.replace("_", " ")), (name,))


def _at(job: Job, path: tuple[str, ...]) -> object:
    value: object = job
    for name in path:
        value = getattr(value, name)
    return value


def _with(job: Job, path: tuple[str, ...], value: object) -> Job:
    head, *rest = path
    if rest:
        value = replace(getattr(job, head), **{rest[0]: value})
    return replace(job, **{head: value})


def _shown(before: object, after: object) -> tuple[str, str]:
    """What differs of two values, in words; of a part with many fields those that differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        pairs = [(str(key), before.get(key), after.get(key)) for key in keys]
    elif isinstance(before, Struct) and type(before) is type(after):
        names = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)]
        pairs = [(name.replace("_", " "), getattr(before, name), getattr(after, name)) for name in names]
    else:
        return _word(before), _word(after)
    told = [(key, *_shown(old, new)) for key, old, new in pairs[:_MOST_SHOWN]]
    if len(told) == 1 and told[0][0] in _NAMING:
        return told[0][1], told[0][2]
    sides = tuple(", ".join(f"{key} {side[at]}" for key, *side in told) for at in (0, 1))
    return cast("tuple[str, str]", sides)


_NAMING = frozenset({"name", "mode", "implementation", "strategy", "weights"})
"""Fields that say by themselves what a part is."""


def _word(value: object) -> str:
    if isinstance(value, Struct):
        named = next((getattr(value, name) for name in ("name", "kind", "method") if hasattr(value, name)), None)
        return str(named) if named else type(value).__name__.lower()
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        return ".".join(map(str, value))
    words = {None: "none", True: "on", False: "off"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
