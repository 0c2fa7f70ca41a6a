"""`match` statements as chains of branches."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from vramlint.readers.python.attributes import get_attribute
from vramlint.readers.python.branches import decided, fork
from vramlint.readers.python.builtin_functions import is_instance
from vramlint.readers.python.choices import narrow
from vramlint.readers.python.conditions import Test
from vramlint.readers.python.decisions import case_of
from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.machine import Arguments, Flow, Machine, Site
from vramlint.readers.python.methods import lookup
from vramlint.readers.python.objects import Class, Instance, Mapping, Object, Scope, Sequence
from vramlint.readers.python.operators import compare, reason_of
from vramlint.readers.python.targets import assign
from vramlint.readers.python.truth import truth
from vramlint.values import Scalar, Unknown


def run_match(machine: Machine, node: cst.Match, scope: Scope) -> Flow:
    """Try the cases in order."""
    subject = narrow(machine.evaluate(node.subject, scope), machine.path)
    return _case(machine, node, 0, subject, scope)


def _case(machine: Machine, node: cst.Match, index: int, subject: Object, scope: Scope) -> Flow:
    if index >= len(node.cases):
        return Flow.NEXT
    case = node.cases[index]
    trial = _Trial(machine, scope)
    found = trial.fits(case.pattern, subject)

    def body() -> Flow:
        for name, value in trial.captures:
            assign(machine, name, value, scope)
        return machine.execute(case.body.body, scope)

    def other() -> Flow:
        return _case(machine, node, index + 1, subject, scope)

    if case.guard is not None and found is not False:
        for name, value in trial.captures:
            assign(machine, name, value, scope)
        guarded = truth(machine.evaluate(case.guard, scope))
        found = False if guarded is False else None if guarded is None else found
    if found is not None:
        with machine.decided_by(case_of(machine, node, case, scope) if found else None):
            return decided(machine, body, other) if found else other()
    text = f"case {index + 1} of match {machine.text(node.subject)}"
    serial = scope.serial
    return fork(machine, [Test(text, True, serial)], [Test(text, False, serial)], body, other)


class _Trial:
    """One pattern held against a subject, and the names that it binds on the way."""

    def __init__(self, machine: Machine, scope: Scope) -> None:
        self._machine = machine
        self._scope = scope
        self.captures: list[tuple[cst.Name, Object]] = []

    def fits(self, pattern: cst.MatchPattern, subject: Object) -> bool | None:
        """Whether the subject matches, None where only run time knows."""
        match pattern:
            case cst.MatchAs():
                found = True if pattern.pattern is None else self.fits(pattern.pattern, subject)
                if pattern.name is not None:
                    self.captures.append((pattern.name, subject))
                return found
            case cst.MatchOr():
                outcomes = [self.fits(item.pattern, subject) for item in pattern.patterns]
                return True if True in outcomes else None if None in outcomes else False
            case cst.MatchValue() | cst.MatchSingleton():
                value = self._machine.evaluate(pattern.value, self._scope)
                return truth(compare(cst.Equal(), subject, value, self._machine.place(pattern.value)))
            case cst.MatchSequence():
                return self._fits_sequence(pattern, subject)
            case cst.MatchMapping():
                return self._fits_mapping(pattern, subject)
            case cst.MatchClass():
                return self._fits_class(pattern, subject)
        return None

    def _fits_sequence(self, pattern: cst.MatchSequence, subject: Object) -> bool | None:
        starred = next((item for item in pattern.patterns if isinstance(item, cst.MatchStar)), None)
        before = list(pattern.patterns).index(starred) if starred is not None else len(pattern.patterns)
        after = len(pattern.patterns) - before - (starred is not None)
        plain = [item.value for item in pattern.patterns if isinstance(item, cst.MatchSequenceElement)]
        elements = None if isinstance(subject, (Class, Mapping, Scalar)) else elements_of(subject)
        if elements is None:
            self._guess((*plain, starred), subject)
            return False if isinstance(subject, (Instance, Mapping, Scalar)) else None
        if len(elements) < before + after or (starred is None and len(elements) != before):
            return False
        if starred is not None and starred.name is not None:
            middle = elements[before : len(elements) - after]
            self.captures.append((starred.name, Sequence.of(middle)))
        ends = (*elements[:before], *elements[len(elements) - after :]) if starred is not None else elements
        return _every(self.fits(item, element) for item, element in zip(plain, ends, strict=True))

    def _fits_mapping(self, pattern: cst.MatchMapping, subject: Object) -> bool | None:
        if isinstance(subject, Instance) and subject.items is not None:
            subject = subject.items
        if not isinstance(subject, Mapping):
            self._guess((item.pattern for item in pattern.elements), subject)
            return False if isinstance(subject, (Instance, Scalar, Sequence)) else None
        place = self._machine.place(pattern)
        outcomes: list[bool | None] = []
        taken = set()
        for item in pattern.elements:
            key = self._machine.evaluate(item.key, self._scope)
            taken.add(str(key.value) if isinstance(key, Scalar) else "")
            missing = isinstance(key, Scalar) and str(key.value) not in subject.state
            if missing and not subject.open:
                return False
            fits = self.fits(item.pattern, lookup(subject, key, None, place))
            outcomes.append(None if missing else fits)
        if pattern.rest is not None:
            rest = {key: slot for key, slot in subject.state.items() if key not in taken}
            self.captures.append((pattern.rest, Mapping(rest, place)))
        return _every(outcomes)

    def _fits_class(self, pattern: cst.MatchClass, subject: Object) -> bool | None:
        machine, scope = self._machine, self._scope
        kind = machine.evaluate(pattern.cls, scope)
        found = is_instance(subject, kind)
        if found is False:
            return False
        site = Site(subject, Arguments(), pattern.cls, scope, machine.place(pattern.cls))
        names = [entry.name for entry in kind.all_fields()] if isinstance(kind, Class) else []
        outcomes: list[bool | None] = [found]
        for index, item in enumerate(pattern.patterns):
            part = get_attribute(machine, subject, names[index], site) if index < len(names) else subject
            outcomes.append(self.fits(item.value, part))
        for keyword in pattern.kwds:
            outcomes.append(self.fits(keyword.pattern, get_attribute(machine, subject, keyword.key.value, site)))
        return _every(outcomes)

    def _guess(self, patterns: Iterable[cst.CSTNode | None], subject: Object) -> None:
        """Bind the names of patterns whose subjects only run time knows."""
        for pattern in patterns:
            if isinstance(pattern, cst.MatchStar) and pattern.name is not None:
                self.captures.append((pattern.name, Unknown(reason_of(subject))))
            elif isinstance(pattern, cst.MatchPattern):
                self.fits(pattern, Unknown(reason_of(subject)))


def _every(outcomes: Iterable[bool | None]) -> bool | None:
    found = list(outcomes)
    return False if False in found else None if None in found else True
