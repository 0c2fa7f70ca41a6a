"""Conditions under which a candidate holds: which contradict each other, which the trainer's flags decide."""

from __future__ import annotations

from collections.abc import Iterable, Set

from vramlint.patterns import lazy
from vramlint.resolve.board import Board
from vramlint.resolve.defaults import any_default
from vramlint.surfaces.keys import find_row

_FLAG = lazy(r"(?:\w+\.)*\w*(?:args|arguments|config)\w*\.(\w+)")
"""`training_args.bf16`: a flag of the trainer's arguments, as scripts name them."""


def contradicts(condition: str, held: Iterable[str]) -> bool:
    """Whether a condition cannot hold together with others."""
    atoms = {_bare(atom) for atom in _atoms(condition)}
    others = {_bare(atom) for other in held for atom in _atoms(other)}
    if any((bare, not positive) in atoms for bare, positive in others):
        return True
    together = atoms | others
    return any(not positive and _holds(bare, together) for bare, positive in together)


def _holds(conjunction: str, atoms: Set[tuple[str, bool]]) -> bool:
    """Whether several conditions joined by `and` all hold."""
    parts = _atoms(conjunction)
    return len(parts) > 1 and all(_bare(part) in atoms for part in parts)


def is_ruled_out(board: Board, name: str, condition: str) -> bool:
    """Whether a candidate of fact `name` is ruled out by its condition.

    By a condition that was chosen before, or because it asks for a flag of the trainer's arguments that this
    world has otherwise (`torch.bfloat16 if training_args.bf16 else None`).
    """
    if not condition:
        return False
    if contradicts(condition, board.conditions.values()):
        return True
    return any(_flag_value(board, name, atom) is False for atom in _atoms(condition))


def _atoms(condition: str) -> frozenset[str]:
    if not condition or _is_negation(condition):
        return frozenset(filter(None, (condition,)))
    return frozenset(part.strip() for part in condition.split(" and "))


def _is_negation(condition: str) -> bool:
    """`not (a and b)` is one atom."""
    return condition.startswith("not (") and condition.endswith(")")


def _bare(atom: str) -> tuple[str, bool]:
    """An atom without its negation, and whether it had none."""
    if _is_negation(atom):
        return atom[5:-1], False
    return (atom[4:], False) if atom.startswith("not ") else (atom, True)


def _flag_value(board: Board, name: str, atom: str) -> bool | None:
    """Whether an atom about a flag of the trainer's arguments holds in this world; None when it can't be told."""
    bare, positive = _bare(atom)
    match = _FLAG.fullmatch(bare)
    if match is None or not board.setting.trainer:
        return None
    row = find_row("training-arguments", match[1]) or find_row("trl", match[1])
    if row is None or row.converter not in ("flag", "switch"):
        return None
    known = board.value(row.fact) if row.fact != name else None
    if known is None:
        found = any_default(board, row.fact)
        known = found.value if found else None
    return known is positive if isinstance(known, bool) else None
