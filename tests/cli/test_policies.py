"""`vramlint rule --check`, and rules of a project's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import SCRIPT, Run

POLICIES = Path(__file__).parents[2] / "examples" / "policies"

RULE = """\
code = "TEAM007"
name = "single-sequence"
severity = "error"
summary = "a GPU gets one sequence at a time"
when = "facts.micro_batch_size == 1"
point = ["micro_batch_size"]
message = "{facts.micro_batch_size} sequence per GPU"

[explanation]
checks = "the micro batch size"
why = "a policy"

[[examples.fail]]
[examples.fail.files]
"args.json" = '{"output_dir": "out", "per_device_train_batch_size": 1, "bf16": true, "model_name_or_path": "gpt2"}'

[[examples.pass]]
[examples.pass.files]
"args.json" = '{"output_dir": "out", "per_device_train_batch_size": 4, "bf16": true, "model_name_or_path": "gpt2"}'
"""


def test_a_rule_whose_examples_are_what_they_say(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "single.toml").write_text(RULE)
    told = "policies/single.toml: TEAM007 single-sequence: 1 failing and 1 passing examples are what they say\n"
    result = vramlint("rule", "--check", "policies", "policies/single.toml")
    assert (result.code, result.out, result.err) == (0, told, "")


def test_a_worked_example(vramlint: Run) -> None:
    result = vramlint("rule", "--check", str(POLICIES / "shared-a100-headroom.toml"))
    assert (result.code, result.err) == (0, "")
    assert "TEAM001 shared-a100-headroom: 1 failing and 3 passing examples" in result.out


def test_a_project_with_policies(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "single.toml").write_text(RULE.replace("== 1", "== 4"))
    (tmp_path / "pyproject.toml").write_text('[tool.vramlint]\nrules = ["policies/"]\n')
    (tmp_path / "train.py").write_text(SCRIPT)
    result = vramlint("check", "--format", "concise", "train.py")
    assert result.code == 1
    assert "TEAM007" in result.out
    assert "4 sequence per GPU" in result.out
    assert "# TEAM007 single-sequence" in vramlint("rule", "TEAM007").out


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("micro_batch_size ==", "micro_batch_sise ==", "5: when: unknown name 'facts.micro_batch_sise', did you"),
        ("facts.micro_batch_size == 1", "facts.lora_r == 'one'", "5: when: `facts.lora_r` is a number, `'one'"),
        (
            "facts.micro_batch_size == 1",
            "facts.precision == 'bf16-mixd'",
            "5: when: `facts.precision` is never 'bf16-mixd'; did you mean 'bf16-mixed'?",
        ),
        ("facts.micro_batch_size == 1", "__import__('os')", "5: when: no function __import__(…)"),
        ("facts.micro_batch_size == 1", "facts.__class__.x", "5: when: unknown name 'facts.__class__.x'"),
        (" == 1", "", "5: when: `facts.micro_batch_size` is a number or text, not a condition"),
        ('severity = "error"', 'severity = "eror"', "3: severity: 'eror' is not error, warning or info"),
        ('["micro_batch_size"]', '["micro_batch"]', "6: point: unknown fact 'micro_batch', did"),
        ("{facts.micro_batch_size} s", "{facts.micro_batch} s", "7: message: unknown name 'facts.micro_batch', did"),
        ("{facts.micro_batch_size} s", "{facts.micro_batch_size:gb} s", "7: message: unknown form 'gb'"),
        ('sequence per GPU"', 'sequence per GPU."', "7: message: is not one line without a full stop"),
        ("\nwhy = ", "\nwy = ", "11: explanation.wy: unknown key, did you mean 'why'?"),
        ('why = "a policy"', "", "9: explanation.why: is missing"),
        ('"TEAM007"', '"VRAM101"', "1: code: VRAM101 is already the rule of"),
        ('"TEAM007"', '"VRAM777"', "1: code: VRAM is for built-in rules: take other letters"),
        ('"single-sequence"', '"exceeds-gpu-memory"', "2: name: exceeds-gpu-memory is already the rule of"),
        ("\npoint =", '\nruns = ["trainig"]\npoint =', "6: runs: unknown kind of run 'trainig'"),
        ("\npoint =", '\non = ["unknown-keys"]\npoint =', "6: on: unknown kind of remark 'unknown-keys', did you mean"),
        ("\npoint =", '\nsupersedes = ["VRAM1O1"]\npoint =', "6: supersedes: unknown rule 'VRAM1O1', did you"),
        ("\npoint =", '\nreferences = ["ftp://x"]\npoint =', "6: references: 'ftp://x' does not start with https://"),
        ('batch_size": 1', 'batch_size": 2', "14: examples.fail[0]: single-sequence is silent about"),
        ('batch_size": 4', 'batch_size": 1', "18: examples.pass[0]: single-sequence speaks about"),
        ("[[examples.pass]]", '[[examples.pass]]\ngpu = "rtx3099"', "examples.pass[0]: unknown GPU 'rtx3099'"),
        ("[[examples.pass]]", "[[examples.pass]]\nsettings = { nods = 2 }", "examples.pass[0]: "),
        ("[[examples.pass]]", '[[examples.pass]]\ninstead = ["missing"]', "[0].instead: unknown rule"),
        ("[[examples.pass]]", '[[examples.pass]]\ninstead = ["missing-file"]', "missing-file is silent about"),
        ("[explanation]", "[explanation", "9: "),
        ("[explanation]", "fixes = 3\n[explanation]", "9: fixes: is not a list of tables"),
        (
            "[[examples.fail]]",
            '[[fixes]]\ndescription = "x"\nsafe = true\nset = { fp8 = "yes" }\n[[examples.fail]]',
            "16: fixes[0].set: `facts.fp8` is true or false, `'yes'` is text",
        ),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_told_in_one_line(
    vramlint: Run, tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    (tmp_path / "rule.toml").write_text(RULE.replace(before, after, 1))
    result = vramlint("rule", "--check", "rule.toml")
    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("rule.toml:")
    assert complaint in result.out
    assert len(result.out.splitlines()) == 1


def test_all_files_are_told_about(vramlint: Run, tmp_path: Path) -> None:
    for name, code in (("a", "lower"), ("b", "TEAM001"), ("c", "TEAM001")):
        text = RULE.replace("TEAM007", code).replace("single-sequence", f"rule-{name}")
        (tmp_path / f"{name}.toml").write_text(text)
    result = vramlint("rule", "--check", "a.toml", "b.toml", "c.toml")
    assert result.code == 1
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["a.toml", "c.toml", "b.toml"]
    assert "c.toml:1: code: TEAM001 is already the rule of b.toml" in result.out


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe\x00", b"a = " + b"[" * 100_000, b"", b"\x00", b"code = 3", b"x" * 300_000, b"[[code]]", b"code.x = 1"],
)
def test_a_file_that_is_no_rule(vramlint: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rule.toml").write_bytes(data)
    result = vramlint("rule", "--check", "rule.toml")
    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("rule.toml:")
    assert len(result.out.splitlines()) == 1


def test_paths_without_rules(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "folder.toml").mkdir()
    for path, complaint in (
        ("gone.toml", "cannot read rules: gone.toml"),
        ("empty", "no rules in"),
        ("odd", "no rules"),
    ):
        result = vramlint("rule", "--check", path)
        assert (result.code, result.out) == (2, "")
        assert complaint in result.err
    assert vramlint("rule", "--check").code == 2
    assert vramlint("rule", "VRAM101", "--check", "x.toml").code == 2


def test_a_built_in_rule_can_be_checked(vramlint: Run) -> None:
    path = POLICIES.parents[1] / "rules" / "9xx-vramlint" / "unresolved-model.toml"
    result = vramlint("rule", "--check", str(path))
    assert (result.code, result.err) == (0, "")
    assert "VRAM905 unresolved-model" in result.out
