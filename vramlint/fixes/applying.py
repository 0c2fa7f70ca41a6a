"""Edits made in files: the bytes of the files after them, everything outside of the edits as it was.

`apply(edits, report.documents, load)` takes edits of any number of files, as steps of a `Fix` have them, and gives the
new bytes of each file; `vramlint.cli.writing.write_all` then writes them, all or none. A byte order mark, the encoding
that a Python file declares, mixed line ends stay; of a notebook only the strings of the cells' source change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from vramlint.discovery.decoding import START, decode, encoding_of
from vramlint.discovery.forms import form_of
from vramlint.text import Document, Edit, Place, apply_edits
from vramlint.values import Problem

FAILED = "edit-failed"
"""Kind of the problem with edits that cannot be made."""


def apply(
    edits: Iterable[Edit],
    documents: Mapping[str, Document],
    load: Callable[[str], bytes | None],
    form: Callable[[str], str] = form_of,
) -> dict[str, bytes] | Problem:
    """The new bytes of every file that changes, by path; a problem, and then nothing of it, where one cannot be made.

    An edit made twice counts once.

    Args:
        edits: of any number of files; two of one file must not overlap.
        documents: the files as they were read when the edits were made (`Report.documents`).
        load: the bytes of a file now; None where there is none.
        form: the written form of a path, where its name does not say it.
    """
    groups: dict[str, dict[Edit, None]] = {}
    for edit in edits:
        groups.setdefault(edit.place.path, {})[edit] = None
    changed: dict[str, bytes] = {}
    for path, group in groups.items():
        data = load(path)
        if data is None or path not in documents:
            return _problem(path, "there is no such file")
        after = _after(path, data, form(path), documents[path], tuple(group))
        if isinstance(after, Problem):
            return after
        if after != data:
            changed[path] = after
    return changed


def _after(path: str, data: bytes, form: str, document: Document, edits: tuple[Edit, ...]) -> bytes | Problem:
    now = decode(path, data, form)
    if isinstance(now, Problem) or now.text != document.text:
        return _problem(path, "the file has changed since it was read")
    encoding = encoding_of(path, data, form)
    if isinstance(encoding, Problem):
        return encoding
    original = data.decode(encoding)
    try:
        if form == "notebook":
            from vramlint.readers.notebook import rewritten

            text = rewritten(original, edits)
        else:
            text = apply_edits(document, edits)
        if original.encode(encoding) != data:
            return _problem(path, f"its bytes are not those that {encoding} writes")
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        return _problem(path, f"{encoding} has no {error.object[error.start]!r}")
    except ValueError as error:
        return _problem(path, str(error))


def _problem(path: str, message: str) -> Problem:
    return Problem(FAILED, message, Place(path, START))
