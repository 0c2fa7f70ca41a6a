"""The `vramlint` command: `python -m vramlint` and the console script.

Only the version is answered here, before anything else is imported; the rest is `vramlint.cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vramlint import __version__

_COLLECT_AFTER = 3_000_000
"""New objects after which Python looks for garbage. Classes and syntax trees are none: at the usual 700, a tenth of
the time of a run goes into finding that out, at a million 3 to 7 % of a large one's, for 70 of its 330 MB less."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 clean, 1 findings, 2 usage or internal error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments in (["--version"], ["-V"]):
        sys.stdout.write(f"vramlint {__version__}\n")
        return 0
    import gc

    from vramlint.cli import run

    gc.set_threshold(_COLLECT_AFTER)
    code = run(arguments)
    gc.freeze()  # spares the last search, at exit
    return code


if __name__ == "__main__":
    sys.exit(main())
