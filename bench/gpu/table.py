"""The table of cases: what is run, as rows that lack only the measurement."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):  # nothing of vramlint's own is needed on a GPU machine
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases.toml"
MODELS = HERE / "models.toml"
DEPTH = "num_hidden_layers"
REQUIREMENTS = HERE / "requirements.txt"

Row = dict[str, Any]


def read_cases(cases: Path = CASES, models: Path = MODELS) -> list[Row]:
    """Every case as a row of bench/data without `result`: id, case, config, task, versions.

    Raises:
        KeyError: a case names a model that the table of models lacks.
    """
    table = tomllib.loads(cases.read_text(encoding="utf-8"))
    known = tomllib.loads(models.read_text(encoding="utf-8"))
    return [_row(name, {**table["defaults"], **case}, known) for name, case in table["cases"].items()]


def pinned_versions(requirements: Path = REQUIREMENTS) -> dict[str, str]:
    """The versions that a prediction without any library at hand assumes."""
    pins = (line.partition("==") for line in requirements.read_text(encoding="utf-8").splitlines())
    return {name: version for name, pinned, version in pins if pinned}


def _row(name: str, case: dict[str, Any], models: Mapping[str, Any]) -> Row:
    model = models[case["model"]]
    layers = case.pop("layers", None)
    if layers is not None:
        case["overrides"] = {model.get("layers", DEPTH): layers, **case.get("overrides", {})}
    return {
        "id": name,
        "case": case,
        "config": {**model["config"], **case.get("overrides", {})},
        "task": model["task"],
        "versions": pinned_versions(),
    }
