"""Values for the fields of dataclasses: of the file's own by annotation, of a library's by what they look like."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.readers.python.choices import choose, each
from vramlint.readers.python.classes import library_base
from vramlint.readers.python.commandline.kinds import ANY, Kind, convert, convert_all, guess, kind_of, to_bool
from vramlint.readers.python.commandline.options import FLAG, Hit, Reader, Spec
from vramlint.readers.python.commandline.words import Words, variants
from vramlint.readers.python.machine import Arguments, Machine
from vramlint.readers.python.objects import (
    NOT_GIVEN,
    Class,
    DataclassParser,
    Field,
    Given,
    Mapping,
    Object,
    Option,
    Sequence,
)
from vramlint.readers.python.probes import library_default
from vramlint.values import Scalar, Unknown


class Values(Struct, frozen=True):
    """Values by field name."""

    given: dict[str, Given]
    """Of fields of the file's own dataclasses, converted, and of all others, which are libraries'."""
    rest: Words = ()
    hidden: Unknown | None = None
    """Why more may be given than is known."""
    own: frozenset[str] = field(default=frozenset())
    """Names that only the file's own dataclasses have."""

    @classmethod
    def of(cls, table: Mapping) -> Values:
        """The keys of a file or dict."""
        hidden = Unknown("keys of the settings that only run time knows", table.place) if table.open else None
        return cls({key: Given(key, slot.value, slot.key_place) for key, slot in table.slots()}, hidden=hidden)

    def over(self, other: Values) -> Values:
        """These values with others on top."""
        return Values({**self.given, **other.given}, other.rest, self.hidden or other.hidden, other.own)

    def for_library(self, machine: Machine, callee: str, taken: frozenset[str] = frozenset()) -> Arguments:
        """The keywords of a library's dataclass: every value that no dataclass of the file takes."""
        keywords = tuple(
            Given(name, _library_value(machine, callee, given), given.name_place)
            for name, given in self.given.items()
            if name not in self.own and name not in taken
        )
        return Arguments((), keywords, self.hidden is not None)


def _library_value(machine: Machine, callee: str, given: Given) -> Object:
    """A value as the library's field takes it, as far as its default tells."""
    place = getattr(given.value, "place", None)
    default = None if place is None else library_default(machine, callee, given.name, place)

    def shaped(one: Object) -> Object:
        if not isinstance(one, Scalar) or not isinstance(one.value, str):
            return one
        if isinstance(default, Scalar) and isinstance(default.value, bool):
            said = to_bool(one.value)
            return Scalar(said, one.place, one.via) if isinstance(said, bool) else one
        if isinstance(default, Scalar) and isinstance(default.value, str):
            return one
        return guess(one)

    value = given.value
    if isinstance(value, Sequence) and value.elements is not None:
        return Sequence.of(tuple(each(shaped, one) for one in value.elements), value.place)
    return each(shaped, value)


def own_values(machine: Machine, kind: Class, values: Values) -> Arguments:
    """The keywords of a dataclass of the file; one that extends a library's takes what no other dataclass has."""
    keywords = []
    fields = {entry.name: entry for entry in kind.all_fields()}
    for name, entry in fields.items():
        given = values.given.get(name)
        if given is not None:
            keywords.append(Given(name, _shaped(given.value, kind_of(entry.annotation), name), given.name_place))
        elif values.hidden is not None and entry.spec.default is None and entry.spec.factory is None:
            keywords.append(Given(name, values.hidden))
    base = library_base(kind)
    if base is None:
        return Arguments((), tuple(keywords))
    more = values.for_library(machine, base, frozenset(fields))
    return Arguments((), (*keywords, *more.keywords), more.open)


def _shaped(value: Object, kind: Kind, name: str) -> Object:
    if kind.many and isinstance(value, Sequence) and value.elements is not None:
        return Sequence.of(tuple(convert(one, kind, name) for one in value.elements), value.place)
    return convert(value, kind, name) if kind is not ANY else value


def parsed_words(machine: Machine, parser: DataclassParser, words: Words) -> Values:
    """The values of a command line for a parser of dataclasses."""
    outcomes = [(_read(machine, parser, line), tests) for line, tests in variants(words)]
    if len(outcomes) == 1:
        return outcomes[0][0]
    names = dict.fromkeys(name for values, _ in outcomes for name in values.given)
    given = {}
    for name in names:
        held = [(values.given.get(name), tests) for values, tests in outcomes]
        place = next((item.name_place for item, _ in held if item is not None), None)
        given[name] = Given(
            name, choose((NOT_GIVEN if item is None else item.value, tests) for item, tests in held), place
        )
    hidden = next((values.hidden for values, _ in outcomes if values.hidden is not None), None)
    return replace(outcomes[0][0], given=given, hidden=hidden)


def _read(machine: Machine, parser: DataclassParser, words: Words) -> Values:
    fields: dict[str, Field] = {
        entry.name: entry for kind in parser.classes if isinstance(kind, Class) for entry in kind.all_fields()
    }
    options = [item for item in parser.options.state.values() if isinstance(item, Option) and item.flags]
    specs = [Spec(f"\0{item.name}", item.flags, item.arity) for item in options]
    specs += [Spec(entry.name, _flags(entry), _arity(kind_of(entry.annotation))) for entry in fields.values()]
    parsed = Reader(specs, swallows=True).read(words)
    given: dict[str, Given] = {}
    for hit in parsed.hits:
        if hit.name in fields:
            value = _own(fields[hit.name], hit)
            given[hit.name] = Given(hit.name, value, hit.flag_place)
    rest: list[Object] = []
    for hit in parsed.strangers:
        name, negated = _stranger(hit)
        given[name] = Given(name, _stranger_value(hit, negated=negated), hit.flag_place)
        rest += [word for word in (hit.flag_word, *hit.words) if word is not None]
    return Values(given, (*parsed.rest, *rest), parsed.loose, frozenset(fields))


def _flags(entry: Field) -> tuple[str, ...]:
    """Underscores, dashes, aliases, and `--no_…` for flags (transformers 5.23, hf_argparser.py)."""
    names = [entry.name, *(flag.lstrip("-") for flag in entry.spec.flags)]
    flags = [f"--{name}" for name in names] + [f"--{name.replace('_', '-')}" for name in names if "_" in name]
    if kind_of(entry.annotation).is_flag:
        flags += [f"--no_{entry.name}", f"--no-{entry.name.replace('_', '-')}"]
    return tuple(dict.fromkeys((*flags, *(flag for flag in entry.spec.flags if flag.startswith("-")))))


def _arity(kind: Kind) -> str | None:
    return "*" if kind.many else FLAG if kind.is_flag else None


def _own(entry: Field, hit: Hit) -> Object:
    kind = kind_of(entry.annotation)
    if not hit.words:
        negated = hit.flag.startswith(("--no_", "--no-")) and hit.flag[2:].replace("-", "_") != entry.name
        return _bare(hit, on=not negated)
    if kind.many:
        return convert_all(hit.words, kind, entry.name)
    return convert(hit.words[0], kind, entry.name)


def _bare(hit: Hit, *, on: bool) -> Object:
    via = hit.flag_word.via if isinstance(hit.flag_word, Scalar) else "cli"
    return Scalar(on, hit.flag_place, via)


def _stranger(hit: Hit) -> tuple[str, bool]:
    """The field of a flag that only a library has; `--no_bf16` without a value turns `bf16` off."""
    name = hit.name.replace("-", "_")
    negated = not hit.words and name.startswith("no_") and name not in _NO_NAMES
    return (name.removeprefix("no_"), True) if negated else (name, False)


_NO_NAMES = frozenset({"no_cuda"})
"""Fields of TrainingArguments that begin like the negation of another."""


def _stranger_value(hit: Hit, *, negated: bool) -> Object:
    if not hit.words:
        return _bare(hit, on=not negated)
    return hit.words[0] if len(hit.words) == 1 else convert_all(hit.words, Kind(("str",)), hit.name)
