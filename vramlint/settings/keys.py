"""The keys of a settings file: which there are, what each takes, and what to say when one is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from vramlint.catalog.frameworks import KINDS
from vramlint.findings import Severity
from vramlint.sizes import parse_limit, parse_size
from vramlint.text import Place, Span
from vramlint.values import Entry, Items, Problem, Scalar, Table, Value


class _WrongError(Exception):
    """A value that its key doesn't take."""

    def __init__(self, message: str, value: Value | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.value = value


def _text(value: Value) -> str:
    if isinstance(value, Scalar) and isinstance(value.value, str) and value.value.strip():
        return value.value
    raise _WrongError("takes a string that is not empty", value)


def _texts(value: Value) -> tuple[str, ...]:
    if not isinstance(value, Items):
        raise _WrongError("takes a list of strings", value)
    return tuple(_text(item) for item in value.values)


def _flag(value: Value) -> bool:
    if isinstance(value, Scalar) and isinstance(value.value, bool):
        return value.value
    raise _WrongError("takes true or false", value)


def _count(value: Value) -> int:
    if isinstance(value, Scalar) and type(value.value) is int and value.value > 0:
        return value.value
    raise _WrongError("takes a positive whole number", value)


def _size(value: Value) -> str:
    if parse_size(written := _text(value)) is None:
        raise _WrongError("takes a size such as `512GiB`", value)
    return written


def _limit(value: Value) -> str:
    if parse_limit(written := _text(value)) is None:
        raise _WrongError("takes a size such as `1GiB`, or a part such as `5%`", value)
    return written


def _fraction(value: Value) -> float:
    if isinstance(value, Scalar) and type(value.value) in (int, float):
        number = float(str(value.value))
        if 0 < number <= 1:
            return number
    raise _WrongError("takes a number above 0 and at most 1", value)


def _level(value: Value) -> Severity:
    written = _text(value)
    try:
        return Severity(written)
    except ValueError:
        known = [level.value for level in Severity]
        raise _WrongError(f"does not take `{written}`{_near(written, known)}", value) from None


def _levels(value: Value) -> dict[str, Severity]:
    return {entry.key: _level(entry.value) for entry in _entries(value, "a table of rules with their severities")}


def _kind(value: Value) -> str:
    written = _text(value)
    if written not in KINDS:
        raise _WrongError(f"does not take `{written}`{_near(written, KINDS)}", value)
    return written


def _versions(value: Value) -> dict[str, str]:
    versions = {}
    for entry in _entries(value, "a table of libraries with their versions"):
        if entry.key not in LIBRARIES:
            raise _WrongError(f"has no library `{entry.key}`{_near(entry.key, LIBRARIES)}", entry.value)
        version = _text(entry.value)
        if not version[0].isdigit():
            raise _WrongError(f"takes versions such as `4.57.6`, not `{version}`", entry.value)
        versions[entry.key] = version
    return versions


def _entries(value: Value, what: str) -> tuple[Entry, ...]:
    if isinstance(value, Table):
        return value.entries
    raise _WrongError(f"takes {what}", value)


LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "deepspeed")
"""Libraries whose version decides what is allocated: the fields of `vramlint.job.Libraries`."""


class Key(Struct, frozen=True):
    """A key of the settings file."""

    field: str
    """The field of `Settings` that it fills."""
    read: Callable[[Value], Any]
    in_override: bool
    """May stand in `[[overrides]]` too."""
    summary: str


KEYS = MappingProxyType(
    {
        "gpu": Key("gpu", _text, True, "the GPU that the runs are meant for"),
        "gpus-per-node": Key("gpus_per_node", _count, True, "GPUs of one machine"),
        "nodes": Key("nodes", _count, True, "machines"),
        "ram": Key("ram", _size, True, "host memory of one machine"),
        "nvme": Key("nvme", _size, True, "NVMe of one machine that offloading may take"),
        "model": Key("model", _text, True, "the model, where the files leave it to run time"),
        "micro-batch-size": Key("micro_batch_size", _count, True, "sequences per GPU, where only run time knows"),
        "sequence-length": Key("sequence_length", _count, True, "tokens per sequence, where only run time knows"),
        "kind": Key("kind", _kind, True, "the vocabulary of data files, where it is not to be told by their keys"),
        "select": Key("select", _texts, True, "rules to run"),
        "ignore": Key("ignore", _texts, True, "rules not to run"),
        "fixable": Key("fixable", _texts, True, "rules whose findings are fixed"),
        "unfixable": Key("unfixable", _texts, True, "rules whose findings are not fixed"),
        "severity": Key("severity", _levels, True, "severity of single rules: error, warning or info"),
        "exclude": Key("exclude", _texts, False, "files not to lint, in .gitignore's language"),
        "rules": Key("rules", _texts, False, "folders with rules of your own"),
        "strict": Key("strict", _flag, False, "jobs that cannot be judged make the exit code 1"),
        "fail-on": Key("fail_on", _level, False, "the lowest severity that makes the exit code 1"),
        "fix": Key("fix", _flag, False, "make the fixes that are safe, as `--fix` does"),
        "unsafe-fixes": Key("unsafe_fixes", _flag, False, "count and make unsafe fixes too, as `--unsafe-fixes` does"),
        "headroom": Key(
            "headroom", _fraction, False, "fraction of the usable memory above which a run is close to the limit"
        ),
        "baseline": Key("baseline", _text, False, "the file of known findings, from the settings file's folder"),
        "max-increase": Key("max_increase", _limit, False, "by how much a change may raise the peak of a run"),
        "versions": Key("versions", _versions, False, "library versions that count instead of requirements files"),
    }
)
"""Every key but `overrides`, which holds tables with `files` and those keys that may stand in it."""


class Override(Struct, frozen=True):
    """Settings for the files that match one of `files`."""

    files: tuple[str, ...]
    """Patterns in .gitignore's language, relative to the settings file's folder."""
    changes: Mapping[str, Any]
    """Fields of `Settings` with the values they get."""


Read = tuple[dict[str, Any], dict[str, Place], tuple[Problem, ...]]


def read_keys(table: Table, path: str) -> Read:
    """The fields of `Settings` that the table fills, the place of each, and what is wrong."""
    values, places, problems = _read(table, path, (*KEYS, "overrides"))
    overrides = table.entry("overrides")
    if overrides is not None:
        found: list[Override] = []
        for item in overrides.value.values if isinstance(overrides.value, Items) else (overrides.value,):
            changes, problem = _override(item, overrides, path)
            problems += problem
            files = changes.pop("files", ())
            found.append(Override(files, MappingProxyType(changes)))
        values["overrides"] = tuple(found)
    return values, places, problems


def _override(item: Value, entry: Entry, path: str) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    if not isinstance(item, Table):
        return {}, (_problem(path, entry, "`overrides` takes tables: write `[[overrides]]`"),)
    allowed = ("files", *(name for name, key in KEYS.items() if key.in_override))
    values, places, problems = _read(item, path, allowed)
    files = item.entry("files")
    if files is None:
        problems += (_problem(path, item.entries[0] if item.entries else entry, "an override needs `files`"),)
    else:
        try:
            values["files"] = _texts(files.value)
        except _WrongError as wrong:
            problems += (_problem(path, files, f"`files` {wrong.message}", wrong.value),)
    return {**values, "places": places}, problems


def _read(table: Table, path: str, allowed: tuple[str, ...]) -> Read:
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    problems: list[Problem] = []
    for entry in table:
        key = KEYS.get(entry.key)
        if entry.key not in allowed:
            where = " in an override" if key else ""
            problems.append(_problem(path, entry, f"no setting `{entry.key}`{where}{_near(entry.key, allowed)}"))
        elif key is not None:
            try:
                values[key.field] = key.read(entry.value)
            except _WrongError as wrong:
                problems.append(_problem(path, entry, f"`{entry.key}` {wrong.message}", wrong.value))
            place = getattr(entry.value, "place", None) or entry.key_place
            if place is not None:
                places[key.field] = place
    return values, places, tuple(problems)


def _problem(path: str, entry: Entry, message: str, value: Value | None = None) -> Problem:
    """A problem at the value if its place is known, else at the key, else at the file."""
    place = (value.place if value is not None else None) or entry.key_place or Place(path, Span(1, 1, 1, 1))
    return Problem("bad-setting", message, place)


def _near(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word.replace("_", "-").lower(), list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"
