"""The command line: reads arguments and files, calls the core, writes text and answers with an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import cast

from vramlint.cli.arguments import find_command, parse
from vramlint.cli.errors import ERROR, UsageError
from vramlint.cli.terminal import hush, prepare_streams


def run(arguments: Sequence[str]) -> int:
    """Run one command. Never raises: a wrong usage and an internal error each print one line and give 2."""
    prepare_streams()
    try:
        command, rest = find_command(arguments)
        options = parse(command, rest)
        code = cast("int", import_module(f"vramlint.cli.{command}").run(options))
        sys.stdout.flush()
    except UsageError as error:
        return _fail(f"error: {error}")
    except BrokenPipeError:  # the reader has what it wanted: `vramlint | head`
        hush(sys.stdout)
        return ERROR
    except KeyboardInterrupt:
        return _fail("interrupted")
    except SystemExit as exit_:  # argparse after --help
        return exit_.code if isinstance(exit_.code, int) else ERROR
    except Exception as error:  # the last net: whatever goes wrong inside must not look like a finding
        if os.environ.get("VRAMLINT_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"internal error: {text}; this is a bug, please report it (VRAMLINT_DEBUG=1 shows the traceback)")
    return code


def _fail(message: str) -> int:
    try:
        sys.stderr.write(f"vramlint: {message}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        hush(sys.stderr)
    return ERROR
