"""The examples of every rule are its tests: they run through the whole of vramlint."""

import pytest
from _pytest.mark.structures import ParameterSet

from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.discovery.forms import form_of
from vramlint.engine import load_rules
from vramlint.engine.rule import Example, Rule
from vramlint.settings import Settings

RULES = load_rules()

WITHOUT_FAILING_EXAMPLE = {
    "VRAM903": "bytes that are no text cannot stand in a TOML string",
    "VRAM904": "an empty file is told by whoever reads the files, before the core",
    "VRAM907": "needs an architecture that the memory model lacks, which changes as it grows",
}


def cases(kind: str) -> list[ParameterSet]:
    return [
        pytest.param(rule, example, id=f"{rule.name}-{index}")
        for rule in RULES.rules
        for index, example in enumerate(getattr(rule, kind))
    ]


def found(example: Example) -> set[str]:
    """Codes of the findings on an example; the first file is the one named on the command line."""
    files = {path: text.encode() for path, text in example.files}
    settings = Settings().merged(**{key.replace("-", "_"): value for key, value in example.settings})
    around = Surroundings(load=files.get, names=lambda _folder: tuple(files), hardware=Hardware(gpu=example.gpu))
    path, data = next(iter(files.items()))
    return {
        finding.code
        for finding in lint([SourceFile(path, form_of(path), data, True)], settings, RULES, around).findings
    }


@pytest.mark.parametrize(("rule", "example"), cases("failing"))
def test_the_rule_fires(rule: Rule, example: Example) -> None:
    assert rule.code in found(example)


@pytest.mark.parametrize(("rule", "example"), cases("passing"))
def test_the_rule_stays_silent(rule: Rule, example: Example) -> None:
    assert rule.code not in found(example)


@pytest.mark.parametrize(("rule", "example"), cases("passing"))
def test_an_example_to_follow_has_no_errors(rule: Rule, example: Example) -> None:
    severities = {other.code: other.severity.value for other in RULES.rules}
    assert not {code for code in found(example) if severities[code] == "error"}


def test_every_rule_has_examples() -> None:
    for rule in RULES.rules:
        assert rule.code in WITHOUT_FAILING_EXAMPLE or (rule.failing and rule.passing), rule.code
