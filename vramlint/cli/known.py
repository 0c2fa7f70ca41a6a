"""The file of known findings: `--write-baseline` and `--baseline`."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from vramlint.cli.errors import UsageError

if TYPE_CHECKING:
    from vramlint.baseline import Baseline
    from vramlint.findings import Report
    from vramlint.settings import Settings

USUAL = "vramlint-baseline.json"
"""Where it lies unless somebody says so, beside the settings."""
_SHOWN = 5
"""Stale entries that are named."""


class LeftOut(Struct, frozen=True):
    """A report without what is known, and lines about what is no more."""

    report: Report
    lines: tuple[str, ...]


class Known(Struct, frozen=True):
    """A baseline and where it lies."""

    path: str
    baseline: Baseline

    def left_out(self, report: Report, ran: Iterable[str]) -> LeftOut:
        """The report without known findings; `ran` are the codes of the rules that ran."""
        from vramlint.baseline import without

        kept = without(report, self.baseline, _folder(self.path), os.getcwd(), ran)
        named = [f"{entry.path}: {entry.rule}" for entry in kept.stale[:_SHOWN]]
        rest = len(kept.stale) - len(named)
        if not named:
            return LeftOut(kept.report, ())
        more = f" and {rest} more" if rest > 0 else ""
        words = f"{self.path}: no longer found: {', '.join(named)}{more}; --write-baseline leaves them out"
        return LeftOut(kept.report, (words,))


def known_of(options: Namespace, settings: Settings) -> Known | None:
    """The baseline that counts; None where there is none, it is to be written anew, or the command has no findings.

    Raises:
        UsageError: it cannot be read.
    """
    path = baseline_path(options, settings) if hasattr(options, "baseline") else ""
    if not path or options.write_baseline:
        return None
    from vramlint.baseline import BaselineError, read

    try:
        with open(path, encoding="utf-8") as file:
            return Known(path, read(file.read()))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (BaselineError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None


def baseline_path(options: Namespace, settings: Settings) -> str:
    """The file that the command line names, or else the settings; empty where neither does."""
    if options.baseline:
        return str(options.baseline)
    return os.path.join(settings.root, settings.baseline) if settings.baseline else ""


def write_baseline(options: Namespace, settings: Settings, report: Report) -> str:
    """Write all findings of a report down; a line that says so.

    Raises:
        UsageError: the file cannot be written.
    """
    from vramlint.baseline import baseline_of, write
    from vramlint.cli.atomic import write_atomically

    path = os.path.relpath(baseline_path(options, settings) or os.path.join(settings.root, USUAL))
    write_atomically(path, write(baseline_of(report, _folder(path), os.getcwd())))
    return f"wrote {len(report.findings)} findings to {path}"


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))
