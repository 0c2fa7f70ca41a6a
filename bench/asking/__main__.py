"""Asks a framework's parser about files before and after an edit. Runs where the framework is installed.

    python -m bench.asking MODULE < QUESTIONS > ANSWERS

MODULE is one of this package. QUESTIONS is a JSON list of objects with `id`, `kind`, `path`, `before` and `after` (the
file's two texts) and what else the kind needs. ANSWERS has a JSON object a line: `id`, `before` and `after`, each with
`error` (empty where the parser takes the file), `unknown` (the names in it that the parser does not know) and `asked`
(how many things in the file were given to it).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

MOST = 400
"""Characters of an error that are kept, its last ones."""

Parse = Callable[[Mapping[str, Any], str], tuple[int, list[str]]]
"""Takes a question and a text, gives how many things were asked and what names are not known; raises where refused."""


def answer(parse: Parse, question: Mapping[str, Any], text: str) -> dict[str, Any]:
    """What a parser says of one text."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            asked, unknown = parse(question, text)
    except (Exception, SystemExit) as error:  # whatever a framework raises is its refusal
        words = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit):
            words = f"{words} {said.getvalue().strip()}"
        return {"error": words[-MOST:], "unknown": [], "asked": 1}
    return {"error": "", "unknown": sorted(unknown), "asked": asked}


def main() -> int:
    """Answer all questions of standard input."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        module = importlib.import_module(f"bench.asking.{sys.argv[1]}")
    for question in json.load(sys.stdin):
        parse: Parse = module.KINDS[question["kind"]]
        row = {name: answer(parse, question, question[name]) for name in ("before", "after")}
        answers.write(json.dumps({"id": question["id"], **row}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
