"""What reading a file asks of its surroundings."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from vramlint.api.atlas import Concerns
from vramlint.api.contents import Again
from vramlint.api.readings import Readings
from vramlint.api.world import World
from vramlint.patterns import lazy
from vramlint.text import Document
from vramlint.values import Entry, Plain, Problem, Scalar, Shell, Value

ENOUGH = 3
"""Starts of a script, alike but for its options, after which one that trained nothing is left alone."""


class Idle:
    """Scripts that were started and trained nothing: what a project starts a hundred times to evaluate is read thrice.

    Starts are alike where the words are that choose among a script's jobs: `main.py train`, `--do_train`, `--mode fit`.
    """

    def __init__(self) -> None:
        self._times: dict[tuple[str, ...], int] = {}

    def knows(self, path: str, words: Sequence[Value]) -> bool:
        """Whether the script at a path, started with such words, has trained nothing often enough."""
        return self._times.get(_key(path, words), 0) >= ENOUGH

    def note(self, path: str, words: Sequence[Value], *, trains: bool) -> None:
        """Remember what came of a start. One that trains makes the others of its kind worth reading."""
        key = _key(path, words)
        self._times[key] = -1_000_000 if trains else self._times.get(key, 0) + 1


_CHOOSES = lazy(r"--?(?:[\w-]*[-_])?(?:mode|task|stage|phase|action|command|job)(?:[-_](?:name|type))?")
"""Options of which the value says what a script does."""
_SWITCHES = lazy(r"--?(?:[\w-]*[-_])?(?:train|training|fit|tune|finetune|pretrain|eval|test|predict|infer|only)")
"""Flags that say it by being given."""


def _key(path: str, words: Sequence[Value]) -> tuple[str, ...]:
    texts = [str(word.value) if isinstance(word, Scalar) else "" for word in words]
    chosen: set[str] = set()
    for text, following in zip(texts, (*texts[1:], ""), strict=False):
        name, _, value = text.partition("=")
        given = value or ("" if following.startswith("-") else following)
        if _CHOOSES.fullmatch(name) or _SWITCHES.fullmatch(name):
            chosen.add(f"{name}={given}")
    return (path, *takewhile(lambda text: text and not text.startswith("-"), texts), *sorted(chosen))


class Known:
    """What a project's scripts ask, and what is known of them."""

    def __init__(
        self,
        answers: Callable[[str, World], Mapping[str, Plain]],
        idle: Idle | None = None,
        concerns: Concerns | None = None,
        readings: Readings | None = None,
        again: Again | None = None,
    ) -> None:
        self._answers = answers
        self.idle = Idle() if idle is None else idle
        self.concerns = concerns
        """A command that has nothing to do with what is asked for is not followed; None: every one is."""
        self.readings = Readings() if readings is None else readings
        self.again = again
        """What is wanted of a launcher that is read again; None: all of it."""

    def __call__(self, path: str, world: World) -> Mapping[str, Plain]:
        """Answers to what the script at a path asks at run time, on a machine."""
        return self._answers(path, world)


class Recorder:
    """File access that remembers what was there."""

    def __init__(self, load: Callable[[str], Document | None]) -> None:
        self._load = load
        self.found: dict[str, None] = {}
        """The paths of what was found, in the order in which it was asked for."""

    def __call__(self, path: str) -> Document | None:
        """The document at `path`, None where there is none."""
        document = self._load(path)
        if document is not None:
            self.found[document.path] = None
        return document


def with_written(
    load: Callable[[str], Document | None], written: Sequence[tuple[str, Document]]
) -> Callable[[str], Document | None]:
    """File access in which the files that a launcher writes itself take the place of those on disk.

    They are told by their names alone: a script's working directory is rarely known.
    """
    if not written:
        return load
    by_name = dict(written)
    return lambda path: by_name.get(path.rpartition("/")[2]) or load(path)


class Shells:
    """Reads shell text and keeps what is wrong with it."""

    def __init__(self, load: Callable[[str], Document | None]) -> None:
        self._load = load
        self.problems: list[Problem] = []

    def __call__(
        self,
        document: Document,
        environment: Sequence[Entry] = (),
        name: str = "",
        *,
        arguments: Sequence[Value] | None = None,
    ) -> tuple[Shell, tuple[Problem, ...]]:
        """What the commands of a text do when it is called with `arguments`; None: nobody says with what."""
        from vramlint.readers.shell import read_shell

        folder = posixpath.dirname(document.path)

        def sourced(path: str) -> Document | None:
            """From the current folder, or from the script's, which scripts change to or are started in."""
            return self._load(path) or self._load(posixpath.normpath(posixpath.join(folder, path)))

        shell, problems = read_shell(document, environment, name, arguments=arguments, sources=sourced)
        self.problems += problems
        return shell, problems
