"""Keys that code declares: annotated fields of classes, parameters of functions, options of argument parsers."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from tools.surfaces.dataclass_keys import initialised
from tools.surfaces.source import Key, Keys
from tools.surfaces.trees import Tree


class Part(NamedTuple):
    """One place that declares keys."""

    path: str
    """Below the folder that is on Python's path; a glob."""
    classes: tuple[str, ...] = ()
    """Classes whose annotated fields, inherited ones included, are keys; none: the options of argparse parsers."""
    prefix: str = ""
    """What stands in front of the keys, with its dot."""
    functions: tuple[str, ...] = ()
    """Functions whose parameters are keys, `setup`, or methods, `Trainer.__init__`; then nothing else is."""


def reader(name: str, parts: Iterable[Part]) -> Callable[[Tree], Mapping[str, Keys]]:
    """What reads the table `name` off these places."""

    def read(tree: Tree) -> Mapping[str, Keys]:
        return {name: declared_keys(tree, parts)}

    return read


def declared_keys(tree: Tree, parts: Iterable[Part]) -> dict[str, Key]:
    """Every key that the files of a tree declare."""
    found: dict[str, Key] = {}
    for part in parts:
        modules = [tree.module(path) for path in tree.paths(part.path)]
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
                found |= {f"{part.prefix}{key}": row for key, row in fields_of(name, classes, set())}
        else:
            found |= {f"{part.prefix}{key}": row for module in modules for key, row in _options(module)}
    return found


def fields_of(name: str, classes: Mapping[str, ast.ClassDef], seen: set[str]) -> Iterator[tuple[str, Key]]:
    """The annotated fields of a class by all their names, those of its bases first; aliases have no default."""
    node = classes.get(name)
    if node is None or name in seen:
        return
    seen.add(name)
    for base in reversed(node.bases):
        yield from fields_of(base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", ""), classes, seen)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = ast.unparse(item.annotation)
            if not item.target.id.startswith("_") and not annotation.startswith("ClassVar") and initialised(item):
                key = Key(" ".join(annotation.split()), _default(item.value or _annotated(item.annotation)))
                yield item.target.id, key
                yield from ((alias, key._replace(default="")) for alias in _aliases(item) if alias != item.target.id)


def _aliases(field: ast.AnnAssign) -> Iterator[str]:
    """What pydantic calls a field too: `alias="model_type"`, `validation_alias=AliasChoices("version", …)`."""
    for word in field.value.keywords if isinstance(field.value, ast.Call) else ():
        if word.arg in ("alias", "validation_alias"):
            choices = word.value.args if isinstance(word.value, ast.Call) else [word.value]
            yield from (name for name in map(literal, choices) if isinstance(name, str))


def _annotated(annotation: ast.expr) -> ast.expr | None:
    """The `Field(…)` of `Annotated[bool, Field(default=False)]`."""
    held = annotation.slice if isinstance(annotation, ast.Subscript) else None
    return next((item for item in getattr(held, "elts", ()) if isinstance(item, ast.Call)), None)


def _parameters(name: str, module: ast.Module) -> Iterator[tuple[str, Key]]:
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
                yield argument.arg, Key(" ".join(ast.unparse(argument.annotation).split()), _default(default))


def _default(value: ast.expr | None) -> str:
    """The default of a field as JSON: a literal, or what `field(default=…)` and `Field(…)` are given."""
    if isinstance(value, ast.Call):
        named = next((item.value for item in value.keywords if item.arg == "default"), None)
        return json_of(named if named is not None else next(iter(value.args), None))
    return json_of(value)


def json_of(value: ast.expr | None) -> str:
    """A plain value as JSON; empty for none, for tables and lists, and for what only running the code would tell."""
    plain = literal(value)
    return json.dumps(plain) if isinstance(plain, str | int | float | bool) else ""


def literal(value: ast.expr | None) -> object:
    """What an expression says without being run; None where it has to be."""
    try:
        found: object = ast.literal_eval(value) if value is not None else None
    except (ValueError, TypeError, SyntaxError):
        return None
    return found


_SWITCHES = {"store_true": "false", "store_false": "true"}


def _options(module: ast.Module) -> Iterator[tuple[str, Key]]:
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
        yield option[2:].replace("-", "_"), Key(kind, json_of(given.get("default")) or _SWITCHES.get(action, ""))
