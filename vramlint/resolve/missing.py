"""Files that are named and not there."""

from __future__ import annotations

from vramlint.facts import Fact, Link, Origin, Remark, Sheet


def why_unseen(sheet: Sheet, link: Link) -> str:
    """Why a file that was looked for in vain may be there when the program runs; empty where it should be.

    An absolute path is one of the machine that the run is made for, and a launcher may write a file before it starts
    the program.
    """
    target = link.target.replace("\\", "/")
    if target.startswith(("/", "~")) or target[1:3] == ":/":
        return f"{link.target} is a file of the machine that the run is made for"
    if "..." in target:
        return f"{link.target} leaves out a part of the path"
    if sheet.started is not None and target.rpartition("/")[2] in sheet.started.made:
        return f"{link.target} is written at run time"
    program = _program_of_another_checkout(sheet)
    return f"{link.target} lies beside {program}, which is not here either" if program else ""


def _program_of_another_checkout(sheet: Sheet) -> str:
    """The script of a command line of which only the command line could be read.

    The run is started in another folder then, as in `git clone …; cd …; deepspeed train.py --deepspeed ds.json`.
    """
    entry = sheet.get("entry")
    name = str(entry.value) if entry is not None and entry.candidates else ""
    alone = sheet.started is not None and sheet.path == sheet.started.path
    return name if alone and name.endswith(".py") and not sheet.path.endswith(".py") else ""


def unseen_fact(name: str, sheet: Sheet, link: Link) -> dict[str, Fact]:
    """The fact `name`, unknown for that reason; nothing where the file should be there."""
    reason = why_unseen(sheet, link)
    return {name: Fact(name, (), Origin.UNKNOWN, via="runtime", reason=reason)} if reason else {}


def missing(
    sheet: Sheet, link: Link, what: str, where: str = "beside this file or in the folders above"
) -> tuple[Remark, ...]:
    """A remark on a file that was looked for in vain and should be there.

    Args:
        sheet: names the file.
        link: by which name, and in which vocabulary.
        what: what kind of file it is.
        where: where it was looked for.
    """
    if link.place is None or why_unseen(sheet, link):
        return ()
    message = f"{what} {link.target} not found {where}"
    return (Remark("missing-file", link.target, message, link.place, vocabulary=link.kind),)
