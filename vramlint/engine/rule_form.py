"""Reading the TOML form of a rule. `rules/schema.json` is the published description of the same form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vramlint import facts
from vramlint.engine import expression, template
from vramlint.engine.expression import Expression
from vramlint.engine.names import complaint
from vramlint.engine.predicates import PREDICATES
from vramlint.engine.rule import OPEN, PEAK, Example, Explanation, FactChange, Rule
from vramlint.engine.template import Template
from vramlint.findings import Severity

_CODE = re.compile(r"[A-Z]{2,10}[0-9]{3,4}")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class RuleError(ValueError):
    """A rule file that is not of the form; the message names file, key and what was meant."""


def from_table(table: Mapping[str, object], source: str) -> Rule:
    """A rule from the parsed TOML of file `source`.

    Raises:
        RuleError: a missing or unknown key, a wrong type, an expression or template that is not of the language.
    """
    reader = _Reader(table, source, _KEYS)
    code, name = reader.text("code"), reader.text("name")
    if not _CODE.fullmatch(code):
        raise reader.error("code", f"{code!r} is not capital letters and three or four digits, as in VRAM101")
    if not _NAME.fullmatch(name):
        raise reader.error("name", f"{name!r} is not lower-case words joined by hyphens")
    prose = reader.table("explanation", ("checks", "why", "remedy", "options"))
    examples = reader.table("examples", ("fail", "pass"))
    rule = Rule(
        code=code,
        name=name,
        severity=_severity(reader),
        summary=reader.text("summary"),
        explanation=Explanation(
            prose.text("checks").strip(),
            prose.text("why").strip(),
            prose.text("remedy", "").strip(),
            prose.text("options", "").strip(),
        ),
        message=reader.template("message", reader.text("message")),
        aliases=reader.texts("aliases"),
        runs=reader.texts("runs") or ("training",),
        when=_when(reader),
        predicate=_predicate(reader),
        on=reader.texts("on"),
        vocabularies=reader.texts("vocabularies"),
        point=_point(reader),
        labels=_labels(reader),
        notes=tuple(reader.template("notes", text) for text in reader.texts("notes")),
        help=tuple(reader.template("help", text) for text in reader.texts("help")),
        supersedes=reader.texts("supersedes"),
        plan=reader.flag("plan"),
        fixes=tuple(_fact_change(entry) for entry in reader.tables("fixes", _FIX_KEYS)),
        references=reader.texts("references"),
        failing=tuple(_example(entry) for entry in examples.tables("fail", _EXAMPLE_KEYS)),
        passing=tuple(_example(entry) for entry in examples.tables("pass", _EXAMPLE_KEYS)),
    )
    if rule.when is None and not rule.on and not rule.predicate:
        raise reader.error("when", "a rule needs `when`, `predicate` or `on`")
    return rule


_KEYS = (
    "code", "name", "aliases", "severity", "summary", "explanation", "runs", "when", "predicate", "on", "vocabularies",
    "point", "labels", "message", "notes", "help", "supersedes", "plan", "fixes", "references", "examples",
)  # fmt: skip
_FIX_KEYS = ("description", "set", "safe", "cost")
_EXAMPLE_KEYS = ("title", "files", "gpu", "settings", "instead")


class _Reader:
    """Typed access to one table, with errors that name file and key."""

    def __init__(self, table: Mapping[str, object], source: str, keys: Iterable[str], at: str = "") -> None:
        self._table, self._source, self._at = table, source, at
        allowed = tuple(keys)
        for key in table:
            if allowed and key not in allowed:
                raise self.error(key, f"unknown key{_nearest(key, allowed)}")

    def error(self, key: str, message: str) -> RuleError:
        return RuleError(f"{self._source}: {self._at}{key}: {message}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._table.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, str):
            raise self.error(key, "is not a string")
        return value

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, "is not true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "is not a list of strings")
        return tuple(value)

    def table(self, key: str, keys: Iterable[str]) -> _Reader:
        value = self._table.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "is not a table")
        return _Reader(value, self._source, keys, f"{self._at}{key}.")

    def tables(self, key: str, keys: Iterable[str]) -> tuple[_Reader, ...]:
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "is not a list of tables")
        return tuple(_Reader(item, self._source, keys, f"{self._at}{key}.") for item in value)

    def items(self, key: str, kinds: tuple[type, ...]) -> tuple[tuple[str, object], ...]:
        value = self._table.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, kinds) for item in value.values()):
            raise self.error(key, f"is not a table of {' or '.join(kind.__name__ for kind in kinds)}")
        return tuple(value.items())

    def template(self, key: str, text: str) -> Template:
        try:
            return template.parse(text)
        except template.TemplateError as error:
            raise self.error(key, str(error)) from None


def _severity(reader: _Reader) -> Severity:
    text = reader.text("severity")
    try:
        return Severity(text)
    except ValueError:
        raise reader.error("severity", f"{text!r} is not error, warning or info") from None


def _when(reader: _Reader) -> Expression | None:
    source = reader.text("when", "")
    if not source:
        return None
    try:
        return expression.parse(source, complaint)
    except expression.ExpressionError as error:
        raise reader.error("when", str(error)) from None


def _predicate(reader: _Reader) -> str:
    name = reader.text("predicate", "")
    if name and name not in PREDICATES:
        raise reader.error("predicate", f"unknown predicate {name!r}{_nearest(name, PREDICATES)}")
    return name


def _point(reader: _Reader) -> tuple[str, ...]:
    names = reader.texts("point")
    for name in names:
        if name not in (PEAK, OPEN) and name not in facts.NAMES:
            raise reader.error("point", f"unknown fact {name!r}{_nearest(name, facts.NAMES)}")
    return names


def _labels(reader: _Reader) -> dict[str, Template]:
    labels = {}
    for name, text in reader.items("labels", (str,)):
        if name not in facts.NAMES:
            raise reader.error("labels", f"unknown fact {name!r}{_nearest(name, facts.NAMES)}")
        labels[name] = reader.template("labels", str(text))
    return labels


def _fact_change(reader: _Reader) -> FactChange:
    changes = tuple(
        (name, value)
        for name, value in reader.items("set", (str, int, float, bool))
        if isinstance(value, (str, int, float, bool))
    )
    for name, _ in changes:
        if name not in facts.NAMES:
            raise reader.error("set", f"unknown fact {name!r}{_nearest(name, facts.NAMES)}")
    return FactChange(reader.text("description"), changes, reader.flag("safe"), reader.text("cost", ""))


def _example(reader: _Reader) -> Example:
    files = tuple((path, str(text)) for path, text in reader.items("files", (str,)))
    settings = tuple(
        (key, value)
        for key, value in reader.items("settings", (str, int, float))
        if isinstance(value, (str, int, float))
    )
    return Example(reader.text("title", ""), files, reader.text("gpu", ""), settings, reader.texts("instead"))


def _nearest(word: str, candidates: Iterable[str]) -> str:
    from difflib import get_close_matches  # only a wrong rule pays for it

    close = get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""
