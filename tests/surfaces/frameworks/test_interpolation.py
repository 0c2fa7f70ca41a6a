"""`${…}` in configurations of OmegaConf."""

from __future__ import annotations

from textwrap import dedent

import pytest

from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.frameworks.interpolation import interpolated
from vramlint.text import Document
from vramlint.values import Entry, Items, Scalar, Table, Unknown, Value


def resolved(text: str, **environment: str) -> Table:
    root = read_yaml(Document.of("run.yaml", dedent(text))).root
    assert isinstance(root, Table)
    return interpolated(root, tuple(Entry(name, None, Scalar(value)) for name, value in environment.items()))


def scalar(table: Table, *path: str) -> object:
    value = table.get(*path)
    assert isinstance(value, Scalar), value
    return value.value


def reason(value: Value | None) -> str:
    assert isinstance(value, Unknown), value
    return value.reason


def test_a_reference_is_the_value_where_it_is_written() -> None:
    table = resolved(
        """\
        variables:
          max_seq_len: 2048
        model:
          max_seq_len: ${variables.max_seq_len}
        """
    )
    value = table.get("model", "max_seq_len")
    assert isinstance(value, Scalar)
    assert value.value == 2048
    assert value.place is not None
    assert value.place.span.line == 2
    entry = table.entry("model", "max_seq_len")
    assert entry is not None
    assert entry.key_place is not None
    assert entry.key_place.span.line == 4


def test_references_to_references_and_through_tables() -> None:
    table = resolved(
        """\
        base: {width: 64, deep: {rank: 8}}
        copy: ${base}
        width: ${copy.width}
        rank: ${copy.deep.rank}
        list: [4, "${width}"]
        second: ${list[1]}
        """
    )
    assert scalar(table, "copy", "deep", "rank") == 8
    assert (scalar(table, "width"), scalar(table, "rank"), scalar(table, "second")) == (64, 8, 64)
    items = table.get("list")
    assert isinstance(items, Items)
    assert isinstance(items.values[1], Scalar)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("${.hidden}", 512),
        ("${..width}", 9),
        ("${...top}", 7),
        ("${multiply:4, ${.hidden}}", 2048),
        ("${divide_ceil:${.hidden}, 3}", 171),
        ("${int_div:${.hidden},3}", 170),
        ("${oc.select:nothing,5}", 5),
        ("${oc.select:top,5}", 7),
        ("${oc.env:NOBODY_SETS_THIS,8}", 8),
        ("${oc.env:WORLD,8}", "16"),
        ("${oc.decode:${oc.env:WORLD}}", 16),
        ("${oc.env:NAME,'a, b'}", "a, b"),
        ("runs/${top}-${.hidden}", "runs/7-512"),
        (r"\${top}", "${top}"),
    ],
)
def test_resolvers_and_relative_names(written: str, says: object) -> None:
    quoted = written.replace("'", "''")
    table = resolved(
        f"""\
        top: 7
        model:
          width: 9
          inner:
            hidden: 512
            value: '{quoted}'
        """,
        WORLD="16",
    )
    assert scalar(table, "model", "inner", "value") == says


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("${nowhere.to_be_found}", "which the file does not have"),
        ("${oc.env:TOKEN}", "environment variable TOKEN"),
        ("${now:%Y}", "resolver ${now"),
        ("${value}", "refers to itself"),
        ("a ${other} b", "refers to itself"),
        ("???", "when the run is started"),
        ("${int_div:1,0}", "resolver"),
    ],
)
def test_what_nobody_can_know(written: str, why: str) -> None:
    table = resolved(f'value: "{written}"\nother: ${{value}}\n')
    assert why in reason(table.get("value"))


def test_references_that_grow_without_end_stop() -> None:
    lines = [f"a{n}: [${{a{n + 1}}}, ${{a{n + 1}}}, ${{a{n + 1}}}]" for n in range(30)]
    text = "\n".join(line.replace("${", '"${').replace("}", '}"') for line in [*lines, "a30: 1"])
    assert resolved(text + "\n").get("a0") is not None


def test_a_file_without_references_is_left_as_it_is() -> None:
    root = read_yaml(Document.of("run.yaml", "a: 1\n")).root
    assert isinstance(root, Table)
    assert interpolated(root) is root
