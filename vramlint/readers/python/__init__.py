"""Python scripts: what a program does, read from its LibCST tree without running it."""

import vramlint.readers.python.importing  # noqa: F401  # before anything else imports LibCST
from vramlint.readers.python.program import read_program

__all__ = ["read_program"]
