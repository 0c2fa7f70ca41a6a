"""Nothing that parses raises, and every literal's place reads back as its value."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vramlint.readers.python import read_program
from vramlint.text import Document
from vramlint.values import Alternatives, Call, Items, Program, Scalar, Table, Value

NAMES = st.sampled_from(["a", "b", "args", "model", "os", "torch", "len", "self", "parser", "x"])


def joined(pieces: st.SearchStrategy[str], form: str) -> st.SearchStrategy[str]:
    return st.lists(pieces, max_size=3).map(lambda items: form.format(", ".join(items)))


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(
        ["+", "-", "*", "//", "/", "%", "**", "and", "or", "==", "<", "in", "is", "not in", "|"]
    )
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        st.tuples(NAMES, inner).map(lambda parts: f"{parts[0]}({parts[1]}, k={parts[1]})"),
        st.tuples(NAMES, NAMES, inner).map(lambda parts: f"{parts[0]}.{parts[1]}(*{parts[2]}, **{parts[2]})"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]})[{parts[1]}]"),
        st.tuples(inner, inner).map(lambda parts: f"[{parts[0]} for x in {parts[1]} if x]"),
        joined(inner, "[{}]"),
        joined(inner, "dict(a=1).get({})"),
        st.tuples(inner, inner).map(lambda parts: f"{{{parts[0]}: {parts[1]}, **{parts[0]}}}"),
        inner.map(lambda part: f"(lambda a, b={part}: a or b)({part})"),
        inner.map(lambda part: f"(not {part})"),
        st.tuples(inner, st.sampled_from(["append", "update", "split", "format", "pop", "add_argument"])).map(
            lambda parts: f"({parts[0]}).{parts[1]}({parts[0]})"
        ),
    )


LITERALS = st.one_of(
    st.integers(-1000, 10**12).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(max_size=5).filter(lambda text: text.isprintable()).map(repr),
    st.sampled_from(
        ["True", "None", "()", "[]", "{}", "...", "b'x'", "r'\\d'", "'''a\nb'''", "f'{a}-{x!r:>4}'", "0x1F"]
    ),
)
EXPRESSIONS = st.recursive(st.one_of(LITERALS, NAMES), larger, max_leaves=8)


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(EXPRESSIONS, inner, inner).map(
            lambda parts: f"if {parts[0]}:\n{indented(parts[1])}\nelse:\n{indented(parts[2])}"
        ),
        st.tuples(NAMES, EXPRESSIONS, inner).map(lambda parts: f"for {parts[0]} in {parts[1]}:\n{indented(parts[2])}"),
        st.tuples(EXPRESSIONS, inner).map(lambda parts: f"while {parts[0]}:\n{indented(parts[1])}\n    break"),
        st.tuples(NAMES, EXPRESSIONS, inner).map(
            lambda p: f"def {p[0]}(a={p[1]}, *b, **c):\n{indented(p[2])}\n    return a\n{p[0]}()"
        ),
        st.tuples(NAMES, NAMES, inner).map(
            lambda p: f"class {p[0]}({p[1]}):\n    y: int = 1\n{indented(p[2])}\n{p[0]}()"
        ),
        st.tuples(EXPRESSIONS, inner).map(lambda parts: f"with {parts[0]} as a:\n{indented(parts[1])}"),
        inner.map(lambda body: f"try:\n{indented(body)}\nexcept Exception as b:\n    raise\nfinally:\n    pass"),
        st.tuples(EXPRESSIONS, inner).map(
            lambda parts: (
                f"match {parts[0]}:\n    case [a, 1]:\n{indented(indented(parts[1]))}\n    case _:\n        x = 1"
            )
        ),
    )


STATEMENTS = st.one_of(
    EXPRESSIONS,
    st.tuples(NAMES, EXPRESSIONS).map(lambda parts: f"{parts[0]} = {parts[1]}"),
    st.tuples(NAMES, EXPRESSIONS).map(lambda parts: f"{parts[0]} += {parts[1]}"),
    st.tuples(NAMES, NAMES, EXPRESSIONS).map(lambda parts: f"{parts[0]}.{parts[1]} = {parts[2]}"),
    st.tuples(NAMES, EXPRESSIONS, EXPRESSIONS).map(lambda parts: f"{parts[0]}[{parts[1]}] = {parts[2]}"),
    st.tuples(NAMES, EXPRESSIONS).map(lambda parts: f"{parts[0]}, *x = {parts[1]}"),
    st.sampled_from(["import torch as a", "from transformers import *", "import os.path", "from . import b", "pass"]),
    st.sampled_from(
        ["import argparse\nparser = argparse.ArgumentParser()\nargs = parser.parse_args()", "del a", "assert a"]
    ),
)
PROGRAMS = st.lists(st.recursive(STATEMENTS, blocks, max_leaves=6), max_size=5).map("\n".join)


def parses(text: str) -> bool:
    try:
        compile(text, "x", "exec", ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError):
        return False
    return True


def literals(item: Value) -> list[Scalar]:
    match item:
        case Scalar():
            return [item] if item.via == "literal" and item.place is not None else []
        case Items():
            return [found for element in item.values for found in literals(element)]
        case Table():
            return [found for entry in item for found in literals(entry.value)]
        case Alternatives():
            return [found for option in item.options for found in literals(option.value)]
        case Call():
            inner = (*item.args, *(keyword.value for keyword in item.keywords))
            return [found for argument in inner for found in literals(argument)]
    return []


def assert_reads_back(document: Document, program: Program) -> None:
    for made in (*program.calls, *(entry.value for entry in program.constants)):
        for scalar in literals(made):
            assert scalar.place is not None
            text = document.slice(scalar.place.span)
            assert ast.literal_eval(f"({text})") == scalar.value


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@settings(max_examples=150, deadline=None)
@given(PROGRAMS.filter(parses))
def test_any_program_is_read(text: str) -> None:
    document = Document.of("any.py", text)
    program, problems = read_program(document, {})
    assert problems == ()
    assert program is not None
    assert_reads_back(document, program)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    program, problems = read_program(Document.of("any.py", text), {})
    assert (program is None) == bool(problems)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = (1,\n", 1),
        ("def f(:\n    pass\n", 1),
        ("print 'a'\n", 1),
        ("x = 1\n  y = 2\n", 2),
        ("x = 1\n\n\ny = )", 4),
    ],
)
def test_syntax_errors_are_problems(text: str, line: int) -> None:
    program, (problem,) = read_program(Document.of("broken.py", text), {})
    assert program is None
    assert problem.kind == "syntax-error"
    assert problem.message
    assert (problem.place.path, problem.place.span.line) == ("broken.py", line)
    assert problem.place.span.column >= 1


def test_text_that_no_file_can_hold() -> None:
    program, (problem,) = read_program(Document.of("odd.py", "x = '\ud800'"), {})
    assert program is None
    assert (problem.kind, problem.place.span.column) == ("not-utf8", 6)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + ")" * 5000,
        "x = " + "not " * 20_000 + "1",
        "x = " + "+".join(["1"] * 20_000),
        "x = a" + ".b" * 20_000,
    ],
    ids=["brackets", "not", "sum", "attributes"],
)
def test_deep_nesting_is_refused_and_not_a_crash(text: str) -> None:
    program, (problem,) = read_program(Document.of("deep.py", text), {})
    assert program is None
    assert problem.kind == "too-large"


def test_work_is_bounded() -> None:
    # followed to the end, these would be 3**30 calls
    calls = "\n".join(f"def f{n}():\n    f{n + 1}()\n    f{n + 1}()\n    f{n + 1}()" for n in range(30))
    program, _ = read_program(Document.of("deep.py", f"{calls}\ndef f30():\n    pass\nf0()"), {})
    assert program is not None


def test_branches_do_not_multiply() -> None:
    text = "\n".join(f"if c{n}:\n    x = {n}\n    y = x" for n in range(200)) + "\nz = [x, y]"
    program, _ = read_program(Document.of("wide.py", text), {})
    assert program is not None
