import string
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vramlint.engine import RuleError, load_rule, load_rules

MINIMAL = """
code = "TEAM001"
name = "no-headroom"
severity = "warning"
summary = "less than a tenth of the GPU is left"
when = "estimate.high.device_high > 0.9 * gpu.usable_bytes"
message = "needs {estimate.need}"
[explanation]
checks = "the peak"
why = "the cards are shared"
"""


def test_user_rules_join_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "headroom.toml").write_text(MINIMAL)
    rules = load_rules([tmp_path])
    assert [rule.code for rule in rules.matching("no-headroom")] == ["TEAM001"]
    assert rules.find("VRAM101") is not None


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('code = "TEAM001"', 'code = "team-1"', "code: 'team-1' is not"),
        ('code = "TEAM001"', 'code = "VRAM101"', "VRAM101 is already the rule of"),
        ('name = "no-headroom"', 'name = "No_Headroom"', "name: 'No_Headroom' is not"),
        ('severity = "warning"', 'severity = "fatal"', "severity: 'fatal' is not"),
        ('severity = "warning"', "severity = 3", "severity: is not a string"),
        ('summary = "less', 'sumary = "less', "unknown key, did you mean 'summary'"),
        ("high.device_high >", "high.device_hi >", "did you mean 'estimate.high.device_high'"),
        ("0.9 * gpu", "0.9 ** gpu", "BinOp at column"),
        ('when = "estimate.high.device_high > 0.9 * gpu.usable_bytes"', "", "needs `when`, `predicate` or `on`"),
        ('message = "needs', 'predicate = "batch-product"\nmessage = "needs', "did you mean 'batch-product-mismatch'"),
        ("{estimate.need}", "{estimate.needs}", "did you mean 'estimate.need'"),
        ("{estimate.need}", "{estimate.need", "a lone '{'"),
        ('message = "needs', 'point = ["optimiser"]\nmessage = "needs', "did you mean 'optimizer'"),
        ('why = "the cards are shared"', "", "explanation.why: is missing"),
        ("[explanation]", "[explanation", "Expected"),
    ],
)
def test_a_wrong_rule_is_refused_with_file_and_key(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    path = tmp_path / "rule.toml"
    path.write_text(MINIMAL.replace(before, after, 1))
    with pytest.raises(RuleError) as caught:
        load_rules([path])
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_a_rule_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rule.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RuleError, match="utf-8"):
        load_rules([path])
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(RuleError):
        load_rules([path])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(MINIMAL)), st.integers(0, 40), st.text(alphabet=string.printable + "\0é", max_size=20))
def test_any_text_is_a_rule_or_refused_in_one_line(start: int, length: int, text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rule.toml"
        path.write_text(MINIMAL[:start] + text + MINIMAL[start + length :], encoding="utf-8", newline="")
        try:
            load_rule(path)
        except RuleError as error:
            assert str(path) in str(error)


def test_an_error_names_the_line_of_its_key(tmp_path: Path) -> None:
    path = tmp_path / "rule.toml"
    for text, place in (
        (MINIMAL.replace("explanation]", "explanation]\nchecs = 3"), "9: explanation.checs: unknown key"),
        (MINIMAL + "[examples]\npass = [{ files = 3 }]", "12: examples.pass[0].files: is not a table"),
        (MINIMAL + "[[examples.pass]]\n[[examples.pass]]\ntitle = 3", "11: examples.pass[0].files: is missing"),
        ("", "1: code: is missing"),
        ('"a\\nb" = 1\n' + MINIMAL, "1: 'a\\nb': unknown key"),
        (MINIMAL.replace("why = ", "why == "), "10: "),
    ):
        path.write_text(text)
        with pytest.raises(RuleError) as caught:
            load_rules([path])
        assert str(caught.value).startswith(f"{path}:{place}")
