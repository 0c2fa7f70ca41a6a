from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.readers.makefile import Target, read_makefile
from vramlint.text import Document
from vramlint.values import Alternatives, Scalar, Unknown, Value


def targets(text: str) -> dict[str, Target]:
    return {target.name: target for target in read_makefile(Document.of("Makefile", text)).targets}


def recipes(text: str, name: str = "train") -> list[str]:
    return [recipe.text.text for recipe in targets(text)[name].recipes]


def held(text: str) -> list[Value]:
    return [entry.value for recipe in targets(text)["train"].recipes for entry in recipe.held]


@pytest.mark.parametrize(
    ("variables", "recipe", "expected"),
    [
        ("M = gpt2", "run $(M)", "run gpt2"),
        ("M=gpt2  # small", "run ${M}", "run gpt2"),
        ("M := a\nM ?= b", "run $(M)", "run a"),
        ("M ?= a", "run $(M)", "run a"),
        ("M = a\nM += b", "run $(M)", "run a b"),
        ("N = 4\nM = $(N)x\nN = 8", "run $(M)", "run 8x"),
        ("N = 4\nM := $(N)x\nN = 8", "run $(M)", "run 4x"),
        ("M := $$HOME", "run $(M)", "run $HOME"),
        ("M = --a 1 \\\n    --b 2", "run $(M)", "run --a 1 --b 2"),
        ("define M\na; \\\nb\nendef", "$(M)", "a; \\\nb"),
        ("X = a", "run $X $$HOME $$(date)", "run a $HOME $(date)"),
        ("ifeq ($(N),)\nendif\nM = a\nifeq ($(M),a)\nK = 1\nelse\nK = 2\nendif", "run $(K)", "run 1"),
        ("M = a\nifeq ($(M),b)\nK = 1\nelse ifeq ($(M),a)\nK = 2\nelse\nK = 3\nendif", "run $(K)", "run 2"),
        ("M = a\nifdef M\nK = 1\nendif", "run $(K)", "run 1"),
        ("", "run $@ $< $^", "run train a a b"),
        ("", "@-run", "run"),
    ],
)
def test_recipes_as_the_shell_gets_them(variables: str, recipe: str, expected: str) -> None:
    assert recipes(f"{variables}\n.PHONY: train\ntrain: a b\n\t{recipe}\n") == [expected]


@pytest.mark.parametrize(
    ("variables", "reference", "reason"),
    [
        ("", "$(OUT)", "variable OUT of make"),
        ("", "$(shell nproc $(X))", "what make's function shell gives"),
        ("N != nproc", "$(N)", "variable N of make, what a command prints"),
        ("A = $(B)\nB = $(A)", "$(A)", "variable A of make, which goes round in circles"),
        ("ifdef DEBUG\nE = --debug\nendif", "$(E)", "variable E of make, which a conditional sets"),
    ],
)
def test_what_is_not_known_says_why(variables: str, reference: str, reason: str) -> None:
    (value,) = held(f"{variables}\ntrain:\n\trun {reference}\n")
    assert isinstance(value, Unknown)
    assert value.reason == reason


def test_a_conditional_that_cannot_be_decided_leaves_a_choice() -> None:
    (value,) = held("ifdef BIG\nM = gpt2-xl\nelse\nM = gpt2\nendif\ntrain:\n\trun $(M)\n")
    assert isinstance(value, Alternatives)
    texts = [option.value.value for option in value.options if isinstance(option.value, Scalar)]
    assert texts == ["gpt2-xl", "gpt2"]


def test_targets_of_every_form() -> None:
    found = targets(
        "a b: ; run $@\nbig: M = xl\nbig small: c\nM = s\nbig small:\n\trun $(M)\n%.out: %.in\n\tcat $<\nnothing: a\n"
    )
    texts = {name: [recipe.text.text.strip() for recipe in target.recipes] for name, target in found.items()}
    assert texts == {
        "a": ["run a"],
        "b": ["run b"],
        "big": ["run xl"],
        "small": ["run s"],
        "%.out": ["cat ${__value}"],
    }


def test_exported_variables_and_conditions_of_recipes() -> None:
    (target,) = targets("export A = 1\nB = 2\nexport B\nC = 3\ntrain:\nifdef X\n\trun\nendif\n\tstop\n").values()
    assert [(entry.key, entry.value.value) for entry in target.environment if isinstance(entry.value, Scalar)] == [
        ("A", "1"),
        ("B", "2"),
    ]
    assert [(recipe.text.text, recipe.condition) for recipe in target.recipes] == [("run", "ifdef X"), ("stop", "")]


def test_places_are_those_of_the_file() -> None:
    text = "M = gpt2\ntrain:\n\t@cd src && \\\n\t  run --m $(M) last\n"
    document = Document.of("Makefile", text)
    (target,) = read_makefile(document).targets
    excerpt = target.recipes[0].text
    assert excerpt.text == "cd src && \\\n  run --m gpt2 last"
    for word, stands in (("last", "last"), ("gpt2", "$(M)"), ("src", "src")):
        start = excerpt.text.index(word)
        place = target.place._replace(path=excerpt.document.path, span=excerpt.document.span(start, start + len(word)))
        assert document.slice(excerpt.stands(place).span) == stands
        written = excerpt.written(place)
        assert written is not None
        assert document.slice(written.span) == word


def test_one_shell_for_a_whole_recipe() -> None:
    assert recipes(".ONESHELL:\ntrain:\n\tcd src\n\trun\n") == ["cd src\nrun"]


def test_variables_that_double_end() -> None:
    text = "A0 = x\n" + "".join(f"A{n} = $(A{n - 1})$(A{n - 1})\n" for n in range(1, 40)) + "train:\n\trun $(A39)\n"
    assert all(isinstance(value, Unknown) for value in held(text))


@given(st.text(alphabet="ab:= \t\n$(){}\\#+?!ifeqndefelsexport,%@", max_size=120))
def test_any_text_is_read(text: str) -> None:
    for target in read_makefile(Document.of("Makefile", text)).targets:
        for recipe in target.recipes:
            recipe.text.stands(target.place)
