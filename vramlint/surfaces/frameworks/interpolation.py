"""Interpolations of OmegaConf in a file's values: `${a.b}`, `${.sibling}`, `${oc.env:X,8}` (omegaconf 2.3).

Grammar: omegaconf/grammar/OmegaConfGrammarParser.g4; built-in resolvers: omegaconf/resolvers/oc; arithmetic: what NeMo
registers (NeMo-Framework-Launcher 24, launcher_scripts/main.py: `multiply`, `divide_ceil`, `divide_floor`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.surfaces.launch.scalars import plain_of
from vramlint.values import Alternatives, Entry, Items, Option, Plain, Scalar, Table, Unknown, Value

MISSING = "???"
"""What OmegaConf takes for a value that somebody else has to give."""

_MOST_NESTED = 40
_MOST_STEPS = 20_000
"""Interpolations that are worked out for one file: references to tables of references can grow without end."""

_LONGEST = 65_536
"""Characters of a text that interpolations make."""

_INDEX = lazy(r"\[([^\[\]]*)\]")
_RESOLVER = lazy(r"\s*([A-Za-z_][\w.]*)\s*:(.*)$", re.DOTALL)

Path = tuple[str, ...]


def interpolated(table: Table, environment: tuple[Entry, ...] = ()) -> Table:
    """A table in which every interpolation is what it stands for.

    A value that a reference brings keeps the place where it is written; a text that is put together has the place of
    the interpolation. What only run time knows – a variable that nothing sets, a resolver of the program's own, a
    reference to nothing or to itself, `???` – is `Unknown`.

    Args:
        table: the root, to which `${a.b}` is absolute.
        environment: variables that are known; the last of a name wins.
    """
    if not any(_mentions(entry.value) for entry in table):
        return table
    resolved = _Resolution(table, environment).value(table, (), 0)
    return resolved if isinstance(resolved, Table) else table


def _mentions(value: Value) -> bool:
    match value:
        case Scalar(value=str(text)):
            return "${" in text or text == MISSING
        case Items(values=values):
            return any(map(_mentions, values))
        case Table(entries=entries):
            return any(_mentions(entry.value) for entry in entries)
        case Alternatives(options=options):
            return any(_mentions(option.value) for option in options)
    return False


class _Resolution:
    """The work on one table."""

    def __init__(self, root: Table, environment: tuple[Entry, ...]) -> None:
        self._root = root
        self._environment = {entry.key: entry.value for entry in environment}
        self._open: set[Path] = set()
        self._steps = 0

    def value(self, raw: Value, path: Path, depth: int) -> Value:
        """A value that stands at a path, with everything in it."""
        if depth > _MOST_NESTED:
            return raw
        match raw:
            case Scalar(value=str(text)) if text == MISSING:
                return Unknown("??? is given when the run is started", raw.place)
            case Scalar(value=str(text)) if "${" in text:
                return self._text(raw, text, path, depth)
            case Items(values=values):
                inner = [self.value(one, (*path, str(index)), depth + 1) for index, one in enumerate(values)]
                return replace(raw, values=tuple(inner))
            case Table(entries=entries):
                return replace(
                    raw,
                    entries=tuple(
                        [
                            replace(entry, value=self.value(entry.value, (*path, entry.key), depth + 1))
                            for entry in entries
                        ]
                    ),
                )
            case Alternatives(options=options):
                return replace(
                    raw,
                    options=tuple([Option(self.value(one.value, path, depth + 1), one.condition) for one in options]),
                )
        return raw

    def _text(self, raw: Scalar, text: str, path: Path, depth: int) -> Value:
        """What a text with interpolations stands for: the value itself where it is nothing else."""
        parts = list(_parts(text))
        if len(parts) == 1 and parts[0][1]:
            return self._reference(parts[0][0], raw, path, depth)
        made = ""
        for part, is_reference in parts:
            found = self._reference(part, raw, path, depth) if is_reference else Scalar(part)
            if isinstance(found, Unknown):
                return Unknown(found.reason, raw.place)
            if not isinstance(found, Scalar):
                return Unknown(f"${{{part}}} in a text", raw.place)
            made += _spelled(found.value)
            if len(made) > _LONGEST:
                return Unknown("interpolations that make a very long text", raw.place)
        return Scalar(made, raw.place, raw.via)

    def _reference(self, inside: str, raw: Scalar, path: Path, depth: int) -> Value:
        """What `${inside}` stands for at a path."""
        self._steps += 1
        if depth > _MOST_NESTED or self._steps > _MOST_STEPS:
            return Unknown("interpolations without end", raw.place)
        if "${" in inside:
            within = self._text(raw, f"{inside} ", path, depth + 1)  # a space: never the value itself
            if not isinstance(within, Scalar):
                return within
            inside = str(within.value)
        resolver = _RESOLVER.match(inside)
        if resolver is not None:
            return self._call(resolver[1], resolver[2], raw, path, depth)
        found = self._at(_absolute(inside.strip(), path), depth + 1)
        return (
            found if found is not None else Unknown(f"${{{inside.strip()}}}, which the file does not have", raw.place)
        )

    def _at(self, path: Path, depth: int) -> Value | None:
        """The value at an absolute path; None where there is none."""
        if path in self._open:
            return Unknown(f"${{{'.'.join(path)}}} refers to itself")
        self._open.add(path)
        try:
            here: Value = self._root
            for index, name in enumerate(path):
                if isinstance(here, Scalar):  # a reference on the way to it
                    here = self.value(here, path[:index], depth)
                step = _step(here, name)
                if step is None:
                    return here if isinstance(here, Unknown) else None
                here = step
            return self.value(here, path, depth)
        finally:
            self._open.discard(path)

    def _call(self, name: str, rest: str, raw: Scalar, path: Path, depth: int) -> Value:
        arguments = [_unquoted(part) for part in _split(rest)]
        if name in ("oc.env", "env"):
            return self._variable(arguments, raw)
        if name == "oc.select":
            found = self._at(_absolute(arguments[0], path), depth + 1)
            return found if found is not None else Scalar(_argument(arguments, 1), raw.place, raw.via)
        if name == "oc.decode":
            return Scalar(plain_of(arguments[0]), raw.place, raw.via)
        compute = _ARITHMETIC.get(name)
        numbers = [plain_of(part) for part in arguments]
        if compute is not None and len(numbers) > 1:
            known = [number for number in numbers if isinstance(number, int | float) and not isinstance(number, bool)]
            if len(known) == len(numbers) and not (name.startswith(("div", "int_div")) and 0 in known[1:]):
                return Scalar(compute(known), raw.place, "computed")
        return Unknown(f"resolver ${{{name}:…}}", raw.place)

    def _variable(self, arguments: list[str], raw: Scalar) -> Value:
        """`${oc.env:NAME,default}`."""
        known = self._environment.get(arguments[0])
        if isinstance(known, Scalar):
            return known
        if known is None and len(arguments) > 1:
            return Scalar(_argument(arguments, 1), raw.place, "environment")
        return Unknown(f"environment variable {arguments[0]}", raw.place)


def _quotient(numbers: list[int | float]) -> int | float:
    first, *others = numbers
    for number in others:
        first = first // number
    return first


def _ceiling(numbers: list[int | float]) -> int | float:
    return -((-numbers[0]) // numbers[1])


def _product(numbers: list[int | float]) -> int | float:
    made = numbers[0]
    for number in numbers[1:]:
        made *= number
    return made


_ARITHMETIC: Mapping[str, Callable[[list[int | float]], int | float]] = MappingProxyType(
    {
        "multiply": _product,
        "mul": _product,
        "add": sum,
        "sum": sum,
        "int_div": _quotient,
        "divide_floor": _quotient,
        "divide_ceil": _ceiling,
    }
)
"""Resolvers that programs register for arithmetic, by the names that they are given."""


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a text, and whether each is the inside of an interpolation; brackets within brackets counted."""
    at = start = 0
    literal = ""
    while (opening := text.find("${", at)) >= 0:
        if opening and text[opening - 1] == "\\":
            literal += text[start : opening - 1] + "${"
            at = start = opening + 2
            continue
        end = _closing(text, opening + 2)
        if end < 0:
            break
        literal += text[start:opening]
        if literal:
            yield literal, False
            literal = ""
        yield text[opening + 2 : end], True
        at = start = end + 1
    if literal + text[start:]:
        yield literal + text[start:], False


def _closing(text: str, at: int) -> int:
    depth = 1
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    return -1


def _absolute(name: str, path: Path) -> Path:
    """`a.b[0]` from the root, `.a` beside the value at `path`, `..a` beside what holds it."""
    up = len(name) - len(name.lstrip("."))
    rest = _INDEX.sub(lambda found: "." + found[1].strip("\"'"), name.lstrip("."))
    above = path[: max(len(path) - up, 0)] if up else ()
    return (*above, *(part for part in rest.split(".") if part))


def _step(value: Value, name: str) -> Value | None:
    if isinstance(value, Table):
        return value.get(name)
    if isinstance(value, Items) and re.fullmatch(r"-?\d{1,9}", name):
        index = int(name)
        return value.values[index] if -len(value.values) <= index < len(value.values) else None
    return None


def _split(text: str) -> list[str]:
    """Arguments of a resolver: parted by commas that are neither quoted nor in brackets."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _argument(arguments: list[str], index: int) -> Plain:
    return plain_of(arguments[index]) if len(arguments) > index else None


def _spelled(value: Plain) -> str:
    return "" if value is None else str(value)
