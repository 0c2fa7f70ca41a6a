"""Statements that are made nodes when they are looked at: the same ones, at the same places."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import libcst as cst
import pytest

from tests.readers.python.test_conversion import STATEMENTS, differences
from vramlint.readers.python import blocks
from vramlint.readers.python.parts import Parts
from vramlint.readers.python.positions import positions
from vramlint.text import Document


def compare(text: str) -> None:
    """Each statement of a text's outline is what LibCST finds in its lines."""
    module = Parts(Document.of("a.py", text))
    for index, statement in enumerate(module.outline):
        written = text[statement.start : statement.end]
        own = cst.parse_module(written)
        found = positions(own, statement.start, own.default_indent, own.default_newline)
        made = module.nodes(index)
        assert len(own.body) == len(made)
        # twice: what stands inside has its places only once it was looked at
        list(differences(own.body, tuple(made), (found.ranges, module.ranges), text, ""))
        ranges = found.ranges, module.ranges
        assert list(differences(own.body, tuple(made), ranges, text, "")) == [], written


def test_statements() -> None:
    text = STATEMENTS.replace("\ta = 1\n", "")
    compare(text)
    compare(text.replace("\n", "\r\n"))
    compare("import b\nif a:\n    b = 1\n    # of the block\n# of none\nc = 2\n    # of none, too\n")


def test_what_is_not_made_libcst_reads_itself_and_only_that() -> None:
    text = dedent("""
        class A:
            def f(self):
                match self.a:
                    case 1:
                        b = 2
                return 3

            ﬁ = 1

        def g():
            return 4
        """)
    module = Parts(Document.of("a.py", text))
    kind, function = (module.nodes(index)[0] for index in range(2))
    assert isinstance(kind, cst.ClassDef)
    method, line = kind.body.body
    assert isinstance(method, cst.FunctionDef)
    chosen, leaving = method.body.body
    assert isinstance(chosen, cst.Match)
    assert isinstance(chosen.cases[0].body, cst.IndentedBlock)
    assert module.text(chosen.cases[0].body.body[0]) == "b = 2"
    assert module.place(chosen).span[:2] == (4, 9)
    assert module.text(leaving) == "return 3"
    assert module.text(line) == "ﬁ = 1"
    assert module.place(line).span[:2] == (9, 5)
    assert isinstance(function, cst.FunctionDef)
    assert module.text(function) == "def g(): return 4"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_places_are_those_in_the_document(mark: str) -> None:
    module = Parts(Document.of("a.py", f"{mark}first = 1\nsecond = f(2)\n"))
    assert [module.text(module.nodes(index)[0]) for index in range(2)] == ["first = 1", "second = f(2)"]
    assert module.place(module.nodes(1)[0]).span == (2, 1, 2, 14)


def test_long_bodies_are_read_by_themselves() -> None:
    body = "".join(f"    a{number} = {number}\n" for number in range(30))
    text = f"@a\ndef f(\n    b,\n):\n{body}    # behind\n\ndef g(): return 1\n"
    module = Parts(Document.of("a.py", text))
    long, short = (module.nodes(index)[0] for index in range(2))
    assert module.left_out(long) == text.index("    # behind") - text.index("def f")
    assert module.left_out(short) == 0
    assert module.outline[0].size == text.index(body)
    assert module.text(long).endswith("a29 = 29")


def test_the_house_itself() -> None:
    for path in sorted(Path(blocks.__file__).parent.glob("[a-m]*.py")):
        compare(path.read_text(encoding="utf-8"))
