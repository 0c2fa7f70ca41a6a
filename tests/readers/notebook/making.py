"""Notebooks for tests."""

from __future__ import annotations

import json
from typing import Any

from vramlint.readers.notebook import notebook_document
from vramlint.text import Document


def code(*lines: str, **more: Any) -> dict[str, Any]:
    """A code cell as Jupyter writes it: a string for each line."""
    text = "\n".join(lines)
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.splitlines(keepends=True),
        **more,
    }


def markdown(text: str) -> dict[str, Any]:
    """A cell of text."""
    return {"cell_type": "markdown", "metadata": {}, "source": [text]}


def written(*cells: dict[str, Any], **metadata: Any) -> str:
    """The file, as Jupyter writes it."""
    content = {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def opened(*cells: dict[str, Any], **metadata: Any) -> Document:
    """The document of the code cells."""
    document = notebook_document(Document.of("nb.ipynb", written(*cells, **metadata)))
    assert isinstance(document, Document)
    return document
