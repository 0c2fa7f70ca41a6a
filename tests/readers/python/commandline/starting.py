"""Programs started with a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import dedent

from tests.readers.python.reading import shown
from vramlint.readers.python import read_program
from vramlint.text import Document, Place, Span
from vramlint.values import Call, Entry, Invocation, Plain, Program, Scalar, Unknown, Value

_WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")


def words(line: str) -> tuple[Value, ...]:
    """The words of one line at their places in `run.sh`; `?` is a word that only run time knows, `--x=?` the end."""
    found: list[Value] = []
    for match in _WORD.finditer(line):
        place = Place("run.sh", Span(1, match.start() + 1, 1, match.end() + 1))
        text = re.sub("[\"']", "", match[0]) if "{" not in match[0] else match[0].strip("'")
        if text.endswith("?"):
            found.append(Unknown("environment variable X", place, text[:-1]))
        else:
            found.append(Scalar(text, place))
    return tuple(found)


def started(
    text: str,
    line: str | tuple[Value, ...] | None = "",
    files: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    known: Mapping[str, Plain] | None = None,
) -> Program:
    """The program with the words of a line as its arguments; None: unknown."""
    variables = tuple(
        Entry(name, None, Scalar(value, None, "environment")) for name, value in (environment or {}).items()
    )
    invocation = None
    if line is not None:
        invocation = Invocation(words(line) if isinstance(line, str) else line, variables)

    def file(path: str) -> Document | None:
        content = (files or {}).get(path)
        return None if content is None else Document.of(path, dedent(content))

    found, problems = read_program(
        Document.of("train.py", dedent(text)), known or {}, invocation=invocation, files=file
    )
    assert found is not None, problems
    return found


def used(found: Program, callee: str = "use") -> Call:
    """The call that shows what the program makes of its settings."""
    return next(made for made in reversed(found.calls) if made.callee.endswith(callee))


def given(found: Program, callee: str = "use") -> dict[str, object]:
    """Keywords of that call as plain values."""
    return {item.name: shown(item.value) for item in used(found, callee).keywords}


def place_text(line: str, value: Value | None) -> str:
    """The text of the command line at a value's place."""
    assert isinstance(value, (Scalar, Unknown))
    assert value.place is not None
    assert value.place.path == "run.sh"
    return line[value.place.span.column - 1 : value.place.span.end_column - 1]
