"""What a rule is, once read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from vramlint.engine.expression import Expression
from vramlint.engine.template import Template
from vramlint.findings import Severity

PEAK = "peak"
"""In `point`: the facts behind the largest components of the estimate."""
OPEN = "open"
"""In `point`: the facts that the files leave open."""


class Explanation(Struct, frozen=True):
    """The prose of a rule's page, as Markdown."""

    checks: str
    why: str
    remedy: str = ""
    options: str = ""


class Example(Struct, frozen=True):
    """Files of real form on which the rule fires, or doesn't. Test and documentation at once."""

    title: str
    files: tuple[tuple[str, str], ...]
    """(path, text)"""
    gpu: str = ""
    settings: tuple[tuple[str, str | int | float], ...] = ()
    """Other settings, by their key: `gpus-per-node`, `select`."""
    instead: tuple[str, ...] = ()
    """Names of the rules that speak here in this one's place."""


class FactChange(Struct, frozen=True):
    """A fix that a rule offers: facts with their new values."""

    description: str
    changes: tuple[tuple[str, str | int | float | bool], ...]
    safe: bool
    cost: str


class Rule(Struct, frozen=True):
    """What to look for, where to point and what to say."""

    code: str
    name: str
    severity: Severity
    summary: str
    explanation: Explanation
    message: Template
    aliases: tuple[str, ...] = ()
    runs: tuple[str, ...] = ("training",)
    """Kinds of run that the rule looks at."""
    when: Expression | None = None
    predicate: str = ""
    on: tuple[str, ...] = ()
    """Kinds of remark that the rule reports."""
    vocabularies: tuple[str, ...] = ()
    """Restricts `on` to keys of these vocabularies, or with `!` to those of others; empty for all.

    `frameworks` are those with a vocabulary of their own."""
    point: tuple[str, ...] = ()
    labels: Mapping[str, Template] = field(default_factory=dict)
    """Fact name to what its label says."""
    notes: tuple[Template, ...] = ()
    help: tuple[Template, ...] = ()
    supersedes: tuple[str, ...] = ()
    """Codes of rules that stay silent about a run in which this one speaks."""
    plan: bool = False
    """Attach the cheapest plan that fits."""
    optional: bool = False
    """It runs only where it is selected: what it says is advice, for runs that fit too."""
    fixes: tuple[FactChange, ...] = ()
    references: tuple[str, ...] = ()
    failing: tuple[Example, ...] = ()
    passing: tuple[Example, ...] = ()

    def called(self, identifier: str) -> bool:
        """Whether `identifier` is this rule's code, name or an alias of it."""
        return identifier in (self.code, self.name) or identifier in self.aliases
