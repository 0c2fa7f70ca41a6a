"""Several possible objects: building, narrowing and mapping choices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import product

from vramlint.readers.python.conditions import Test, Tests
from vramlint.readers.python.objects import Choice, Object, Sequence, Slot
from vramlint.values import Name, Scalar, Unknown

MAX_OPTIONS = 8
"""More possible values than this are as good as an unknown one."""


def same(left: object, right: object) -> bool:
    """Whether two objects cannot be told apart by anyone who reads the program."""
    if left is right:
        return True
    if isinstance(left, tuple):
        return isinstance(right, tuple) and _all_same(left, right)
    if type(left) is not type(right):
        return False
    match left, right:
        case Scalar(), Scalar():
            return type(left.value) is type(right.value) and left.value == right.value
        case Name(), Name():
            return left.qualified == right.qualified
        case Unknown(), Unknown():
            return left.reason == right.reason
        case Sequence(), Sequence():
            ours, theirs = left.elements, right.elements
            return ours is not None and theirs is not None and _all_same(ours, theirs)
        case Slot(), Slot():
            return same(left.value, right.value)
    return False


def _all_same(left: tuple[object, ...], right: tuple[object, ...]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def options_of(item: Object) -> tuple[tuple[Object, Tests], ...]:
    """The possible objects behind one, a single one for what is no choice."""
    return item.options if isinstance(item, Choice) else ((item, ()),)


def consistent(tests: Iterable[Test], path: Iterable[Test]) -> bool:
    """Nothing in `tests` contradicts the path or itself."""
    assumed = _assumed(path)
    for text, holds, scope, _ in tests:  # noqa: SIM110 (a generator would take twice as long)
        if assumed.setdefault((text, scope), holds) is not holds:
            return False
    return True


def _assumed(path: Iterable[Test]) -> dict[tuple[str, int], bool]:
    """How the tests of a path come out."""
    return {(text, scope): holds for text, holds, scope, _ in path}


def _is_open(tests: Tests, assumed: Mapping[tuple[str, int], bool]) -> bool:
    """Nothing in `tests`, which do not contradict themselves, contradicts what is assumed."""
    for text, holds, scope, _ in tests:  # noqa: SIM110
        if assumed.get((text, scope), holds) is not holds:
            return False
    return True


def choose(options: Iterable[tuple[Object, Tests]]) -> Object:
    """One object for several possible ones: flattened, equal ones joined, impossible ones dropped."""
    kept: list[tuple[Object, Tests]] = []
    for option, tests in options:
        for item, more in options_of(option):
            joined = _joined(tests, more)
            if len(joined) > 1 and not consistent(joined, ()):
                continue
            for index, (other, others) in enumerate(kept):
                if same(item, other):
                    # equal values on both sides: only what the two have in common still decides between them
                    kept[index] = other, tuple(test for test in others if test in joined)
                    break
            else:
                kept.append((item, joined))
    if len(kept) == 1:
        return kept[0][0]
    if not kept or len(kept) > MAX_OPTIONS:
        return Unknown("too many possible values" if kept else "contradictory branches")
    return Choice(tuple(kept))


def _joined(first: Tests, second: Tests) -> Tests:
    if not (first and second):
        return first or second
    return (*first, *[test for test in second if test not in first])


def narrow(item: Object, path: Collection[Test]) -> Object:
    """The object as it can be where the tests of `path` hold."""
    if not isinstance(item, Choice) or not path:
        return item
    assumed = _assumed(path)
    left = [option for option in item.options if _is_open(option[1], assumed)]
    if not left or len(left) == len(item.options):
        return item
    return left[0][0] if len(left) == 1 else Choice(tuple(left))


def among(options: tuple[Object, ...], label: str, scope: int) -> Object:
    """One of several objects in turn, as in the passes of a loop; `label` names the loop variable."""
    if len(options) == 1:
        return options[0]
    texts = [f"{label} = {_shown(option, index)}" for index, option in enumerate(options)]
    return choose(
        (
            option,
            (
                Test(texts[index], True, scope),
                *(Test(text, False, scope, silent=True) for text in texts if text != texts[index]),
            ),
        )
        for index, option in enumerate(options)
    )


def _shown(option: Object, index: int) -> str:
    if isinstance(option, Scalar):
        return repr(option.value)
    return option.qualified if isinstance(option, Name) else f"element {index}"


def each(function: Callable[..., Object], *items: Object) -> Object:
    """`function` over every consistent combination of the possible objects."""
    if len(items) == 1:
        (item,) = items
        if not isinstance(item, Choice):
            return function(item)
        return choose([(function(option), tests) for option, tests in item.options])
    for item in items:
        if isinstance(item, Choice):
            break
    else:
        return function(*items)
    results: list[tuple[Object, Tests]] = []
    for combination in product(*(options_of(item) for item in items)):
        tests: Tests = ()
        for _, more in combination:
            tests = _joined(tests, more)
        if consistent(tests, ()):
            results.append((function(*(item for item, _ in combination)), tests))
        if len(results) > MAX_OPTIONS**2:
            return Unknown("too many possible values")
    return choose(results)
