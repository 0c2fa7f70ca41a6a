import ast
import contextlib
import string
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vramlint.engine.expression import MAX_LENGTH, UNKNOWN, ExpressionError, parse
from vramlint.engine.names import complaint

VALUES = {"a": 1, "b": 2.5, "t": True, "f": False, "s": "text", "l": ("x", "y"), "n": None, "u": UNKNOWN}


def evaluate(source: str) -> object:
    known = lambda name: None if name in VALUES else f"unknown name {name!r}"  # noqa: E731  # a test's one-liner
    return parse(source, known).evaluate(VALUES.__getitem__)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("a + b * 2 == 6", True),
        ("1 < a + 1 < 3", True),
        ("not t or f", False),
        ("'x' in l and 'z' not in l", True),
        ("'ex' in s", True),
        ("max(a, b, 3) - min(a, b)", 2),
        ("abs(-3) + len(l)", 5),
        ("-a", -1),
        ("n == n", True),
        ("s == 'text'", True),
        ("[8, 6] >= [8, 0]", True),
        ("7 // 2 + 7 % 2", 4),
    ],
)
def test_values(source: str, value: object) -> None:
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("u and f", False),
        ("f and u", False),
        ("u and t", UNKNOWN),
        ("u or t", True),
        ("u or f", UNKNOWN),
        ("not u", UNKNOWN),
        ("u == u", UNKNOWN),
        ("u + 1 > 0", UNKNOWN),
        ("u in l", UNKNOWN),
        ("1 < u < 0", UNKNOWN),
        ("3 < 2 < u", False),
        ("max(a, u)", UNKNOWN),
        ("[u, a]", UNKNOWN),
        ("known(u)", False),
        ("known(a) and not known(u)", True),
        ("known(u, a)", UNKNOWN),
    ],
)
def test_unknown_propagates_as_in_kleenes_logic(source: str, value: object) -> None:
    assert evaluate(source) is value


KLEENE = {"t": True, "f": False, "u": UNKNOWN}
AND = {"tt": "t", "tf": "f", "tu": "u", "ft": "f", "ff": "f", "fu": "f", "ut": "u", "uf": "f", "uu": "u"}
OR = {"tt": "t", "tf": "t", "tu": "t", "ft": "t", "ff": "f", "fu": "u", "ut": "t", "uf": "u", "uu": "u"}


@pytest.mark.parametrize("pair", AND)
def test_the_tables_of_and_and_or(pair: str) -> None:
    left, right = pair[0], pair[1]
    assert evaluate(f"{left} and {right}") is KLEENE[AND[pair]]
    assert evaluate(f"{left} or {right}") is KLEENE[OR[pair]]
    assert evaluate(f"not ({left} and {right})") is evaluate(f"not {left} or not {right}")
    assert evaluate(f"not ({left} or {right})") is evaluate(f"not {left} and not {right}")


@pytest.mark.parametrize("value", KLEENE)
def test_the_table_of_not(value: str) -> None:
    assert evaluate(f"not {value}") is {"t": False, "f": True, "u": UNKNOWN}[value]
    assert evaluate(f"known({value})") is (value != "u")


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
@pytest.mark.parametrize(("left", "right"), [("u", "a"), ("a", "u"), ("u", "u"), ("u", "[1, 2]"), ("1", "[u, 1]")])
def test_what_is_compared_with_the_unknown_is_unknown(left: str, operator: str, right: str) -> None:
    assert evaluate(f"{left} {operator} {right}") is UNKNOWN


@pytest.mark.parametrize(
    "source", ["s * 3", "l + l", "s + s", "s < 1", "1 / 0", "1 % 0", "s % a", "len(a)", "max(s, a)", "a in a", "-s"]
)
def test_what_makes_no_sense_is_unknown(source: str) -> None:
    assert evaluate(source) is UNKNOWN


def test_numbers_and_truth_values_are_different_things() -> None:
    assert evaluate("a == True") is False
    assert evaluate("a != True") is True


def test_numbers_cannot_grow_without_bound() -> None:
    assert evaluate(" * ".join(["999999999"] * 25)) is UNKNOWN


@pytest.mark.parametrize(
    "source",
    [
        "2 ** 9",
        "1 << 9",
        "a.b",
        "s.upper()",
        "().__class__",
        "open('x')",
        "[x for x in l]",
        "lambda: 1",
        "a if t else b",
        "l[0]",
        "f'{a}'",
        "b'x'",
        "1j",
        "...",
        "(a := 2)",
        "{1: 2}",
        "{1}",
        "max(*l)",
        "max(default=1)",
        "max()",
        "a is b",
        "a @ b",
        "~a",
        "1e999",
        "",
        "a b",
        "a; b",
        "\0",
        "(" * 1000,
        "-" * 1900 + "1",
        "a+" * 900 + "a",
        "a" * (MAX_LENGTH + 1),
        "[" * 40 + "]" * 40,
        "unknown_name",
        "true.__class__",
        "s.__class__.__mro__",
        "a.__init__.__globals__",
        "__builtins__",
        "__import__('os').system('true')",
        "getattr(s, 'upper')",
        "max(s, key=len)",
        "len(x for x in l)",
        "{x for x in l}",
        "{**l}",
        "[*l]",
        "known(known)(a)",
        "(lambda: a)()",
        "await a",
        "yield a",
        "not",
        "a if",
        "a != b if t else f",
        "l[0:1]",
        "l[a]",
        "s.format(a)",
        "f'{s!r:>999999999}'",
        "'%999999999d' % a ** a",
        "10 ** 10 ** 10",
        "9" * 400,
        "a" + ".a" * 900,
        "not " * 400 + "t",
        "(" * 60 + "a" + ")" * 60 + " < " * 2 + "a",
        "max(" * 40 + "a" + ")" * 40,
        " and ".join(["t"] * 398),
        "a < " * 500 + "a",
    ],
)
def test_refused(source: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(source)


def test_names_are_those_of_the_schema() -> None:
    assert parse("gpu.bf16 and facts.bf16", complaint).source == "gpu.bf16 and facts.bf16"
    with pytest.raises(ExpressionError, match=r"did you mean 'estimate.low.device_low'"):
        parse("estimate.low.devicelow > 1", complaint)


@pytest.mark.parametrize(
    "source",
    [
        " * ".join(["999999999"] * 160),
        " < ".join(["a"] * 399),
        " and ".join(["t"] * 390),
        "not " * 28 + "t",
        "l in [" + ", ".join(["l"] * 390) + "]",
        "'" + "x" * 1900 + "' in s",
    ],
    ids=["product", "chain", "and", "not", "list", "text"],
)
def test_the_longest_expressions_are_little_work(source: str) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    with contextlib.suppress(ExpressionError):
        evaluate(source)
    sys.setprofile(before)
    assert calls < 20_000


OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "<<", "and", "or", "in", "<", "==", "is")

NODES = st.recursive(
    st.sampled_from([*VALUES, "1", "2.5", "'x'", "True", "None", "1e300", "10**9", "__import__"]),
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(OPERATORS),
            inner,
        ),
        st.builds("(not {})".format, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{}({})".format, st.sampled_from(["max", "len", "abs", "eval", "s.join"]), inner),
        st.builds("({}).{}".format, inner, st.sampled_from(["__class__", "real", "format"])),
    ),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NODES)
def test_hostile_expressions_are_refused_or_have_a_plain_value(source: str) -> None:
    try:
        value = evaluate(source)
    except ExpressionError:
        return
    assert value is UNKNOWN or isinstance(value, (bool, int, float, str, tuple, type(None)))
    assert not isinstance(value, (int, float)) or abs(value) <= 1e30
    assert not any(isinstance(node, ast.Pow) for node in ast.walk(ast.parse(source)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=string.printable + "\0é", max_size=80))
def test_any_text_is_refused_or_evaluated(source: str) -> None:
    value: object = None
    with contextlib.suppress(ExpressionError):
        value = evaluate(source)
    assert value is UNKNOWN or isinstance(value, (bool, int, float, str, tuple, type(None)))
