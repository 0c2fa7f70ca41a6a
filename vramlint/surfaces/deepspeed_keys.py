"""Keys of a DeepSpeed JSON held against the list of keys that DeepSpeed reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vramlint.facts import Remark
from vramlint.text import Place
from vramlint.values import Entry, Table

_STRICT = (
    "zero_optimization",
    "fp16",
    "bf16",
    "bfloat16",
    "comms_logger",
    "tensorboard",
    "wandb",
    "csv_monitor",
    "comet",
    "hybrid_engine",
    "compile",
    "timers",
    "tensor_parallel",
)
"""Sections that DeepSpeed validates: an unknown key there raises (deepspeed 0.19.8, runtime/config_utils.py).
Elsewhere an unknown key is ignored in silence."""

_FREE = ("optimizer.params", "scheduler.params", "autotuning.arg_mappings")
"""Sections that are handed on to something else as they are."""

_PLACEHOLDER = re.compile(r"[A-Z][A-Za-z0-9]*_\w*[A-Z]")
"""A key that a script fills in; DeepSpeed's own have no capitals."""
_REMOVED_IN = re.compile(r"removed in (\d+(?:\.\d+)*)")


def check_deepspeed_keys(
    table: Table, statuses: Mapping[str, str], version: tuple[int, ...], library: str
) -> Iterator[Remark]:
    """A remark for every key that DeepSpeed does not know or has removed.

    Args:
        table: the configuration.
        statuses: every dotted key DeepSpeed reads and its status (`current`, `deprecated`, `removed in 0.19.8; …`).
        version: the DeepSpeed version of the run.
        library: that version in words: `deepspeed 0.19.8`.
    """
    known = {key.split(" ")[0]: status for key, status in statuses.items()}
    sections = {prefix for key in known for prefix in _prefixes(key)}
    yield from _check(table, "", _KeyList(known, sections, version, library))


class _KeyList(NamedTuple):
    known: Mapping[str, str]
    sections: set[str]
    version: tuple[int, ...]
    library: str


def _prefixes(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _check(table: Table, prefix: str, keys: _KeyList) -> Iterator[Remark]:
    strangers: list[Entry] = []
    for entry in table:
        key = prefix + entry.key
        if entry.key.startswith(("_", "#", "//", "comment")) or _PLACEHOLDER.fullmatch(entry.key):
            continue
        section = key in keys.sections
        status = keys.known.get(key) or keys.known.get(_stage3_spelling(key)) or ("current" if section else None)
        if status is None:
            strangers.append(entry)
            continue
        yield from _removed(entry, key, status, keys.version)
        if isinstance(entry.value, Table) and section and key not in _FREE:
            yield from _check(entry.value, key + ".", keys)
    yield from _unknown(strangers, prefix, keys)


def _stage3_spelling(key: str) -> str:
    """`zero_optimization.max_live_parameters` is an alias of the key with `stage3_`."""
    section, _, name = key.rpartition(".")
    return f"{section}.stage3_{name}" if section == "zero_optimization" else key


def _unknown(strangers: list[Entry], prefix: str, keys: _KeyList) -> Iterator[Remark]:
    """One remark for each key that resembles a known one, and one for all others of the section together."""
    placed = [(entry, entry.key_place) for entry in strangers if entry.key_place is not None]
    if not placed:
        return
    from difflib import get_close_matches

    siblings = sorted({_child(key, prefix) for key in (*keys.known, *keys.sections) if key.startswith(prefix)} - {""})
    rest: list[tuple[Entry, Place]] = []
    for entry, place in placed:
        near = get_close_matches(entry.key, siblings, n=1, cutoff=0.75)
        if near:
            yield _stranger([entry], place, prefix, keys, near[0])
        else:
            rest.append((entry, place))
    if rest:
        yield _stranger([entry for entry, _ in rest], rest[0][1], prefix, keys)


def _stranger(entries: list[Entry], place: Place, prefix: str, keys: _KeyList, near: str = "") -> Remark:
    where = prefix.rstrip(".") or "DeepSpeed"
    strict = prefix.split(".", maxsplit=1)[0] in _STRICT
    effect = ("raises a validation error", "raise a validation error") if strict else ("is ignored", "are ignored")
    names = ", ".join(entry.key for entry in entries)
    if len(entries) == 1:
        message = f"{where} has no key {names}: it {effect[0]}"
    else:
        message = f"{where} has no keys {names}: they {effect[1]}"
    if not strict:
        message += " in silence"
    return Remark("unknown-key", prefix + entries[0].key, f"{message} ({keys.library})", place, near, "deepspeed")


def _child(key: str, prefix: str) -> str:
    return key[len(prefix) :].split(".", maxsplit=1)[0]


def _removed(entry: Entry, key: str, status: str, version: tuple[int, ...]) -> Iterator[Remark]:
    match = _REMOVED_IN.match(status)
    if not match or entry.key_place is None:
        return
    release = tuple(int(part) for part in match[1].split("."))
    if version >= release:
        message = f"{key} was removed in deepspeed {match[1]}; its presence raises an error"
        yield Remark("removed-key", key, message, entry.key_place, vocabulary="deepspeed")
