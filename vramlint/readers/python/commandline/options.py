"""Options and how the words of a command line fall to them, as argparse reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from vramlint.readers.python.commandline.kinds import to_bool
from vramlint.readers.python.commandline.words import Words, head, is_flag, is_loose, part, spelled, split_flag
from vramlint.readers.python.objects import Object
from vramlint.text import Place
from vramlint.values import Scalar, Unknown

REST = "..."
"""The arity of an argument that takes all words that are left, flags too."""

FLAG = "flag"
"""The arity of one that takes the next word only if that is a truth value."""


class Spec(Struct, frozen=True):
    """What a parser accepts."""

    name: str
    flags: tuple[str, ...] = ()
    """None for a positional argument."""
    arity: str | int | None = None
    """As argparse's `nargs`: a number, `?`, `*`, `+`, REST; FLAG; None takes one word, 0 none."""


class Hit(Struct, frozen=True):
    """An option as given."""

    name: str
    words: Words
    """Its values; empty for a bare flag."""
    flag: str = ""
    """As spelled, in full; empty for a positional argument."""
    flag_word: Object | None = None
    flag_place: Place | None = None


class Parsed(Struct):
    """How the words fell."""

    hits: list[Hit] = field(default_factory=list)
    strangers: list[Hit] = field(default_factory=list)
    """Flags that the parser does not have, with the values behind them."""
    rest: list[Object] = field(default_factory=list)
    """Words that nothing takes."""
    loose: Unknown | None = None
    """A word that may be any flags."""
    command: Object | None = None
    """The word that stands where a subcommand is expected."""
    behind: Words = ()
    """All words behind the subcommand."""


class Reader:
    """Reads one command line.

    Args:
        specs: what the parser accepts.
        abbreviates: whether a unique beginning of a flag stands for it.
        swallows: whether a flag that the parser lacks takes the values behind it, rather than positional arguments.
        command_at: the number of positional words in front of a subcommand, None where there is none.
    """

    def __init__(
        self,
        specs: Iterable[Spec],
        *,
        abbreviates: bool = True,
        swallows: bool = False,
        command_at: int | None = None,
    ) -> None:
        self._specs = tuple(specs)
        self._flags: Mapping[str, Spec] = {flag: spec for spec in self._specs for flag in spec.flags}
        self._abbreviates, self._swallows, self._command_at = abbreviates, swallows, command_at

    def read(self, words: Words) -> Parsed:
        """Let the words fall to the options."""
        parsed = Parsed()
        loose: list[Object] = []
        index = 0
        while index < len(words):
            word = words[index]
            index += 1
            if spelled(word) == "--" and isinstance(word, Scalar):
                loose += words[index:]
                break
            if is_loose(word) and isinstance(word, Unknown):
                parsed.loose = parsed.loose or word
            elif is_flag(word) or (spelled(word) in self._flags):
                index = self._flag(parsed, word, words, index)
            elif self._command_at is not None and len(loose) == self._command_at:
                parsed.command, parsed.behind = word, words[index:]
                break
            else:
                loose.append(word)
        self._positional(parsed, loose)
        return parsed

    def _flag(self, parsed: Parsed, word: Object, words: Words, index: int) -> int:
        """Take a flag and its values; the index behind them."""
        flag, value = split_flag(word)
        for letter in self._bare_letters(flag):
            parsed.hits.append(Hit(self._flags[letter].name, (), letter, word, head(word, len(flag))))
            flag = f"-{flag[2:]}"
        spec, flag, glued = self._find(flag, word)
        value = glued if glued is not None else value
        place = head(word, len(flag)) if value is not None else head(word, 10_000)
        if spec is None:
            taken: Words = () if value is None else (value,)
            if value is None and self._swallows:
                taken, index = _values(words, index, "*")
            parsed.strangers.append(Hit(flag.lstrip("-"), taken, flag, word, place))
            if not self._swallows:
                parsed.rest.append(word)
            return index
        taken = ()
        if value is not None:
            taken = (value,)
        elif spec.arity == REST:
            taken, index = words[index:], len(words)
        elif spec.arity != 0:
            taken, index = _values(words, index, spec.arity)
        parsed.hits.append(Hit(spec.name, taken, flag, word, place))
        return index

    def _bare_letters(self, flag: str) -> list[str]:
        """The flags without values in front of the last one of a cluster (`-xv4`)."""
        found: list[str] = []
        while len(flag) > 2 and flag not in self._flags and not flag.startswith("--"):
            spec = self._flags.get(flag[:2])
            if spec is None or spec.arity != 0:
                break
            found.append(flag[:2])
            flag = f"-{flag[2:]}"
        return found

    def _find(self, flag: str, word: Object) -> tuple[Spec | None, str, Object | None]:
        """The option behind a flag, its full spelling, and a value that is glued to it (`-b4`)."""
        if flag in self._flags:
            return self._flags[flag], flag, None
        if self._abbreviates and flag.startswith("--"):
            fitting = [full for full in self._flags if full.startswith(flag)]
            if len({self._flags[full].name for full in fitting}) == 1:
                return self._flags[fitting[0]], fitting[0], None
        if not flag.startswith("--") and flag[:2] in self._flags and isinstance(word, Scalar):
            return self._flags[flag[:2]], flag[:2], part(word, len(spelled(word)) - len(flag) + 2)
        return None, flag, None

    def _positional(self, parsed: Parsed, words: list[Object]) -> None:
        """Hand the words that belong to no flag to the positional arguments, in order."""
        specs = [spec for spec in self._specs if not spec.flags]
        for index, spec in enumerate(specs):
            later = sum(_least(other.arity) for other in specs[index + 1 :])
            count = _most(spec.arity, len(words) - later)
            if count < _least(spec.arity) or (count == 0 and spec.arity in ("?", "*", REST)):
                continue
            parsed.hits.append(Hit(spec.name, tuple(words[:count])))
            words = words[count:]
        parsed.rest += words


def _values(words: Words, index: int, arity: str | int | None) -> tuple[Words, int]:
    """The values of a flag and the index behind them."""
    wanted = arity if isinstance(arity, int) else 1 if arity in (None, "?", FLAG) else len(words)
    end = index
    while end < len(words) and end - index < wanted:
        word = words[end]
        if is_flag(word) or spelled(word) == "--" or (is_loose(word) and arity in ("*", "+") and end > index):
            break
        if arity == FLAG and isinstance(word, Scalar) and to_bool(str(word.value)) is NotImplemented:
            break
        end += 1
    return words[index:end], end


def _least(arity: str | int | None) -> int:
    if isinstance(arity, int):
        return arity
    return 0 if arity in ("?", "*", REST, FLAG) else 1


def _most(arity: str | int | None, available: int) -> int:
    if isinstance(arity, int):
        return arity if available >= arity else -1
    return available if arity in ("*", "+", REST) else min(1, available)
