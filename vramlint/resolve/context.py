"""What `resolve` is told from outside: file access, the declared device, settings."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from vramlint.facts import Fact, Link, Sheet
from vramlint.job import Gpu
from vramlint.text import Document


def _no_file(path: str) -> Document | None:
    return None


def _no_names(folder: str) -> Sequence[str]:
    return ()


class Context(Struct, frozen=True):
    """The surroundings of the files. `resolve` itself does no I/O."""

    load: Callable[[str], Document | None] = _no_file
    """The text of a file, None when there is none or it can't be read."""
    names: Callable[[str], Sequence[str]] = _no_names
    """The names of the files in a folder; empty when there is no such folder."""
    root: str = ""
    """The folder above which no requirements are looked for; empty: the top of the given path."""
    gpu: Gpu | None = None
    gpu_origin: str = ""
    """`--gpu`, `# vramlint: gpu=`, a settings file."""
    world_size: int | None = None
    """GPUs of the run, where the command line or the settings say."""
    nodes: int | None = None
    ram: int | None = None
    """Host memory of one machine, bytes, where the command line or the settings say."""
    nvme: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library versions that the settings fix: {"transformers": "4.46.3"}."""
    kind: str = ""
    """The vocabulary of the file, where the settings force one."""
    facts: tuple[Fact, ...] = ()
    """Facts that the settings declare (model, micro_batch_size, sequence_length); they stand in where the files
    are silent or say something that only run time knows."""


def folder_of(path: str) -> str:
    """The folder of a path, `.` for a bare name."""
    return posixpath.dirname(path.replace("\\", "/")) or "."


def beside(path: str, target: str) -> tuple[str, ...]:
    """Where a file named `target` in file `path` may lie: beside that file, then in the current folder."""
    target = target.replace("\\", "/")
    if posixpath.isabs(target):
        return (target,)
    near = posixpath.normpath(posixpath.join(folder_of(path), target))
    return tuple(dict.fromkeys((near, posixpath.normpath(target))))


def started_in(sheet: Sheet) -> tuple[str, ...]:
    """The folders that the program of a sheet may be started in, as far as a launcher says."""
    return sheet.started.folders if sheet.started else ()


def candidates(path: str, link: Link, context: Context, started: Sequence[str] = ()) -> tuple[str, ...]:
    """Where a linked file may lie, the likeliest first.

    Beside the file that names it, beside the one at `path`, in the current folder; then seen from each folder above,
    because programs are started from all of them. The head of an absolute path may be that of another machine.

    Args:
        path: the file whose run it is.
        link: the name as written, and where.
        context: the topmost folder.
        started: folders that the program is started in, which come first.
    """
    starts = dict.fromkeys((link.place.path, path) if link.place else (path,))
    found = [place for start in starts for place in beside(start, link.target)]
    folders = tuple(dict.fromkeys(folder for start in starts for folder in ancestors(start, context.root)))
    if posixpath.isabs(link.target):
        parts = link.target.strip("/").split("/")
        tails = ["/".join(parts[index:]) for index in range(1, len(parts))]
        found += [posixpath.normpath(posixpath.join(folder, tail)) for tail in tails for folder in folders]
    else:
        found += [posixpath.normpath(posixpath.join(folder, link.target)) for folder in folders]
        found = [posixpath.normpath(posixpath.join(folder, link.target)) for folder in started] + found
    return tuple(dict.fromkeys(found))


def ancestors(path: str, root: str = "") -> tuple[str, ...]:
    """The folders above a file, nearest first, up to `root`."""
    folder = posixpath.normpath(folder_of(path))
    top = posixpath.normpath(root) if root else ""
    found = [folder]
    while folder not in (top, ".", "/", ""):
        folder = posixpath.dirname(folder) or "."
        found.append(folder)
    return tuple(found)


def find_module(path: str, context: Context, module: str) -> Document | None:
    """The file behind a module that the script at `path` imports, None where the project has no such file.

    A relative module (`.arguments`) lies beside the script; any other is looked for from each folder above and its
    `src`, nearest first, because scripts are started from all of them. Of a package it is the `__init__.py`.
    """
    name = module.lstrip(".")
    dots = len(module) - len(name)
    folders = ancestors(path, context.root)
    if dots:
        folders = folders[dots - 1 : dots]
    else:
        folders = tuple(posixpath.join(folder, sub) for folder in folders for sub in ("", "src"))
    tail = name.replace(".", "/")
    tails = (f"{tail}/__init__.py", f"{tail}.py") if name else ("__init__.py",)
    for folder in folders:
        if not _may_hold(context.names(posixpath.normpath(folder)), name.partition(".")[0]):
            continue
        found = (context.load(posixpath.normpath(posixpath.join(folder, item))) for item in tails)
        document = next((document for document in found if document is not None), None)
        if document is not None:
            return document
    return None


def _may_hold(names: Sequence[str], top: str) -> bool:
    """Whether a folder with these entries can have a module; one whose entries nobody knows can."""
    return not names or not top or top in names or f"{top}.py" in names
