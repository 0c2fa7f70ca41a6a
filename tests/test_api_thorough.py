"""The allocator is left out where its segments can't change the verdict, unless everything is asked for."""

from __future__ import annotations

import pytest

from tests.test_api_verifying import RULES, SCRIPT
from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.estimate import Estimate
from vramlint.settings import Settings


def high(gpu: str, *, thorough: bool = False) -> Estimate:
    around = Surroundings(hardware=Hardware(gpu), thorough=thorough)
    report = lint([SourceFile("train.py", "python", SCRIPT, explicit=True)], Settings(), RULES, around)
    estimate = report.jobs[0].high
    assert estimate is not None
    return estimate


@pytest.mark.parametrize(("gpu", "thorough"), [("h100", True), ("", False), ("8GiB", False)])
def test_cached_segments_are_followed(gpu: str, thorough: bool) -> None:
    estimate = high(gpu, thorough=thorough)

    assert estimate.reserved > estimate.allocated


def test_cached_segments_do_not_matter_with_room_to_spare() -> None:
    estimate = high("h100")

    assert estimate.reserved == estimate.allocated
