"""YAML that a template engine has to fill in first: Jinja's and Go's `{{ … }}`, `{% … %}`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.patterns import lazy

HOLE = "\ue000"
"""Stands for each character of an expression: of the private use area, which YAML allows in plain scalars."""

_STATEMENT = lazy(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)
"""Statements and comments of Jinja."""
_EXPRESSION = lazy(r"\{\{[^\n]*?\}\}")
_ALONE = lazy(r"(?m)^[ \t]*\{\{[^\n]*?\}\}[ \t]*$")


def without_templates(text: str) -> Iterator[str]:
    """Texts of the same length that may be YAML, the likeliest first; none where the text is no template.

    Statements are blank in them and expressions are `HOLE`s; in the last, lines that are nothing but an expression
    are blank as well.
    """
    if _EXPRESSION.search(text) is None:
        return
    plain = _STATEMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    yield _EXPRESSION.sub(lambda match: HOLE * len(match[0]), plain)
    alone = _ALONE.sub(lambda match: " " * len(match[0]), plain)
    yield _EXPRESSION.sub(lambda match: HOLE * len(match[0]), alone)
