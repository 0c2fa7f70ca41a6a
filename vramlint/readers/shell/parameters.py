"""Parameters: `$X`, `${X:-8}`, `${X##*/}`, `${A[@]}`, `$1`, `$#`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vramlint.patterns import lazy
from vramlint.readers.shell import operators
from vramlint.readers.shell.fields import BLANKS, stream
from vramlint.readers.shell.machine import Machine
from vramlint.readers.shell.pieces import (
    Choice,
    Fork,
    Hole,
    Pieces,
    Text,
    Word,
    assigned,
    joined,
    known,
    referred,
    written,
)
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Array, Held
from vramlint.readers.shell.wellknown import ALWAYS_SET, counted

_PARAMETER = lazy(r"(!?)(#?)([A-Za-z_]\w*|\d+|[@*#?$!_-])", re.ASCII)


def separators(machine: Machine) -> str:
    """What words are split at: the value of IFS."""
    held = machine.state.variables.get("IFS")
    text = None if held is None or isinstance(held, Array) else known(held)
    return BLANKS if text is None else text


def kept(item: Word) -> Word:
    """A word as a variable keeps it."""
    if isinstance(item, Fork):
        return Fork(tuple((tuple(kept(word) for word in words), text) for words, text in item.options))
    return assigned(item)


def reference(machine: Machine, name: str, at: Range, *, quoted: bool) -> Pieces:
    """`$name`, with what it may be when it is unset."""
    if name in ("@", "*"):
        return _all(machine, _arguments(machine, at), name, at, quoted=quoted)
    pieces = lookup(machine, name, at)
    if pieces is None:
        return tuple(_marked(machine.unset(name, at), at, quoted))
    return referred(pieces, at, quoted=quoted)


def _marked(pieces: Pieces, at: Range, quoted: bool) -> Pieces:
    return tuple(piece._replace(quoted=quoted, ref=at) if isinstance(piece, Hole) else piece for piece in pieces)


def lookup(machine: Machine, name: str, at: Range) -> Pieces | None:
    """The value of a parameter, None if it is unset."""
    if name.isdigit():
        return _positional(machine, int(name), at)
    if name in _SPECIAL:
        return _special(machine, name, at)
    held = machine.state.variables.get(name)
    if held is not None:
        return _first(held, at)
    if name == "BASH_SOURCE":
        return _positional(machine, 0, at)
    if name in ("PWD", "OLDPWD"):
        return machine.state.folder or (Text(".", at, "computed", True),)
    if name in ALWAYS_SET:
        return (Hole(ALWAYS_SET[name], written(at), at, True),)
    found = counted(name)
    return (Hole(found, written(at), at, True),) if found else None


def _first(held: Held, at: Range) -> Pieces:
    """What `$A` is of an array: its first element."""
    if not isinstance(held, Array):
        return held
    return _item(held, "0", at) or ()


_SPECIAL = {
    "#": "number of arguments",
    "?": "exit status of the command before",
    "$": "process id",
    "!": "process id",
    "-": "options of the shell",
    "_": "last argument of the command before",
}


def _special(machine: Machine, name: str, at: Range) -> Pieces:
    words = machine.state.arguments.words
    if name == "#" and words is not None and not any(isinstance(word, Fork) for word in words):
        return (Text(str(len(words)), at, "computed", True),)
    if name == "#":
        return (Hole(f"{_SPECIAL[name]} of {machine.name}", "$#", at, True, "0"),)
    if name == "?":
        return (Text("0", at, "computed", True),)
    return (Hole(_SPECIAL[name], f"${name}", at, True),)


def _positional(machine: Machine, number: int, at: Range) -> Pieces | None:
    if not number:
        path = machine.source.document.path
        return (Text(path, at, "computed", True),) if path else (Hole("name of the script", "$0", at, True),)
    words, shifted = machine.state.arguments
    if words is None:
        reason = f"positional argument {number + shifted} of {machine.name}"
        return (Hole(reason, written(at), at, True, ""),)
    if any(isinstance(word, Fork) for word in words[:number]):
        return (Hole(f"argument {number}, which depends on a condition", written(at), at, True),)
    return stream(words[number - 1 : number]) if number <= len(words) else None


def _arguments(machine: Machine, at: Range) -> Sequence[Word]:
    words = machine.state.arguments.words
    if words is None:
        return [(Hole(f"arguments of {machine.name}", written(at), at, False, ""),)]
    return words


def _all(machine: Machine, words: Sequence[Word], mark: str, at: Range, *, quoted: bool) -> Pieces:
    """`"$@"` and `"${A[@]}"` word by word, `"$*"` joined by the first separator."""
    if len(words) == 1 and mark == "@" and _stands_for_several(words[0]):
        return tuple(piece._replace(ref=at, quoted=False) for piece in words[0] if isinstance(piece, Hole))
    if quoted and mark == "*":
        separator = Text(separators(machine)[:1], at, "computed", True, at)
        parts = [referred(stream((word,)), at, quoted=True) for word in words]
        return joined(parts, separator) or (Text("", at, "computed", True, at),)
    return stream([_referred(word, at, quoted) for word in words])


def _stands_for_several(word: Word) -> bool:
    """Whether a word is all the arguments that nobody says."""
    return len(word) == 1 and isinstance(word[0], Hole) and not word[0].quoted


def _referred(word: Word, at: Range, quoted: bool) -> Word:
    if isinstance(word, Fork):
        return Fork(tuple((tuple(_referred(item, at, quoted) for item in words), text) for words, text in word.options))
    return referred(word, at, quoted=quoted) or ((Text("", at, "computed", True, at),) if quoted else ())


def element(machine: Machine, name: str, index: str | None, at: Range) -> Pieces | None:
    """A variable or the element `index` of an array, None if unset and not of the environment."""
    if index is None:
        pieces = lookup(machine, name, at)
        return machine.unset(name, at) if pieces is None else pieces
    held = machine.state.variables.get(name)
    if held is None:
        return machine.unset(name, at)
    return _item(held, index, at)


def _item(held: Held, index: str, at: Range) -> Pieces | None:
    if not isinstance(held, Array):
        hole = next((piece for piece in held if isinstance(piece, Hole)), None)
        return held if index in ("0", "-1") or hole else None
    if held.keys is not None and index in held.keys:
        return stream((held.elements[held.keys.index(index)],))
    if held.associative or not index.lstrip("-").isdigit():
        return None
    number = int(index)
    if held.keys is not None:
        return stream((held.elements[-1],)) if number == -1 and held.elements else None
    if any(isinstance(item, Fork) for item in (held.elements[number:] if number < 0 else held.elements[: number + 1])):
        return (Hole("an element of an array that depends on a condition", written(at), at, True),)
    return stream((held.elements[number],)) if -len(held.elements) <= number < len(held.elements) else None


def assign_element(machine: Machine, name: str, index: str, pieces: Pieces) -> None:
    """Set the element `index` of an array."""
    held = machine.state.variables.get(name)
    array = held if isinstance(held, Array) else Array((held,) if held else ())
    keys = array.keys if array.keys is not None else tuple(str(number) for number in range(len(array.elements)))
    elements = list(array.elements)
    if index in keys:
        elements[keys.index(index)] = pieces
    else:
        keys = (*keys, index)
        elements.append(pieces)
    counting = not array.associative and keys == tuple(str(number) for number in range(len(keys)))
    machine.assign(name, Array(tuple(elements), None if counting else keys, array.associative))


def braced(machine: Machine, start: int, end: int, at: Range, *, quoted: bool) -> Pieces:
    """`${…}`, of which the content lies between two offsets."""
    text = machine.source.text
    if text[start:end] in ("#", "@", "*", "?", "!", "$", "-", "_"):
        return reference(machine, text[start:end], at, quoted=quoted)
    match = _PARAMETER.match(text, start, end)
    if match is None:
        return (Hole(f"the expansion {written(at)}", written(at), at, quoted, None, at),)
    indirect, length, name = match[1], match[2], match[3]
    index = match.end()
    subscript: tuple[int, int] | None = None
    if text[index : index + 1] == "[" and index < end:
        close = _close(text, index, end)
        subscript = (index + 1, close)
        index = min(close + 1, end)
    many = text[slice(*subscript)].strip() if subscript else name
    many = many if many in ("@", "*") else ""
    if length:
        return _length(machine, name, subscript, many, at, quoted=quoted)
    if indirect:
        return _indirect(machine, name, subscript, many, (index, end), at, quoted=quoted)
    if many:
        words = _elements(machine, name, at) if subscript else _arguments(machine, at)
        words = operators.each(machine, words, index, end, at)
        return _all(machine, words, many, at, quoted=quoted)
    pieces = _subscripted(machine, name, subscript, at)
    return operators.applied(machine, name, pieces, (index, end), at, quoted=quoted)


def _close(text: str, index: int, end: int) -> int:
    """The `]` that closes the bracket at `index`."""
    depth = 0
    for place in range(index, end):
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        if not depth:
            return place
    return end


def _elements(machine: Machine, name: str, at: Range) -> Sequence[Word]:
    held = machine.state.variables.get(name)
    if held is None:
        pieces = machine.unset(name, at)
        return [pieces] if pieces else []
    return held.elements if isinstance(held, Array) else [held]


def _subscripted(machine: Machine, name: str, subscript: tuple[int, int] | None, at: Range) -> Pieces | None:
    if subscript is None:
        return lookup(machine, name, at)
    held = machine.state.variables.get(name)
    if held is None:
        return lookup(machine, name, at) if name == "BASH_SOURCE" else None
    index = _index(machine, held, subscript, at)
    if index is None:
        return (Hole(f"the element {written(at)}", written(at), at, True),)
    return _item(held, index, at)


def _index(machine: Machine, held: Held, subscript: tuple[int, int], at: Range) -> str | None:
    from vramlint.readers.shell.calculation import calculated
    from vramlint.readers.shell.expansion import word

    if isinstance(held, Array) and held.associative:
        return known(word(machine, *subscript))
    return known(calculated(machine, *subscript, at, quoted_=True))


def _length(
    machine: Machine, name: str, subscript: tuple[int, int] | None, many: str, at: Range, *, quoted: bool
) -> Pieces:
    if many:
        words = _elements(machine, name, at) if subscript else _arguments(machine, at)
        if any(isinstance(word, Fork) or (len(word) == 1 and isinstance(word[0], Hole)) for word in words):
            return (Hole(f"the number of elements of {name}", written(at), at, quoted, None, at),)
        return (Text(str(len(words)), at, "computed", quoted, at),)
    pieces = _subscripted(machine, name, subscript, at)
    pieces = machine.unset(name, at) if pieces is None else pieces
    return operators.changed(pieces, lambda text: str(len(text)), at, quoted=quoted)


def _indirect(
    machine: Machine,
    name: str,
    subscript: tuple[int, int] | None,
    many: str,
    rest: tuple[int, int],
    at: Range,
    *,
    quoted: bool,
) -> Pieces:
    if many and subscript:
        held = machine.state.variables.get(name)
        if isinstance(held, Array):
            keys = held.keys or tuple(str(number) for number in range(len(held.elements)))
            return stream([(Text(key, at, "computed", quoted, at),) for key in keys])
        return ()
    pieces = _subscripted(machine, name, subscript, at)
    target = None if pieces is None else known(pieces)
    if target is None or any(isinstance(piece, Choice) for piece in pieces or ()):
        return (Hole(f"the variable that {name} names", written(at), at, quoted, None, at),)
    if not target.replace("_", "a").isalnum():
        return (Hole(f"the variable that {name} names", written(at), at, quoted, None, at),)
    return operators.applied(machine, target, lookup(machine, target, at), rest, at, quoted=quoted)
