"""Repairs in the words of the file; what cannot be edited with certainty is left alone."""

from __future__ import annotations

import pytest

from vramlint.facts import Remark, Repair
from vramlint.surfaces.members import form_of, read_data
from vramlint.surfaces.mending import mended
from vramlint.surfaces.removal import remove_keys
from vramlint.text import Document, Place, apply_edits
from vramlint.values import COMMENT, Scalar, Table


def after(path: str, text: str, old: str, subject: str, repair: Repair) -> str | None:
    """The text once a remark at the only `old` is mended; None where it cannot be."""
    document = Document.of(path, text)
    start = text.index(old)
    remark = Remark("any", subject, "", Place(path, document.span(start, start + len(old))), repair=repair)
    step = mended(remark, {path: document})
    return None if step is None else apply_edits(document, step.edits)


@pytest.mark.parametrize(
    ("path", "text", "old", "new"),
    [
        ("a.json", '{"bach_size": 1}', '"bach_size"', '{"batch_size": 1}'),
        ("a.yaml", "'bach_size' : 1 # x\n", "'bach_size'", "'batch_size' : 1 # x\n"),
        ("a.toml", "train.bach_size = 1\n", "train.bach_size", "train.batch_size = 1\n"),
        ("a.py", "f(bach_size=1)\n", "bach_size", "f(batch_size=1)\n"),
        ("a.sh", "run --bach-size 1\n", "--bach-size", "run --batch-size 1\n"),
        ("a.sh", "run --bach_size=1\n", "--bach_size=1", "run --batch_size=1\n"),
        ("a.sh", "run $EXTRA\n", "$EXTRA", None),
    ],
)
def test_a_key_is_renamed_as_it_is_written(path: str, text: str, old: str, new: str | None) -> None:
    assert after(path, text, old, "train.bach_size", Repair(safe=False, rename="batch_size")) == new


@pytest.mark.parametrize(
    ("path", "text", "old", "value", "new"),
    [
        ("a.json", '{"n": "5e8"}', '"5e8"', 5e8, '{"n": 5e8}'),
        ("a.yaml", "n: '5e-8'\n", "'5e-8'", 5e-8, "n: 5.0e-08\n"),
        ("a.yaml", 'n: "4"\n', '"4"', 4, "n: 4\n"),
        ("a.py", "f(n='1_000')\n", "'1_000'", 1000, "f(n=1_000)\n"),
        ("a.json", '{"n": "True"}', '"True"', True, '{"n": true}'),
        ("a.sh", "run --n '4'\n", "'4'", 4, None),
    ],
)
def test_a_quoted_value_loses_its_quotes(path: str, text: str, old: str, value: float, new: str | None) -> None:
    assert after(path, text, old, "n", Repair(safe=True, value=Scalar(value))) == new


@pytest.mark.parametrize("path", ["a.py", "a.yaml", "a.sh", "a.json"])
def test_a_word_of_a_comment_gets_no_quotes(path: str) -> None:
    repair = Repair(safe=False, value=Scalar("rtx-3090x2", via=COMMENT))
    assert after(path, "# vramlint: gpu=rtx3099x2\n", "rtx3099x2", "x", repair) == "# vramlint: gpu=rtx-3090x2\n"


def test_a_switch_becomes_a_block_where_it_stands() -> None:
    text = '{"z": {\n  "cpu_offload": true,\n  "stage": 2\n}}'
    repair = Repair(safe=True, rename="offload_optimizer", put=(("z.cpu_offload", ("device", "cpu")),))
    assert after("a.json", text, '"cpu_offload"', "z.cpu_offload", repair) == text.replace(
        '"cpu_offload": true', '"offload_optimizer": {"device": "cpu"}'
    )


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("a = 1  # vramlint: ignore[x] y\nb = 2\n", "# vramlint: ignore[x] y", "a = 1\nb = 2\n"),
        ("    # vramlint: ignore[x]\r\nb = 2\n", "# vramlint: ignore[x]", "b = 2\n"),
        ("a = 1  # vramlint: ignore[x]", "# vramlint: ignore[x]", "a = 1"),
    ],
)
def test_a_comment_goes_with_the_space_before_it(text: str, old: str, new: str) -> None:
    document = Document.of("a.py", text)
    start = text.index(old)
    place = Place("a.py", document.span(start, start + len(old)))
    assert after("a.py", text, old, "x", Repair(safe=True, cut=(place,))) == new


@pytest.mark.parametrize(
    ("path", "text", "keys", "new"),
    [
        ("a.json", '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}', ["a"], '{\n  "b": 2,\n  "c": 3\n}'),
        ("a.json", '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}', ["b", "c"], '{\n  "a": 1\n}'),
        ("a.json", '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}', ["a", "c"], '{\n  "b": 2\n}'),
        ("a.json", '{"a": {"b": {}, "c": 1}, "d": 2}', ["a.b", "d"], '{"a": {"c": 1}}'),
        ("a.json", '{"a": {"b": 1}}', ["a.b"], None),
        ("a.jsonc", '{\n  "a": 1, // of a\n  "b": 2\n}', ["a"], None),
        ("a.jsonc", '{\n  "a": 1,\n  "b": 2,\n}', ["b"], '{\n  "a": 1,\n}'),
        ("a.yaml", "# x\na: 1 # of a\nb: 2\n", ["a"], "# x\nb: 2\n"),
        ("a.yaml", "a:\n  - 1\n  - 2\n\n# of b\nb: 2\n", ["a"], "\n# of b\nb: 2\n"),
        ("a.yaml", "a:\n  c: 1 # of c\nb: 2\n", ["a"], "b: 2\n"),
        ("a.yaml", "z: {a: 1, b: 2}\n", ["z.b"], "z: {a: 1}\n"),
        ("a.yaml", "b: 2\na: 1", ["a"], "b: 2\n"),
        ("a.toml", "[z]\na = 1\r\nb = 2\n", ["z.a"], "[z]\nb = 2\n"),
    ],
)
def test_members_go_and_the_rest_stays(path: str, text: str, keys: list[str], new: str | None) -> None:
    document = Document.of(path, text)
    root = read_data(document).root
    assert isinstance(root, Table)
    edits = remove_keys(document, root, keys, form_of(path))
    assert (None if edits is None else apply_edits(document, edits)) == new
