"""Finding and loading rules: the built-in ones and those of the user's own folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli

from vramlint.engine.rule import Rule
from vramlint.engine.rule_form import RuleError, from_table
from vramlint.engine.selection import RuleSet

MAX_BYTES = 262_144
"""A rule file beyond this size is refused."""


def builtin_directory() -> Path:
    """Where the built-in rules lie: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


def load_rules(extra: Sequence[str | Path] = ()) -> RuleSet:
    """All built-in rules and those below the `extra` folders (or files), by code.

    Raises:
        RuleError: a rule that is not of the form, or a code, name or alias that two rules claim.
        OSError: an extra path cannot be read.
    """
    rules: list[Rule] = []
    claimed: dict[str, str] = {}
    for path in (*_files(builtin_directory()), *(file for root in extra for file in _files(Path(root)))):
        rule = load_rule(path)
        for identifier in (rule.code, rule.name, *rule.aliases):
            if identifier in claimed:
                raise RuleError(f"{path}: {identifier} is already the rule of {claimed[identifier]}")
            claimed[identifier] = str(path)
        rules.append(rule)
    return RuleSet(tuple(sorted(rules, key=lambda rule: rule.code)))


def load_rule(path: Path) -> Rule:
    """The rule of one file.

    Raises:
        RuleError: not TOML, or not of the form.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise RuleError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        table = tomli.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise RuleError(f"{path}: {error}") from None
    except RecursionError:
        raise RuleError(f"{path}: nested too deeply") from None
    return from_table(table, str(path))


def _files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.toml")) if root.is_dir() else [root]
