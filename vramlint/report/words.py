"""How quantities, paths and values are worded."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.facts import Candidate, FactValue
from vramlint.findings import Finding, Severity

GIB = 1 << 30


def gib(size: int) -> str:
    """Bytes as GiB with two decimals: `23.69 GiB`."""
    return f"{number(size)} GiB"


def number(size: int) -> str:
    """Bytes as a bare number of GiB with two decimals: `23.69`."""
    return f"{size / GIB:.2f}"


def span_of(low: int, high: int) -> str:
    """A range of bytes, or one figure when both ends print alike: `3.10 to 4.25 GiB`."""
    return gib(high) if number(low) == number(high) else f"{number(low)} to {gib(high)}"


def count(amount: int, noun: str, plural: str = "") -> str:
    """`1 error`, `2 errors`."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def mark(finding: Finding, *, unsafe: bool) -> str:
    """`[*] ` for a finding that `--fix` takes away or makes smaller; with `unsafe` fixes, where these are asked for."""
    return "[*] " if finding.fixable(unsafe=unsafe) else ""


def options(finding: Finding, *, unsafe: bool = False) -> str:
    """The options by which a finding is fixed, empty where it is not: `--fix`, `--fix --unsafe-fixes`."""
    if finding.fixable(unsafe=unsafe):
        return "--fix"
    return "--fix --unsafe-fixes" if finding.fixable(unsafe=True) else ""


_NAMED = 3
"""Jobs of one finding that are named."""


def shown(jobs: Sequence[str]) -> tuple[str, ...]:
    """The names of jobs, the last few as a number."""
    rest = len(jobs) - _NAMED
    return tuple(jobs) if rest <= 0 else (*jobs[:_NAMED], f"and {rest} more")


def printable(text: str) -> str:
    """One line of text that no terminal takes for a command: control characters become pictures."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    return "\u2421" if character == "\x7f" else f"\\u{ord(character):04x}"


def value(content: FactValue) -> str:
    """A fact's value as the user would write it, lists joined by commas."""
    if isinstance(content, tuple):
        return printable(", ".join(content)) or "(none)"
    if content is None:
        return "none"
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, float):
        return f"{content:g}"
    return printable(str(content))


def candidates(options: tuple[Candidate, ...]) -> str:
    """All values that a fact may have: `4 or 8`; `?` when nothing is known."""
    texts = list(dict.fromkeys(value(option.value) for option in options))
    if len(texts) > 4:
        texts = [*texts[:3], f"{len(texts) - 3} more"]
    return " or ".join(texts) or "?"


def levels(findings: tuple[Finding, ...]) -> dict[Severity, int]:
    """How many findings there are of each severity, the worst first."""
    return {level: sum(finding.severity is level for finding in findings) for level in Severity}


def ordered(findings: tuple[Finding, ...]) -> list[Finding]:
    """By path, place and code."""
    return sorted(findings, key=lambda finding: (finding.place, finding.code, finding.message))
