"""The commands that a notebook runs: `!` lines, cells of bash, `%run`.

What its Python starts as processes (`subprocess`, `os.system`) is read as that of any script.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, Piece, moved_shell
from vramlint.readers.notebook.escapes import Escape
from vramlint.readers.notebook.literals import Text, interpolated, text_of_literal
from vramlint.readers.notebook.magics import SHELL_CELLS, Role
from vramlint.readers.notebook.names import Names, dotted
from vramlint.readers.notebook.program import Escaped, Script, Statement
from vramlint.readers.templates import filled, filled_word
from vramlint.text import Document, Place, masked
from vramlint.values import Command, Entry, Problem, Scalar, Shell, Value, WrittenFile


class ReadShell(Protocol):
    """The reader of shell scripts."""

    def __call__(
        self, document: Document, environment: Sequence[Entry] = (), name: str = ""
    ) -> tuple[Shell, tuple[Problem, ...]]:
        """What a script does, given the variables that it finds."""
        ...


class Ran(NamedTuple):
    """What a notebook runs and writes besides its Python."""

    shell: tuple[Shell, ...]
    files: tuple[WrittenFile, ...]
    environment: tuple[Entry, ...]
    """Variables that it sets."""


_ASSIGNMENT = lazy(r"(?P<name>[A-Za-z_]\w*)(?:[ \t]*=[ \t]*|[ \t]+)(?P<value>.+)", re.DOTALL)
_ARGUMENTS = lazy(r"(?:\A|[ \t])-s(?=[ \t])")
_MOST = 500
"""Shells of one notebook that are followed."""
_MOST_FILES = 100
_NEAR = 200
"""Lines above a command in which the headers of its blocks are looked for."""
_HEADER = lazy(r"(?P<word>if|elif|else|for|while|def|async|match|case)\b[ \t]*(?P<test>.*?):[ \t]*(?:\#.*)?\Z")


def run(document: Document, script: Script, read: ReadShell) -> Ran:
    """What the cells of a notebook run, in their order."""
    runner = _Runner(document, read, script.margin)
    for _, event in sorted(_events(document, script), key=lambda event: event[0]):
        try:
            runner.follow(event)
        except RecursionError:  # an expression of thousands of terms is no command
            continue
    return Ran(tuple(runner.shells), tuple(runner.files), tuple(runner.names.environment.values()))


def _events(document: Document, script: Script) -> Iterator[tuple[int, Statement | Escaped]]:
    for statement in script.statements:
        yield statement.node.lineno + statement.shift, statement
    for escaped in script.escaped:
        yield document.position(escaped.escape.start)[0], escaped


class _Runner:
    def __init__(self, document: Document, read: ReadShell, margin: re.Pattern[str] | None) -> None:
        self.names = Names(document)
        self.shells: list[Shell] = []
        self.files: list[WrittenFile] = []
        self._document = document
        self._read = read
        self._margin = margin

    def follow(self, event: Statement | Escaped) -> None:
        """One statement or escape."""
        if isinstance(event, Escaped):
            self.escape(*event)
            return
        self.names.shift = event.shift
        for call in self.names.run(event.node):
            self.call(call)

    def escape(self, role: Role, escape: Escape) -> None:
        """Run a magic or a command line."""
        start, end = escape.arguments
        match role:
            case Role.SHELL if escape.body:
                self._cell(escape)
            case Role.SHELL:
                self._shell(interpolated(self.names, self._copied(start, end)), self._conditions(escape))
            case Role.RUN:
                python = Piece("python", escape.start, start)
                text = interpolated(self.names, [python, *self._copied(start, end)])
                self._shell(text, self._conditions(escape))
            case Role.FILE if escape.body and len(self.files) < _MOST_FILES:
                self._file(escape, *escape.body)
            case Role.ENVIRONMENT:
                self._variable(start, end)
            case Role.FOLDER:
                text = interpolated(self.names, self._copied(start, end))
                self.names.enter(self._word(text, "~"))
            case _:
                pass

    def call(self, call: ast.Call) -> None:
        """Run what a call of IPython's shell does: scripts made from notebooks have these in place of magics."""
        match dotted(call.func), call.args:
            case (("get_ipython().system" | "get_ipython().getoutput"), [command, *_]):
                self._given(command)
            case "get_ipython().run_cell_magic", [ast.Constant(value=str() as name), _, body] if name in SHELL_CELLS:
                self._given(body)
            case "get_ipython().run_line_magic", [
                ast.Constant(value="env"),
                ast.Constant(value=str() as line) as given,
            ]:
                match = _ASSIGNMENT.fullmatch(line.strip())
                if match is not None:
                    place = self.names.place(given)
                    self.names.set_variable(match["name"], place, Scalar(match["value"], place))
            case "get_ipython().run_line_magic", [ast.Constant(value="cd"), folder]:
                self.names.enter(self.names.evaluate(folder))
            case _:
                pass

    def _given(self, node: ast.expr) -> None:
        text = self.names.texts.get(node.id) if isinstance(node, ast.Name) else text_of_literal(self.names, node)
        if text is not None:
            self._shell(text)

    def _cell(self, escape: Escape) -> None:
        start, end = escape.arguments
        body = self._copied(*(escape.body or (end, end)))
        behind = _ARGUMENTS.search(self._document.text, start, end)
        if behind is None:
            self._shell(Text(Excerpt.of(self._document, body)))
            return
        arguments = [Piece("set --", behind.start(), behind.end()), *self._copied(behind.end(), end)]
        given = interpolated(self.names, arguments)
        pieces = (*given.excerpt.pieces, Piece("\n", end, end), *body)
        self._shell(Text(Excerpt.of(self._document, pieces), given.held))

    def _shell(self, text: Text, conditions: tuple[str, ...] = ()) -> None:
        """Run text in a shell of its own, which leaves no trace in the notebook."""
        if len(self.shells) >= _MOST:
            return
        shell, _ = self._read(text.excerpt.document, (*self._environment(), *text.held))
        shell = moved_shell(shell, text.excerpt)
        self.files += shell.files
        commands = tuple(self._placed(filled(command, text.held), conditions) for command in shell.commands)
        if commands or shell.files:
            self.shells.append(replace(shell, commands=commands))

    def _placed(self, command: Command, conditions: tuple[str, ...]) -> Command:
        folder = command.folder
        if self.names.folder is not None:
            inner = Names(self._document)
            inner.folder = self.names.folder
            if folder is not None:
                inner.enter(folder)
            folder = inner.folder
        return replace(command, folder=folder, conditions=(*conditions, *command.conditions))

    def _file(self, escape: Escape, start: int, end: int) -> None:
        name = self._word(interpolated(self.names, self._copied(*escape.arguments)), "")
        spans = [self._document.span(piece.start, piece.end) for piece in self._copied(start, end)]
        self.files.append(WrittenFile(name, masked(self._document, spans), self._place(escape.start, end)))

    def _variable(self, start: int, end: int) -> None:
        """`%env NAME=value`, `%env NAME value`."""
        text = interpolated(self.names, self._copied(start, end))
        written = text.excerpt.text
        match = _ASSIGNMENT.fullmatch(written, len(written) - len(written.lstrip()), len(written.rstrip()))
        if match is None:
            return
        key = self._place(*text.excerpt.site(*match.span("name")))
        value = self._value(text, *match.span("value"))
        self.names.set_variable(match["name"], key, value)

    def _word(self, text: Text, default: str) -> Value:
        """The last word of a magic's line, its quotes taken off."""
        written = text.excerpt.text
        match = re.search(r"(?P<quote>['\"])(?P<quoted>.*)(?P=quote)\s*\Z|(?P<bare>\S+)\s*\Z", written)
        if match is None:
            return Scalar(default)
        return self._value(text, *match.span("quoted" if match["bare"] is None else "bare"))

    def _value(self, text: Text, start: int, end: int) -> Value:
        place = self._place(*text.excerpt.site(start, end))
        return filled_word(Scalar(text.excerpt.text[start:end], place), text.held)

    def _conditions(self, escape: Escape) -> tuple[str, ...]:
        """The headers of the blocks that an indented command stands in, the outermost first."""
        if not escape.indented:
            return ()
        line, column = self._document.position(escape.start)
        cell = self._document.cell(line)
        found: list[str] = []
        for number in range(line - 1, max(cell.first_line - 1 if cell else 0, line - _NEAR), -1):
            above = self._document.line(number)
            indent = len(above) - len(above.lstrip())
            if above.strip() and indent < column - 1:
                column = indent + 1
                header = _HEADER.match(above.strip())
                found += [(header["test"] or header["word"]) if header["word"] == "if" else header[0]] if header else []
        return tuple(reversed(found))

    def _environment(self) -> tuple[Entry, ...]:
        return tuple(self.names.environment.values())

    def _copied(self, start: int, end: int) -> list[Piece]:
        """The text as it stands, lines behind the first without the marks that make comments of them."""
        text = self._document.text
        if self._margin is None:
            return [Piece(text[start:end], start, end)]
        pieces: list[Piece] = []
        for number, line in enumerate(text[start:end].splitlines(keepends=True)):
            mark = self._margin.match(line) if number or text[start - 1 : start] == "\n" else None
            begin = start + (mark.end() if mark else 0)
            pieces.append(Piece(text[begin : start + len(line)], begin, start + len(line)))
            start += len(line)
        return pieces

    def _place(self, start: int, end: int) -> Place:
        return Place(self._document.path, self._document.span(start, end))
