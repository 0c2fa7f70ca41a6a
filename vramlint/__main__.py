"""The `vramlint` command: `python -m vramlint` and the console script.

Only the version is answered here, before anything else is imported; the rest is `vramlint.cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vramlint import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 clean, 1 findings, 2 usage or internal error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments in (["--version"], ["-V"]):
        sys.stdout.write(f"vramlint {__version__}\n")
        return 0
    from vramlint.cli import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
