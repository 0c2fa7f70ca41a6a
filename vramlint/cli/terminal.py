"""Standard streams: encoding, colour, and what to do when the reader is gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import TextIO


def prepare_streams() -> None:
    """Write UTF-8 under every locale; a lone surrogate in a file name is escaped instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def use_color(mode: str, stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Whether to colour what goes to `stream`, or to a file when it is None.

    `always` and `never` decide; with `auto` the first set of NO_COLOR (no-color.org), FORCE_COLOR and
    CLICOLOR_FORCE (bixense.com/clicolors) does, then whether the stream is a terminal that is not dumb.
    """
    if mode != "auto":
        return mode == "always"
    if stream is None or environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def hush(stream: TextIO) -> None:
    """Point a stream whose reader is gone at nothing, so that the interpreter's last flush doesn't complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, stream.fileno())
    except OSError:  # no real file behind it, so nothing is flushed either
        pass
    finally:
        os.close(nothing)
