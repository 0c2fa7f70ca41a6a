"""Reads YAML as `yaml.safe_load` does (YAML 1.1), with exact places and without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import yaml
from msgspec import Struct, field

from vramlint.patterns import lazy
from vramlint.readers.tree import MAX_DEPTH, ReadError
from vramlint.readers.yaml_templates import HOLE, without_templates
from vramlint.text import Document, Place, masked
from vramlint.values import Entry, Items, Plain, Problem, Reading, Scalar, Table, Unknown, Value

if TYPE_CHECKING:
    from yaml.events import CollectionStartEvent, Event, NodeEvent, ScalarEvent

MAX_EXPANDED = 100_000
"""Values that a document may hold once all its aliases are written out."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_PLAIN_COLLECTIONS = (None, "!", _TAG + "map", _TAG + "seq")
_TEXT_TAGS = tuple(_TAG + name for name in ("str", "timestamp", "value", "binary"))
_DOCUMENT_START = lazy(r"(?m)^---(?=\s|$)")
_PREFIX = lazy(r"(?:(?:&\S+|!\S*)\s*)+")
"""Anchor and tag in front of a value."""
_SCANNER_DEPTH = "exceeded maximum nesting depth"
"""What libyaml's scanner says, since the one in PyYAML 6.0.4, of 1000 open brackets, before it hands on the first."""


def read_yaml(document: Document) -> Reading:
    """The tree of a YAML file's first document.

    Scalars resolve as in `yaml.safe_load`: `2e-5` is a string, `no` is False, `500_000` an int; dates and binary
    stay the text that is written, and a value with an application's own tag is `Unknown`. Keys are their text.
    Merged entries (`<<`) stand before a table's own, at the places where they are written. A repeated key, invalid
    syntax and an alias bomb (more than `MAX_EXPANDED` values) are problems. A file that is YAML only once a template
    engine has filled it in (`{{ model_dir }}`, Jinja's and Go's) is read around what is missing, which is `Unknown`.
    """
    if isinstance(document.tree, Table):
        return Reading(document.tree)
    start = 1 if document.text.startswith("\ufeff") else 0
    text = document.text[start:]
    reading = _read(document, text, start)
    if reading.root is not None:
        return reading
    filled = (_read(document, form, start) for form in without_templates(text))
    return next((found for found in filled if found.root is not None), reading)


def _read(document: Document, text: str, start: int) -> Reading:
    """The tree of a text that stands in the document from `start` on, or that takes its place there."""
    composer = _Composer(document, start)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        composer.read(yaml.parse(text, Loader=loader))
    except ReadError as fault:
        return Reading(None, (fault.problem(document),))
    except yaml.YAMLError as error:
        return Reading(None, (_syntax_error(document, error, start).problem(document),))
    if composer.root is None:
        place = Place(document.path, document.span(0, 0))
        return Reading(None, (Problem("empty-file", "the file holds no value", place),))
    return Reading(composer.root.value, tuple(composer.problems))


def read_yaml_stream(document: Document) -> tuple[Reading, ...]:
    """The trees of all documents of a YAML file (`---` between them), empty ones left out.

    Each is read on its own, so that one that isn't YAML (a template) takes nothing from the others.
    """
    text = document.text
    starts = [0, *(match.start() for match in _DOCUMENT_START.finditer(text))]
    if len(starts) == 1:
        return (read_yaml(document),)
    spans = (document.span(start, end) for start, end in pairwise((*starts, len(text))))
    readings = (read_yaml(masked(document, [span])) for span in spans)
    return tuple(reading for reading in readings if not _is_blank(reading))


def _is_blank(reading: Reading) -> bool:
    if reading.root is None:
        return any(problem.kind == "empty-file" for problem in reading.problems)
    return isinstance(reading.root, Scalar) and reading.root.value is None


def _syntax_error(document: Document, error: Exception, start: int) -> ReadError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None and getattr(error, "problem", None) == _SCANNER_DEPTH:
        return ReadError(f"nested deeper than {MAX_DEPTH} levels", start + mark.index)
    if mark is not None:
        parts = (getattr(error, "context", None), getattr(error, "problem", None))
        return ReadError(", ".join(part for part in parts if part), start + mark.index)
    character = getattr(error, "character", None)
    if isinstance(character, int):
        at = document.text.find(chr(character), start)
        return ReadError(f"the character U+{character:04X} is not allowed in YAML", max(at, 0))
    return ReadError(str(error).splitlines()[0], start)


class _Built(Struct, frozen=True):
    """A finished value with what it weighs when aliases are written out."""

    value: Value
    size: int
    depth: int


class _Open(Struct):
    """A mapping or sequence whose end is not read yet."""

    is_table: bool
    start: int
    end: int
    """Behind its last child so far: block collections have no end of their own."""
    anchor: str | None
    unknown_tag: str | None
    key: tuple[str, Place] | None = None
    merging: bool = False
    """The value that comes belongs to the key `<<`."""
    merged: list[Entry] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    size: int = 1
    depth: int = 0

    @property
    def wants_key(self) -> bool:
        return self.is_table and self.key is None and not self.merging


class _Composer:
    """Turns PyYAML's events into located values."""

    def __init__(self, document: Document, shift: int) -> None:
        self.root: _Built | None = None
        self.problems: list[Problem] = []
        self._document = document
        self._shift = shift
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Built] = {}

    def read(self, events: Iterator[Event]) -> None:
        """Reads up to the end of the first document."""
        for event in events:
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._open(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._close(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.DocumentEndEvent():
                    return
                case _:
                    pass

    def _place(self, start: int, end: int) -> Place:
        return Place(self._document.path, self._document.span(start, end))

    def _offsets(self, event: Event) -> tuple[int, int]:
        start, end = event.start_mark, event.end_mark
        return (start.index if start else 0) + self._shift, (end.index if end else 0) + self._shift

    def _extent(self, event: Event) -> tuple[int, int]:
        """Offsets of an event, without its anchor, its tag and the blank lines behind a block scalar."""
        start, end = self._offsets(event)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            prefix = _PREFIX.match(self._document.text, start, end)
            start = prefix.end() if prefix else start
        text = self._document.text
        while end > start and text[end - 1] in " \t\r\n":
            end -= 1
        return start, end

    def _scalar(self, event: ScalarEvent) -> None:
        start, end = self._extent(event)
        tag = _tag_of(event)
        if self._stack and self._stack[-1].wants_key:
            self._key(event, tag, start, end)
            return
        place = self._place(start, end)
        value: Value
        if HOLE in event.value:
            value = Unknown("a template fills it in", place)
        elif tag in _TEXT_TAGS:
            value = Scalar(event.value, place)
        elif (construct := _constructors().get(tag)) is not None:
            try:
                value = Scalar(construct(event.value), place)
            except (ValueError, KeyError, IndexError, OverflowError):
                raise ReadError(f"not a valid {tag.removeprefix(_TAG)}", start, end) from None
        else:
            value = Unknown(f"the tag `{tag.replace(_TAG, '!!')}`", place)
        self._add(_Built(value, 1, 0), event.anchor, start, end)

    def _key(self, event: ScalarEvent, tag: str, start: int, end: int) -> None:
        top = self._stack[-1]
        if event.anchor:
            self._anchors[event.anchor] = _Built(Scalar(event.value, self._place(start, end)), 1, 0)
        top.end = max(top.end, end)
        if tag == _MERGE:
            top.merging = True
            return
        place = self._place(start, end)
        known = len(top.seen)
        first = top.seen.setdefault((tag, event.value), place.span.line)
        if len(top.seen) == known:
            message = f"key `{event.value}` is written twice (first on line {first}); the last one wins"
            self.problems.append(Problem("duplicate-key", message, place))
        top.key = (event.value, place)

    def _open(self, event: CollectionStartEvent) -> None:
        start, end = self._extent(event)
        if self._stack and self._stack[-1].wants_key:
            raise ReadError("a mapping or sequence as key", start, max(end, start + 1))
        if len(self._stack) >= MAX_DEPTH:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", start)

        tag = None if event.tag in _PLAIN_COLLECTIONS else event.tag
        self._stack.append(_Open(isinstance(event, yaml.MappingStartEvent), start, end, event.anchor, tag))

    def _close(self, event: Event) -> None:
        top = self._stack.pop()
        start, end = self._offsets(event)
        end = max(top.end, end) if end > start else top.end
        place = self._place(top.start, end)
        value: Value
        if top.unknown_tag is not None:
            value = Unknown(f"the tag `{top.unknown_tag.replace(_TAG, '!!')}`", place)
        elif top.is_table:
            value = Table((*top.merged, *top.entries), place)
        else:
            value = Items(tuple(top.values), place)
        self._add(_Built(value, top.size, top.depth + 1), top.anchor, top.start, end)

    def _alias(self, event: NodeEvent) -> None:
        start, end = self._extent(event)
        built = self._anchors.get(event.anchor or "")
        if built is None:
            raise ReadError(f"no anchor `&{event.anchor}` is complete before this alias", start, end)
        top = self._stack[-1] if self._stack else None
        if top is not None and top.wants_key:
            if not isinstance(built.value, Scalar):
                raise ReadError("a mapping or sequence as key", start, end)
            top.key = (str(built.value.value), self._place(start, end))
            top.seen.setdefault(("alias", top.key[0]), start)
            return
        self._add(built, None, start, end)

    def _add(self, built: _Built, anchor: str | None, start: int, end: int) -> None:
        if anchor:
            self._anchors[anchor] = built
        if not self._stack:
            self.root = built
            return
        top = self._stack[-1]
        top.end = max(top.end, end)
        top.size += built.size
        top.depth = max(top.depth, built.depth)
        if top.size > MAX_EXPANDED and built.size > 1:
            raise ReadError(f"aliases expand to more than {MAX_EXPANDED} values", start, end)
        if top.depth > MAX_DEPTH:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", start, end)
        if top.merging:
            top.merging = False
            top.merged += self._merged(built.value, end)
        elif top.key is not None:
            top.entries.append(Entry(*top.key, built.value))
            top.key = None
        else:
            top.values.append(built.value)

    def _merged(self, value: Value, end: int) -> list[Entry]:
        """The entries that `<<: value` brings, in the order in which later ones win."""
        match value:
            case Table(entries=entries):
                return list(entries)
            case Items(values=values) if all(isinstance(item, Table) for item in values):
                return [entry for item in reversed(values) if isinstance(item, Table) for entry in item]
            case _:
                raise ReadError("`<<` takes a mapping or a list of mappings", end - 1, end)


@cache
def _constructors() -> dict[str, Callable[[str], Plain]]:
    """`yaml.safe_load`'s own conversion for each scalar tag that isn't text."""
    constructor: Any = yaml.constructor.SafeConstructor()

    def converted(name: str) -> Callable[[str], Plain]:
        method = getattr(constructor, f"construct_yaml_{name}")

        def convert(text: str) -> Plain:
            value: Plain = method(yaml.ScalarNode(_TAG + name, text))
            return value

        return convert

    return {_TAG + name: converted(name) for name in ("null", "bool", "int", "float")}


@cache
def _resolver() -> Any:  # noqa: ANN401  # types-PyYAML leaves Resolver.resolve untyped

    return yaml.resolver.Resolver()


def _tag_of(event: ScalarEvent) -> str:
    """The explicit tag, or the one that YAML 1.1 gives to the text."""
    if event.tag and event.tag != "!":
        return str(event.tag)

    implicit = event.implicit if event.tag is None else (False, True)
    return str(_resolver().resolve(yaml.ScalarNode, event.value, implicit))
