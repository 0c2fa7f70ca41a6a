"""What statements do: blocks, pipelines, branches, functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vramlint.readers.shell import comparison, conditions, loops
from vramlint.readers.shell.assignments import assignment
from vramlint.readers.shell.calculation import calculated
from vramlint.readers.shell.commands import finish, simple
from vramlint.readers.shell.cutting import Simple
from vramlint.readers.shell.expansion import word
from vramlint.readers.shell.machine import DEEPEST, LIKELY, NO, OPEN, YES, Machine, Outcome
from vramlint.readers.shell.patterns import matches, pattern
from vramlint.readers.shell.pieces import Hole, Pieces, known, negated, variants
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Function, State, Way, merged
from vramlint.readers.shell.substitution import captured
from vramlint.readers.shell.syntax import (
    Arithmetic,
    Block,
    Case,
    Chain,
    Conditional,
    Counting,
    Definition,
    Each,
    Loop,
    Negation,
    Pipeline,
    Redirected,
    Statement,
    Subshell,
    Test,
    extent,
)


def run(machine: Machine, statement: Statement) -> Outcome:
    """Run a statement unless the flow has ended."""
    if machine.state.ended:
        return OPEN
    match statement:
        case Simple():
            return simple(machine, statement)
        case Block():
            return block(machine, statement)
        case Test(start, end):
            return conditions.double(machine, start + 2, end - 2)
        case Arithmetic(start, end):
            return _calculate(machine, start, end)
        case Chain():
            return _chain(machine, statement)
        case Conditional():
            return _conditional(machine, statement)
        case Pipeline():
            return _pipeline(machine, statement)
        case Negation(body):
            outcome = run(machine, body)
            return OPEN if outcome.likely else conditions.opposite(outcome)
        case Subshell(body):
            return _subshell(machine, body)
        case Redirected():
            return _redirected(machine, statement)
        case Definition(name, body):
            machine.state.functions[name] = Function(body, machine.source)
            return YES
        case Case():
            return _case(machine, statement)
        case Loop():
            return loops.conditional(machine, statement)
        case Each():
            return loops.each(machine, statement)
        case Counting():
            return loops.counting(machine, statement)


def block(machine: Machine, body: Block) -> Outcome:
    """Run statements one after the other."""
    outcome = YES
    for statement in body.statements:
        if machine.state.ended:
            break
        outcome = run(machine, statement)
    return outcome


def _calculate(machine: Machine, start: int, end: int) -> Outcome:
    at = machine.here(start, end)
    found: set[bool | None] = set()
    usual: bool | None = None
    for option, _ in variants(calculated(machine, start + 2, max(end - 2, start + 2), at, quoted_=True)):
        text = known(option)
        found.add(None if text is None else text != "0")
        if text is None and "$#" in machine.source.text[start:end]:
            usual = False
    if len(found) == 1 and None not in found:
        return YES if True in found else NO
    return Outcome(None, usual=usual)


def source_text(machine: Machine, statement: Statement) -> str:
    """A statement as written, on one line."""
    start, end = extent(statement)
    return " ".join(machine.source.text[start:end].replace("\\\n", " ").split())


def _under(machine: Machine, condition: str, action: Callable[[], object]) -> State:
    """The state after an action that may not run; the machine's own stays as it was."""
    before, around = machine.state, machine.conditions
    machine.state = before.copy()
    machine.conditions = (*around, condition)
    action()
    after = machine.state
    machine.state, machine.conditions = before, around
    return after


def _chain(machine: Machine, chain: Chain) -> Outcome:
    left = run(machine, chain.left)
    if machine.state.ended:
        return left
    wanted = chain.operator == "&&"
    if left.status is wanted or (left.likely and wanted):
        return run(machine, chain.right)
    if left.status is not None or (left.likely and isinstance(chain.left, Chain) and chain.left.operator == "&&"):
        # `[ … ] && a || b` with a test that holds: b is the other way of a choice, not what to do when a fails
        machine.skip(*extent(chain.right))
        return left
    text = source_text(machine, _deciding(machine, chain.left))
    condition = text if wanted else negated(text)
    outcomes: list[Outcome] = []
    after = _under(machine, condition, lambda: outcomes.append(run(machine, chain.right)))
    ways = [
        Way(machine.state, negated(condition), usual=left.usual is (not wanted)),
        Way(after, condition, usual=left.usual is wanted),
    ]
    machine.state = merged(ways, machine.here(chain.start, chain.end))
    if left.likely:
        return LIKELY
    right = outcomes[0] if outcomes else OPEN
    right = OPEN if right.likely else right
    # assignments in `[ … ] && A=1 || A=2` succeed: the second runs where the test failed
    return conditions.both(left, right) if wanted else conditions.either(left, right)


def _deciding(machine: Machine, statement: Statement) -> Statement:
    """What decides whether a statement succeeds: the test of `[ … ] && A=1`."""
    while isinstance(statement, Chain) and statement.operator == "&&" and isinstance(statement.right, Simple):
        text = machine.source.text
        if not all(assignment(text, start, end) for start, end in statement.right.words):
            break
        statement = statement.left
    return statement


def _conditional(machine: Machine, statement: Conditional) -> Outcome:
    ways: list[Way] = []
    denied: list[str] = []
    start = machine.state
    around = machine.conditions
    possible = True
    """Whether the way that the defaults lead is still ahead."""
    outcome = YES
    at = machine.here(statement.start, statement.end)
    for index, (test, body) in enumerate(statement.branches):
        decision = run(machine, test) if test is not None else YES
        if machine.state.ended:
            break
        if decision.status is False:
            machine.skip(body.start, body.end)
            continue
        if decision.status is True and not ways:
            for _, other in statement.branches[index + 1 :]:
                machine.skip(other.start, other.end)
            return block(machine, body)
        text = source_text(machine, test) if test is not None and decision.status is None else ""
        condition = " && ".join(filter(None, (*denied, text)))
        usual = possible and (decision.status is True or decision.usual is True)
        possible = possible and not usual and decision.usual is not None
        state = machine.state
        machine.state = state.copy()
        machine.conditions = (*around, *denied, *([text] if text else []))
        outcome = block(machine, body)
        ways.append(Way(machine.state, condition, usual))
        machine.state, machine.conditions = state, around
        if decision.status is True:
            machine.state = merged(ways, at)
            return outcome
        denied.append(negated(text))
    if not ways:
        return outcome
    ways.append(Way(machine.state if machine.state is not start else start, " && ".join(denied), possible))
    machine.state = merged(ways, at)
    return OPEN


def _case(machine: Machine, statement: Case) -> Outcome:
    subject = word(machine, *statement.word)
    text = machine.source.text
    shown = " ".join(text[slice(*statement.word)].split())
    ways: list[Way] = []
    around = machine.conditions
    at = machine.here(statement.start, statement.end)
    rest = falling = False
    missing = True
    """Whether the way is still ahead that is taken when nothing is given."""
    for patterns, body, ending in statement.items:
        verdict = Outcome(True) if falling else _fits(machine, subject, patterns)
        if verdict.status is False:
            machine.skip(body.start, body.end)
            continue
        if verdict.status is True and not ways:
            block(machine, body)
            falling = ending == ";&"
            if ending == ";;":
                return YES
            continue
        condition = f"case {shown} in {'|'.join(text[first:last] for first, last in patterns)}"
        state = machine.state
        machine.state = state.copy()
        machine.conditions = (*around, condition)
        block(machine, body)
        usual = missing and (verdict.status is True or verdict.usual is True)
        missing = missing and not usual and verdict.usual is not None
        ways.append(Way(machine.state, condition, usual))
        machine.state, machine.conditions = state, around
        if verdict.status is True:
            rest = True
            break
    if not ways:
        return YES
    if not rest:
        ways.append(Way(machine.state, f"case {shown} in none of these", missing))
    machine.state = merged(ways, at)
    return OPEN


def _fits(machine: Machine, subject: Pieces, patterns: Sequence[tuple[int, int]]) -> Outcome:
    """Whether the word of a `case` fits one of the patterns."""
    wanted = [pattern(word(machine, *span)) for span in patterns]
    if any(item is not None and item.tests == (None,) for item in wanted):
        return YES

    def fits(texts: Sequence[comparison.Known]) -> bool | None:
        if any(item is not None and matches(item, texts[0][1]) for item in wanted):
            return True
        return None if any(item is None for item in wanted) else False

    return comparison.decided([subject], fits)


def _pipeline(machine: Machine, pipeline: Pipeline) -> Outcome:
    given = machine.input
    for part in pipeline.parts[:-1]:
        given = captured(machine, part, given)
    before, machine.input = machine.input, given
    outcome = _subshell(machine, pipeline.parts[-1])
    machine.input = before
    return outcome


def _subshell(machine: Machine, body: Statement) -> Outcome:
    """Run in a copy of the state; where it prints and which files it writes remain."""
    state = machine.state
    machine.state = state.copy()
    outcome = run(machine, body)
    machine.state = state
    return outcome


def _redirected(machine: Machine, statement: Redirected) -> Outcome:
    """A compound statement whose output goes to a file, or whose input comes from one."""
    from vramlint.readers.shell.redirections import given, target

    before = machine.input
    machine.input = given(machine, statement.redirections) or before
    file = target(machine, statement.redirections)
    if file is None:
        outcome = run(machine, statement.body)
    else:
        output, sure = machine.output, machine.sure
        machine.output, machine.sure = [], len(machine.conditions)
        outcome = run(machine, statement.body)
        pieces = tuple(piece for part in machine.output for piece in part)
        machine.output, machine.sure = output, sure
        if pieces and not any(isinstance(piece, Hole) and not piece.reason for piece in pieces):
            finish(machine, file, pieces, machine.here(*extent(statement)))
    machine.input = before
    return outcome


def call(machine: Machine, function: Function, at: Range) -> Outcome:
    """Run a function's body; its arguments are in the state already."""
    if machine.depth >= DEEPEST:
        return OPEN
    source, machine.source = machine.source, function.source
    machine.depth += 1
    machine.locals.append({})
    outcome = run(machine, function.body)
    for name, held in machine.locals.pop().items():
        if held is None:
            machine.state.variables.pop(name, None)
        else:
            machine.state.variables[name] = held
    machine.depth -= 1
    machine.source = source
    if machine.state.ended == "return":
        machine.state.ended = ""
    return outcome
