from collections.abc import Sequence

import pytest

from vramlint.engine import UnknownRuleError, load_rules
from vramlint.findings import Severity

RULES = load_rules()


def chosen(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> set[str]:
    return {rule.code for rule in RULES.choose(select, ignore).rules}


ALL = chosen(["ALL"])
USUAL = chosen()
GPU = {"VRAM101", "VRAM102", "VRAM103", "VRAM104", "VRAM105", "VRAM106", "VRAM107", "VRAM108", "VRAM109"}
FIT = {
    *GPU,
    "VRAM110",
    "VRAM111",
    "VRAM112",
    "VRAM113",
    "VRAM114",
    "VRAM115",
    "VRAM116",
    "VRAM117",
    "VRAM118",
    "VRAM119",
}


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        ({"select": ["VRAM101"]}, {"VRAM101"}),
        ({"select": ["exceeds-gpu-memory"]}, {"VRAM101"}),
        ({"select": ["VRAM1"]}, FIT),
        ({"select": ["VRAM10"]}, GPU),
        ({"ignore": ["VRAM1"]}, USUAL - FIT),
        ({"select": ["VRAM1"], "ignore": ["VRAM103"]}, FIT - {"VRAM103"}),
        ({"select": ["VRAM103"], "ignore": ["VRAM1"]}, {"VRAM103"}),
        ({"select": ["ALL"], "ignore": ["close-to-gpu-memory"]}, ALL - {"VRAM103"}),
        ({"select": ["VRAM101"], "ignore": ["VRAM101"]}, set()),
        ({"select": ["VRAM"]}, ALL),
        ({"ignore": ["ALL"]}, set()),
    ],
)
def test_choosing(words: dict[str, list[str]], codes: set[str]) -> None:
    assert chosen(**words) == codes


def test_a_wrong_word_gets_the_nearest() -> None:
    with pytest.raises(UnknownRuleError, match="unknown rule 'exceeds-gpu-memry', did you mean 'exceeds-gpu-memory'"):
        RULES.choose(ignore=["exceeds-gpu-memry"])
    with pytest.raises(UnknownRuleError, match="unknown rule 'VRAM5000'"):
        RULES.choose(select=["VRAM5000"])


def test_severities() -> None:
    rules = RULES.choose(severity={"VRAM1": "info", "exceeds-gpu-memory": "warning"})
    levels = {rule.code: rule.severity for rule in rules.rules}
    assert (levels["VRAM101"], levels["VRAM102"]) == (Severity.WARNING, Severity.INFO)
    with pytest.raises(ValueError, match="fatal"):
        RULES.choose(severity={"VRAM101": "fatal"})


def test_optional_rules_run_where_somebody_asks() -> None:
    optional = {rule.code for rule in RULES.rules if rule.optional}
    assert optional
    assert not optional & chosen()
    assert not optional & chosen(ignore=["VRAM101"])
    assert optional <= chosen(["ALL"])
    assert {"VRAM205"} == optional & chosen(["no-master-weights"])
    assert {"VRAM205", "VRAM206"} == optional & chosen(["VRAM2"])
