"""Which files of a project name which: found from any end, by their bytes, before anything is parsed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from vramlint.discovery import SourceFile
from vramlint.discovery.forms import form_of, is_no_run
from vramlint.discovery.prefilter import may_train
from vramlint.patterns import lazy
from vramlint.text import Document

MOST_SEARCHED = 4000
"""Files of a project that are looked at for the names of the checked ones."""

_STARTING = frozenset(("shell", "make", "docker", "yaml", "notebook"))
_MODEL_CONFIG = "config.json"
_ROUNDS = 2
"""From a DeepSpeed JSON to the script that names it, from there to the launcher that starts the script."""


class Atlas:
    """The files around the checked ones that name them.

    Args:
        around: the paths of the files in the project of a path, bounded and without what ignore rules leave out.
        load: a file's bytes.
    """

    def __init__(self, around: Callable[[str], Sequence[str]], load: Callable[[str], bytes | None]) -> None:
        self._around = around
        self._load = load
        self._kept: dict[str, bytes | None] = {}

    def referrers(self, given: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
        """Launchers and scripts that name one of the given files, or a file that does, in the order of their paths."""
        found: dict[str, SourceFile] = {}
        targets: Sequence[SourceFile] = given
        known = {file.path for file in given}
        for _ in range(_ROUNDS):
            mentions = _Mentions(targets)
            targets = [file for file in self._candidates(given, mentions) if file.path not in known]
            if not targets:
                break
            found |= {file.path: file for file in targets}
            known |= found.keys()
        return tuple(found[path] for path in sorted(found))

    def _candidates(self, given: Sequence[SourceFile], mentions: _Mentions) -> Iterator[SourceFile]:
        for path in self._paths(given)[:MOST_SEARCHED]:
            form = form_of(path)
            mentioned = mentions.anywhere if form in _STARTING else mentions.in_script if form == "python" else None
            if mentioned is None or is_no_run(_name(path)):
                continue
            data = self._bytes(path)
            if data is not None and mentioned(data) and may_train(form, data):
                yield SourceFile(path, form, data, explicit=False)

    def _paths(self, given: Sequence[SourceFile]) -> list[str]:
        return list(dict.fromkeys(path for file in given for path in self._around(file.path)))

    def _bytes(self, path: str) -> bytes | None:
        if path not in self._kept:
            self._kept[path] = self._load(path)
        return self._kept[path]


class Concerns:
    """Whether a command of a launcher has to do with given scripts, Python's or shells'.

    Many a project has a `train.py` in every folder, and each launcher starts its own under that bare name; many a
    shell script is named in the comments of the next.

    Args:
        files: the given scripts, and the files that name them or a file that does.
        given: the absolute paths of the former.
        absolute: makes a path absolute.
    """

    def __init__(self, files: Sequence[SourceFile], given: Container[str], absolute: Callable[[str], str]) -> None:
        self._mentions = _Mentions([file for file in files if _is_script(file)])
        self._given = given
        self._absolute = absolute
        self._known: dict[str, bool] = {}

    def script(self, document: Document) -> bool:
        """Whether a script that is started is a given one, or may import one."""
        path = document.path
        if path not in self._known:
            named = self._mentions.in_script(document.text.encode(errors="replace"))
            self._known[path] = self._absolute(path) in self._given or named
        return self._known[path]

    def through(self, paths: Iterable[str]) -> bool:
        """Whether one of the scripts that lead to a command is a given one."""
        return any(self._absolute(path) in self._given for path in paths)

    def word(self, text: str) -> bool:
        """Whether a word names one of the scripts, as a file of settings in Python is named."""
        return self._mentions.anywhere(text.encode(errors="replace"))


def concerns_of(files: Sequence[SourceFile], given: Container[str], absolute: Callable[[str], str]) -> Concerns | None:
    """What launchers are followed for; None, which is everything, where other files than scripts were given, too."""
    scripts = all(file.form in ("python", "shell") for file in files if absolute(file.path) in given)
    return Concerns(files, given, absolute) if scripts else None


class _Mentions:
    """What a file must hold to name one of some files."""

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self._names = _encoded(_name(file.path) for file in files)
        self._data = _encoded(_name(file.path) for file in files if file.form in ("json", "yaml"))
        self._modules = frozenset(_encoded(_name(file.path).removesuffix(".py") for file in files if _is_script(file)))

    def anywhere(self, data: bytes) -> bool:
        """In a launcher: the name of a file, or of a script as a module."""
        return any(name in data for name in self._names) or (
            bool(self._modules)
            and any(not self._modules.isdisjoint(match[1].split(b".")) for match in _MODULE.finditer(data))
        )

    def in_script(self, data: bytes) -> bool:
        """In a script: the name of a data file, or the import of a module."""
        return any(name in data for name in self._data) or (
            bool(self._modules) and not self._modules.isdisjoint(_imported(data))
        )


_MODULE = lazy(rb"-(?:m|-module)[ \t'\",=]+([\w.]+)")
_IMPORTED = lazy(rb"import\b(?:[ \t]+([\w.]+))?")
_FROM = lazy(rb"[ \t]*from[ \t]+([\w.]+)[ \t]+\Z")


def _imported(data: bytes) -> Iterator[bytes]:
    """The last part of each module that names are imported from, and all parts of those that are imported whole.

    By the word itself, which is found far faster than the beginnings of all lines.
    """
    for match in _IMPORTED.finditer(data):
        before = data[data.rfind(b"\n", 0, match.start()) + 1 : match.start()]
        if not before.strip(b" \t"):
            yield from (match[1] or b"").split(b".")
        elif found := _FROM.match(before):
            yield found[1].rpartition(b".")[2]


def _encoded(names: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(name.encode(errors="surrogateescape") for name in names))


def _is_script(file: SourceFile) -> bool:
    return file.form == "python"


def _name(path: str) -> str:
    """What others call a file; a model's config.json lies in the folder that they name."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return folder.rpartition("/")[2] or name if name == _MODEL_CONFIG else name
