"""A sheet in the making: arguments of calls, facts that code states, facts under conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, FactValue, Link, Origin, Remark, Repair
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS, Converter, Outcome
from vramlint.surfaces.keys import KeyRow
from vramlint.text import Place
from vramlint.values import Alternatives, Call, Entry, Items, Keyword, Name, Option, Scalar, Table, Unknown, Value

Drawn = Fact | Remark | None

NOT_GIVEN = "not given"
"""Reason of an `Unknown` that stands for a branch in which the program leaves the argument out."""


class Arguments(NamedTuple):
    """Named values of a call, or of a mapping whose entries become keyword arguments."""

    keywords: tuple[Keyword, ...]
    place: Place | None = None
    unseen: bool = False
    """A `**mapping` could not be seen through: what is absent here may still be given."""

    @classmethod
    def of(cls, value: Call | Table) -> Arguments:
        """The keywords of a call, later attribute assignments included, or the entries of a table."""
        if isinstance(value, Call):
            return cls((*value.keywords, *value.bindings), value.place, value.open_keywords)
        return cls(tuple(Keyword(entry.key, entry.value, entry.key_place) for entry in value), value.place)

    def find(self, name: str) -> Keyword | None:
        """The last keyword of that name; dots lead into tables (`gradient_checkpointing_kwargs.use_reentrant`)."""
        head, _, rest = name.partition(".")
        for keyword in reversed(self.keywords):
            if keyword.name == name:
                return keyword
            if rest and keyword.name == head and isinstance(keyword.value, Table):
                entry = keyword.value.entry(*rest.split("."))
                return Keyword(name, entry.value, entry.key_place) if entry else None
        return None

    def value(self, name: str) -> Value | None:
        """The value of the last keyword of that name."""
        keyword = self.find(name)
        return keyword.value if keyword else None

    def table(self) -> Table:
        """All keywords as a table, for checks of the keys against a vocabulary."""
        return Table(tuple(Entry(item.name, item.name_place, item.value) for item in self.keywords), self.place)


def options(value: Value) -> tuple[Option, ...]:
    """The possible values behind a value: one, or those of an undecided branch."""
    return value.options if isinstance(value, Alternatives) else (Option(value),)


def is_absent(value: Value) -> bool:
    """Whether a value is as good as not given: None, or left out in this branch."""
    return (isinstance(value, Scalar) and value.value is None) or (
        isinstance(value, Unknown) and value.reason == NOT_GIVEN
    )


_PARAMETER = lazy(r"parameter (\w+) of ")


def by_setting(value: Value, settings: Mapping[str, Value]) -> Value:
    """The setting of that name, for a parameter of a function that nothing calls with a known value."""
    match = _PARAMETER.match(value.reason) if isinstance(value, Unknown) else None
    return settings.get(match[1], value) if match else value


def place_of(value: Value | None) -> Place | None:
    """Where a value is written."""
    return value.place if value is not None else None


def road(value: Value) -> str:
    """By which road a value came: `Scalar.via`, `code` for calls, `literal` otherwise."""
    match value:
        case Scalar():
            return value.via
        case Call():
            return "code"
        case Items(values=(Scalar(via=via), *_)):
            return via
    return "literal"


def draw(name: str, value: Value, convert: Converter, key: str = "", fallback: Place | None = None) -> Drawn:
    """The fact `name` that `value` states under `key`.

    None when it says nothing, a remark of kind `wrong-type` when the key cannot take such a value. One
    unknown possibility makes the whole fact unknown. A candidate with value None stands for a branch in
    which the key is not given, so that the library's default holds there. `fallback` is the place to show
    for values that no single literal writes.
    """
    candidates: list[Candidate] = []
    via = ""
    for option in options(value):
        if isinstance(option.value, Unknown) and is_absent(option.value):
            candidates.append(Candidate(None, None, option.condition))
            continue
        if isinstance(option.value, Unknown):
            return unknown(name, option.value.reason, key, place_of(option.value) or fallback)
        converted = convert(option.value)
        place = place_of(option.value) or fallback
        if converted is Outcome.OPAQUE:
            return unknown(name, _opaque(option.value), key, place)
        if converted is Outcome.WRONG_TYPE:
            if place is None:
                return None
            shown = option.value.value if isinstance(option.value, Scalar) else ""
            repair = unquoted(option.value, lambda plain: not isinstance(convert(plain), Outcome))
            return Remark("wrong-type", key, f"`{key}` cannot be {shown!r}", place, repair=repair)
        if isinstance(converted, Outcome):
            candidates.append(Candidate(None, place, option.condition))
            continue
        via = via or road(option.value)
        candidates.append(Candidate(converted, place, option.condition))
    if all(candidate.value is None for candidate in candidates):
        return None
    if via == "library":
        reason = "a default of the library that the script passes on"
        return Fact(name, distinct(candidates), Origin.DERIVED, key, via, reason=reason)
    also = () if fallback is None or _beside(candidates, fallback) else (fallback,)
    return Fact(name, distinct(candidates), Origin.WRITTEN, key, via, also=also)


_TRUTHS = MappingProxyType({"true": True, "false": False})


def unquoted(value: Value, takes: Callable[[Scalar], bool]) -> Repair | None:
    """The number or truth that a text spells, where the key takes that; None where it spells none.

    A float of whole value that the key does not take is tried as a whole number: `"5e8"`.
    """
    if not isinstance(value, Scalar) or not isinstance(value.value, str):
        return None
    text = value.value.strip()
    plain: list[int | float | bool] = [_TRUTHS[text.lower()]] if text.lower() in _TRUTHS else []
    with suppress(ValueError):
        plain.append(int(text))
    with suppress(ValueError, OverflowError):
        number = float(text)
        plain += [number, int(number)] if number.is_integer() else [number]
    return next((Repair(safe=True, value=one) for one in map(Scalar, plain) if takes(one)), None)


def _beside(candidates: Sequence[Candidate], key: Place) -> bool:
    """Whether a key stands on a line of its value, as usual."""
    lines = [item.place.span.line for item in candidates if item.place is not None and item.place.path == key.path]
    return not lines or key.span.line in lines


def draw_keyword(row: KeyRow, keyword: Keyword) -> Drawn:
    """The fact of a key table's row that a keyword argument states."""
    drawn = draw(row.fact, keyword.value, CONVERTERS[row.converter], row.key, keyword.name_place)
    return replace(drawn, vocabulary=row.vocabulary) if isinstance(drawn, Remark) else drawn


def left_off(call: Call, *flags: str) -> bool:
    """Whether a helper of TRL such as `get_peft_config(model_args)` gets a ModelConfig with none of the flags on.

    `use_peft`, `load_in_4bit` and `load_in_8bit` are False unless given (trl 1.16.0, trainer/model_config.py).
    """
    config = call.argument("model_args", 0)
    if not isinstance(config, Call) or not config.callee.endswith(".ModelConfig") or config.open_keywords:
        return False
    given = [value for flag in flags if (value := config.argument(flag)) is not None]
    return all(isinstance(value, Scalar) and not value.value for value in given)


def distinct(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Candidates without repeated values; a value left alone holds without condition."""
    kept: dict[tuple[type, FactValue], Candidate] = {}
    for candidate in candidates:
        kept.setdefault((type(candidate.value), candidate.value), candidate)
    if len(kept) == 1:
        (only,) = kept.values()
        return (Candidate(only.value, only.place),)
    return tuple(kept.values())


def unknown(name: str, reason: str, key: str = "", place: Place | None = None) -> Fact:
    """A fact that only run time knows. `place` shows the use; it has no candidate to carry it."""
    # the lines of a notebook count by cell, which only its document knows
    told = place is None or "line " in reason or place.path.endswith(".ipynb")
    where = "" if told or place is None else f" (line {place.span.line})"
    return Fact(name, (), Origin.UNKNOWN, key, "runtime", reason=f"{reason}{where}")


def stated(name: str, value: FactValue, place: Place | None, key: str = "", via: str = "code") -> Fact:
    """A fact that the code states by what it does."""
    return Fact(name, (Candidate(value, place),), Origin.WRITTEN, key, via)


def derived(name: str, value: FactValue, reason: str, place: Place | None = None) -> Fact:
    """A fact that follows from what the program does not do."""
    return Fact(name, (Candidate(value, place),), Origin.DERIVED, via="code", reason=reason)


def conditional(fact: Fact, conditions: tuple[str, ...]) -> Fact:
    """The fact as stated inside undecided branches: it may also not hold."""
    if not conditions or fact.origin is Origin.UNKNOWN:
        return fact
    condition = " and ".join(conditions)
    candidates = tuple(
        Candidate(item.value, item.place, " and ".join(filter(None, (item.condition, condition))))
        for item in fact.candidates
    )
    away = Candidate(None, None, f"not ({condition})")
    return replace(fact, candidates=(*candidates, away))


def under(fact: Fact | None, condition: str) -> Fact | None:
    """The fact of one of several alternatives: each candidate holds under the alternative's condition."""
    if fact is None or not condition:
        return fact
    candidates = tuple(
        Candidate(item.value, item.place, " and ".join(dict.fromkeys(filter(None, (condition, item.condition)))))
        for item in fact.candidates
    )
    return replace(fact, candidates=candidates)


def united(facts: Iterable[Fact | None]) -> Fact | None:
    """One fact for several alternative runs: the union of what each says; None stands for not given."""
    known: list[Candidate] = []
    first: Fact | None = None
    for fact in facts:
        if fact is None:
            known.append(Candidate(None))
            continue
        if fact.origin is Origin.UNKNOWN:
            return fact
        first = first or fact
        known += fact.candidates
    if first is None:
        return None
    return replace(first, candidates=distinct(known))


def _opaque(value: Value) -> str:
    match value:
        case Call(callee=callee):
            return f"result of {callee.lstrip('.')}(…)"
        case Name(qualified=qualified):
            return f"value of {qualified}"
        case Scalar(value=None):
            return "None sets no bound"
    return "computed at run time"


class Draft(Struct):
    """A sheet in the making. The first statement of a fact wins, so the surest source goes first."""

    facts: dict[str, Fact] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)

    def put(self, drawn: Drawn) -> bool:
        """Take a fact unless one of its name is there; take a remark. True when something was said."""
        if isinstance(drawn, Remark):
            self.remarks.append(drawn)
        elif drawn is not None:
            self.facts.setdefault(drawn.name, drawn)
        return drawn is not None

    def replace(self, fact: Fact) -> None:
        """Take a fact in place of what was said before."""
        self.facts[fact.name] = fact

    def take(self, drawn: Iterable[Drawn]) -> None:
        """Put all of several."""
        for item in drawn:
            self.put(item)

    def drop_derived(self, *names: str) -> None:
        """Take back facts that only followed from what was not seen."""
        for name in names:
            if name in self.facts and self.facts[name].origin is Origin.DERIVED:
                del self.facts[name]

    def join(self, other: Draft) -> None:
        """Take over what another draft says, after what this one says."""
        self.take(other.facts.values())
        self.remarks += other.remarks
        self.links += other.links
        self.tables += other.tables

    @classmethod
    def merged(cls, drafts: Sequence[Draft], conditions: Sequence[str] = ()) -> Draft:
        """Alternative runs as one: every fact has the candidates of all.

        Args:
            drafts: at least one.
            conditions: source text of the condition of each draft, empty where it is unconditional.
        """
        if len(drafts) == 1:
            return drafts[0]
        whole = cls()
        held = conditions or [""] * len(drafts)
        for name in dict.fromkeys(name for draft in drafts for name in draft.facts):
            whole.put(united(under(draft.facts.get(name), held[index]) for index, draft in enumerate(drafts)))
        for draft in drafts:
            whole.remarks += draft.remarks
            whole.links += draft.links
            whole.tables += draft.tables
        return whole
