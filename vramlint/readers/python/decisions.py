"""Which settings decided a branch or chose a value, and what was left out because of them.

A setting is a value that is written elsewhere than in the test itself: a default of the command line, a constant, a
word of a launcher. Tests are looked at once for each way in which they come out; `reasons.py` then tells the settings
from values that the program only passes about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import libcst as cst

from vramlint.patterns import lazy
from vramlint.readers.python.choices import narrow
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Function, Object, Scope
from vramlint.readers.python.objects import Sequence as Elements
from vramlint.readers.python.trail import Branch
from vramlint.readers.python.truth import decide
from vramlint.text import Place
from vramlint.values import Name, Scalar

_OUTSIDE = frozenset({"cli", "environment", "config-file", "shell", "shell-variable"})
"""Roads of values that are settings wherever their text stands: the default in `os.environ.get("BITS", "4")`."""
_SETTINGS = _OUTSIDE | {"module-constant", "argparse-default", "dataclass-default", "click-default"}
"""Roads of values that surely are settings."""
_READERS = frozenset({"getattr", "get", "getenv"})
"""Functions and methods that look a setting up."""
_PLAIN_FUNCTIONS = frozenset({"bool", "int", "float", "str", "len"})
_PLAIN_METHODS = frozenset({"lower", "upper", "strip", "startswith", "endswith"})

_CALLED = lazy(r"(\w+)\s*(?:\(|=(?!=))|[\"']([\w.-]+)[\"']")
"""What a statement calls, assigns or passes, and its words in quotes, which may be keys or values."""
_WORD = lazy(r"\w+")
_COMMENT = lazy(r"#.*")
MOST_TEXT = 20_000
"""Characters of a side that are looked through."""


def branch(machine: Machine, node: cst.If | cst.IfExp, scope: Scope, *, holds: bool) -> Branch | None:
    """The decision behind a condition that holds or doesn't; None where no setting is behind it."""
    key = (node, holds)
    if key not in machine.trail.branches:
        sides = (node.body, node.orelse) if holds else (node.orelse, node.body)
        by = operands(machine, node.test, scope, holds=holds)
        machine.trail.branches[key] = _noted(machine, by, sides[0], sides[1:], scope) if by else None
    return machine.trail.branches[key]


def case_of(machine: Machine, node: cst.Match, case: cst.MatchCase, scope: Scope) -> Branch | None:
    """The decision for one case of a `match` statement."""
    key = (case, True)
    if key not in machine.trail.branches:
        by = tuple(dict.fromkeys(_written(machine, node.subject, node.subject, scope)))
        others = [other.body for other in node.cases if other is not case]
        machine.trail.branches[key] = _noted(machine, by, case.body, others, scope) if by else None
    return machine.trail.branches[key]


def leave_rest(machine: Machine, node: cst.If, rest: Sequence[cst.CSTNode], scope: Scope) -> None:
    """Note what stands behind a branch that settings decided and that left the block."""
    for holds in (True, False):
        found = machine.trail.branches.get((node, holds))
        if found is not None:
            for statement in rest:
                _leave_out(machine, found, statement, scope)


def chosen(machine: Machine, value: Object, by: tuple[Place, ...]) -> Object:
    """The value as it is, noted as chosen by settings."""
    if by and isinstance(value, (Scalar, Name)) and value.place is not None and value.place not in by:
        machine.trail.chosen.setdefault(value.place, by)
    return value


def computed_from(machine: Machine, value: Object, parts: Iterable[Object]) -> Object:
    """The value as it is, noted as computed from parts that are written elsewhere."""
    if isinstance(value, Scalar) and value.place is not None and value.place not in machine.trail.chosen:
        places = (part.place for part in parts if isinstance(part, Scalar) and part.place is not None)
        here = value.place
        chosen(machine, value, tuple(place for place in places if not _stands_in(place, here)))
    return value


def passed(machine: Machine, value: Object, name: str, here: Place) -> None:
    """Note that a call is given a value under a keyword, or as its first argument."""
    if not isinstance(value, (Scalar, Name, Elements)) or value.place is None or machine.repeats:
        return
    apart = value.place.span.line != here.span.line or value.place.path != here.path
    if apart and not _stands_in(value.place, here):
        machine.trail.passed.setdefault((value.place, name), {})[here] = None


def by_key(key: Object, place: Place) -> tuple[Place, ...]:
    """Where the key is written that an element at `place` was looked up by; empty for a key that stands there."""
    outside = isinstance(key, Scalar) and key.place is not None and not _stands_in(key.place, place)
    return (key.place,) if outside and isinstance(key, Scalar) and key.place else ()


def operands(machine: Machine, test: cst.BaseExpression, scope: Scope, *, holds: bool) -> tuple[Place, ...]:
    """Where the settings are written for which a test holds or doesn't: of `a and b` the ones that are off."""
    with machine.repeating(again=True):  # what the test calls was seen when it was decided
        return tuple(dict.fromkeys(_operands(machine, test, scope, holds)))


def _operands(machine: Machine, test: cst.BaseExpression, scope: Scope, holds: bool) -> Iterator[Place]:
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        yield from _operands(machine, test.expression, scope, not holds)
    elif isinstance(test, cst.BooleanOperation):
        enough = isinstance(test.operator, cst.Or) is holds
        for part in (test.left, test.right):
            if not enough or (_is_plain(part) and decide(machine, part, scope)[0] is holds):
                yield from _operands(machine, part, scope, holds)
    else:
        yield from _written(machine, test, test, scope)


def _written(machine: Machine, node: cst.BaseExpression, test: cst.BaseExpression, scope: Scope) -> Iterator[Place]:
    """Where the values are written that a test without `and` and `or` reads."""
    here = machine.place(test)
    for leaf in _leaves(node):
        item = narrow(machine.evaluate(leaf, scope), machine.path)
        if not isinstance(item, (Scalar, Elements, Name)) or item.place is None:
            continue
        if isinstance(item, Name) and not item.qualified.startswith("torch."):
            continue  # a class or function of a library is no setting
        road = item.via if isinstance(item, Scalar) else ""
        if road in _OUTSIDE or not _stands_in(item.place, here):
            if road in _SETTINGS or _is_assigned(machine, leaf, item):
                machine.trail.settings.add(item.place)
            yield item.place


def _is_assigned(machine: Machine, leaf: cst.BaseExpression, item: Object) -> bool:
    """Whether a name holds a literal that the function around it writes itself: `use_lora = False`."""
    if not (isinstance(leaf, cst.Name) and isinstance(item, Scalar) and item.via == "literal"):
        return False
    function = machine.frames[-1].function.node if machine.frames else None
    known = item.value is not None and item.place is not None
    return known and function is not None and item.place is not None and _stands_in(item.place, machine.place(function))


def _stands_in(inner: Place, outer: Place) -> bool:
    return inner.path == outer.path and inner.span[:2] >= outer.span[:2] and inner.span[2:] <= outer.span[2:]


def _leaves(node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """The names, attributes and elements that an expression reads, and calls that look one up."""
    match node:
        case cst.Name() | cst.Attribute() | cst.Subscript():
            yield node
        case cst.Comparison():
            yield from _leaves(node.left)
            for target in node.comparisons:
                yield from _leaves(target.comparator)
        case cst.BinaryOperation():
            yield from _leaves(node.left)
            yield from _leaves(node.right)
        case cst.NamedExpr():
            yield from _leaves(node.value)
        case cst.Call() if _function(node) in _READERS:
            yield node
        case cst.Call() if _function(node) in _PLAIN_FUNCTIONS:
            for argument in node.args:
                yield from _leaves(argument.value)
        case cst.Call(func=cst.Attribute(value=receiver)) if _function(node) in _PLAIN_METHODS:
            yield from _leaves(receiver)


def _function(node: cst.Call) -> str:
    match node.func:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return name
    return ""


def _is_plain(node: cst.BaseExpression) -> bool:
    """Whether an expression does nothing but read and compare, so that it may be evaluated although it was skipped."""
    match node:
        case cst.Name() | cst.Integer() | cst.Float() | cst.SimpleString():
            return True
        case cst.Attribute(value=inner) | cst.UnaryOperation(expression=inner):
            return _is_plain(inner)
        case cst.Comparison():
            return _is_plain(node.left) and all(_is_plain(target.comparator) for target in node.comparisons)
        case cst.BooleanOperation():
            return _is_plain(node.left) and _is_plain(node.right)
        case cst.Tuple() | cst.List() | cst.Set():
            return all(_is_plain(element.value) for element in node.elements)
        case cst.Subscript(slice=[cst.SubscriptElement(slice=cst.Index(value=key))]):
            return _is_plain(node.value) and _is_plain(key)
        case cst.Call():
            known = _function(node) in _READERS | _PLAIN_FUNCTIONS | _PLAIN_METHODS
            receiver = node.func.value if isinstance(node.func, cst.Attribute) else None
            parts = [*(argument.value for argument in node.args), *([receiver] if receiver is not None else [])]
            return known and all(map(_is_plain, parts))
    return False


def _noted(
    machine: Machine,
    by: tuple[Place, ...],
    taken: cst.CSTNode | None,
    skipped: Iterable[cst.CSTNode | None],
    scope: Scope,
) -> Branch:
    branch = Branch(by, () if taken is None else (machine.place(taken),))
    for node in skipped:
        if node is not None:
            _leave_out(machine, branch, node, scope)
    return branch


def _leave_out(machine: Machine, branch: Branch, node: cst.CSTNode, scope: Scope) -> None:
    """Note what code calls, assigns, passes and names, and the file's functions that it calls."""
    names = _names(machine, node)
    branch.skipped |= names
    pending = [function for name in names if (function := _function_of(scope, name)) is not None]
    while pending:
        function = pending.pop()
        if function not in branch.functions:
            inside = _names(machine, function.node)
            branch.functions[function] = inside
            pending += [inner for name in inside if (inner := _function_of(scope, name)) is not None]


def _names(machine: Machine, node: cst.CSTNode) -> frozenset[str]:
    place = machine.place(node)
    document = machine.source_of(node).document
    start = document.offset(*place.span[:2])
    text = document.text[start : min(document.offset(*place.span[2:]), start + MOST_TEXT)]
    return _words(text, isinstance(node, cst.BaseExpression))


@lru_cache(maxsize=512)  # a script is read once for every launcher that starts it
def _words(text: str, is_expression: bool) -> frozenset[str]:
    text = _COMMENT.sub("", text)
    if is_expression:
        return frozenset(_WORD.findall(text))
    return frozenset([word or quoted for word, quoted in _CALLED.findall(text)])


def _function_of(scope: Scope, name: str) -> Function | None:
    """The file's function of that name; nothing is run to find it."""
    inner: Scope | None = scope
    while inner is not None:
        held = inner.state.get(name)
        if isinstance(held, Function):
            return held
        inner = inner.parent
    return None
