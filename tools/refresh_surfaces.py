"""Reads the keys and defaults of frameworks again and shows what drifted from the tables below vramlint/catalog/data.

python -m tools.refresh_surfaces                               every framework that is installed
python -m tools.refresh_surfaces litgpt --release newest       a wheel from PyPI, or a release, `0.5.11`
python -m tools.refresh_surfaces --repo torchtune=../torchtune a clone, or a folder or archive that holds the package
python -m tools.refresh_surfaces --repos '../{owner}/{name}'   every framework whose clone is there
python -m tools.refresh_surfaces litgpt --write                take the drift over

Code is parsed, never imported or run. A clone with its history makes those tables anew that are made of it alone;
otherwise the keys of one release are held against the rows that hold in it, and tables of one release made anew. Exits
with 1 when something drifted and was not written, with 2 when a state could not be read. To be run by hand: what
vramlint says never depends on what is installed.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.surfaces.drift import is_older, refreshed
from tools.surfaces.pypi import CACHE, NEWEST, installed_release, version_in, wheel
from tools.surfaces.registry import SOURCES
from tools.surfaces.source import Keys, Source, table_file
from tools.surfaces.states import MissingStateError, States
from tools.surfaces.trees import Archive, Folder, Revision, Tree, git
from vramlint.catalog.lines import DATA


class Outcome(NamedTuple):
    """What was found of one table."""

    file: str
    """Below `catalog/data`."""
    title: str
    """What was read."""
    lines: Sequence[str]
    """What drifted."""
    after: str
    """The table with that in it; empty where it has to be corrected by hand."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 1 when something drifted, 2 when a state could not be read."""
    parser = argparse.ArgumentParser(description="Show how frameworks' keys and defaults drifted from the tables.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(SOURCES)}; default: those that can be read"
    )
    parser.add_argument("--repo", action="append", default=[], metavar="NAME=PATH", help="where a framework's code is")
    parser.add_argument("--repos", metavar="TEMPLATE", help="where clones are, as a path with {owner} and {name}")
    parser.add_argument(
        "--release", default="", help=f"of a package on PyPI, or {NEWEST!r}; default: the installed one"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="the folder that keeps fetched packages")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="show the drift only; the default")
    group.add_argument("--write", action="store_true", help="take the drift over into the tables")
    options = parser.parse_args(arguments)
    places = dict(item.partition("=")[::2] for item in options.repo)
    unknown = sorted({*options.names, *places} - SOURCES.keys())
    if unknown:
        parser.error(f"no framework {unknown[0]!r}; there are {', '.join(SOURCES)}")

    def places_of(name: str) -> Path | None:
        return Path(places[name]) if name in places else _clone(options.repos, SOURCES[name])

    status = 0
    for name in options.names or places or SOURCES:
        try:
            outcomes = list(_outcomes(name, places_of, options.release, options.cache))
        except MissingStateError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 2
            continue
        if not outcomes and options.names:
            print(f"{name}: not found; give --repo {name}=PATH or --release", file=sys.stderr)
            status = 2
        for outcome in outcomes:
            print("\n".join((f"{outcome.file}, {outcome.title}: {len(outcome.lines)} drifted", *outcome.lines)))
            if options.write and outcome.lines and outcome.after:
                (DATA / outcome.file).write_text(outcome.after, encoding="utf-8", newline="\n")
            elif outcome.lines:
                status = max(status, 1)
    return status


def _clone(template: str | None, source: Source) -> Path | None:
    if not template or not source.repository:
        return None
    owner, _, name = source.repository.partition("/")
    path = Path(template.format(owner=owner, name=name))
    return path if path.exists() else None


def _outcomes(name: str, places: Callable[[str], Path | None], release: str, cache: Path) -> Iterator[Outcome]:
    source, place = SOURCES[name], places(name)
    if place is not None and not place.exists():
        raise MissingStateError(f"{place} is not there")
    repository = place if place is not None and _is_repository(place) else None
    if source.make is not None and repository is not None and not release:
        states = States(repository, lambda number: _package(source, number, cache), places)
        yield from _made(source.make(states), name)
        if source.whole is not None:
            yield from _made(source.whole(states.revision("HEAD")), name)
    elif source.read is not None or source.whole is not None:
        found = _state(source, place, repository, release, cache)
        if found is not None:
            tree, version, title = found
            keys = source.read(tree) if source.read is not None else {}
            yield from _read({key: value for key, value in keys.items() if value}, source, version, title)
            yield from _made(source.whole(tree) if source.whole is not None else {}, name)


def _is_repository(path: Path) -> bool:
    """Whether a folder is the top of a git repository, or a bare one."""
    return (
        path.is_dir()
        and bool(git(path, "rev-parse", "--git-dir"))
        and not git(path, "rev-parse", "--show-prefix").strip()
    )


def _package(source: Source, release: str, cache: Path) -> Tree | None:
    path = wheel(source.distribution, release, cache) if source.distribution else None
    return Archive(path) if path is not None else None


def _state(
    source: Source, place: Path | None, repository: Path | None, release: str, cache: Path
) -> tuple[Tree, str, str] | None:
    """What is to be read: files, their release (empty: the newest), and what to call them."""
    if repository is not None:
        states = States(repository, lambda _: None)
        if release:
            return states.release(release), release, release
        tag = git(repository, "describe", "--tags", "--abbrev=0").strip()
        return Revision(repository, "HEAD"), tag.removeprefix("v"), f"HEAD after {tag or 'no tag'}"
    if place is not None:
        return (Folder(place), release, release or str(place)) if place.is_dir() else _archive(place)
    if release:
        path = wheel(source.distribution, release, cache) if source.distribution else None
        if path is None:
            raise MissingStateError(f"no wheel of {source.distribution or 'it'} {release} on PyPI; give --repo")
        return _archive(path)
    version = installed_release(source.distribution)
    root = Path(sysconfig.get_path("purelib"))
    return (Folder(root, source.packages), version, version) if version else None


def _archive(path: Path) -> tuple[Tree, str, str]:
    return Archive(path), version_in(path), version_in(path)


def _made(tables: Mapping[str, str], title: str) -> Iterator[Outcome]:
    for file, after in tables.items():
        path = DATA / file
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        diff = difflib.unified_diff(before.splitlines(), after.splitlines(), "committed", title, "", "", 0, "")
        yield Outcome(file, "made anew", [*diff], after)


def _read(found: Mapping[str, Keys], source: Source, release: str, title: str) -> Iterator[Outcome]:
    for table, declared in found.items():
        path = DATA / table_file(table)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        states = [release]
        if title.startswith("HEAD"):  # what comes after its last tag is the newest in the table, unless it is older
            states = ["", *([release] if is_older(before, release) else [])]
        whole = source.make is not None
        found_at = [(state, *refreshed(before, declared, state, source.elsewhere, whole=whole)) for state in states]
        state, after, lines = min(found_at, key=lambda item: len(item[2]))
        unnamed = bool(before) and not state and title.startswith("HEAD")  # its rows would not say since when they hold
        after = "" if unnamed or is_older(before, state) else after
        yield Outcome(table_file(table), f"{title}, {len(declared)} keys", lines, after)


if __name__ == "__main__":
    sys.exit(main())
