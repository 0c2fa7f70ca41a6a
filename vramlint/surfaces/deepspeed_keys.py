"""Keys of a DeepSpeed JSON held against the list of keys that DeepSpeed reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from vramlint.catalog.versions import Version, at_least, version_of
from vramlint.facts import TAKES_EFFECT, Remark, Repair
from vramlint.patterns import lazy
from vramlint.surfaces.deepspeed_types import is_validated, refuses
from vramlint.surfaces.draft import unquoted
from vramlint.surfaces.keys import rows
from vramlint.text import Place
from vramlint.values import Entry, Scalar, Table

FREE = ("optimizer.params", "scheduler.params", "autotuning.arg_mappings")
"""Sections that are handed on to something else as they are, whatever keys they have."""

IGNORED = lazy(r"^(_|#|//|\$|comment)|^[A-Z][A-Za-z0-9]*_\w*[A-Z]$")
"""Keys that are remarks, an editor's `$schema`, or stand for what a script fills in: DeepSpeed's have no capitals."""
_REMOVED_IN = lazy(r"removed in (\d+(?:\.\d+)*)")


class KnownKey(Struct, frozen=True):
    """What DeepSpeed's reader says of a key."""

    status: str
    """`current`, `deprecated`, `removed in 0.19.8; …`."""
    since: Version
    """The first release whose reader has it."""
    type: str
    """As `deepspeed_types.refuses` takes it."""


def check_deepspeed_keys(
    table: Table, known: Mapping[str, KnownKey], version: Version, library: str
) -> Iterator[Remark]:
    """A remark for every key that DeepSpeed does not know, has removed or not yet has, or gives a type it cannot take.

    Args:
        table: the configuration.
        known: every dotted key that DeepSpeed reads.
        version: the DeepSpeed version of the run.
        library: that version in words: `deepspeed 0.19.8`.
    """
    keys = {key.split(" ")[0]: found for key, found in known.items()}
    sections = {prefix for key in keys for prefix in _prefixes(key)}
    wild = {prefix[: -len(name)]: name for prefix in sections if (name := prefix.rpartition(".")[2]).startswith("<")}
    yield from _check(table, "", _KeyList(keys, sections, wild, version, library))


class _KeyList(Struct, frozen=True):
    known: Mapping[str, KnownKey]
    sections: set[str]
    wild: Mapping[str, str]
    """Sections whose keys are names of the user's own, and what stands for them: `curriculum_metrics.`, `<metric>`."""
    version: Version
    library: str

    def find(self, key: str) -> KnownKey | None:
        """What is known of a dotted key; a section by itself has always been there."""
        found = self.known.get(key) or self.known.get(_stage3_spelling(key))
        return found or (_SECTION if key in self.sections else None)


_SECTION = KnownKey("current", (), "object")


def _prefixes(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _check(table: Table, prefix: str, keys: _KeyList) -> Iterator[Remark]:
    strangers: list[Entry] = []
    free = prefix.rstrip(".") in FREE
    for entry in table:
        key = prefix + keys.wild.get(prefix, entry.key)
        if IGNORED.search(entry.key):
            continue
        found = keys.find(key)
        if found is None:
            strangers += [] if free else [entry]
            continue
        yield from _of_another_release(entry, key, found, keys)
        yield from _of_another_type(entry, key, found, keys)
        if isinstance(entry.value, Table) and key in keys.sections:
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
    names = ", ".join(entry.key for entry in entries)
    if len(entries) == 1:
        message = f"{where} has no key {names}: it {_effect(prefix, keys.version)}"
    else:
        message = f"{where} has no keys {names}: they {_effect(prefix, keys.version, several=True)}"
    repair = Repair(safe=False, rename=near, cost=TAKES_EFFECT) if near else None
    subject = prefix + entries[0].key
    return Remark("unknown-key", subject, f"{message} ({keys.library})", place, near, "deepspeed", repair)


def _effect(key: str, version: Version, *, several: bool = False) -> str:
    """What becomes of a key that DeepSpeed does not know."""
    if is_validated(key, version):
        return "raise a validation error" if several else "raises a validation error"
    return "are ignored in silence" if several else "is ignored in silence"


def _child(key: str, prefix: str) -> str:
    return key[len(prefix) :].split(".", maxsplit=1)[0]


def _of_another_release(entry: Entry, key: str, found: KnownKey, keys: _KeyList) -> Iterator[Remark]:
    if entry.key_place is None:
        return
    match = _REMOVED_IN.match(found.status)
    if match and at_least(keys.version, version_of(match[1])):
        message = f"{key} was removed in deepspeed {match[1]}; its presence raises an error"
        repair = Repair(safe=True, remove=(key,)) if _is_off(entry) else None
        yield Remark("removed-key", key, message, entry.key_place, vocabulary="deepspeed", repair=repair)
    elif not at_least(keys.version, found.since) and not _says_nothing(entry):
        since = ".".join(map(str, found.since))
        message = f"{key} came with deepspeed {since}: it {_effect(key, keys.version)} ({keys.library})"
        yield Remark("unknown-key", key, message, entry.key_place, vocabulary="deepspeed")


def _is_off(entry: Entry) -> bool:
    """Whether a section or a switch is off, so that nothing is lost without it."""
    inner = entry.value.get("enabled") if isinstance(entry.value, Table) else entry.value
    return isinstance(inner, Scalar) and inner.value in (False, None)


def _says_nothing(entry: Entry) -> bool:
    """Whether the value switches nothing on, so that nothing is lost where it is ignored."""
    return isinstance(entry.value, Scalar) and entry.value.value in (False, None)


def _of_another_type(entry: Entry, key: str, found: KnownKey, keys: _KeyList) -> Iterator[Remark]:
    """A value that the key cannot take. Keys that say facts are judged where the facts are read."""
    place = getattr(entry.value, "place", None) or entry.key_place
    if place is None or key in rows("deepspeed") or key == "zero_optimization":
        return
    validated = is_validated(key, keys.version)
    if refuses(found.type, entry.value, validated=validated):
        shown = repr(entry.value.value) if isinstance(entry.value, Scalar) else "an object"
        repair = unquoted(entry.value, lambda plain: not refuses(found.type, plain, validated=validated))
        message = f"`{key}` cannot be {shown}: {keys.library} takes {found.type}"
        yield Remark("wrong-type", key, message, place, vocabulary="deepspeed", repair=repair)
