"""Functions that a dataset is given to work on its samples: `dataset.map(lambda row: tokenizer(row["text"], …))`."""

from __future__ import annotations

from collections.abc import Callable

from vramlint.readers.python.choices import narrow
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import Choice, Function, Given, Mapping, Object, Partial
from vramlint.values import Unknown

_METHODS = {"map": "function", "with_transform": "transform", "set_transform": "transform"}
"""Methods of datasets that call a function with samples, and the parameter that takes it."""
_SAMPLE = "a sample of the data"


def feed(machine: Machine, name: str, site: Site, invoke: Callable[[Machine, Site], Object]) -> None:
    """Run the function that a dataset's method is given once, on a sample that only run time knows.

    What it calls then has the names around it as they are here, and what `functools.partial` and `fn_kwargs` bind.
    """
    parameter = _METHODS.get(name)
    given = site.arguments.get(parameter, 0) if parameter else None
    if given is None:
        return
    function = narrow(given, machine.path)
    if not isinstance(function, (Function, Partial, Choice)):
        return
    mark = machine.journal.mark()
    bound = _bound(site.arguments.get("fn_kwargs"))
    invoke(machine, site.of(function, Arguments((Unknown(_SAMPLE, site.place),), bound)))
    machine.journal.restore_plain(mark)


def _bound(named: Object | None) -> tuple[Given, ...]:
    return tuple(Given(key, slot.value) for key, slot in named.slots()) if isinstance(named, Mapping) else ()
