"""Remarks that need the version of a library or several facts: unknown keys, batch products that contradict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType

from vramlint.catalog.deepspeed import all_deepspeed_keys
from vramlint.catalog.keys import (
    DROPPED,
    LIBRARIES,
    SCRIPT_ARGUMENTS,
    KeyHistory,
    accepted_keys,
    histories,
    key_history,
    lineage,
    same_type,
    trl_keys,
)
from vramlint.catalog.versions import at_least, version_of
from vramlint.facts import TAKES_EFFECT, Remark, Repair
from vramlint.resolve.board import Setting
from vramlint.resolve.releases import Release, release_of
from vramlint.resolve.versions import Bound
from vramlint.surfaces.deepspeed_keys import KnownKey, check_deepspeed_keys
from vramlint.surfaces.deepspeed_settings import idle_offloads, refused_settings
from vramlint.text import Place
from vramlint.values import Entry, Scalar, Table


def key_remarks(
    tables: tuple[tuple[str, Table], ...], setting: Setting, *, mixed: bool, replaced: bool = False
) -> Iterator[Remark]:
    """Keys that the classes of this run do not take at their versions.

    Args:
        tables: written keywords by class (`training-arguments`, `SFTConfig`, …).
        setting: versions of the run.
        mixed: keys of other vocabularies may stand in the same table (a flat recipe); then only near misses of a
            known key are remarked on, and keys of other releases only where no key is a stranger to the libraries:
            a program with arguments of its own reads the rest, and may give these keys a meaning of its own too.
        replaced: other classes stand in the place of TRL's, so that only near misses are sure.
    """
    for name, table in tables:
        vocabulary = "TrainingArguments" if name == "training-arguments" else name
        if vocabulary in LIBRARIES and vocabulary != "deepspeed":
            other = replaced and LIBRARIES[vocabulary] == "trl"
            yield from _unknown_keys(vocabulary, table, setting, mixed=mixed or other, own=other)


_NEAR = 0.8
_CLOSENESS = {(False, False): _NEAR, (False, True): _NEAR, (True, False): 0.88, (True, True): 0.93}
"""How alike a key and a known one must be (difflib's ratio) to be taken for a misspelling: by whether keys of a script
may stand among those of the class, and whether some do. Then only a closer likeness counts."""


def _unknown_keys(vocabulary: str, table: Table, setting: Setting, *, mixed: bool, own: bool) -> Iterator[Remark]:
    accepted = accepted_keys(vocabulary, setting.libraries)
    if vocabulary == "TrainingArguments":
        accepted |= accepted_keys("Seq2SeqTrainingArguments", setting.libraries)  # the surface tells them not apart
    if mixed:
        accepted |= accepted_keys("ModelConfig", setting.libraries) | SCRIPT_ARGUMENTS
    strangers = [entry for entry in table if entry.key not in accepted and entry.key_place]
    elsewhere = trl_keys() if mixed and strangers else frozenset()
    own = own or (mixed and any(not _known(vocabulary, entry.key, elsewhere) for entry in strangers))
    for entry in strangers:
        history = key_history(vocabulary, entry.key)
        if history is not None:
            if not own:
                yield _of_another_release(history, entry, setting)
        elif entry.key not in elsewhere:
            yield from _misspelt(vocabulary, entry, accepted, setting, _CLOSENESS[mixed, own])


def _known(vocabulary: str, key: str, elsewhere: frozenset[str]) -> bool:
    """Whether the libraries have, or had, a key of that name."""
    return key in elsewhere or key_history(vocabulary, key) is not None


def _of_another_release(history: KeyHistory, entry: Entry, setting: Setting) -> Remark:
    gone = bool(history.until) and not _too_new(history, setting)
    kind = "removed-key" if gone else "unknown-key"
    when = f"it was removed in {history.until}" if gone else f"it came with {history.since}"
    message = f"{history.vocabulary} has no key {entry.key} in {setting.label(LIBRARIES[history.vocabulary])}: {when}"
    if history.renamed_to:
        message += f"; the key is now {history.renamed_to}"
    repair = _renamed(history, entry) if gone else None
    return Remark(kind, entry.key, message, _place(entry), history.renamed_to, history.vocabulary, repair)


_OTHER_MEANING = frozenset(("push_to_hub_organization",))
"""Keys whose value is a part of what the key that took over holds."""


def _renamed(history: KeyHistory, entry: Entry) -> Repair | None:
    """The key by its new name, where that takes the value as it is: of the same type."""
    new = key_history(history.vocabulary, history.renamed_to) if history.renamed_to else None
    if new is None or history.key in _OTHER_MEANING or not same_type(history.type, new.type):
        return None
    # in transformers 5 steps below 1 are a part of all (training_args.py, warmup_steps)
    part = not isinstance(entry.value, Scalar) or not isinstance(entry.value.value, float) or entry.value.value < 1
    return Repair(safe=True, rename=new.key) if history.key != "warmup_ratio" or part else None


def _too_new(history: KeyHistory, setting: Setting) -> bool:
    """Whether the release in use is older than the first that has the key."""
    version = getattr(setting.libraries, LIBRARIES[history.vocabulary])
    return bool(history.since) and not at_least(version, version_of(history.since))


def _misspelt(
    vocabulary: str, entry: Entry, accepted: frozenset[str], setting: Setting, closeness: float
) -> Iterator[Remark]:
    from difflib import get_close_matches

    near = get_close_matches(entry.key, sorted(accepted), n=1, cutoff=closeness)
    if near or closeness == _NEAR:
        message = f"{vocabulary} has no key {entry.key} ({setting.label(LIBRARIES[vocabulary])})"
        repair = Repair(safe=False, rename=near[0], cost=TAKES_EFFECT) if near else None
        yield Remark("unknown-key", entry.key, message, _place(entry), near[0] if near else "", vocabulary, repair)


def _place(entry: Entry) -> Place:
    """Where a key stands.

    Raises:
        ValueError: it stands nowhere; such keys are not checked.
    """
    if entry.key_place is None:
        raise ValueError(f"{entry.key} has no place")
    return entry.key_place


def key_bounds(tables: Iterable[tuple[str, Table]]) -> dict[str, Bound]:
    """Per library the release before which the run must have been written, by the keys that it uses.

    `evaluation_strategy` was dropped in transformers 4.51 or earlier: a script with it and no pinned version is
    run with an older release, not with one that rejects it. Keys that never existed together bound nothing.
    """
    tables = tuple(tables)
    bounds: dict[str, Bound] = {}
    since: dict[str, Release] = {}
    for library, history in (*_histories(tables), *_dropped(tables)):
        since[library] = max(since.get(library, ()), release_of(history.since))
        bound = Bound(release_of(history.until), history.key)
        if history.until and (library not in bounds or bound.release < bounds[library].release):
            bounds[library] = bound
    return {library: bound for library, bound in bounds.items() if since[library] < bound.release}


def _dropped(tables: Iterable[tuple[str, Table]]) -> Iterator[tuple[str, KeyHistory]]:
    """The ends of arguments that trainers no longer take."""
    for name, table in tables:
        library, ends = DROPPED.get(name, ("", {}))
        for entry in table:
            if entry.key in ends:
                yield library, KeyHistory(name, entry.key, "", ends[entry.key], "", "")


def _histories(tables: Iterable[tuple[str, Table]]) -> Iterator[tuple[str, KeyHistory]]:
    """The lives of the keys that one class alone defines; one that is inherited too, lives on in the base."""
    for name, table in tables:
        owners = list(lineage("TrainingArguments" if name == "training-arguments" else name))
        for entry in table if owners else ():
            found = [(library, history) for library, owner in owners for history in histories(owner, entry.key)]
            if len(found) == 1:
                yield found[0]


@cache
def _deepspeed_keys() -> Mapping[str, KnownKey]:
    known = {row.key: KnownKey(row.status, version_of(row.since), row.type) for row in all_deepspeed_keys()}
    return MappingProxyType(known)


def deepspeed_key_remarks(table: Table, setting: Setting) -> Iterator[Remark]:
    """Keys of a DeepSpeed configuration that DeepSpeed does not know or has removed, and settings that it refuses."""
    yield from check_deepspeed_keys(table, _deepspeed_keys(), setting.libraries.deepspeed, setting.label("deepspeed"))
    yield from refused_settings(table)
    yield from idle_offloads(table)
