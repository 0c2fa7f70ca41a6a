"""The fields of dataclasses as keys of a configuration, with short types and defaults as JSON."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tools.surfaces.source import Key

_LONGEST = 60
"""Characters of a type that are kept; some list every model there is."""

Classes = Mapping[str, ast.ClassDef]


def fields(classes: Classes, names: Sequence[str], enums: Classes | None = None) -> dict[str, Key]:
    """The keys of a parser that is given several dataclasses, inherited ones included.

    Args:
        classes: by name; a base that is not among them, as TrainingArguments of transformers, adds nothing.
        names: those that are parsed; of a key that several have, the last one's holds.
        enums: classes whose members stand for their values in defaults.
    """
    found: dict[str, Key] = {}
    for name in names:
        for node in reversed(_order(classes, name)):
            found |= dict(_own(node, enums or {}))
    return found


def _order(classes: Classes, name: str) -> list[ast.ClassDef]:
    """A class and its bases in the order in which attributes are looked up (a base after all that derive from it)."""
    node = classes.get(name)
    if node is None:
        return []
    found = [node]
    for base in node.bases:
        word = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        for one in _order(classes, word) if word != name else ():
            if one in found:
                found.remove(one)
            found.append(one)
    return found


def _own(node: ast.ClassDef, enums: Classes) -> Iterator[tuple[str, Key]]:
    for item in node.body:
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        annotation = ast.unparse(item.annotation).strip("'\"")
        if item.target.id.startswith("_") or annotation.startswith("ClassVar"):
            continue
        if initialised(item):
            yield item.target.id, Key(short_type(annotation)[:_LONGEST], default(item.value, enums))


def initialised(item: ast.AnnAssign) -> bool:
    """Whether a field is an argument of its class: `field(init=False)` is none."""
    words = item.value.keywords if isinstance(item.value, ast.Call) else ()
    return not any(word.arg == "init" and getattr(word.value, "value", None) is False for word in words)


def short_type(annotation: str) -> str:
    """A type as the tables write it: `int?` may be None, `a|b` is one of two words, `list` is of texts."""
    text = re.sub(r"\b[Ll]ist\[str\]", "list", annotation.replace("typing.", ""))
    optional = re.fullmatch(r"Optional\[(.*)\]", text, re.DOTALL) or re.fullmatch(r"(.*?) ?\| ?None", text, re.DOTALL)
    if optional is not None:
        return f"{short_type(optional[1])}?"
    words = re.fullmatch(r"Literal\[(.*)\]", text, re.DOTALL)
    if words is not None:
        return "|".join(part.strip().strip("'\"") for part in words[1].split(","))
    for form, short in _FORMS:
        if re.fullmatch(form, text):
            return short
    return text


_FORMS = (
    (r"List", "list"),
    (r"[Dd]ict(\[str, (Any|str)\])?", "dict"),
    (r"Union\[dict, str\]", "dict|str"),
)


def default(value: ast.expr | None, enums: Classes | None = None) -> str:
    """A default as JSON; empty where there is none, where it is None, or no value that a file could say."""
    if isinstance(value, ast.Call):
        word = next((item for item in value.keywords if item.arg in ("default", "default_factory")), None)
        if word is None:
            return ""
        made = word.value
        if word.arg == "default_factory":
            if isinstance(made, ast.Name):
                return {"list": "[]"}.get(made.id, "")
            made = made.body if isinstance(made, ast.Lambda) else ast.Constant(None)
        return default(made, enums)
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        return _member((enums or {}).get(value.value.id), value.attr)
    try:
        plain = ast.literal_eval(value) if value is not None else None
    except (ValueError, TypeError, SyntaxError):
        return ""
    return "" if plain is None else json.dumps(plain)


def _member(node: ast.ClassDef | None, name: str) -> str:
    """The value of a member of an enumeration."""
    for item in node.body if node is not None else ():
        if isinstance(item, ast.Assign) and any(getattr(target, "id", "") == name for target in item.targets):
            return default(item.value)
    return ""
