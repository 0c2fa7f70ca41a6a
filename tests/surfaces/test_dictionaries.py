"""Settings in dictionaries of programs: changed and added in the manner of what stands there."""

from __future__ import annotations

import ast

import pytest

from vramlint.surfaces.dictionaries import dictionary_of, put
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Place, apply_edits, edited

CALL = "args = TrainingArguments(**settings)\n"


def place(document: Document, text: str) -> Place:
    start = document.text.index(text)
    return Place(document.path, document.span(start, start + len(text)))


def after(before: str, at: str, key: str, value: Written) -> str | None:
    document = Document.of("train.py", before)
    edit = put(document, place(document, at), key, value)
    if edit is None:
        return None
    text = apply_edits(document, [edit])
    ast.parse(text)
    return text


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("s = {}", 's = {"bf16": True}'),
        ("s = {'a': 1}", "s = {'a': 1, 'bf16': True}"),
        ("s = {'a': 1,}", "s = {'a': 1, 'bf16': True,}"),
        ("s = {'a': 1, }", "s = {'a': 1, 'bf16': True, }"),
        ("s = {\n    'a': 1\n}", "s = {\n    'a': 1,\n    'bf16': True\n}"),
        ("s = {\n    'a': 1,\n}", "s = {\n    'a': 1,\n    'bf16': True,\n}"),
        ("s = {\n    'a': 1,  # one\n}", "s = {\n    'a': 1,  # one\n    'bf16': True,\n}"),
        ("s = {\n    'a': 1  # one\n}", "s = {\n    'bf16': True,\n    'a': 1  # one\n}"),
        ("s = {\n    'a': 1  # one\n    ,}", "s = {\n    'bf16': True,\n    'a': 1  # one\n    ,}"),
        ("s = {\n    'a': 1\n    ,}", "s = {\n    'a': 1,\n    'bf16': True\n    ,}"),
        ("s = {'a': (1)}", None),
        ("s = {'a': (1, 2)}", "s = {'a': (1, 2), 'bf16': True}"),
        ('s = {\r\n\t"a": {\r\n\t\t"b": 2,\r\n\t},\r\n}',
         's = {\r\n\t"a": {\r\n\t\t"b": 2,\r\n\t},\r\n\t"bf16": True,\r\n}'),
        ('s = {"ä": 1,\n     **base}', 's = {"ä": 1,\n     **base,\n     "bf16": True}'),
        ("s = {**base}", 's = {**base, "bf16": True}'),
        ("s = {'bf16': False, 'a': 1}", "s = {'bf16': True, 'a': 1}"),
        ("s = {'bf16': flag, 'a': 1}", None),
    ],
)  # fmt: skip
def test_items_of_dictionaries(before: str, expected: str | None) -> None:
    document = before[before.index("{") :]
    assert after(before, document, "bf16", True) == expected


@pytest.mark.parametrize(
    ("before", "key", "value", "expected"),
    [
        ("{'zero': {'stage': 1}}", "zero.stage", 3, "{'zero': {'stage': 3}}"),
        ("{'zero': {'stage': 1}}", "zero.off.device", "cpu", "{'zero': {'stage': 1, 'off': {'device': 'cpu'}}}"),
        ("{'a': 1}", "zero.off.device", "cpu", "{'a': 1, 'zero': {'off': {'device': 'cpu'}}}"),
        ("{'zero': zero}", "zero.stage", 3, None),
    ],
)
def test_dictionaries_in_dictionaries(before: str, key: str, value: Written, expected: str | None) -> None:
    assert after(before, before, key, value) == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("settings = {'a': 1}\n", "settings = {'a': 1, 'bf16': True}\n"),
        ("settings: dict = {'a': 1}\n", "settings: dict = {'a': 1, 'bf16': True}\n"),
        ("settings = dict(\n    a=1,\n)\n", "settings = dict(\n    a=1,\n    bf16=True,\n)\n"),
        ("settings = {'a': 1}\nsettings['b'] = 2\n", "settings = {'a': 1, 'bf16': True}\nsettings['b'] = 2\n"),
    ],
)
def test_a_call_gets_a_keyword_from_the_dictionary_that_has_all_others(before: str, expected: str) -> None:
    assert after(before + CALL, "TrainingArguments(**settings)", "bf16", True) == expected + CALL


@pytest.mark.parametrize(
    "before",
    [
        "settings = load()\n",
        "settings = dict(pairs)\n",
        "settings = {'a': 1}\nif small:\n    settings = {'a': 2}\n",
        "settings = {'a': 1}\nfor settings in others:\n    pass\n",
        "def f(settings):\n    pass\nsettings = {'a': 1}\n",
        "settings = {'a': 1}\nsettings |= other\n",
        "settings, rest = {'a': 1}, 2\n",
    ],
)
def test_where_it_is_not_sure_which_one_that_is_the_call_gets_it_itself(before: str) -> None:
    expected = before + "args = TrainingArguments(**settings, bf16=True)\n"
    assert after(before + CALL, "TrainingArguments(**settings)", "bf16", True) == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("f(**{'a': 1})", "f(**{'a': 1, 'bf16': True})"),
        ("f(**dict(a=1))", "f(**dict(a=1, bf16=True))"),
        ("f(b=2, **{'a': 1})", "f(b=2, **{'a': 1}, bf16=True)"),
        ("f(x, **{'a': 1})", "f(x, **{'a': 1}, bf16=True)"),
        ("f(bf16=False)", "f(bf16=True)"),
    ],
)
def test_dictionaries_that_are_written_in_the_call(before: str, expected: str) -> None:
    assert after(before, before, "bf16", True) == expected


def test_several_items_come_in_order() -> None:
    document = Document.of("train.py", "s = {\n    'a': 1\n}\n")
    for key in ("b", "c"):
        edit = put(document, place(document, document.text[4:-1]), key, 2)
        assert edit is not None
        document = edited(document, [edit])
    assert document.text == "s = {\n    'a': 1,\n    'b': 2,\n    'c': 2\n}\n"


def test_the_dictionary_that_a_value_is_of() -> None:
    text = "x = {'stage': 1}\nc = {'zero': dict(stage=1), 'batch': 8}\ninit(config=c)\n"
    document = Document.of("train.py", text)
    inner = text.index("stage=1") + len("stage=")
    value = Place("train.py", document.span(inner, inner + 1))
    found = dictionary_of(document, value, "zero.stage")
    assert found is not None
    assert document.slice(found.span) == "{'zero': dict(stage=1), 'batch': 8}"
    assert dictionary_of(document, value, "other.stage") is None
    assert dictionary_of(document, place(document, "8"), "zero.stage") is None
    assert dictionary_of(Document.of("train.py", text + "("), value, "zero.stage") is None
