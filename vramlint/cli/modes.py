"""What is to be done about fixes."""

from __future__ import annotations

from argparse import Namespace

from msgspec import Struct

from vramlint.settings import Settings


class Mode(Struct, frozen=True):
    """What is done about fixes."""

    make: bool
    """Make them, in the files or, with `show`, in memory."""
    unsafe: bool
    show: bool = False
    """Print what would change, and write nothing."""
    only: bool = False
    """Say nothing of what is left."""


def mode_of(options: Namespace, settings: Settings) -> Mode:
    """What the command line asks for, and what the settings say where it is silent. `--diff` implies `--fix-only`."""
    asked = settings.fix if options.fix is None else options.fix
    unsafe = settings.unsafe_fixes if options.unsafe_fixes is None else options.unsafe_fixes
    only = options.fix_only or options.diff
    return Mode(asked or only, unsafe, options.diff, only)
