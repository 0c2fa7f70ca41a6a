"""Values in the manner of what they replace."""

from __future__ import annotations

import pytest

from vramlint.surfaces.literals import JSON, PYTHON, SHELL, YAML, literal


@pytest.mark.parametrize(
    ("value", "form", "old", "text"),
    [
        (True, YAML, "False", "True"),
        (False, YAML, "TRUE", "FALSE"),
        (True, YAML, "no", "yes"),
        (False, YAML, "On", "Off"),
        (True, YAML, "false", "true"),
        (True, YAML, "", "true"),
        (True, YAML, "null", "true"),
        (True, JSON, "false", "true"),
        (True, PYTHON, "False", "True"),
        (True, SHELL, "false", "true"),
        (True, SHELL, "False", "True"),
    ],
)
def test_truths_are_spelled_as_before(value: bool, form: str, old: str, text: str) -> None:
    assert literal(value, form, old) == text
