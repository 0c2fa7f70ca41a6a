"""`vramlint rule [NAME]` and `vramlint rule --check FILE`."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from vramlint.cli.errors import CLEAN, FINDINGS, UsageError, did_you_mean
from vramlint.cli.listing import columns
from vramlint.cli.papers import level, page
from vramlint.cli.work import all_rules
from vramlint.engine.loader import read_rules, source_of
from vramlint.engine.rule import Rule
from vramlint.engine.rule_reader import RuleError


def run(options: Namespace) -> int:
    """List all rules, print the page of one, or check files with rules."""
    if options.check:
        return _check(options.check)
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
        text = columns([(rule.code, rule.name, level(rule), rule.summary) for rule in rules.rules])
    sys.stdout.write(text)
    return CLEAN


def _check(paths: list[str]) -> int:
    """Print one line for every rule of the files: what is wrong with it, or that its examples hold.

    Raises:
        UsageError: a path that cannot be read, or a folder without rules.
    """
    from vramlint.api.examples import contradictions  # the whole core, which the listing needs nothing of

    try:
        loaded = read_rules(paths)
        complaints = [str(error) for error in loaded.errors]
        holding: list[str] = []
        for path, rule in loaded.own:
            wrong = [str(source_of(path).error(at, told)) for at, told in contradictions(rule, loaded.rules)]
            complaints += wrong
            if not wrong and not any(complaint.startswith(f"{path}:") for complaint in complaints):
                holding.append(f"{path}: {rule.code} {rule.name}: {_counted(rule)}")
    except OSError as error:
        raise UsageError(f"cannot read rules: {error.filename}: {error.strerror}") from None
    except RuleError as error:
        raise UsageError(str(error)) from None
    if not complaints and not holding:
        raise UsageError(f"no rules in {' '.join(paths)}")
    sys.stdout.write("".join(f"{line}\n" for line in (*complaints, *holding)))
    return FINDINGS if complaints else CLEAN


def _counted(rule: Rule) -> str:
    return f"{len(rule.failing)} failing and {len(rule.passing)} passing examples are what they say"


def _object(rule: Rule) -> dict[str, object]:
    return {
        "code": rule.code,
        "name": rule.name,
        "aliases": list(rule.aliases),
        "severity": rule.severity.value,
        "optional": rule.optional,
        "summary": rule.summary,
        "help": page(rule),
        "references": list(rule.references),
    }
