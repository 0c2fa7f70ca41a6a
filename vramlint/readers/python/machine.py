"""The state of one reading: scopes, journal, undecided conditions, calls made, and the budget that bounds it all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import libcst as cst
from msgspec import Struct, field

from vramlint.readers.python.around import Longer
from vramlint.readers.python.conditions import Test, Tests
from vramlint.readers.python.journal import Journal
from vramlint.readers.python.lazy import Module
from vramlint.readers.python.objects import Class, Function, Given, LibraryObject, Object, Scope, Slot, State
from vramlint.readers.python.source import Script, Source
from vramlint.readers.python.sources import Sources
from vramlint.readers.python.trail import Branch, Trail
from vramlint.readers.python.trials import Trial
from vramlint.text import Document, Place
from vramlint.values import Plain, Unknown

MAX_DEPTH = 14
"""Calls of the file's own functions inside one another."""

MAX_NESTED = 6
"""Calls of one function inside itself."""

MAX_STEPS = 50_000
"""Expressions and statements after which functions are no longer entered."""

MAX_VISITS = 40
"""Times that one function is entered."""

MAX_PARTS = 400
"""Times that a function is entered by itself, on parts of its data."""

MAX_CALLS = 5_000
"""Library calls kept."""

MAX_TEXT = 600_000
"""Characters of other modules' statements that are read for one script."""


class Flow(Enum):
    """How a block of statements ends."""

    NEXT = "next"
    RETURN = "return"
    RAISE = "raise"
    BREAK = "break"
    CONTINUE = "continue"


class Arguments(NamedTuple):
    """Evaluated arguments of a call."""

    positional: tuple[Object, ...] = ()
    keywords: tuple[Given, ...] = ()
    open: bool = False
    """A `*` or `**` argument could not be seen through."""
    origins: tuple[LibraryObject, ...] = ()
    """The objects whose attributes came in through `**vars(x)`."""

    def get(self, name: str, position: int | None = None) -> Object | None:
        """The argument of that name or position."""
        for given in reversed(self.keywords):
            if given.name == name:
                return given.value
        if position is not None and position < len(self.positional):
            return self.positional[position]
        return None


class Site(Struct, frozen=True):
    """A call about to be made: what is called, where it stands and with what."""

    callee: Object
    arguments: Arguments
    node: cst.CSTNode
    scope: Scope
    place: Place

    def first(self) -> Object:
        """The first positional argument."""
        return self.arguments.positional[0] if self.arguments.positional else self.unknown("no argument")

    def unknown(self, reason: str) -> Unknown:
        """The call's result when only run time knows it."""
        return Unknown(reason, self.place)

    def of(self, callee: Object, arguments: Arguments | None = None) -> Site:
        """The same place, another callee."""
        return Site(callee, self.arguments if arguments is None else arguments, self.node, self.scope, self.place)


class Frame(Struct):
    """One invocation of a function of the file."""

    function: Function
    base: int
    """Length of the path where the invocation began."""
    returns: list[tuple[Object, Tests]] = field(default_factory=list)
    is_generator: bool = False
    yields: list[Object] = field(default_factory=list)
    loose: int = 0
    """`Machine.loose` where the invocation began."""
    place: Place | None = None
    """The call."""
    uncertain: bool = False
    """A `yield` stands where only run time knows whether, or how often, it is reached."""


class Setting(Struct):
    """A command-line setting of the program."""

    name: str
    name_place: Place | None
    value: Object


class Searches(Struct):
    """What searches over settings vary."""

    chosen: Mapping[str, str] = field(default_factory=dict)
    """The trial at hand: `name = value` by name."""
    found: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The options of each name, as `name = value`."""
    scopes: dict[str, int] = field(default_factory=dict)
    site: Site | None = None
    """The last call that had to do with a search."""


class Machine:
    """Everything that the parts of the interpreter share."""

    statement: cst.BaseExpression | None = None
    """The last expression that is a statement of its own."""

    @cached_property
    def searches(self) -> Searches:
        """Searches over settings."""
        return Searches()

    def __init__(
        self,
        source: Script,
        known: Mapping[str, Plain],
        evaluators: Mapping[type[cst.CSTNode], Callable[[Machine, Any, Scope], Object]],
        execute: Callable[[Machine, Sequence[cst.CSTNode], Scope], Flow],
        invoke: Callable[[Machine, Site], Object],
        modules: Callable[[str], Document | None] = lambda _: None,
        files: Callable[[str], Document | None] = lambda _: None,
    ) -> None:
        self.source = source
        """The script itself."""
        self._sources = Sources(source)
        self.modules = modules
        self.neighbours: dict[str, Module | None] = {}
        """Other modules of the project by the name under which they are imported; None: it has no such module."""
        self.neighbours_by_path: dict[str, Module] = {}
        self._whole: set[cst.CSTNode] = set()
        """Functions of other modules whose body was asked for."""
        self._parsed = 0
        """Characters of other modules that were read."""
        self.files = files
        self.process: State = {}
        """What the program finds at its start and may change: `argv`, a sequence, where the command line is known."""
        self.environment: dict[str, Object] = {}
        """Variables that the launcher sets."""
        self.known = known
        self.journal = Journal()
        self.path: list[Test] = []
        self.trail = Trail()
        self.frames: list[Frame] = []
        self.calls: list[LibraryObject] = []
        self.functions: list[Function] = []
        self.classes: list[Class] = []
        self.noted: dict[int, Object] = {}
        """Configs that were recorded as calls, by identity."""
        self.members: dict[int, tuple[Object, str]] = {}
        """Members of enumerations by identity, and their names."""
        self.settings: list[Setting] = []
        self.imports: dict[str, None] = {}
        self.steps = 0
        self.loose = 0
        """Loops around this point whose number of turns is not known."""
        self.splits = 0
        """Undecided branches so far of which one side left its block, and the other did not or did otherwise."""
        self.trial: Trial | None = None
        """The innermost loop around this point of which it is not clear yet whether its turns are taken one by one."""
        self.failures: list[int] | None = None
        """Inside a `try`: how many undecided conditions stood around each expression that surely raises."""
        self.repeats = 0
        """Turns of a loop inside one another whose calls were seen in an earlier turn, and are not kept again."""
        self.built = 0
        """Modules of torch that the program has built of its own classes."""
        self.finishing = False
        """True once the program has run and only functions that nothing called are left."""
        self.called = 0
        """How many of the calls the program itself made, before those functions."""
        self._serial = 0
        self._evaluators, self._execute, self._invoke = evaluators, execute, invoke

    def evaluate(self, node: cst.BaseExpression, scope: Scope) -> Object:
        """The object behind an expression; an `Unknown` for what cannot be worked out."""
        self.steps += not self.repeats
        evaluator = self._evaluators.get(type(node))
        if evaluator is None:
            return Unknown("an expression that only run time knows", self.place(node))
        try:
            return evaluator(self, node, scope)
        except RecursionError:
            return Unknown("nested too deep", self.place(node))

    def execute(self, body: Sequence[cst.CSTNode], scope: Scope) -> Flow:
        """Run statements."""
        return self._execute(self, body, scope)

    def invoke(self, site: Site) -> Object:
        """Make a call."""
        return self._invoke(self, site)

    def place(self, node: cst.CSTNode) -> Place:
        """Where an expression stands."""
        return self._sources.place(node)

    def text(self, node: cst.CSTNode) -> str:
        """The expression as written, on one line."""
        return self._sources.of(node).text(node)

    def source_of(self, node: cst.CSTNode) -> Source:
        """The file that an expression stands in."""
        return self._sources.of(node)

    def whole(self, function: Function) -> bool:
        """Read the body of a function of another module if it was left out; False where it can't be read."""
        node = function.node
        size = self.source_of(node).left_out(node)
        if size and node not in self._whole:
            if not self.may_read(size):
                return False
            self._whole.add(node)
        return True

    def may_read(self, size: int) -> bool:
        """Whether so many more characters of other modules may be read; they are taken for read."""
        self._parsed += size
        return self._parsed <= MAX_TEXT

    def add_source(self, source: Source) -> None:
        """Another module, of which statements are about to run."""
        self._sources.add(source)

    def new_scope(self, parent: Scope | None, kind: str) -> Scope:
        """A scope with a serial number of its own."""
        self._serial += 1
        return Scope({}, parent, kind, self._serial)

    def conditions(self) -> tuple[str, ...]:
        """The undecided conditions under which the program is here, as source text."""
        return tuple(dict.fromkeys([str(test) for test in self.path if not test.silent])) if self.path else ()

    def under(self, *tests: Test) -> Longer:
        """Everything inside stands under these tests; what the inside adds to the path ends with it."""
        return Longer(self.path, tests)

    def decided_by(self, decision: Branch | None) -> Longer:
        """Everything inside happens because of this decision."""
        return Longer(self.trail.deciding, () if decision is None else (decision.by,))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Everything inside happens once and for all, wherever it is asked for: what a module does when imported."""
        outer = self.journal, self.path, self.frames, self.trial
        around = self.trail.deciding, self.trail.loops
        self.journal, self.path, self.frames, self.trial = Journal(), [], [], None
        self.trail.deciding, self.trail.loops = [], []
        try:
            yield
        finally:
            self.journal, self.path, self.frames, self.trial = outer
            self.trail.deciding, self.trail.loops = around

    @contextmanager
    def repeating(self, *, again: bool) -> Iterator[None]:
        """Everything inside makes calls that are seen already, if `again`."""
        self.repeats += again
        try:
            yield
        finally:
            self.repeats -= again

    def entering(self, frame: Frame) -> Longer:
        """Everything inside belongs to this invocation."""
        return Longer(self.frames, (frame,))

    def holding(self) -> AbstractContextManager[None]:
        """What is called inside may be taken back at its end."""
        return nullcontext() if self.trial is None else self.trial.holding()

    def fail(self) -> None:
        """Note that the expression at hand surely raises."""
        if self.failures is not None:
            self.failures.append(len(self.path))

    def emit(self, made: LibraryObject) -> LibraryObject:
        """Record a library call."""
        made.conditions = self.conditions()
        made.deciding = tuple(self.trail.deciding)
        made.loops = tuple(self.trail.loops)
        if made.place.path != self.source.document.path:
            made.entered = self._entered()
        if not self.repeats and len(self.calls) < MAX_CALLS:
            self.calls.append(made)
            if self.trial is not None:
                self.trial.note(made)
        return made

    def _entered(self) -> Place | None:
        """The innermost call in the script itself that the program is inside of."""
        own = self.source.document.path
        return next((frame.place for frame in reversed(self.frames) if frame.place and frame.place.path == own), None)

    def bind(self, target: LibraryObject, path: str, value: Object, place: Place | None) -> None:
        """Assign an attribute of a library object."""
        self.journal.put(target.state, path, Slot(place, value))


Handler = Callable[[Machine, Site], Object]
"""Works out the result of a call."""
