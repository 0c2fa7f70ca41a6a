"""Python scripts: what a program does, read from its LibCST tree without running it."""

from vramlint.readers.python.program import read_program

__all__ = ["read_program"]
