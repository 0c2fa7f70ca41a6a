"""A framework's surface: the keys of its configuration, what they say, and what the framework makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import NamedTuple, TypeGuard

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.catalog.frameworks import framework_default
from vramlint.facts import Candidate, Fact, FactValue, Link, Origin, Remark
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS, Outcome
from vramlint.surfaces.draft import Draft, Drawn, draw, is_absent, road
from vramlint.surfaces.flat import NUMERIC, lenient
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.loading import named_folder
from vramlint.surfaces.overlay import overlaid
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Entry, Items, Plain, Scalar, Table, Unknown, Value

_PLACEHOLDER = lazy(r"<[^<>/]+>")


class Gone(Enum):
    """What stands for a key that is taken out of a file."""

    KEY = "gone"


Held = Plain | tuple[Plain, ...] | Gone
"""What a key is made to hold: a scalar, a list; or it goes."""


class Beside(Struct, frozen=True):
    """What a change is written beside."""

    table: Table
    """The file."""
    facts: Mapping[str, Fact]
    """What it says, and what follows."""
    changes: Mapping[str, FactValue]
    """All that changes."""


class Row(NamedTuple):
    """One key and the fact that it says by itself."""

    key: str
    """Dotted for nested tables."""
    fact: str
    converter: str
    """The name of a row of `convert.CONVERTERS`."""


class Framework(Struct, frozen=True):
    """One framework. Its keys and defaults by release are the table `catalog/data/frameworks/<name>.tsv`."""

    name: str
    """Kind of its sheets and of the links to its files, and name of its table of keys."""
    title: str
    """As its authors spell it."""
    library: str
    """The distribution whose version counts; empty where there is none."""
    rows: tuple[Row, ...]
    complete: Callable[[Config], None]
    """What the framework computes: facts that need several keys, words of its own, files that it names."""
    loose: bool = True
    """Keys that it does not know may be its users' own: only near misses are remarked on, and keys that mean something
    in the vocabularies of Hugging Face's libraries that the framework says by another."""
    checked: bool = True
    """Its keys are listed, so that others can be told."""
    keys_of: Callable[[Table], str] | None = None
    """The name of the table of keys, for a framework whose programs take different ones; else its own name."""
    commands_only: bool = False
    """It has no file of data: its configuration is a command line, or Python."""
    launched: bool = False
    """Its files leave to the launcher how many GPUs there are and whether they share the model."""
    inherits: tuple[str, ...] = ()
    """Classes of `catalog/keys.py` whose keys it takes beside its own."""
    form: Callable[[Table], tuple[str, Table]] | None = None
    """Of one with several forms of configuration: the framework that has this one, and its keys as one table."""
    latest: Callable[[Table], tuple[int, ...] | None] | None = None
    """The newest release that a configuration can be of, by the program that takes it; None: any."""
    spelled: Mapping[str, Callable[[FactValue], Mapping[str, Plain] | None]] = field(default_factory=dict)
    """Facts that `complete` reads from words of its own: the keys and values that say them."""
    spelled_beside: Mapping[str, Callable[[FactValue, Beside], Mapping[str, Held] | None]] = field(default_factory=dict)
    """The same of facts whose keys depend on what else the file has."""
    follows: frozenset[str] = frozenset()
    """Facts that it computes from others, which are written beside them: by themselves they cannot be said."""
    closed: frozenset[str] = frozenset()
    """Facts that its code alone decides: no advice is given to change them."""
    prepared: Callable[[Table], Table] | None = None
    """What its parser makes of the written keys before anything reads them: one spelling, older forms, interpolations.
    None: they are read as they are written."""
    located: Callable[[Table, str], str] | None = None
    """The dotted key of the file in which one of `rows` is written, or would be. None: as it is."""
    packaged: Callable[[str], Table | None] | None = None
    """The configuration of a name that comes with the framework: its values stand in no file (`via` library)."""
    deepspeed: Callable[[str], Table | None] | None = None
    """The DeepSpeed configuration of a name that comes with the framework, for projects that have no copy of it."""
    chosen: Callable[[Table, Callable[[str], Document | None]], Table | Unknown | None] | None = None
    """The configuration that a function of a Python module makes, which the command line chooses: by the words of the
    command line, and what finds the file of a module. Unknown where it can't be read, None where none is chosen."""
    own_configuration: Callable[[Table, Callable[[str], Document | None]], str] | None = None
    """The path of the configuration that the project's own copy of the program starts from, empty without one: by the
    words of the command line, and what finds the file of a module."""
    overlay: Callable[[Table, Table], Table] = overlaid
    """What the command line makes of the file below it."""


class Config:
    """The configuration of one run, as the framework's code looks at it.

    Args:
        framework: whose keys they are.
        path: the file of the run.
        table: all keys, what the command line says on top.
        release: of the framework; None for the newest.
        command: a command line says all or part of it.
        around: what the launcher says, of the machine above all.
    """

    def __init__(
        self,
        framework: Framework,
        path: str,
        table: Table,
        release: tuple[int, ...] | None = None,
        *,
        command: bool = False,
        around: Iterable[Fact] = (),
    ) -> None:
        self.framework = framework
        self.path = path
        self.table = table
        self.release = release
        self.command = command
        self.keys = framework.keys_of(table) if framework.keys_of else framework.name
        self.around = {fact.name: fact for fact in around}
        self.draft = Draft()

    @property
    def label(self) -> str:
        """`axolotl 0.12.2`, for defaults."""
        name = self.framework.library or self.framework.name
        return f"{name} {'.'.join(map(str, self.release))}" if self.release else name

    def entry(self, key: str) -> Entry | None:
        """The entry of a key (dotted), also where the file itself writes the dots; None for an explicit null."""
        found = self.table.entry(*key.split(".")) or self.table.entry(key)
        return None if found is None or is_absent(found.value) else found

    def value(self, key: str) -> Value | None:
        """What the files write under a key."""
        entry = self.entry(key)
        return entry.value if entry else None

    def given(self, key: str) -> bool:
        """Whether the files say anything under a key."""
        return self.entry(key) is not None

    def is_unknown(self, key: str) -> bool:
        """Whether only run time knows what stands under a key, or it is one of several things."""
        return isinstance(self.value(key), Unknown | Alternatives)

    def default(self, key: str) -> Plain:
        """What the framework takes for an absent key."""
        return framework_default(self.keys, key, self.release)

    def plain(self, key: str) -> Plain:
        """The scalar under a key, the framework's default where it is absent; None if neither is known."""
        value = self.value(key)
        if value is None:
            return self.default(key)
        number = lenient(value)
        return number.value if isinstance(number, Scalar) else None

    def text(self, key: str) -> str:
        """The string under a key or its default; empty where there is none."""
        value = self.plain(key)
        return value if isinstance(value, str) else ""

    def integer(self, key: str) -> int | None:
        """The whole number under a key, or its default."""
        value = self.plain(key)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def on(self, key: str) -> bool:
        """Whether a switch is on, by the files or by default; a word that is not a no counts."""
        value = self.plain(key)
        if isinstance(value, str):
            return value.lower() not in ("", "false", "no", "none", "off", "0")
        return bool(value)

    def words(self, key: str) -> tuple[str, ...]:
        """The strings of a list under a key, or of a text with commas."""
        value = self.value(key)
        if isinstance(value, Items):
            return tuple([str(item.value) for item in value.values if isinstance(item, Scalar)])
        text = self.text(key)
        return tuple([word.strip() for word in text.split(",") if word.strip()])

    def place(self, *keys: str) -> Place | None:
        """Where the first of the keys that the files write is written."""
        for key in keys:
            entry = self.entry(key)
            if entry is not None:
                return entry.value.place or entry.key_place
        return None

    def gpus(self) -> int | None:
        """GPUs of the run, as the launcher or the configuration says."""
        for facts in (self.around, self.draft.facts):
            fact = facts.get("world_size")
            if fact is not None and isinstance(fact.value, int):
                return fact.value
        return None

    def fact(self, name: str) -> Fact | None:
        """What was said of a fact so far."""
        return self.draft.facts.get(name)

    def say(self, fact: str, key: str, converter: str) -> bool:
        """Draw a fact from what the files write under a key, unless it is known; whether they write anything."""
        entry = self.entry(key)
        if entry is None:
            return False
        value = lenient(entry.value) if converter in NUMERIC else entry.value
        value = _named(value) if fact == "model" else value
        drawn = draw(fact, value, CONVERTERS[converter], key, entry.key_place)
        if isinstance(drawn, Remark):
            drawn = replace(drawn, vocabulary=self.framework.name)
        elif drawn is not None and drawn.via == "literal":
            drawn = replace(drawn, via="config-file")
        elif drawn is not None and drawn.via == "library":
            drawn = replace(drawn, origin=Origin.DEFAULT, library=self.label, reason="")
        return self.draft.put(drawn)

    def translate(self, fact: str, key: str, words: Mapping[Plain, FactValue]) -> None:
        """Draw a fact from a word of the framework's own under a key, or its default; other words stay as they are.

        Args:
            fact: its name.
            key: where the word stands.
            words: by the word in lower case, what it means to us; None: it says nothing.
        """

        def convert(value: Value) -> FactValue | Outcome:
            plain = value.value if isinstance(value, Scalar) else None
            if plain is None:
                return Outcome.ABSENT if isinstance(value, Scalar) else Outcome.OPAQUE
            word = plain.lower() if isinstance(plain, str) else plain
            meant = words.get(word, plain)
            return Outcome.ABSENT if meant is None else meant

        entry = self.entry(key)
        if entry is not None:
            drawn = draw(fact, entry.value, convert, key, entry.key_place)
            self.draft.put(replace(drawn, via="config-file") if _is_literal(drawn) else drawn)
            return
        default = self.default(key)
        if default is not None and (meant := words.get(default, default)) is not None:
            self.state(fact, meant, key)

    def state(self, fact: str, value: FactValue, *keys: str, over: bool = False) -> None:
        """A fact that written keys say in words of the framework's own, at the first of them that is written.

        Where none is written, it is the framework's default. `over` replaces what was said before.
        """
        key = next((key for key in keys if self.given(key)), "")
        unknown = next((found for key in keys if isinstance(found := self.value(key), Unknown)), None)
        if unknown is not None:
            said = Fact(fact, (), Origin.UNKNOWN, key, "runtime", reason=unknown.reason)
        elif key and (via := _road(self.value(key))) != "library":
            said = Fact(fact, (Candidate(value, self.place(key)),), Origin.WRITTEN, key, via)
        else:
            said = Fact(fact, (Candidate(value),), Origin.DEFAULT, key or "".join(keys[:1]), "library", self.label)
        self._put(said, over)

    def derive(self, fact: str, value: FactValue, reason: str, *keys: str, over: bool = False) -> None:
        """A fact that follows from what the framework does, with the written key that makes it so, if any.

        `over` replaces what was said before.
        """
        key = next((key for key in keys if self.given(key)), "")
        self._put(Fact(fact, (Candidate(value, self.place(*keys)),), Origin.DERIVED, key, "code", reason=reason), over)

    def assume(self, fact: str, value: FactValue, reason: str) -> None:
        """A fact that nothing says and that is likely."""
        self._put(Fact(fact, (Candidate(value),), Origin.ASSUMED, reason=reason), False)

    def by_program(self, fact: str, value: FactValue) -> None:
        """A fact that follows from which of the framework's programs is started."""
        started = self.value(PROGRAM)
        name = started.value if isinstance(started, Scalar) else self.framework.title
        place = started.place if isinstance(started, Scalar) else None
        reason = f"{name} does nothing else"
        self._put(Fact(fact, (Candidate(value, place),), Origin.DERIVED, "", "code", reason=reason), False)

    def unknown(self, fact: str, reason: str, *keys: str) -> None:
        """A fact that only run time knows."""
        self._put(Fact(fact, (), Origin.UNKNOWN, keys[0] if keys else "", "runtime", reason=reason), False)

    def also(self, fact: str, *keys: str) -> None:
        """Further keys that say a fact again: where they are written."""
        said = self.draft.facts.get(fact)
        if said is None or said.origin is not Origin.WRITTEN:
            return
        entries = [entry for key in keys if key != said.key and (entry := self.entry(key)) is not None]
        places = [place for entry in entries for place in (entry.value.place, entry.key_place) if place is not None]
        self.draft.replace(replace(said, also=tuple(dict.fromkeys((*said.also, *places)))))

    def link(self, kind: str, key: str) -> bool:
        """A file that a key names, or the table that stands there itself."""
        value = self.value(key)
        if isinstance(value, Scalar) and isinstance(value.value, str) and value.value:
            self.draft.links.append(Link(kind, value.value, value.place))
            return True
        if isinstance(value, Table):
            self.draft.tables.append((kind, value))
            return True
        return False

    def _put(self, fact: Fact, over: bool) -> None:
        if over:
            self.draft.replace(fact)
        else:
            self.draft.put(fact)


def _is_literal(drawn: Drawn) -> TypeGuard[Fact]:
    return isinstance(drawn, Fact) and drawn.via == "literal"


def _named(value: Value) -> Value:
    """A model's name; one in angle brackets is for the reader to fill in."""
    if isinstance(value, Scalar) and isinstance(value.value, str) and _PLACEHOLDER.fullmatch(value.value):
        return Unknown(f"{value.value} is a placeholder", value.place)
    return named_folder(value)


def _road(value: Value | None) -> str:
    via = road(value) if value is not None else "literal"
    return "config-file" if via == "literal" else via
