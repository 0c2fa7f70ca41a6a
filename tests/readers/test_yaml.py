from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.located import assert_spans_read_back, fault, root, written
from vramlint.readers.yaml import read_yaml, read_yaml_stream
from vramlint.text import Document
from vramlint.values import Items, Reading, Scalar, Table, Unknown

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
KEYS = st.text(alphabet="abcé😀 -#:", min_size=1, max_size=6).filter(
    lambda key: isinstance(yaml.safe_load(yaml.safe_dump(key)), str)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


def read(text: str) -> Reading:
    return read_yaml(Document.of("args.yaml", text))


@settings(max_examples=60)
@given(VALUES, st.sampled_from([None, True, False]), st.booleans())
def test_tree_and_spans_agree_with_safe_load(value: object, flow: bool | None, unicode: bool) -> None:
    document = Document.of("x.yaml", yaml.safe_dump(value, default_flow_style=flow, allow_unicode=unicode))
    reading = read_yaml(document)
    assert root(reading) == yaml.safe_load(document.text)  # PyYAML itself loses some line ends of what it dumps
    assert reading.problems == ()
    assert reading.root is not None
    assert_spans_read_back(document, reading.root, yaml.safe_load)


@settings(max_examples=200)
@given(st.text(alphabet="ab:- \n[]{},&*!|>#'\"?1<", max_size=25))
def test_any_text_gives_a_tree_or_a_place(text: str) -> None:
    document = Document.of("x.yaml", text)
    reading = read_yaml(document)
    assert (reading.root is None) <= bool(reading.problems)
    for problem in reading.problems:
        span = problem.place.span
        assert 0 <= document.offset(span.line, span.column) <= document.offset(span.end_line, span.end_column)


def test_yaml_1_1_scalars_as_the_frameworks_read_them() -> None:
    text = "a: 2e-5\nb: no\nc: 500_000\nd: 1.0e-4\ne: ~\nf: .inf\ng: 0x10\nh: 2001-01-01\ni: 'no'\nj: 1:30\nk:\n"
    assert root(read(text)) == {
        "a": "2e-5",
        "b": False,
        "c": 500_000,
        "d": 1.0e-4,
        "e": None,
        "f": float("inf"),
        "g": 16,
        "h": "2001-01-01",
        "i": "no",
        "j": 90,
        "k": None,
    }


def test_exact_places_with_unicode_and_crlf() -> None:
    document = Document.of("a.yaml", "é😀: ü # c\r\nb:\r\n  - &x 5\r\n  - *x\r\nc: {d: [1, two]}\r\n")
    tree = read_yaml(document).root
    assert isinstance(tree, Table)
    first, second, third = tree.entries
    assert [written(document, entry.key_place) for entry in tree] == ["é😀", "b", "c"]
    assert isinstance(first.value, Scalar)
    assert written(document, first.value.place) == "ü"
    assert isinstance(second.value, Items)
    assert written(document, second.value.place) == "- &x 5\r\n  - *x"
    assert [
        getattr(item, "place", None) and written(document, getattr(item, "place", None)) for item in second.value.values
    ] == ["5", "5"]
    assert isinstance(third.value, Table)
    assert written(document, third.value.place) == "{d: [1, two]}"


def test_block_scalars_and_byte_order_mark() -> None:
    document = Document.of("a.yaml", "\ufeffa: |\n  x\n  y\n\nb: >-\n  z\n")
    tree = read_yaml(document).root
    assert isinstance(tree, Table)
    assert [entry.key for entry in tree] == ["a", "b"]
    assert tree.get("a") == Scalar("x\ny\n", getattr(tree.get("a"), "place", None))
    assert written(document, tree.entries[0].key_place) == "a"
    assert written(document, getattr(tree.get("a"), "place", None)) == "|\n  x\n  y"


def test_merge_keys_come_first_and_keep_their_places() -> None:
    document = Document.of("a.yaml", "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nrun:\n  <<: [*b, *o]\n  x: 9\n")
    reading = read_yaml(document)
    assert root(reading) == yaml.safe_load(document.text)
    tree = reading.root
    assert isinstance(tree, Table)
    y = tree.entry("run", "y")
    assert y is not None
    assert y.key_place is not None
    assert y.key_place.span.line == 1
    assert reading.problems == ()


def test_duplicate_key() -> None:
    reading = read("a: 1\nb: 2\na: 3\n")
    assert root(reading) == {"a": 3, "b": 2}
    assert fault(reading)[:2] == ("duplicate-key", (3, 1))


def test_only_the_first_document() -> None:
    assert root(read("a: 1\n---\nb: 2\n")) == {"a": 1}


def test_application_tags_are_unknown_and_never_constructed() -> None:
    tree = read("- !!python/object/apply:os.system [ls]\n- !foo {a: 1}\n- !!str 5\n- !!int '5'\n").root
    assert isinstance(tree, Items)
    assert [type(item) for item in tree.values] == [Unknown, Unknown, Scalar, Scalar]
    assert [getattr(item, "value", None) for item in tree.values[2:]] == ["5", 5]


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{level}: &a{level} [{','.join(['*a' + (str(level - 1) if level else '')] * 10)}]\n" for level in range(9)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 400))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: [1", (1, 6), "while parsing a flow sequence"),
        ("a: b: c", (1, 5), "mapping values are not allowed"),
        ("a:\n\t- x", (2, 1), "while scanning for the next token"),
        ("é: \x01", (1, 4), "the character U+0001 is not allowed in YAML"),
        ("a: *x", (1, 4), "no anchor `&x` is complete before this alias"),
        ("a: &a [*a]", (1, 8), "no anchor `&a` is complete before this alias"),
        ("? [a]\n: b", (1, 3), "a mapping or sequence as key"),
        ("a: 0b_\n", (1, 4), "not a valid int"),
        ("<<: 3", (1, 5), "`<<` takes a mapping or a list of mappings"),
        ("[" * 500, (1, 257), "nested deeper than 256 levels"),
        (BOMB, (5, 46), "aliases expand to more than 100000 values"),
        (CHAIN, (257, 13), "nested deeper than 256 levels"),
    ],
)
def test_syntax_errors(text: str, place: tuple[int, int], message: str) -> None:
    reading = read(text)
    assert reading.root is None
    kind, where, said = fault(reading)
    assert (kind, where) == ("syntax-error", place)
    assert said.startswith(message)


def test_nesting_that_the_scanner_itself_refuses() -> None:
    """Libyaml looks ahead: since PyYAML 6.0.4 it gives up at 1000 brackets before it hands on the first."""
    kind, where, said = fault(read("[" * 50_000))
    assert kind == "syntax-error"
    assert where in {(1, 257), (1, 1001)}
    assert said == "nested deeper than 256 levels"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\ufeff"])
def test_empty_file(text: str) -> None:
    assert fault(read(text))[0] == "empty-file"


def test_a_stream_has_a_tree_for_each_document_with_its_own_places() -> None:
    document = Document.of("x.yaml", "# head\n---\na: 1\n---\n---\nb: [1\n--- \nc:\n- 2\n")
    first, broken, last = read_yaml_stream(document)
    assert root(first) == {"a": 1}
    assert broken.root is None
    assert root(last) == {"c": [2]}
    assert isinstance(last.root, Table)
    assert written(document, last.root.place) == "c:\n- 2"


def test_a_stream_of_one_document_is_that_document() -> None:
    document = Document.of("x.yaml", "a: 1\n")
    assert read_yaml_stream(document) == (read_yaml(document),)


def test_only_keys_that_come_twice_are_written_twice() -> None:
    reading = read_yaml(Document.of("a.yaml", "a: 1\nb: 2\na: 1\nc: 3\nd: 4\nb: 2\n"))
    assert [(problem.kind, problem.message, problem.place.span.line) for problem in reading.problems] == [
        ("duplicate-key", "key `a` is written twice (first on line 1); the last one wins", 3),
        ("duplicate-key", "key `b` is written twice (first on line 2); the last one wins", 6),
    ]


def test_a_template_is_read_around_what_it_fills_in() -> None:
    text = (
        "dir: {{model_dir}}/tokenizer\n# {% if lora %}\nrank: 8\nsize: {{ size }}\nfiles: [{{ a }}, b]\nname: '{{x}}'\n"
    )
    document = Document.of("x.yaml", text)
    reading = read_yaml(document)
    assert reading.problems == ()
    assert isinstance(reading.root, Table)
    folder, rank, size, files, name = (entry.value for entry in reading.root)
    assert isinstance(folder, Unknown)
    assert isinstance(size, Unknown)
    assert written(document, folder.place) == "{{model_dir}}/tokenizer"
    assert isinstance(rank, Scalar)
    assert (rank.value, rank.place and rank.place.span.line) == (8, 3)
    assert isinstance(files, Items)
    assert [type(item) for item in files.values] == [Unknown, Scalar]
    assert isinstance(name, Unknown)  # a quoted one is missing as well


def test_statements_of_a_template_and_lines_of_expressions_alone_are_no_values() -> None:
    text = "{%- if x %}\na: 1\n{%- endif %}\nb: {{ y }}\n{{ toYaml .Values.rest }}\n"
    reading = read_yaml(Document.of("x.yaml", text))
    assert isinstance(reading.root, Table)
    assert [entry.key for entry in reading.root] == ["a", "b"]


def test_what_is_no_yaml_without_its_template_either_keeps_its_mistake() -> None:
    kind, where, _ = fault(read("a: {{ x }}\nb: [1\n"))
    assert (kind, where) == ("syntax-error", (1, 5))
