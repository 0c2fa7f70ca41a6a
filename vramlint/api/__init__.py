"""The core: files and settings in, a report out. No I/O but through the functions it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vramlint.api.checking import check_files
from vramlint.api.declared import UnknownGpuError
from vramlint.api.source import Hardware, Surroundings
from vramlint.discovery import SourceFile
from vramlint.engine.selection import RuleSet
from vramlint.findings import Report
from vramlint.settings import Settings, for_path
from vramlint.values import Problem

__all__ = ["Hardware", "SourceFile", "Surroundings", "UnknownGpuError", "lint"]


def lint(
    files: Sequence[SourceFile],
    settings: Settings | Callable[[str], Settings],
    rules: RuleSet | Callable[[Settings], RuleSet],
    surroundings: Surroundings | None = None,
    problems: Sequence[Problem] = (),
) -> Report:
    """Check files.

    Args:
        files: what to check; files that they name are loaded through `surroundings`.
        settings: hardware, versions, declared facts and the choice of rules: the same for all files but for its
            overrides, whose patterns then take the files' paths as they are, or a function of the path.
        rules: all rules there are; the same for all settings, or a function of them.
        surroundings: the outside world; nothing lies around the files without it.
        problems: files that could not even be given as bytes; they become findings too.

    Raises:
        UnknownGpuError: the command line or the settings name a GPU that the catalog lacks.
        UnknownRuleError: the settings name a rule that isn't there.
    """
    return check_files(
        files,
        (lambda path: for_path(settings, path)) if isinstance(settings, Settings) else settings,
        (lambda _: rules) if isinstance(rules, RuleSet) else rules,
        surroundings or Surroundings(),
        problems,
    )
