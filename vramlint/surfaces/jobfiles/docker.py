"""Dockerfiles: what a container runs when it starts."""

from __future__ import annotations

import posixpath

from vramlint.readers.dockerfile import Stage, read_dockerfile
from vramlint.surfaces.jobfiles.scripts import Ran, ReadShell, Scripts
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document
from vramlint.values import Scalar, Value


def workloads_of_dockerfile(document: Document, read: ReadShell) -> tuple[Workload, ...]:
    """One workload per stage that says what it starts: `ENTRYPOINT` with `CMD`."""
    scripts = Scripts(document, read)
    found: list[Workload] = []
    stages = read_dockerfile(document)
    for stage in stages:
        ran = _run(scripts, stage)
        if ran.commands:
            found.append(Workload(document.path, stage.name if len(stages) > 1 else "", ran.commands, (), ran.files))
    return tuple(found)


def _run(scripts: Scripts, stage: Stage) -> Ran:
    folder = _folder(stage)
    entrypoint, command = stage.entrypoint, stage.command
    start = entrypoint or command
    if start is None:
        return Ran()
    if start.words is None:
        return scripts.run(start.text, stage.environment, folder)
    words = start.words.values
    if entrypoint is not None and command is not None and command.words is not None:
        words = (*words, *command.words.values)
    return scripts.words(words, start.place, stage.environment, folder)


def _folder(stage: Stage) -> Value | None:
    """Where in the build's folder the files come from that lie in the image's working folder."""
    if not isinstance(stage.folder, Scalar):
        return stage.folder
    wanted = posixpath.normpath(str(stage.folder.value))
    for source, target in reversed(stage.copies):
        here = posixpath.normpath(posixpath.join(wanted, target))
        inner = posixpath.relpath(wanted, here) if here.startswith("/") == wanted.startswith("/") else ".."
        if inner.split("/")[0] != ".." and "." not in posixpath.basename(source.rstrip("./")):
            origin = posixpath.normpath(posixpath.join(source.lstrip("/") or ".", inner))
            return None if origin == "." else Scalar(origin, stage.folder.place)
    return stage.folder
