"""Keys of a framework's configuration that it does not know, or no longer."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from difflib import get_close_matches

from vramlint.catalog.frameworks import FrameworkKey, framework_keys
from vramlint.catalog.keys import histories, lineage, same_type
from vramlint.facts import TAKES_EFFECT, Remark, Repair
from vramlint.surfaces.draft import is_absent
from vramlint.surfaces.frameworks.framework import Framework
from vramlint.surfaces.keys import find_row
from vramlint.values import Entry, Table

_NEAR = 0.8
_CLOSE = 0.9
"""How alike a key and a known one must be (difflib's ratio) to be taken for a misspelling of it: where a framework
refuses keys of others, and where it takes them."""

_FEW = 2
_MOST_STRANGE = 0.34
"""Keys of a file that are nothing like a known one, and their part of all; where more are strange, they are no
mistakes."""

_INSTANTIATED = frozenset(("_target_", "_partial_", "_recursive_", "_convert_", "_args_"))
"""Keys of Hydra's own in tables that it makes objects of (hydra 1.3, _internal/instantiate/_instantiate2.py)."""

_Known = Mapping[str, tuple[FrameworkKey, ...]]


def key_remarks(
    framework: Framework, table: Table, release: tuple[int, ...] | None, keys: str = "", *, sure: bool = True
) -> Iterator[Remark]:
    """Unknown, misspelt, removed and renamed keys, with the nearest valid spelling.

    Args:
        framework: whose keys they are.
        table: the configuration.
        release: of the framework; None for the newest, at which removed keys are remarked on too.
        keys: the table that lists them, if it goes by another name than the framework.
        sure: somebody says the release; where it only follows from the keys, none of them can be too new.
    """
    known = framework_keys(keys or framework.name)
    if not known:
        return
    inherited = inherited_keys(framework)
    listed = frozenset(key[: end + 1] for key in known for end, letter in enumerate(key) if letter == ".")
    written = list(_written(table, "", known, listed))
    unknown = [path for path, _ in written if path not in known and path.partition(".")[0] not in inherited]
    accepted = [key for key, rows in known.items() if any(not row.until for row in rows)] + sorted(inherited)
    meant = {path: _near(framework, path, accepted) for path in unknown}
    strange = [path for path, near in meant.items() if not near]
    if len(strange) > max(_FEW, _MOST_STRANGE * len(written)):
        return  # written for something else that shares some keys, or for a program around the framework
    forked = release is None and len(strange) > _FEW  # keys of several releases and of its own: a fork of some state
    for path, entry in written:
        rows = known.get(path)
        if entry.key_place is None or is_absent(entry.value):
            continue
        current = rows is not None and any(row.holds_in(release) for row in rows)
        if not current and path.partition(".")[0] in inherited:
            continue
        if rows is None:
            yield from _strange(framework, path, entry, meant[path])
        elif not current and (sure or rows[-1].until) and not (forked or (not sure and len(strange) > _FEW)):
            yield _gone(framework, entry, rows[-1], known)


def _written(table: Table, above: str, known: _Known, listed: Container[str]) -> Iterator[tuple[str, Entry]]:
    """Every key that can be held against the list, as dotted path; a table is entered where its keys are `listed`."""
    for entry in table:
        path = f"{above}{entry.key}"
        inside = f"{path}."
        if isinstance(entry.value, Table) and inside in listed and f"{inside}*" not in known:
            yield from _written(entry.value, inside, known, listed)
        elif f"{above}*" not in known and f"{path}.*" not in known and entry.key not in _INSTANTIATED:
            yield path, entry


def speaks(framework: Framework, table: Table) -> bool:
    """Whether a file may be the framework's: half of its keys are, or it takes any, or nobody knows which those are."""
    name = framework.form(table)[0] if framework.form is not None else framework.name
    known = {} if framework.loose else framework_keys(name)
    tops = {key.partition(".")[0] for key in known} | inherited_keys(framework)
    mine = sum(entry.key in tops for entry in table)
    return not known or 2 * mine >= len(table.entries)


def inherited_keys(framework: Framework) -> frozenset[str]:
    """The keys of the classes that it extends, of any release: theirs may be another one."""
    owners = {owner for name in framework.inherits for _, owner in lineage(name)}
    return frozenset([history.key for owner in owners for history in histories(owner)])


def _strange(framework: Framework, path: str, entry: Entry, near: Sequence[str]) -> Iterator[Remark]:
    place = entry.key_place
    if place is not None and (near or not framework.loose):
        message = f"{framework.title} has no key {path}"
        meant = near[0] if near else ""
        inside = bool(meant) and meant.rpartition(".")[0] == path.rpartition(".")[0]
        repair = Repair(safe=False, rename=_last(meant), cost=TAKES_EFFECT) if inside else None
        yield Remark("unknown-key", path, message, place, meant, framework.name, repair)


def _near(framework: Framework, path: str, accepted: Sequence[str]) -> list[str]:
    """The accepted keys that an unknown one may be meant for, the likeliest first."""
    near = get_close_matches(path, accepted, n=3, cutoff=_CLOSE if framework.loose else _NEAR)
    near = [key for key in near if get_close_matches(_last(path), [_last(key)], cutoff=_NEAR)]
    return near or [key for key in _meant(framework, path) if key in accepted]


def _last(path: str) -> str:
    """A key without the tables that it stands in, which alone make long paths alike."""
    return path.rpartition(".")[2]


def _gone(framework: Framework, entry: Entry, row: FrameworkKey, known: _Known) -> Remark:
    when = f"it was removed in {row.until}" if row.until else f"it came with {row.since}"
    message = f"{framework.title} has no key {row.key}: {when}"
    if row.renamed_to:
        message += f"; the key is now {row.renamed_to}"
    place = entry.key_place
    if place is None:
        raise ValueError(f"{row.key} has no place")
    kind = "removed-key" if row.until else "unknown-key"
    new = known.get(row.renamed_to, ())
    alike = bool(new) and bool(row.until) and same_type(row.type, new[-1].type)
    inside = row.renamed_to.rpartition(".")[0] == row.key.rpartition(".")[0]
    repair = Repair(safe=True, rename=_last(row.renamed_to)) if alike and inside else None
    return Remark(kind, row.key, message, place, row.renamed_to, framework.name, repair)


_ELSEWHERE = ("training-arguments", "trl", "trl-model", "from-pretrained", "bitsandbytes", "lora")


def _meant(framework: Framework, path: str) -> Iterator[str]:
    """The framework's own key for what a key of Hugging Face's libraries says: `sequence_len` for `max_seq_length`."""
    said = {row.fact for name in _ELSEWHERE if (row := find_row(name, path)) is not None}
    yield from (row.key for row in framework.rows if row.fact in said)
