"""What vramlint makes of a rule's examples, each read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple
from unittest.mock import patch

from vramlint.api import checking, judging
from vramlint.api.examples import findings_on
from vramlint.engine import RuleSet, check, check_remarks, load_rules
from vramlint.engine.check import Mender, Planner, Scaler, Writer, as_remark
from vramlint.engine.names import Scope
from vramlint.engine.rule import Example
from vramlint.estimate import Estimate, Reach
from vramlint.facts import Remark
from vramlint.findings import Finding
from vramlint.resolve.run import Run
from vramlint.values import Problem

RULES = load_rules()

WITHOUT_FAILING_EXAMPLE = {
    "VRAM903": "bytes that are no text cannot stand in a TOML string",
    "VRAM904": "an empty file is told by whoever reads the files, before the core",
}


class Seen(NamedTuple):
    """What the engine was given for an example, and what it said."""

    codes: frozenset[str]
    scopes: tuple[Scope, ...]
    """Of its runs."""
    remarks: tuple[Remark, ...]
    """On its keys and files."""
    edited: frozenset[str]
    """Codes of the findings whose fixes are edits."""


@cache
def seen(example: Example) -> Seen:
    """The example through the whole of vramlint."""
    with _recorded() as (scopes, remarks):
        found = findings_on(example, RULES)
    codes = frozenset(finding.code for finding in found)
    edited = frozenset(finding.code for finding in found if finding.fixable(unsafe=True))
    return Seen(codes, tuple(scopes), tuple(remarks), edited)


@contextmanager
def _recorded() -> Iterator[tuple[list[Scope], list[Remark]]]:
    """Everything that the engine's three doors are given meanwhile."""
    scopes: list[Scope] = []
    remarks: list[Remark] = []

    def of_run(
        run: Run,
        estimates: Sequence[Estimate],
        rules: RuleSet,
        planner: Planner | None,
        headroom: float,
        scaler: Scaler | None = None,
        reach: Reach | None = None,
        writer: Writer | None = None,
        mender: Mender | None = None,
    ) -> tuple[Finding, ...]:
        if mender is not None:  # else it is a fix that is tried
            scopes.append(Scope.of(run, estimates, headroom, reach))
            remarks.extend(run.remarks)
        return check(run, estimates, rules, planner, headroom, scaler, reach, writer, mender)

    def of_remarks(found: Iterable[Remark], rules: RuleSet, mender: Mender | None = None) -> tuple[Finding, ...]:
        listed = list(found)
        remarks.extend(listed if mender is not None else ())
        return check_remarks(listed, rules, mender)

    def of_problems(problems: Iterable[Problem], rules: RuleSet, mender: Mender | None = None) -> tuple[Finding, ...]:
        return of_remarks((as_remark(problem) for problem in problems), rules, mender)

    with (
        patch.object(judging, "check", of_run),
        patch.object(checking, "check_remarks", of_remarks),
        patch.object(checking, "check_problems", of_problems),
    ):
        yield scopes, remarks
