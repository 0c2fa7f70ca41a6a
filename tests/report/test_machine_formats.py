"""JSON, SARIF and GitHub output: their forms and the promises that tools rely on."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from tests.report import samples
from vramlint.findings import Finding, Label, Report, Severity
from vramlint.report import View, explain_json, github, render, sarif
from vramlint.text import Document, Place, Span

VIEW = View(version="0.1.0", root="/repository")


def schema(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((files("vramlint") / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return content


@pytest.mark.parametrize("report", [samples.report, Report((), ())], ids=["full", "empty"])
def test_json_is_of_the_published_form(report: Report) -> None:
    content = json.loads(render("json", report, VIEW))
    jsonschema.validate(content, schema("report-1"))


@pytest.mark.parametrize("report", [samples.report, Report((), ())], ids=["full", "empty"])
def test_explain_json_is_of_the_published_form(report: Report) -> None:
    content = json.loads(explain_json.render("train.py", report, VIEW))
    jsonschema.validate(content, schema("explain-1"))


def test_explain_json_carries_facts() -> None:
    job = json.loads(explain_json.render("train.py", samples.report, VIEW))["jobs"][0]
    by_name = {fact["name"]: fact for fact in job["facts"]}
    assert by_name["micro_batch_size"]["value"] == 4
    assert by_name["micro_batch_size"]["location"]["line"] == 7
    assert by_name["sequence_length"]["value"] is None
    assert [option["value"] for option in by_name["sequence_length"]["candidates"]] == [64, 4096]
    assert by_name["world_size"]["origin"] == "unknown"
    assert job["estimate"]["high"]["optimizer_states_bytes"] == samples.high.optimizer_states


START = Span(1, 1, 1, 2)


def at(path: str, span: Span = START, message: str = "no") -> Finding:
    return Finding("VRAM999", "odd", Severity.ERROR, message, (Label(Place(path, span), primary=True),))


def results(report: Report) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(render("sarif", report, VIEW))["runs"][0]["results"]
    return content


def test_sarif_points_to_its_rules_and_files() -> None:
    run = json.loads(render("sarif", samples.report, VIEW))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert run["columnKind"] == "unicodeCodePoints"
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        location = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert location["uriBaseId"] == "%SRCROOT%"
        assert not location["uri"].startswith(("/", "."))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/repository/a b/ü.py", "a%20b/%C3%BC.py"),
        ("./train.py", "train.py"),
        ("sub\\train.py", "sub/train.py"),
        ("/elsewhere/x.py", "file:///elsewhere/x.py"),
    ],
)
def test_sarif_uris(path: str, uri: str) -> None:
    (result,) = results(Report((at(path),), ()))
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def fingerprints(text: str, *lines: int) -> list[str]:
    found = tuple(at("a.py", Span(line, 1, line, 2)) for line in lines)
    report = Report(found, (), documents={"a.py": Document.of("a.py", text)})
    return [result["partialFingerprints"]["vramlintFinding/v1"] for result in results(report)]


def test_sarif_fingerprints_survive_moved_lines_and_tell_equal_lines_apart() -> None:
    assert fingerprints("x = 1\n", 1) == fingerprints("\n\n  x = 1\n", 3)
    assert fingerprints("x = 1\n", 1) != fingerprints("x = 2\n", 1)
    assert len(set(fingerprints("x = 1\nx = 1\n", 1, 2))) == 2


def test_sarif_offers_a_fix_only_when_every_step_has_edits() -> None:
    exceeds = next(result for result in results(samples.report) if result["ruleId"] == "VRAM101")
    change = exceeds["fixes"][0]["artifactChanges"][0]
    assert [item["insertedContent"]["text"] for item in change["replacements"]] == [
        '"paged_adamw_8bit"',
        "torch.bfloat16",
    ]
    wordy = replace(samples.fix, steps=(replace(samples.fix.steps[0], edits=()), samples.fix.steps[1]))
    report = replace(samples.report, findings=(replace(samples.exceeds, fix=wordy),))
    assert "fixes" not in results(report)[0]


def test_relative_keeps_what_lies_elsewhere() -> None:
    assert sarif.relative("/repository2/a.py", "/repository") == "/repository2/a.py"


def test_github_escapes_what_would_end_a_command() -> None:
    finding = at("a,b:c%.py", message="50% of\nx::y")
    command = github.render(Report((finding,), ()), VIEW).splitlines()[0]
    assert "file=a%2Cb%3Ac%25.py" in command
    assert command.endswith("::50%25 of%0Ax::y")


def test_github_says_when_annotations_are_capped() -> None:
    report = Report(tuple(at("a.py", Span(line, 1, line, 2)) for line in range(1, 13)), ())
    assert github.render(report, VIEW).splitlines()[-1].endswith("all 12 are listed above")
