"""The same keys as files of every form, in the styles that people write them in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import yaml

Data = Mapping[str, object]


class Style(NamedTuple):
    """How a file is written."""

    end: str = "\n"
    wide: bool = True
    """Members stand on lines of their own."""
    indent: int = 2
    comments: bool = False
    trailing: bool = False
    """A comma ends the last argument."""
    quote: str = '"'
    mark: bool = False
    """The file begins with a byte order mark."""
    ended: bool = True
    """A line end ends the file."""
    flow: bool = False
    """Tables inside of YAML are written as in JSON."""


def nested(data: Data) -> dict[str, object]:
    """Tables of dotted keys."""
    whole: dict[str, object] = {}
    for key, value in data.items():
        *tables, last = key.split(".")
        inner = whole
        for name in tables:
            inner = inner.setdefault(name, {})  # type: ignore[assignment]
        inner[last] = dict(nested(value)) if isinstance(value, Mapping) else value
    return whole


def finished(text: str, style: Style) -> str:
    """With the line ends of a style, its mark, and its end."""
    whole = text.rstrip("\n") + ("\n" if style.ended else "")
    return ("\ufeff" if style.mark else "") + whole.replace("\n", style.end)


def as_json(data: Data, style: Style) -> str:
    """A JSON object."""
    return finished(json.dumps(nested(data), indent=style.indent if style.wide else None), style)


def as_yaml(data: Data, style: Style) -> str:
    """A YAML mapping, with comments above and behind its members."""
    rows = ["# ours", *_rows(nested(data), 0, style)] if style.comments else [*_rows(nested(data), 0, style)]
    return finished("\n".join(rows), style)


def _rows(data: Data, depth: int, style: Style) -> Iterator[str]:
    for key, value in data.items():
        margin = " " * (style.indent * depth)
        behind = "  # so far" if style.comments else ""
        if isinstance(value, Mapping) and not style.flow:
            yield f"{margin}{key}:{behind}"
            yield from _rows(value, depth + 1, style)
        elif isinstance(value, list) and not style.flow and not style.comments:
            yield f"{margin}{key}:"
            yield from [f"{margin}{' ' * style.indent}- {_scalar(item, style)}" for item in value]
        elif isinstance(value, Mapping):
            inner = ", ".join(f"{name}: {_flow(item, style)}" for name, item in value.items())
            yield f"{margin}{key}: {{{inner}}}{behind}"
        else:
            yield f"{margin}{key}: {_flow(value, style)}{behind}"


def _flow(value: object, style: Style) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_scalar(item, style) for item in value)}]"
    if isinstance(value, Mapping):
        return json.dumps(value)
    return _scalar(value, style)


def _scalar(value: object, style: Style) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    quoted = yaml.dump(value, default_style=style.quote, allow_unicode=True, width=10**6).strip()
    plain = yaml.safe_load(value) == value if value.replace("_", "").isalnum() else False
    return value if plain and style.trailing else quoted


def as_arguments(data: Data, style: Style) -> str:
    """Keyword arguments behind others, each a line of its own or not."""
    said = [f"{key}={as_python(value, style)}" for key, value in nested(data).items()]
    if not style.wide:
        return ", ".join(said) + ("," if style.trailing and said else "")
    margin = " " * (2 * style.indent)
    note = "  # why (not)" if style.comments else ""
    rows = [f"\n{margin}{item}{',' if style.trailing or item is not said[-1] else ''}{note}" for item in said]
    return "".join(rows) + "\n"


def as_python(value: object, style: Style) -> str:
    """A Python literal."""
    if isinstance(value, str):
        return repr(value) if style.quote == "'" else json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(as_python(item, style) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = [f"{as_python(key, style)}: {as_python(item, style)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    return repr(value)
