"""Words of a command line: what each says, where it stands, and options told from their values."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.text import Place, Span
from vramlint.values import Alternatives, Command, Option, Scalar, Unknown, Value


class Word(Struct, frozen=True):
    """One word of a command line."""

    value: Value
    place: Place
    """Where it stands in the command; the value itself may be written elsewhere."""

    @property
    def text(self) -> str | None:
        """The text, that of the first possibility where a branch is undecided; None when only run time knows it."""
        value = self.value.options[0].value if isinstance(self.value, Alternatives) else self.value
        return _spelled(value)

    @property
    def program(self) -> str:
        """The text of a word that may be a script: of `$ROOT/src/train.py` what is known, `src/train.py`."""
        text = self.text
        if text is not None:
            return text
        suffix = self.value.suffix if isinstance(self.value, Unknown) else ""
        known = suffix.rpartition(" ")[2].lstrip("/")
        return known if known.endswith(".py") and not self.prefix.startswith("-") else ""

    @property
    def prefix(self) -> str:
        """How a word begins that only run time knows as a whole: `--out=`; empty for any other."""
        return self.value.prefix if isinstance(self.value, Unknown) else ""

    @property
    def written(self) -> Place:
        """Where the value is written."""
        place = self.value.place if isinstance(self.value, Scalar) else None
        return place or self.place


Line = tuple[Word, ...]


def _spelled(value: Value) -> str | None:
    if not isinstance(value, Scalar) or value.value is None:
        return None
    return value.value if isinstance(value.value, str) else str(value.value).lower()


def line_of(command: Command) -> Line:
    """The words of a command with their places."""
    places = (*command.word_places, *[command.place] * len(command.words))
    return tuple([Word(value, place) for value, place in zip(command.words, places, strict=False)])


def values_of(line: Iterable[Word]) -> tuple[Value, ...]:
    """The values of words, for an invocation: each has a place, that of the word where no other writes it."""
    found: list[Value] = []
    for word in line:
        value = word.value
        if isinstance(value, Scalar | Unknown) and value.place is None:
            value = replace(value, place=word.place)
        found.append(value)
    return tuple(found)


def named(word: Word) -> str:
    """The program that a word names, without its folder: `/opt/conda/bin/python` is python."""
    return posixpath.basename((word.text or "").replace("\\", "/"))


def after(word: Word, prefix: int) -> Word:
    """A word without its first `prefix` characters: the value of `--option=value`."""
    place = _shifted(word.place, word.text or "", prefix)
    return Word(_cut(word.value, prefix, word), place)


def _cut(value: Value, prefix: int, word: Word) -> Value:
    match value:
        case Scalar():
            text = _spelled(value) or ""
            own = value.place is None or value.place == word.place
            place = _shifted(word.place, text, prefix) if own else value.place
            return replace(value, value=text[prefix:], place=place)
        case Alternatives():
            options = tuple([Option(_cut(item.value, prefix, word), item.condition) for item in value.options])
            return replace(value, options=options)
        case Unknown():
            return replace(value, prefix=value.prefix[prefix:])
    return value


def _shifted(place: Place, text: str, prefix: int) -> Place:
    """The place of the text behind a prefix, where the word is written plainly; else the whole word."""
    span = place.span
    if span.line != span.end_line or span.end_column - span.column != len(text):
        return place
    return Place(place.path, Span(span.line, span.column + prefix, span.end_line, span.end_column))


class Grammar(Struct, frozen=True):
    """Which options a program takes before the words that it hands on.

    Names are without leading dashes and with `_` for `-`, because most launchers take both spellings.
    """

    values: frozenset[str] = frozenset()
    """Options with one value."""
    pairs: frozenset[str] = frozenset()
    """Options with two values: `-mca btl tcp`."""
    flags: frozenset[str] = frozenset()
    """Options without a value."""
    aliases: Mapping[str, str] = MappingProxyType({})
    """Short spelling to the long one."""
    glued: str = ""
    """Letters of short options whose value may follow at once: `-N4`."""
    guesses: bool = True
    """Take the word behind an option that is not listed for its value, unless it looks like a program or option."""


def grammar(values: str = "", flags: str = "", aliases: str = "", pairs: str = "", glued: str = "") -> Grammar:
    """A grammar from words: options of one value, flags, `short:long` aliases, options of two values."""
    spellings = (pair.split(":") for pair in aliases.split())
    return Grammar(
        frozenset(values.split()),
        frozenset(pairs.split()),
        frozenset(flags.split()),
        MappingProxyType({pair[0]: pair[1] for pair in spellings}),
        glued,
    )


class Parsed(Struct, frozen=True):
    """The options of a launcher, and what it hands on."""

    options: Mapping[str, Word]
    """The last value of each option; of a flag the word itself."""
    rest: Line
    repeated: tuple[tuple[str, Word], ...] = ()
    """All options in written order."""
    open: Word | None = None
    """A word among the options that only run time knows: it may hold any of them."""
    separated: bool = False
    """`--` ended the options."""

    def given(self, *names: str) -> tuple[str, Word] | None:
        """The first of the options that is given, with its name."""
        return next(((name, self.options[name]) for name in names if name in self.options), None)


_PROGRAM = lazy(r"[^=]*\.py$|(?:.*/)?(?:python[\d.]*|torchrun|deepspeed|accelerate|bash|sh)$")


def looks_like_program(text: str) -> bool:
    """Whether a word is a script or an interpreter."""
    return bool(text) and not text.startswith("-") and _PROGRAM.match(text) is not None


def parse(line: Line, taken: Grammar, inner: bool = True) -> Parsed:
    """Tell the options at the head of `line` from what follows them.

    Args:
        line: the words behind the program's own name.
        taken: the program's options.
        inner: what follows is a program; then a word that only run time knows is skipped where a program comes later,
            for it may stand for options.
    """
    found: list[tuple[str, Word]] = []
    opened: Word | None = None
    at = 0
    while at < len(line):
        word = line[at]
        text = word.text
        if text is None and word.prefix.startswith("-") and "=" in word.prefix:
            text = word.prefix
        if text is None and word.program:
            break
        if text is None:
            if not (inner and _program_follows(line[at + 1 :])):
                break
            opened = opened or word
            at += 1
            continue
        if text == "--":
            return Parsed(dict(found), line[at + 1 :], tuple(found), opened, separated=True)
        if not text.startswith("-") or text == "-":
            if text or not inner:
                break
            at += 1  # an empty word, of a variable that is empty
            continue
        at = _option(line, at, text, taken, found)
    return Parsed(dict(found), line[at:], tuple(found), opened)


def _program_follows(line: Sequence[Word]) -> bool:
    return any(word.text in ("-m", "--module") or looks_like_program(word.program) for word in line)


def canonical(option: str, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """An option's name: `--nproc-per-node` and `--nproc_per_node` are one."""
    name = option.lstrip("-")
    name = name.replace("-", "_") if len(name) > 1 else name
    return aliases.get(name, name)


def _option(line: Line, at: int, text: str, taken: Grammar, found: list[tuple[str, Word]]) -> int:
    """Read the option at `at` and return where the next word stands."""
    word = line[at]
    head, equals, _ = text.partition("=")
    name = canonical(head, taken.aliases)
    if equals:
        found.append((name, after(word, len(head) + 1)))
        return at + 1
    follows = line[at + 1] if at + 1 < len(line) else None
    if name in taken.pairs:
        found.append((name, follows or word))
        return at + (2 if follows is not None and "=" in (follows.text or "") else 3)
    if name in taken.values:
        if follows is not None and _is_option(follows, taken):
            return at + 1  # its value is a variable that is empty
        found.append((name, follows or word))
        return at + 2
    if name not in taken.flags and not text.startswith("--") and len(text) > 2 and text[1] in taken.glued:
        found.append((taken.aliases.get(text[1], text[1]), after(word, 2)))
        return at + 1
    guessed = taken.guesses and name not in taken.flags and text.startswith("--") and follows is not None
    if guessed and follows is not None and _is_value(follows, line[at + 2 :]):
        found.append((name, follows))
        return at + 2
    found.append((name, word))
    return at + 1


def _is_option(word: Word, taken: Grammar) -> bool:
    """Whether a word is an option that the program is known to take, by its long name."""
    text = word.text or ""
    name = canonical(text.partition("=")[0], taken.aliases)
    return text.startswith("--") and name in (taken.values | taken.flags | taken.pairs)


def _is_value(word: Word, rest: Line) -> bool:
    """Whether the word behind an option that nobody knows is its value: a program must still follow."""
    text = word.text
    if text is None or text.startswith("-") or looks_like_program(text):
        return False
    return any(looks_like_program(item.program) or item.text in ("-m", "--module") for item in rest)
