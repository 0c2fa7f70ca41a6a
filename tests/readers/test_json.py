from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.located import assert_spans_read_back, fault, root, written
from vramlint.readers.json import read_json
from vramlint.text import Document
from vramlint.values import Entry, Items, Reading, Table, Unknown

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
GAPS = st.lists(st.sampled_from([" ", "\n", "\t", "\r\n", ""]), min_size=8, max_size=8)


def read(text: str) -> Reading:
    return read_json(Document.of("ds.json", text))


@given(VALUES, st.sampled_from([None, 0, 1, 2]), st.booleans())
def test_tree_and_spans_agree_with_the_json_module(value: object, indent: int | None, ascii_only: bool) -> None:
    document = Document.of("x.json", json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    reading = read_json(document)
    assert root(reading) == value
    assert reading.problems == ()
    assert reading.root is not None
    assert_spans_read_back(document, reading.root, json.loads)


@given(GAPS)
def test_whitespace_anywhere(gaps: list[str]) -> None:
    tokens = ["{", '"a"', ":", "[", "1", "]", "}"]
    text = "".join(gap + token for gap, token in zip(gaps, [*tokens, ""], strict=True))
    assert root(read(text)) == {"a": [1]}


@settings(max_examples=300)
@given(st.text(alphabet="{}[]:,\"\\'# /*\n\ta1-.etrufalsn", max_size=30))
def test_any_text_gives_a_tree_or_a_place(text: str) -> None:
    document = Document.of("x.json", text)
    reading = read_json(document)
    assert (reading.root is None) <= bool(reading.problems)
    for problem in reading.problems:
        span = problem.place.span
        assert 0 <= document.offset(span.line, span.column) <= len(text)
        assert document.offset(span.end_line, span.end_column) <= len(text)
    try:
        strict = json.loads(text)
    except ValueError:
        assert reading.problems
    else:
        assert root(reading) == strict


def test_exact_places() -> None:
    document = Document.of("ds.json", '{\n  "é😀": {"stage": 3},\n  "b": [5e8, "auto"]\n}\n')
    tree = read_json(document).root
    assert isinstance(tree, Table)
    stage = tree.entry("é😀", "stage")
    assert isinstance(stage, Entry)
    assert stage.key_place is not None
    assert (stage.key_place.span.line, stage.key_place.span.column, stage.key_place.span.end_column) == (2, 10, 17)
    assert written(document, stage.key_place) == '"stage"'
    values = tree.get("b")
    assert isinstance(values, Items)
    assert [written(document, getattr(value, "place", None)) for value in values.values] == ["5e8", '"auto"']
    assert written(document, values.place) == '[5e8, "auto"]'
    assert written(document, tree.place) == document.text.rstrip()


def test_numbers_keep_their_kind() -> None:
    tree = root(read('{"a": 500000000, "b": 5e8, "c": "5e8", "d": [NaN, Infinity, -Infinity, -0.0]}'))
    assert isinstance(tree, dict)
    assert (type(tree["a"]), type(tree["b"]), tree["c"]) == (int, float, "5e8")
    assert repr(tree["d"]) == "[nan, inf, -inf, -0.0]"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('{"a": 1', (1, 8), "unexpected end of the file, expected `,` or `}`: the `{` of line 1 is not closed"),
        ('{\n "a" 1}', (2, 6), "expected `:` after the key"),
        ("[1,,2]", (1, 4), "expected a value"),
        ('{"a": tru}', (1, 7), "expected a value"),
        ('{"a": "x}\n', (1, 7), "the string is not closed on its line"),
        ('{"a": "\\q"}', (1, 8), "no such escape in a string"),
        ('{"a": 1}}', (1, 9), "expected the end of the file after the value"),
        ('{"a": "x\ty"}', (1, 9), "a tab inside a string must be written `\\t`"),
        ("[01]", (1, 3), "expected `,` or `]`"),
        ("{\n/* x", (2, 1), "the comment is not closed"),
        ("9" * 5000, (1, 1), "the number has too many digits"),
        ("[" * 100_000, (1, 257), "nested deeper than 256 levels"),
    ],
)
def test_syntax_errors_name_place_and_expectation(text: str, place: tuple[int, int], message: str) -> None:
    reading = read(text)
    assert reading.root is None
    assert fault(reading) == ("syntax-error", place, message)


@pytest.mark.parametrize("text", ["", "  \n", "\ufeff"])
def test_empty_file(text: str) -> None:
    assert fault(read(text))[0] == "empty-file"


def test_duplicate_key_keeps_the_tree() -> None:
    reading = read('{"a": 1,\n "b": {"a": 0},\n "a": 2}')
    assert root(reading) == {"a": 2, "b": {"a": 0}}
    assert fault(reading)[:2] == ("duplicate-key", (3, 2))
    assert "line 1" in fault(reading)[2]


def test_byte_order_mark() -> None:
    assert root(read('\ufeff{"a": 1}')) == {"a": 1}


def test_lone_surrogate_can_be_printed() -> None:
    assert root(read('["\\ud800", "\\ud83d\\ude00"]')) == ["\ufffd", "😀"]


@pytest.mark.parametrize(
    ("text", "tree", "what"),
    [
        ("// c\n{'a': 1 /* x */, 'b': 'it\\'s \"so\"'}", {"a": 1, "b": 'it\'s "so"'}, "a comment"),
        ('{"a": 1,}', {"a": 1}, "a trailing comma"),
        ("{a: 1}", {"a": 1}, "a key without quotes"),
        ('{"a": auto\n}', {"a": "auto"}, "a string without quotes"),
        ('{"a": 1\n "b": [1\n2]}', {"a": 1, "b": [1, 2]}, "a missing comma"),
        ("# t\na: hello, # text\nb: true # c\nc: -1.5e3\n", {"a": "hello, # text", "b": True, "c": -1500.0}, "a `#`"),
        ("{a: '''\n    x\n     y\n    '''}", {"a": "x\n y"}, "a key without quotes"),
    ],
)
def test_what_only_hjson_takes_is_read_and_named(text: str, tree: object, what: str) -> None:
    reading = read(text)
    assert root(reading) == tree
    kind, _, message = fault(reading)
    assert kind == "json-extension"
    assert message.startswith(what)


def test_text_that_is_no_config_is_refused() -> None:
    assert fault(read("this is not json"))[0] == "syntax-error"


def test_a_megabyte() -> None:
    value = {f"key{index}": {"a": index, "b": [index * 1.5, "x" * 40, True]} for index in range(10_000)}
    document = Document.of("big.json", json.dumps(value, indent=1))
    assert len(document.text) > 1_000_000
    assert root(read_json(document)) == value


def test_placeholders_of_a_template_are_unknown_values() -> None:
    text = '{"train_batch_size": GB_SIZE,\n "fp16": {"enabled": FP16}, "stage": ${zero}, "lr": {{ lr }}, "n": <steps>}'
    reading = read_json(Document.of("ds.json", text))
    assert isinstance(reading.root, Table)
    assert reading.problems == ()
    values = [reading.root.get(*path) for path in (("train_batch_size",), ("fp16", "enabled"), ("stage",), ("n",))]
    reasons = [value.reason for value in values if isinstance(value, Unknown)]
    assert reasons == [f"the placeholder {name} of a template" for name in ("GB_SIZE", "FP16", "${zero}", "<steps>")]
