"""The plans by which ranks share the matrices of models of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vramlint.catalog.lines import lines


def plan_of(model_type: str) -> Mapping[str, str] | None:
    """The style of each module of a layer, and of the head, by their names; None where a model has no plan."""
    found = next((styles for _, styles in lines("tensor_plans.tsv").starting_with(model_type)), None)
    return None if found is None else dict(json.loads(found))
