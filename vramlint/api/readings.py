"""Programs that were read before, for as long as all that their reading asked for is answered as it was.

A plan that changes a launcher leaves most of what it starts as it is, one that changes a script leaves other scripts
so. What reading a program depends on is its text and command line, and the answers that it gets on the way: what the
machine is, which files its imports and its paths lead to. An earlier reading stands where each of these is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from vramlint.facts import Sheet
from vramlint.text import Document
from vramlint.values import Invocation, Plain, Problem, Program

MOST = 128
"""Readings that are kept: those of two launchers of as many starts as are followed."""

Find = Callable[[str], Document | None]


class _Missing:
    """The answer where none is known."""


class _Kept(NamedTuple):
    known: Mapping[str, object]
    """What was asked of the machine and the libraries, with the answers."""
    found: Mapping[tuple[bool, str], Document | None]
    """The modules (True) and other files that were asked for, in order, with what was there."""
    whole: bool
    """All answers were asked for, and not single ones."""
    program: Program | None
    problems: tuple[Problem, ...]


class Readings:
    """Reads programs, each with one command line and the same answers once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Document, str], list[_Kept]] = OrderedDict()
        self._sheets: dict[int, tuple[Program, Sheet]] = {}

    def read(
        self,
        document: Document,
        known: Mapping[str, Plain],
        modules: Find = lambda _: None,
        invocation: Invocation | None = None,
        files: Find = lambda _: None,
        chosen: Mapping[str, str] | None = None,
    ) -> tuple[Program | None, tuple[Problem, ...]]:
        """As `readers.python.read_program`; `modules` and `files` are asked for the same, in the same order."""
        # as text, for True is another argument than 1
        key = (document, repr((invocation, sorted((chosen or {}).items()))))
        earlier = self._kept.get(key, ())
        for kept in earlier:
            if _stands(kept, known, modules, files):
                self._kept.move_to_end(key)
                return kept.program, kept.problems
        from vramlint.readers.python import read_program

        found: dict[tuple[bool, str], Document | None] = {}
        noted = _Noted(known)
        program, problems = read_program(
            document,
            noted,
            lambda name: _noting(found, (True, name), modules),
            invocation=invocation,
            files=lambda path: _noting(found, (False, path), files),
            chosen=chosen,
        )
        self._keep(key, _Kept(noted.answers, found, noted.whole, program, problems))
        return program, problems

    def sheet(self, program: Program) -> Sheet:
        """As `surfaces.program_sheet`."""
        found = self._sheets.get(id(program))
        if found is None:
            from vramlint.surfaces import program_sheet

            found = program, program_sheet(program)
            if len(self._sheets) >= MOST:
                self._sheets.clear()
            self._sheets[id(program)] = found
        return found[1]

    def _keep(self, key: tuple[Document, str], kept: _Kept) -> None:
        self._kept[key] = [*self._kept.get(key, ()), kept]
        self._kept.move_to_end(key)
        while sum(map(len, self._kept.values())) > MOST:
            self._kept.popitem(last=False)


class _Noted(Mapping[str, Plain]):
    """Answers that are noted when they are asked for."""

    def __init__(self, known: Mapping[str, Plain]) -> None:
        self._known = known
        self.answers: dict[str, Plain | type[_Missing]] = {}
        self.whole = False

    def __getitem__(self, question: str) -> Plain:
        answer = self._answer(question)
        if isinstance(answer, type):
            raise KeyError(question)
        return answer

    def __contains__(self, question: object) -> bool:
        return isinstance(question, str) and self._answer(question) is not _Missing

    def _answer(self, question: str) -> Plain | type[_Missing]:
        if question not in self.answers:
            self.answers[question] = _answer(self._known, question)
        return self.answers[question]

    def __iter__(self) -> Iterator[str]:
        self.whole = True
        return iter(self._known)

    def __len__(self) -> int:
        self.whole = True
        return len(self._known)


def _answer(known: Mapping[str, Plain], question: str) -> Plain | type[_Missing]:
    try:
        return known[question]
    except KeyError:
        return _Missing


def _noting(found: dict[tuple[bool, str], Document | None], key: tuple[bool, str], find: Find) -> Document | None:
    found[key] = find(key[1])
    return found[key]


def _stands(kept: _Kept, known: Mapping[str, Plain], modules: Find, files: Find) -> bool:
    """Whether everything that a reading asked for is answered as it was."""
    if kept.whole:
        return False
    for question, answer in kept.known.items():
        now = _answer(known, question)
        if type(now) is not type(answer) or now != answer:
            return False
    return all(
        (modules if is_module else files)(name) == document for (is_module, name), document in kept.found.items()
    )
