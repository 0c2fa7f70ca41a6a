"""`vramlint rule [NAME]`."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from vramlint.cli.errors import CLEAN, UsageError, did_you_mean
from vramlint.cli.listing import columns
from vramlint.cli.papers import page
from vramlint.cli.work import all_rules
from vramlint.engine.rule import Rule


def run(options: Namespace) -> int:
    """List all rules, or print the page of one."""
    rules = all_rules(options)
    if options.name:
        rule = rules.find(options.name) or rules.find(options.name.upper())
        if rule is None:
            names = [name for rule in rules.rules for name in (rule.code, rule.name, *rule.aliases)]
            raise UsageError(f"unknown rule {options.name!r}{did_you_mean(options.name, names)}")
        text = json.dumps(_object(rule), indent=2) + "\n" if options.format == "json" else page(rule)
    elif options.format == "json":
        text = json.dumps({"version": 1, "rules": list(map(_object, rules.rules))}, indent=2) + "\n"
    else:
        text = columns([(rule.code, rule.name, rule.severity.value, rule.summary) for rule in rules.rules])
    sys.stdout.write(text)
    return CLEAN


def _object(rule: Rule) -> dict[str, object]:
    return {
        "code": rule.code,
        "name": rule.name,
        "aliases": list(rule.aliases),
        "severity": rule.severity.value,
        "summary": rule.summary,
        "help": page(rule),
        "references": list(rule.references),
    }
