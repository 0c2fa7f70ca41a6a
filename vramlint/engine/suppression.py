"""Leaving out findings that a comment asks to leave out, and finding the comments that leave out nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from vramlint.engine.check import Mender, check_remarks
from vramlint.engine.rule import Rule
from vramlint.engine.selection import RuleSet, UnknownRuleError
from vramlint.facts import Remark, Repair
from vramlint.findings import Finding
from vramlint.readers.comments import Directive
from vramlint.text import Place

UNUSED, BAD = "unused-suppression", "bad-directive"


class Suppressed(Struct, frozen=True):
    """What is left after suppression."""

    findings: tuple[Finding, ...]
    """Those that stay, findings about the suppressions themselves included."""
    count: int
    """How many were left out."""


def suppress(
    findings: Sequence[Finding],
    directives: Iterable[Directive],
    active: RuleSet,
    every: RuleSet,
    mender: Mender | None = None,
) -> Suppressed:
    """Leave out what comments ask to leave out.

    An `ignore` counts when its line lies in any label of the finding in the comment's file; an `ignore-file`
    when any label is in its file.

    Args:
        findings: all findings of the run of vramlint.
        directives: the comments of all files; declarations among them are passed over.
        active: the rules that ran; only for them can a suppression be unused.
        every: all rules, to tell a rule that did not run from one that does not exist.
        mender: makes edits for what is wrong with suppressions; None to offer none.
    """
    ignores = [directive for directive in directives if directive.kind in ("ignore", "ignore-file")]
    targets = [target for directive in ignores for target in _targets(directive, every)]
    kept, used = _apply(findings, targets)
    count = len(findings) - len(kept)
    about = check_remarks((*_unknown(ignores, every), *_unused(targets, used, active)), active, mender)
    staying, _ = _apply(about, targets)
    return Suppressed((*kept, *staying), count + len(about) - len(staying))


class _Target(Struct, frozen=True):
    """One rule word of one directive: what it asks to leave out, and where."""

    directive: Directive
    word: str
    place: Place
    codes: frozenset[str]

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is one of those asked to be left out."""
        if finding.code not in self.codes:
            return False
        spans = [label.place.span for label in finding.labels if label.place.path == self.directive.place.path]
        if self.directive.kind == "ignore-file":
            return bool(spans)
        lines = (self.directive.line, self.directive.place.span.line)
        return any(line is not None and span.line <= line <= span.end_line for span in spans for line in lines)


def _targets(directive: Directive, every: RuleSet) -> list[_Target]:
    if not directive.names:
        codes = frozenset(rule.code for rule in every.rules)
        return [_Target(directive, "", directive.place, codes)] if directive.kind == "ignore-file" else []
    targets = []
    for name in directive.names:
        rules = _meant(str(name.value), every)
        if rules:
            codes = frozenset(rule.code for rule in rules)
            targets.append(_Target(directive, str(name.value), name.place or directive.place, codes))
    return targets


def _meant(word: str, every: RuleSet) -> tuple[Rule, ...]:
    try:
        return every.matching(word)
    except UnknownRuleError:
        return ()


def _apply(findings: Sequence[Finding], targets: Sequence[_Target]) -> tuple[list[Finding], set[_Target]]:
    kept: list[Finding] = []
    used: set[_Target] = set()
    for finding in findings:
        covering = [target for target in targets if target.covers(finding)]
        used.update(covering)
        if not covering:
            kept.append(finding)
    return kept, used


def _unknown(ignores: Iterable[Directive], every: RuleSet) -> Iterable[Remark]:
    """Words that name no rule."""
    for directive in ignores:
        for name in directive.names:
            try:
                every.matching(str(name.value))
            except UnknownRuleError as error:
                yield Remark(BAD, str(name.value), str(error), name.place or directive.place)


def _unused(targets: Iterable[_Target], used: set[_Target], active: RuleSet) -> Iterable[Remark]:
    """Words that left out nothing though their rules ran."""
    running = {rule.code for rule in active.rules}
    own = {rule.code for rule in active.rules if UNUSED in rule.on or BAD in rule.on}
    for target in targets:
        # a suppression of the findings about suppressions cannot be judged before they are found
        if target in used or not target.codes <= running or target.codes & own:
            continue
        directive = target.directive
        whole = len(directive.names) <= 1
        repair = Repair(safe=True, cut=(directive.place,)) if whole else None
        what = f"`{target.word}` finds nothing here" if target.word else "no rule finds anything in this file"
        message = f"{what}: this suppression is unused"
        yield Remark(UNUSED, target.word, message, target.place, repair=repair)
