"""Reads the keys and defaults of frameworks again, from installed packages or checkouts, and shows what drifted.

python -m tools.refresh_surfaces                       every framework that is installed
python -m tools.refresh_surfaces litgpt --root src     from a folder that holds the package
python -m tools.refresh_surfaces litgpt --write        take the drift over into vramlint/catalog/data/frameworks

The code is parsed, not imported. Exits with 1 when something drifted and was not written. To be run by hand: what
vramlint says never depends on what is installed.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tools.surface_sources import SOURCES, Part
from vramlint.catalog.frameworks import FOLDER, FrameworkKey
from vramlint.catalog.lines import DATA


class Declared(NamedTuple):
    """A key as the code declares it."""

    type: str
    default: str
    """As JSON; empty where it is no plain value."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 1 when something drifted."""
    parser = argparse.ArgumentParser(description="Show how frameworks' keys and defaults drifted from the tables.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(SOURCES)}; default: the installed ones"
    )
    parser.add_argument(
        "--root", type=Path, help="the folder that holds the package; default: where packages are installed"
    )
    parser.add_argument("--release", help="the release that is read; default: that of the installed distribution")
    parser.add_argument("--write", action="store_true", help="take the drift over into the tables")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - SOURCES.keys())
    if unknown:
        parser.error(f"no framework {unknown[0]!r}; there are {', '.join(SOURCES)}")
    root = options.root or Path(sysconfig.get_path("purelib"))
    drifted = False
    for name in options.names or SOURCES:
        declared = declared_keys(root, SOURCES[name].parts)
        if not declared:
            print(f"{name}: not found under {root}")
            continue
        table = DATA / FOLDER / f"{name}.tsv"
        release = options.release or _installed(SOURCES[name].distribution)
        before = table.read_text(encoding="utf-8") if table.exists() else ""
        after, lines = refreshed(before, declared, release)
        print("\n".join((f"{name} {release}: {len(declared)} keys, {len(lines)} drifted", *lines)))
        drifted |= bool(lines)
        if options.write and lines:
            table.write_text(after, encoding="utf-8", newline="\n")
    return 1 if drifted and not options.write else 0


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def refreshed(table: str, declared: Mapping[str, Declared], release: str) -> tuple[str, list[str]]:
    """A table after what the code of a release declares, and a line for each drift.

    A key that is new begins with the release, one that is gone ends with it; one whose default changed gets a second
    row. Rows of keys that only notes explain (`name.*`, or without a type) are left alone.
    """
    comments = [line for line in table.splitlines() if line.startswith("#")]
    rows = [FrameworkKey(*line.split("\t")) for line in table.splitlines() if line and not line.startswith("#")]
    current = {row.key: row for row in rows if not row.until}
    lines: list[str] = []
    found: list[FrameworkKey] = []
    for row in rows:
        new = declared.get(row.key)
        if row.until or not row.type or row.key.endswith("*"):
            found.append(row)
        elif new is None:
            lines.append(f"- {row.key}")
            found.append(row._replace(until=release))
        elif new.default != row.default and new.default:
            lines.append(f"~ {row.key}: {row.default or 'nothing'} -> {new.default}")
            found += [row._replace(until=release), row._replace(since=release, default=new.default, type=new.type)]
        else:
            found.append(row)
    for key in sorted(declared.keys() - current.keys()):
        lines.append(f"+ {key} {declared[key].type} {declared[key].default}".rstrip())
        found.append(FrameworkKey(key, release if rows else "", "", "", declared[key].type, declared[key].default, ""))
    ordered = sorted(found, key=lambda row: (row.key, row.since))
    return "\n".join((*comments, *("\t".join(row) for row in ordered))) + "\n", lines


def declared_keys(root: Path, parts: Iterable[Part]) -> dict[str, Declared]:
    """Every key that the files below `root` declare."""
    found: dict[str, Declared] = {}
    for part in parts:
        modules = [_parsed(path) for path in sorted(root.glob(part.path))]
        if part.functions:
            for key, row in (
                item for name in part.functions for module in modules for item in _parameters(name, module)
            ):
                title = f"{part.prefix}{key}"
                other = found.setdefault(title, row)
                if other.default != row.default:  # each program has its own
                    found[title] = row._replace(default="")
        elif part.classes:
            classes = {
                node.name: node for module in modules for node in ast.walk(module) if isinstance(node, ast.ClassDef)
            }
            for name in part.classes:
                found |= {f"{part.prefix}{key}": row for key, row in _fields(name, classes, set())}
        else:
            found |= {f"{part.prefix}{key}": row for module in modules for key, row in _options(module)}
    return found


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _fields(name: str, classes: Mapping[str, ast.ClassDef], seen: set[str]) -> Iterator[tuple[str, Declared]]:
    """The annotated fields of a class, those of its bases first."""
    node = classes.get(name)
    if node is None or name in seen:
        return
    seen.add(name)
    for base in reversed(node.bases):
        yield from _fields(base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", ""), classes, seen)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = ast.unparse(item.annotation)
            if not item.target.id.startswith("_") and not annotation.startswith("ClassVar"):
                yield item.target.id, Declared(" ".join(annotation.split()), _default(item.value))


def _parameters(name: str, module: ast.Module) -> Iterator[tuple[str, Declared]]:
    """The annotated parameters of a function or method, `Trainer.__init__`."""
    owner, _, own = name.rpartition(".")
    scopes = (
        [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == owner] if owner else [module]
    )
    for node in (item for scope in scopes for item in scope.body if isinstance(item, ast.FunctionDef)):
        if node.name != own:
            continue
        plain = [*node.args.posonlyargs, *node.args.args]
        missing: list[ast.expr | None] = [None] * (len(plain) - len(node.args.defaults))
        pairs = [*zip(plain, [*missing, *node.args.defaults], strict=True)]
        pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        for argument, default in pairs:
            if argument.annotation is not None:
                yield argument.arg, Declared(" ".join(ast.unparse(argument.annotation).split()), _default(default))


def _default(value: ast.expr | None) -> str:
    """The default of a field as JSON: a literal, or what `field(default=…)` and `Field(…)` are given."""
    if isinstance(value, ast.Call):
        named = next((item.value for item in value.keywords if item.arg == "default"), None)
        return _json(named if named is not None else next(iter(value.args), None))
    return _json(value)


def _json(value: ast.expr | None) -> str:
    try:
        plain = ast.literal_eval(value) if value is not None else None
    except (ValueError, TypeError, SyntaxError):
        return ""
    return json.dumps(plain) if isinstance(plain, str | int | float | bool) else ""


_SWITCHES = {"store_true": "false", "store_false": "true"}


def _options(module: ast.Module) -> Iterator[tuple[str, Declared]]:
    """The options that a file's parsers take, with underscores and without dashes."""
    for node in ast.walk(module):
        if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"):
            continue
        names = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        option = next((name for name in names if name.startswith("--")), "")
        if not option:
            continue
        given = {item.arg: item.value for item in node.keywords}
        action = getattr(given.get("action"), "value", "")
        kind = "bool" if action in _SWITCHES else ast.unparse(given["type"]) if "type" in given else "str"
        yield option[2:].replace("-", "_"), Declared(kind, _json(given.get("default")) or _SWITCHES.get(action, ""))


if __name__ == "__main__":
    sys.exit(main())
