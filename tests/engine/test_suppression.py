import pytest

from tests.engine.builders import place
from vramlint.engine import RuleSet, load_rules, suppress
from vramlint.findings import Finding, Label, Severity
from vramlint.readers.comments import directives
from vramlint.text import Document, Place, Span

RULES = load_rules()
SCRIPT = "args = TrainingArguments(\n    bf16=True,\n    fp16=True,{trailing}\n)\n"


def finding(code: str = "VRAM201", *places: Place) -> Finding:
    labels = tuple(Label(at, primary=index == 0) for index, at in enumerate(places or (place(2), place(3))))
    (rule,) = RULES.matching(code)
    return Finding(code, rule.name, Severity.ERROR, "message", labels)


def outcome(text: str, findings: list[Finding] | None = None, active: RuleSet = RULES) -> tuple[list[str], int]:
    found, problems = directives(Document.of("train.py", text), "python")
    assert not problems
    result = suppress([finding()] if findings is None else findings, found, active, RULES)
    return [item.code for item in result.findings], result.count


@pytest.mark.parametrize(
    "comment", ["ignore[VRAM201]", "ignore[fp16-with-bf16] why", "ignore[VRAM2]", "ignore[VRAM101, VRAM201]"]
)
def test_a_comment_counts_in_any_label_of_the_finding(comment: str) -> None:
    active = RULES.choose(ignore=["VRAM101"])
    assert outcome(SCRIPT.format(trailing=f"  # vramlint: {comment}"), active=active) == ([], 1)


def test_a_comment_inside_a_label_of_several_lines_counts() -> None:
    call = Place("train.py", Span(1, 8, 4, 2))
    text = SCRIPT.format(trailing="  # vramlint: ignore[VRAM101]")
    assert outcome(text, [finding("VRAM101", call)]) == ([], 1)


def test_whole_files() -> None:
    assert outcome("# vramlint: ignore-file\n") == ([], 1)
    assert outcome("# vramlint: ignore-file[VRAM201]\n") == ([], 1)
    other = [finding("VRAM201", place(2, path="other.py"))]
    assert outcome("# vramlint: ignore-file[VRAM201]\n", other) == (["VRAM201", "VRAM902"], 0)


def test_an_unused_suppression_is_found() -> None:
    text = SCRIPT.format(trailing="  # vramlint: ignore[VRAM101, VRAM201]")
    assert outcome(text) == (["VRAM902"], 1)
    elsewhere = SCRIPT.format(trailing="") + "x = 1  # vramlint: ignore[VRAM201]\n"
    assert outcome(elsewhere) == (["VRAM201", "VRAM902"], 0)


def test_only_rules_that_ran_are_judged() -> None:
    text = SCRIPT.format(trailing="  # vramlint: ignore[VRAM101]")
    assert outcome(text, [], RULES.choose(ignore=["VRAM101"])) == ([], 0)


def test_a_suppression_of_suppression_findings() -> None:
    text = "# vramlint: ignore-file[VRAM902]\nx = 1  # vramlint: ignore[VRAM101]\n"
    assert outcome(text, []) == ([], 1)


def test_a_word_that_names_no_rule_is_found() -> None:
    text = "x = 1  # vramlint: ignore[exceeds-gpu-memry]\n"
    found, _ = directives(Document.of("train.py", text), "python")
    (item,) = suppress([], found, RULES, RULES).findings
    assert item.code == "VRAM901"
    assert "did you mean 'exceeds-gpu-memory'" in item.message
    assert item.place.span.column == text.index("exceeds") + 1
