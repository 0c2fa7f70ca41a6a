"""Arithmetic over variables: `$((…))`, `((…))`, subscripts."""

from __future__ import annotations

from vramlint.readers.shell import arithmetic, expansion, parameters
from vramlint.readers.shell.machine import Machine
from vramlint.readers.shell.pieces import Choice, Hole, Pieces, Text, chosen, holes, known, variants, written
from vramlint.readers.shell.source import Range


class _Names:
    """The variables of one arithmetic expression; `decided` says which option a choice stands for."""

    def __init__(self, machine: Machine, at: Range, decided: dict[str, str]) -> None:
        self.machine, self.at, self.decided = machine, at, decided

    def value(self, name: str, index: str | None) -> str:
        key = name if index is None else f"{name}[{index}]"
        if key in self.decided:
            return self.decided[key]
        pieces = parameters.element(self.machine, name, index, self.at) or ()
        text = known(pieces)
        if text is not None:
            return text
        hole = next(holes(pieces), None)
        if any(isinstance(piece, Choice) for piece in pieces):
            raise _Several(key, pieces)
        raise arithmetic.Undecided(hole.reason if hole else f"the value of {name}")

    def assign(self, name: str, index: str | None, value: int) -> None:
        piece = (Text(str(value), self.at, "computed", False, None, self.at),)
        self.decided.pop(name if index is None else f"{name}[{index}]", None)
        if index is None:
            self.machine.assign(name, piece)
        else:
            parameters.assign_element(self.machine, name, index, piece)


class _Several(Exception):  # noqa: N818
    def __init__(self, key: str, pieces: Pieces) -> None:
        self.key, self.pieces = key, pieces


def calculated(machine: Machine, start: int, end: int, at: Range, *, quoted_: bool) -> Pieces:
    """The value of an arithmetic expression between two offsets."""
    pieces = expansion.quoted(machine, start, end, heredoc=False)
    options: list[tuple[Pieces, str]] = []
    for option, condition in variants(pieces):
        text = known(option)
        if text is None:
            options.append(((_unknown(option, at, quoted_),), condition))
        else:
            options.extend(
                (found, " && ".join(filter(None, (condition, more))))
                for found, more in _solutions(machine, text.replace('"', ""), at, quoted_, {})
            )
    return options[0][0] if len(options) == 1 else chosen(options, at)


def _unknown(pieces: Pieces, at: Range, quoted_: bool) -> Hole:
    hole = next(holes(pieces), None)
    return Hole(hole.reason if hole else "an expression", written(at), at, quoted_, None, at)


def _solutions(
    machine: Machine, text: str, at: Range, quoted_: bool, decided: dict[str, str]
) -> list[tuple[Pieces, str]]:
    try:
        value = arithmetic.evaluate(text, _Names(machine, at, decided.copy()))
    except arithmetic.Undecided as why:
        return [((Hole(str(why), written(at), at, quoted_, None, at),), "")]
    except _Several as several:
        found: list[tuple[Pieces, str]] = []
        for option, condition in variants(several.pieces):
            option_text = known(option)
            if option_text is None or len(decided) > 1:
                found.append(((_unknown(option, at, quoted_),), condition))
            else:
                results = _solutions(machine, text, at, quoted_, {**decided, several.key: option_text})
                found += [(result, " && ".join(filter(None, (condition, more)))) for result, more in results]
        return found
    return [((Text(str(value), at, "computed", quoted_, at),), "")]
