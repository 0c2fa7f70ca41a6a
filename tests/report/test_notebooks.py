"""Places in notebooks are given by cell; formats that speak of the file itself give its own lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files

import jsonschema
import pytest

from tests.report import notebook_sample
from vramlint.report import FORMATS, View, explain, explain_json, render
from vramlint.report.spots import where

VIEW = View(version="0.1.0", root="/repository")
Golden = Callable[[str, str], None]


@pytest.mark.parametrize("form", FORMATS)
def test_format(form: str, golden: Golden) -> None:
    golden(f"notebook.{form}.txt", render(form, notebook_sample.report, VIEW))


def test_explain(golden: Golden) -> None:
    golden("notebook.explain.txt", explain.render("nb.ipynb", notebook_sample.report, VIEW))


def test_place_is_counted_from_the_cell() -> None:
    place = notebook_sample.place('"adamw_torch"')
    assert where(place, notebook_sample.documents) == "nb.ipynb:cell 4:3:11"
    assert where(place, {}) == "nb.ipynb:7:11"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report-1", render("json", notebook_sample.report, VIEW)),
        ("explain-1", explain_json.render("nb.ipynb", notebook_sample.report, VIEW)),
    ],
)
def test_json_is_of_the_published_form(name: str, content: str) -> None:
    schema = json.loads((files("vramlint") / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.validate(json.loads(content), schema)


def test_explain_json_says_the_cell() -> None:
    (job,) = json.loads(explain_json.render("nb.ipynb", notebook_sample.report, VIEW))["jobs"]
    location = job["facts"][0]["location"]
    assert (location["cell"], location["line"], location["file_line"]) == (4, 3, 27)


def test_sarif_gives_lines_of_the_file_and_no_edits_of_it() -> None:
    (result,) = json.loads(render("sarif", notebook_sample.report, VIEW))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 27, "endLine": 27}
    assert result["relatedLocations"][0]["physicalLocation"]["region"] == {"startLine": 13, "endLine": 13}
    assert "fixes" not in result
