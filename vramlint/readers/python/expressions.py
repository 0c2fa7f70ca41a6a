"""What expressions stand for."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import libcst as cst

from vramlint.readers.python.attributes import get_attribute
from vramlint.readers.python.calls import evaluate_call
from vramlint.readers.python.choices import choose, each, narrow, options_of
from vramlint.readers.python.comprehensions import evaluate_comprehension
from vramlint.readers.python.decisions import branch, chosen, computed_from, operands, passed
from vramlint.readers.python.enums import member_of
from vramlint.readers.python.functions import define
from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.library import BUILTINS
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.modules import same_shape
from vramlint.readers.python.neighbours import home_of, starred
from vramlint.readers.python.objects import (
    OPEN,
    Class,
    LibraryObject,
    Mapping,
    Object,
    Scope,
    Sequence,
    Slot,
    State,
    computed,
)
from vramlint.readers.python.operators import binary, compare, reason_of, unary
from vramlint.readers.python.outline import STAR
from vramlint.readers.python.probes import environment_variable
from vramlint.readers.python.records import as_mapping
from vramlint.readers.python.subscripts import subscript
from vramlint.readers.python.targets import assign
from vramlint.readers.python.texts import evaluate_concatenated, evaluate_formatted, evaluate_string, number_value
from vramlint.readers.python.truth import decide, tests_for, truth
from vramlint.values import Name, Scalar, Unknown

MODULO = "operator.mod"
"""The call as which `step % every` is recorded."""
_CONSTANTS = MappingProxyType({"True": True, "False": False, "None": None})

Evaluator = Callable[[Machine, Any, Scope], Object]


def _name(machine: Machine, node: cst.Name, scope: Scope) -> Object:
    if node.value in _CONSTANTS:
        return Scalar(_CONSTANTS[node.value], machine.place(node))
    found = scope.find(node.value)
    if found is not None:
        return narrow(found, machine.path)
    if node.value in BUILTINS:
        return Name(node.value, machine.place(node))
    if node.value == "__name__":
        home = home_of(scope)
        return computed("__main__" if home is None else home.name, machine.place(node))
    if node.value == "__file__":
        return computed(machine.source_of(node).document.path, machine.place(node))
    if (top := scope.top()).define is not None:
        top.define(STAR)
    if top.stars and (found := starred(machine, top, node.value)) is not None:
        return Name(found.qualified, machine.place(node)) if isinstance(found, Name) else found
    return Unknown(f"name {node.value}, which nothing defines", machine.place(node))


def _number(machine: Machine, node: cst.Integer | cst.Float, _: Scope) -> Object:
    place, value = machine.place(node), number_value(node.value)
    return Unknown("a number too long to read", place) if value is None else Scalar(value, place)


def _attribute(machine: Machine, node: cst.Attribute, scope: Scope) -> Object:
    item = machine.evaluate(node.value, scope)
    site = Site(item, Arguments(), node, scope, machine.place(node))
    if node.attr.value == "__dict__":
        return as_mapping(item, site)
    return get_attribute(machine, item, node.attr.value, site)


def _list(machine: Machine, node: cst.List | cst.Tuple | cst.Set, scope: Scope) -> Object:
    items: list[Object] = []
    complete = True
    for element in node.elements:
        value = machine.evaluate(element.value, scope)
        if type(element) is cst.StarredElement:
            more = value.elements if isinstance(value, Sequence) else None
            complete = complete and more is not None
            items += more or ()
        else:
            items.append(value)
    place = machine.place(node)
    return Sequence.of(tuple(items), place) if complete else Unknown("list with unknown parts", place)


def _dict(machine: Machine, node: cst.Dict, scope: Scope) -> Object:
    state: State = {}
    for element in node.elements:
        value = machine.evaluate(element.value, scope)
        if isinstance(element, cst.DictElement):
            key = machine.evaluate(element.key, scope)
            if isinstance(key, Scalar):
                state.pop(str(key.value), None)
                here = machine.place(element.key)
                state[str(key.value)] = Slot(here, value, key)
                passed(machine, value, str(key.value), here)
            else:
                state[OPEN] = True
        elif isinstance(value, Mapping):
            state.update(value.state)
        else:
            state[OPEN] = True
    return Mapping(state, machine.place(node))


def _binary(machine: Machine, node: cst.BinaryOperation, scope: Scope) -> Object:
    left, right = machine.evaluate(node.left, scope), machine.evaluate(node.right, scope)
    if isinstance(left, Unknown) and isinstance(node.operator, cst.Modulo) and not isinstance(right, Mapping):
        # `step % every == 0`: how often a loop does something is known although the step is not
        machine.emit(LibraryObject(MODULO, (left, right), (), machine.place(node)))
    tensor = same_shape(left, right)
    if tensor is not None:
        return tensor
    place = machine.place(node)
    return computed_from(machine, binary(type(node.operator), left, right, place), (left, right))


def _unary(machine: Machine, node: cst.UnaryOperation, scope: Scope) -> Object:
    place = machine.place(node)
    if not isinstance(node.operator, cst.Not):
        return unary(node, machine.evaluate(node.expression, scope), place)
    item = machine.evaluate(node.expression, scope)

    def negated(one: Object) -> Object:
        found = truth(one)
        return Unknown(reason_of(one), place) if found is None else computed(not found, place)

    return each(negated, item)


def _boolean(machine: Machine, node: cst.BooleanOperation, scope: Scope) -> Object:
    """`a or b`, `a and b`: the deciding operand, or both where the first one is undecided."""
    stops = isinstance(node.operator, cst.Or)
    left = machine.evaluate(node.left, scope)
    results = []
    for option, tests in options_of(narrow(left, machine.path)):
        found = truth(option)
        if found is stops:
            results.append((option, tests))
            continue
        yes, no = tests_for(machine, node.left, scope, None)
        stopping, going = (yes, no) if stops else (no, yes)
        with machine.under(*tests, *(going if found is None else ())):
            right = machine.evaluate(node.right, scope)
        if found is None and not _settled(right, stops=stops):
            results += [(option, (*tests, *stopping)), (right, (*tests, *going))]
        else:
            by = operands(machine, node.left, scope, holds=found) if found is not None else ()
            results.append((chosen(machine, right, by), tests))
    return choose(results)


def _settled(right: Object, *, stops: bool) -> bool:
    """`unknown and False` is as false as False, `unknown or True` as true as True."""
    return isinstance(right, Scalar) and right.value is stops


def _comparison(machine: Machine, node: cst.Comparison, scope: Scope) -> Object:
    place = machine.place(node)
    left = narrow(machine.evaluate(node.left, scope), machine.path)
    found: Object = computed(True, place)
    for target in node.comparisons:
        right = narrow(machine.evaluate(target.comparator, scope), machine.path)
        if isinstance(right, Name) and right.qualified == "os.environ":
            outcome = _in_environment(machine, node, target.operator, left, scope)
        else:
            outcome = compare(target.operator, left, right, place)
        if isinstance(outcome, Scalar) and not outcome.value:
            return outcome
        found = outcome if not (isinstance(found, Unknown) and isinstance(outcome, Scalar)) else found
        left = right
    return found


def _in_environment(
    machine: Machine, node: cst.Comparison, operator: cst.BaseCompOp, name: Object, scope: Scope
) -> Object:
    """`"LOCAL_RANK" in os.environ`."""
    place = machine.place(node)
    unset = Scalar(None, None, "environment")
    variable = environment_variable(machine, name, None, Site(name, Arguments(), node, scope, place))
    negated: cst.BaseCompOp = cst.IsNot() if isinstance(operator, cst.In) else cst.Is()
    return compare(negated, variable, unset, place)


def _conditional(machine: Machine, node: cst.IfExp, scope: Scope) -> Object:
    found, item = decide(machine, node.test, scope)
    if found is not None:
        decision = branch(machine, node, scope, holds=found)
        with machine.decided_by(decision):
            value = machine.evaluate(node.body if found else node.orelse, scope)
        return value if decision is None else chosen(machine, value, decision.by)
    yes, no = tests_for(machine, node.test, scope, item)
    with machine.under(*yes):
        body = machine.evaluate(node.body, scope)
    with machine.under(*no):
        other = machine.evaluate(node.orelse, scope)
    return choose(((body, tuple(yes)), (other, tuple(no))))


def _subscript(machine: Machine, node: cst.Subscript, scope: Scope) -> Object:
    item = machine.evaluate(node.value, scope)
    if isinstance(item, Class) and item.members:
        key = node.slice[0].slice
        named = machine.evaluate(key.value, scope) if isinstance(key, cst.Index) else None
        return each(lambda one: member_of(item, one) or item, named) if named is not None else item
    if isinstance(item, (Name, Class)) and not (isinstance(item, Name) and item.qualified == "os.environ"):
        return item  # a type with parameters: List[int]
    return subscript(machine, item, node, scope)


def _lambda(machine: Machine, node: cst.Lambda, scope: Scope) -> Object:
    return define(machine, node, scope, ())


def _walrus(machine: Machine, node: cst.NamedExpr, scope: Scope) -> Object:
    value = machine.evaluate(node.value, scope)
    assign(machine, node.target, value, scope)
    return value


def _await(machine: Machine, node: cst.Await, scope: Scope) -> Object:
    return machine.evaluate(node.expression, scope)


def _yield(machine: Machine, node: cst.Yield, scope: Scope) -> Object:
    frame = machine.frames[-1] if machine.frames else None
    if isinstance(node.value, cst.From):
        value = narrow(machine.evaluate(node.value.item, scope), machine.path)
        elements = elements_of(value)
    else:
        value = Scalar(None) if node.value is None else machine.evaluate(node.value, scope)
        elements = (value,)
    if frame is not None:
        frame.is_generator = True
        frame.yields += elements or ()
        undecided = len(machine.path) > frame.base or machine.loose > frame.loose
        frame.uncertain = frame.uncertain or undecided or elements is None
    return Unknown("a value sent to a generator", machine.place(node))


EVALUATORS: MappingProxyType[type[cst.CSTNode], Evaluator] = MappingProxyType(
    {
        cst.Name: _name,
        cst.SimpleString: evaluate_string,
        cst.ConcatenatedString: evaluate_concatenated,
        cst.FormattedString: evaluate_formatted,
        cst.Integer: _number,
        cst.Float: _number,
        cst.Ellipsis: lambda machine, node, _: Name("Ellipsis", machine.place(node)),
        cst.Attribute: _attribute,
        cst.Call: evaluate_call,
        cst.List: _list,
        cst.Tuple: _list,
        cst.Set: _list,
        cst.Dict: _dict,
        cst.BinaryOperation: _binary,
        cst.UnaryOperation: _unary,
        cst.BooleanOperation: _boolean,
        cst.Comparison: _comparison,
        cst.IfExp: _conditional,
        cst.Subscript: _subscript,
        cst.Lambda: _lambda,
        cst.NamedExpr: _walrus,
        cst.Await: _await,
        cst.Yield: _yield,
        cst.ListComp: evaluate_comprehension,
        cst.SetComp: evaluate_comprehension,
        cst.GeneratorExp: evaluate_comprehension,
        cst.DictComp: evaluate_comprehension,
    }
)
"""What expressions stand for, by their class; all others only run time knows."""
