"""Figures of device memory in comments."""

from __future__ import annotations

import pytest

from vramlint.surfaces.launch.memory_comments import memory_facts
from vramlint.text import Document


@pytest.mark.parametrize(
    ("head", "name", "value", "line"),
    [
        ("# 8 * 80GiB\n", "declared_memory", 80, 1),
        ("#!/bin/bash\n# 24GB\n", "declared_memory", 24, 2),
        ("# 10GB\n# pip install bitsandbytes\n", "measured_memory", 10, 1),
        ("# 17.3GiB\n", "measured_memory", 17.3, 1),
        ("# fa2: 4 * 43GiB; 35.5s/it\n", "measured_memory", 43, 1),
        ("# 16GiB * 2\n", "declared_memory", 16, 1),
        ("# GPU memory: 8 * 80GiB, Training Speed 150s/it\n", "measured_memory", 80, 1),
    ],
)
def test_a_figure_at_the_head(head: str, name: str, value: float, line: int):
    (fact,) = memory_facts(Document.of("run.sh", head + "python train.py\n"))
    place = fact.place
    assert place is not None
    assert (fact.name, fact.value, place.span.line) == (name, value, line)


@pytest.mark.parametrize("text", ["python train.py  # 10GB\n", "# needs 3 hours\n", "# the first 4 tokens\n", ""])
def test_other_words_are_no_figures(text: str):
    assert list(memory_facts(Document.of("run.sh", text))) == []
