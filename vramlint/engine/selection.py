"""Which rules run, and how loudly: select, ignore and severity by code, name, alias or code prefix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from vramlint.engine.rule import Rule
from vramlint.findings import Severity
from vramlint.patterns import lazy

ALL = "ALL"
_PREFIX = lazy(r"[A-Z]+[0-9]{0,3}")


class UnknownRuleError(ValueError):
    """A word that names no rule; the message holds the nearest one."""


class RuleSet(Struct, frozen=True):
    """Rules in order of their codes."""

    rules: tuple[Rule, ...]

    def find(self, identifier: str) -> Rule | None:
        """The rule of that code, name or alias."""
        return next((rule for rule in self.rules if rule.called(identifier)), None)

    def matching(self, word: str) -> tuple[Rule, ...]:
        """The rules that a word of `select` or `ignore` means.

        Raises:
            UnknownRuleError: none.
        """
        if word == ALL:
            return self.rules
        found = tuple(rule for rule in self.rules if rule.called(word))
        if not found and _PREFIX.fullmatch(word):
            found = tuple(rule for rule in self.rules if rule.code.startswith(word))
        if not found:
            raise UnknownRuleError(f"unknown rule {word!r}{self._nearest(word)}")
        return found

    def choose(
        self,
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
        severity: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> RuleSet:
        """The rules that run: all but the optional ones, or those selected, less those ignored, with severities as set.

        A longer word is more specific and wins over a shorter one, so `--select VRAM1 --ignore VRAM103` and
        `--ignore VRAM1 --select VRAM103` both do what they say; at equal length ignoring wins.

        Raises:
            UnknownRuleError: a word names no rule.
            ValueError: a severity is not error, warning or info.
        """
        rank: dict[str, tuple[int, bool]] = {}
        selected = tuple(select)
        for words, wanted in ((selected or (ALL,), True), (tuple(ignore), False)):
            for word in words:
                for rule in self.matching(word):
                    weight = _weight(word, rule)
                    if weight >= rank.get(rule.code, (-1, False))[0]:
                        rank[rule.code] = (weight, wanted)
        levels: dict[str, tuple[int, Severity]] = {}
        for word, level in dict(severity).items():
            for rule in self.matching(word):
                weight = _weight(word, rule)
                if weight >= levels.get(rule.code, (-1, Severity.INFO))[0]:
                    levels[rule.code] = (weight, Severity(level))
        return RuleSet(
            tuple(
                replace(rule, severity=levels[rule.code][1]) if rule.code in levels else rule
                for rule in self.rules
                if rank.get(rule.code, (0, False))[1] and (selected or not rule.optional)
            )
        )

    def _nearest(self, word: str) -> str:
        from vramlint.catalog.nearest import nearest  # only a wrong word pays for it

        names = [name for rule in self.rules for name in (rule.code, rule.name, *rule.aliases)]
        close = nearest(word, names, count=1, cutoff=0.5)
        return f", did you mean {close[0]!r}?" if close else ""


def _weight(word: str, rule: Rule) -> int:
    """How specific a word is for a rule: its length as a code prefix, beyond any prefix for a code or name."""
    if word == ALL:
        return 0
    return 100 if rule.called(word) else len(word)
