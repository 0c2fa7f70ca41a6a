"""Values as text: how each form writes them, in the manner of what stood there, and what a literal says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.surfaces.spelling import Written, value_of
from vramlint.values import Entry, Items, Name, Plain, Scalar, Table, Value

JSON, YAML, TOML, PYTHON, SHELL = "json", "yaml", "toml", "python", "shell"

_PLAIN_WORD = lazy(r"(?:\.{0,2}/|[A-Za-z_])(?:[\w./ -]*[\w./-])?")
_YAML_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))
"""Words that YAML takes for something else than text."""
_DTYPES = frozenset(("bfloat16", "float16", "float32", "float64", "uint8"))
_TRUTHS = frozenset(("true", "false"))
_PAIRS = (("false", "true"), ("no", "yes"), ("off", "on"))
_SWITCHES = frozenset(word for pair in _PAIRS for word in pair)
"""How YAML 1.1 writes booleans, in capitals or not."""


def literal(value: Written, form: str, old: str = "") -> str:
    """A value as it is written in a form, quoted as the text that it replaces is.

    Raises:
        ValueError: TOML cannot write a null; a command line no mapping.
    """
    if isinstance(value, tuple):
        return _list(value, form, old)
    if isinstance(value, Mapping):
        if form == SHELL:
            return shlex.quote(json.dumps(dict(value)))
        pairs = [f"{_text(key, form, old[1:])}: {literal(item, form)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, str):
        return _text(value, form, old)
    if form == PYTHON:
        return repr(value)
    if form == SHELL:
        word = str(value)
        return word.lower() if isinstance(value, bool) and old in _TRUTHS else word
    if form == YAML and isinstance(value, bool) and old.lower() in _SWITCHES:
        no_yes = next(pair for pair in _PAIRS if old.lower() in pair)
        return _cased(no_yes[value], old)
    if value is None and form == TOML:
        raise ValueError("TOML has no null")
    return json.dumps(value)


def _cased(word: str, old: str) -> str:
    """A word with its capitals where the old one had them."""
    if old.isupper():
        return word.upper()
    return word.capitalize() if old[:1].isupper() else word


def _list(values: tuple[Plain, ...], form: str, old: str) -> str:
    if form == SHELL:
        return " ".join(literal(item, form) for item in values)
    first = old[1:].lstrip()
    inner = ", ".join(literal(item, form, first) for item in values)
    if form == PYTHON and old[:1] in ("(", "{"):
        comma = "," if old[:1] == "(" and len(values) == 1 else ""
        return f"{old[0]}{inner}{comma}{')' if old[0] == '(' else '}'}"
    return f"[{inner}]"


def _text(value: str, form: str, old: str) -> str:
    if form == SHELL:
        return f'"{value}"' if old[:1] == '"' and not re.search(r'["$`\\]', value) else shlex.quote(value)
    if form == PYTHON and old.startswith("torch.") and value in _DTYPES:
        return f"torch.{value}"
    if form == YAML and old[:1] not in ("'", '"'):
        plain = _PLAIN_WORD.fullmatch(value) is not None and value.lower() not in _YAML_WORDS
        return value if plain else json.dumps(value)
    if old[:1] == "'" and form != JSON and not re.search(r"['\\]", value) and value.isprintable():
        return f"'{value}'"
    return json.dumps(value)


def value_at(text: str, form: str) -> Value | None:
    """What a literal says; None where the text is none."""
    if form == PYTHON:
        return _python(text)
    if form == SHELL:
        return _word(text)
    if form == JSON:
        try:
            return _value(json.loads(text))
        except ValueError:
            return None
    from vramlint.readers.yaml import read_yaml
    from vramlint.text import Document

    return read_yaml(Document.of("", text)).root


def _python(text: str) -> Value | None:
    if re.fullmatch(r"torch\.\w+", text):
        return Name(text)
    try:
        return _value(syntax.literal(text))
    except (*syntax.UNPARSED, TypeError):
        return None


def _word(text: str) -> Value | None:
    from vramlint.surfaces.launch.scalars import plain_of

    if "$" in text or "`" in text or "\n" in text:
        return None
    if text.startswith("--"):
        return Scalar(True)
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    found = tuple([Scalar(plain_of(word)) for word in words])
    return found[0] if len(found) == 1 else Items(found) if found else None


def _value(found: object) -> Value | None:
    match found:
        case None | bool() | int() | float() | str():
            return Scalar(found)
        case list() | tuple() | set():
            items = [_value(item) for item in found]
            return Items(tuple([item for item in items if item is not None])) if None not in items else None
        case dict():
            entries = [Entry(str(key), None, item) for key, inner in found.items() if (item := _value(inner))]
            return Table(tuple(entries)) if len(entries) == len(found) else None
    return None


__all__ = ["JSON", "PYTHON", "SHELL", "TOML", "YAML", "literal", "value_at", "value_of"]
