"""Message templates: text with `{name}` and `{name:form}`, over the names of `vramlint.engine.names`.

Not `str.format`, which would let a template walk into Python objects. `{{` and `}}` stand for braces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint.engine.expression import UNKNOWN, Lookup, Term
from vramlint.engine.names import GIB, complaint, type_of
from vramlint.engine.types import Kind
from vramlint.patterns import lazy

_FIELD = lazy(r"\{\{|\}\}|\{(?P<name>[^{}:]*)(?::(?P<form>[^{}]*))?\}|[{}]")


class TemplateError(ValueError):
    """The template has an unknown name, an unknown form or a lone brace."""


class Template(NamedTuple):
    """A checked template: literal text and (name, form) fields in turn."""

    parts: tuple[str | tuple[str, str], ...]

    def render(self, lookup: Lookup) -> str:
        """The text over `lookup`; what is unknown reads `unknown`."""
        return "".join(part if isinstance(part, str) else _show(lookup(part[0]), part[1]) for part in self.parts)

    def render_known(self, lookup: Lookup) -> str | None:
        """The text, or None if a field in it is unknown, absent or empty: such a line says nothing."""
        fields = [part for part in self.parts if not isinstance(part, str)]
        return None if any(lookup(name) in (UNKNOWN, None, "", ()) for name, _ in fields) else self.render(lookup)


def parse(text: str) -> Template:
    """Check a template.

    Raises:
        TemplateError: unknown name or form, or a brace that stands alone.
    """
    parts: list[str | tuple[str, str]] = []
    done = 0
    for match in _FIELD.finditer(text):
        parts.append(text[done : match.start()])
        done = match.end()
        if match[0] in ("{{", "}}"):
            parts.append(match[0][0])
            continue
        name, form = match["name"], match["form"] or "text"
        if name is None:
            raise TemplateError(f"a lone {match[0]!r} at {match.start()}; write {match[0] * 2!r}")
        wrong = complaint(name)
        if wrong is not None:
            raise TemplateError(wrong)
        if form not in FORMS:
            raise TemplateError(f"unknown form {form!r} of {name}{_meant(form)}")
        found = type_of(name)
        if form in _OF and _OF[form] not in found.kinds:
            raise TemplateError(f"the form {form!r} is for {_OF[form].value}, {name} is {found.words}")
        parts.append((name, form))
    parts.append(text[done:])
    return Template(tuple(part for part in parts if part))


def _show(value: Term, form: str) -> str:
    if value is UNKNOWN:
        return "unknown"
    try:
        return FORMS[form](value)
    except (TypeError, ValueError):
        return _text(value)


def _text(value: Term) -> str:
    if isinstance(value, tuple):
        return ", ".join(_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _words(value: Term) -> str:
    return _text(value).replace("_", " ")


def _gib(value: Term) -> str:
    return f"{float(value) / GIB:.2f} GiB"  # type: ignore[arg-type]  # TypeError is caught by the caller


def _count(value: Term) -> str:
    return f"{int(value):,}"  # type: ignore[call-overload]  # same


def _version(value: Term) -> str:
    return ".".join(map(str, value))  # type: ignore[call-overload]  # same


FORMS: Mapping[str, Callable[[Term], str]] = MappingProxyType(
    {"text": _text, "words": _words, "gib": _gib, "count": _count, "version": _version}
)
"""text (as written, lists with commas), words (fact names as words), gib (bytes as GiB), count (1,234), version ([8, 6]
as 8.6)."""

_OF: Mapping[str, Kind] = MappingProxyType({"gib": Kind.NUMBER, "count": Kind.NUMBER, "version": Kind.NUMBERS})
"""What a form shows; the others show everything."""


def _meant(form: str) -> str:
    from vramlint.catalog.nearest import nearest  # only a wrong rule pays for it

    close = nearest(form, FORMS, count=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f"; there are {', '.join(FORMS)}"
