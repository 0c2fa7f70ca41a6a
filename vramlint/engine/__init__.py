"""Rules: loading, choosing and applying them."""

from vramlint.engine.causes import contributions
from vramlint.engine.check import check, check_problems, check_remarks, unique
from vramlint.engine.loader import load_rule, load_rules
from vramlint.engine.rule import Rule
from vramlint.engine.rule_reader import RuleError
from vramlint.engine.selection import RuleSet, UnknownRuleError
from vramlint.engine.suppression import Suppressed, suppress

__all__ = [
    "Rule",
    "RuleError",
    "RuleSet",
    "Suppressed",
    "UnknownRuleError",
    "check",
    "check_problems",
    "check_remarks",
    "contributions",
    "load_rule",
    "load_rules",
    "suppress",
    "unique",
]
