"""Reading the TOML form of a rule. `rules/schema.json` is the published description of the same form."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint import facts
from vramlint.engine import expression, types
from vramlint.engine.expression import Expression
from vramlint.engine.names import complaint, type_of
from vramlint.engine.predicates import PREDICATES
from vramlint.engine.rule import OPEN, PEAK, Example, Explanation, FactChange, Rule
from vramlint.engine.rule_reader import LineOf, RuleReader, Source, did_you_mean
from vramlint.engine.template import Template
from vramlint.engine.vocabulary import RUN_KINDS
from vramlint.findings import Severity
from vramlint.patterns import lazy

_CODE = lazy(r"[A-Z]{2,10}[0-9]{3,4}")
_NAME = lazy(r"[a-z0-9]+(-[a-z0-9]+)*")


def from_table(table: Mapping[str, object], source: str, line_of: LineOf = lambda _: 0) -> Rule:
    """A rule from the parsed TOML of file `source`.

    Args:
        table: what the TOML stands for.
        source: path of the file, for errors.
        line_of: the line of a key, asked for only where there is an error; 0 where it is not known.

    Raises:
        RuleError: a missing or unknown key, a wrong type, an expression or template that is not of the language.
    """
    reader = RuleReader(table, Source(source, line_of), _KEYS)
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
        summary=reader.line("summary"),
        explanation=Explanation(
            prose.text("checks").strip(),
            prose.text("why").strip(),
            prose.text("remedy", "").strip(),
            prose.text("options", "").strip(),
        ),
        message=reader.template("message", reader.line("message")),
        aliases=_names(reader, "aliases"),
        runs=reader.words("runs", RUN_KINDS, "kind of run") or ("training",),
        when=_when(reader),
        predicate=_predicate(reader),
        on=reader.texts("on"),
        vocabularies=reader.texts("vocabularies"),
        point=reader.words("point", (PEAK, OPEN, *facts.NAMES), "fact"),
        labels=_labels(reader),
        notes=tuple(reader.template("notes", text) for text in reader.texts("notes")),
        help=tuple(reader.template("help", text) for text in reader.texts("help")),
        supersedes=reader.texts("supersedes"),
        plan=reader.flag("plan"),
        optional=reader.flag("optional"),
        fixes=tuple(_fact_change(entry) for entry in reader.tables("fixes", _FIX_KEYS)),
        references=_references(reader),
        failing=tuple(_example(entry) for entry in examples.tables("fail", _EXAMPLE_KEYS)),
        passing=tuple(_example(entry) for entry in examples.tables("pass", _EXAMPLE_KEYS)),
    )
    if rule.when is None and not rule.on and not rule.predicate:
        raise reader.error("when", "a rule needs `when`, `predicate` or `on`")
    return rule


_KEYS = (
    "code", "name", "aliases", "severity", "summary", "explanation", "runs", "when", "predicate", "on", "vocabularies",
    "point", "labels", "message", "notes", "help", "supersedes", "plan", "optional", "fixes", "references", "examples",
)  # fmt: skip
_FIX_KEYS = ("description", "set", "safe", "cost")
_EXAMPLE_KEYS = ("title", "files", "gpu", "settings", "instead")


def _severity(reader: RuleReader) -> Severity:
    text = reader.text("severity")
    try:
        return Severity(text)
    except ValueError:
        meant = did_you_mean(text, [level.value for level in Severity])
        raise reader.error("severity", f"{text!r} is not error, warning or info{meant}") from None


def _when(reader: RuleReader) -> Expression | None:
    source = reader.text("when", "")
    if not source:
        return None
    try:
        found = expression.parse(source, complaint)
        types.check_condition(found.tree, type_of)
    except expression.ExpressionError as error:
        raise reader.error("when", str(error)) from None
    return found


def _predicate(reader: RuleReader) -> str:
    name = reader.text("predicate", "")
    if name and name not in PREDICATES:
        raise reader.error("predicate", f"unknown predicate {name!r}{did_you_mean(name, PREDICATES)}")
    return name


def _names(reader: RuleReader, key: str) -> tuple[str, ...]:
    names = reader.texts(key)
    for name in names:
        if not _NAME.fullmatch(name):
            raise reader.error(key, f"{name!r} is not lower-case words joined by hyphens")
    return names


def _references(reader: RuleReader) -> tuple[str, ...]:
    urls = reader.texts("references")
    for url in urls:
        if not url.startswith("https://"):
            raise reader.error("references", f"{url!r} does not start with https://")
    return urls


def _labels(reader: RuleReader) -> dict[str, Template]:
    labels = {}
    for name, text in reader.items("labels", (str,)):
        if name not in facts.NAMES:
            raise reader.error("labels", f"unknown fact {name!r}{did_you_mean(name, facts.NAMES)}")
        labels[name] = reader.template("labels", str(text))
    return labels


def _fact_change(reader: RuleReader) -> FactChange:
    changes = tuple(
        (name, value)
        for name, value in reader.items("set", (str, int, float, bool))
        if isinstance(value, (str, int, float, bool))
    )
    for name, value in changes:
        if name not in facts.NAMES:
            raise reader.error("set", f"unknown fact {name!r}{did_you_mean(name, facts.NAMES)}")
        try:
            types.check_value(f"facts.{name}", value, type_of)
        except expression.ExpressionError as error:
            raise reader.error("set", str(error)) from None
    if not changes:
        raise reader.error("set", "is missing")
    return FactChange(reader.line("description"), changes, reader.flag("safe", None), reader.text("cost", ""))


def _example(reader: RuleReader) -> Example:
    files = tuple((path, str(text)) for path, text in reader.items("files", (str,)))
    settings = tuple(
        (key, value)
        for key, value in reader.items("settings", (str, int, float))
        if isinstance(value, (str, int, float))
    )
    if not files:
        raise reader.error("files", "is missing")
    return Example(
        reader.line("title", ""),
        files,
        reader.text("gpu", ""),
        settings,
        _names(reader, "instead"),
    )
