"""Searches over settings: sweeps of Weights & Biases, Optuna's trials, Ray Tune, and the Trainer's own.

What a trial may be given is a choice whose options are `name = value`; a whole range is its two ends. When a reading is
of one trial (`Searches.chosen`), its value is the only one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from types import MappingProxyType

from vramlint.readers.python.choices import MAX_OPTIONS, among, each
from vramlint.readers.python.machine import Arguments, Handler, Machine, Site
from vramlint.readers.python.objects import (
    BoundMethod,
    Function,
    LibraryObject,
    Object,
    Partial,
    Sequence,
    Slot,
    computed,
)
from vramlint.readers.python.objects import (
    Mapping as Dict,
)
from vramlint.text import Place
from vramlint.values import Plain, Scalar, Unknown

_STARTED = (Function, BoundMethod, Partial)
_CONFIG = "wandb.config"
"""Key of the process under which the settings of the run at hand are kept."""
_SWEEP = "wandb.sweep"
_VIEW = "wandb.config as read"
"""What a program sees as `wandb.config`, and changes."""

_SUGGESTIONS = frozenset(
    f"suggest_{kind}" for kind in ("categorical", "int", "float", "uniform", "loguniform", "discrete_uniform")
)
"""Methods of Optuna's trials (optuna 2 to 4, trial/_base.py)."""

DEFAULT_SPACE = (4, 8, 16, 32, 64)
"""`per_device_train_batch_size` in the search of a Trainer that is given no space (transformers 5.23 trainer_utils.py,
default_hp_space_optuna and its kin)."""


def offered(machine: Machine, name: str, options: Many[Object], site: Site) -> Object:
    """What a trial may be given under a name: one of the options.

    Of more numbers than can be told apart, the least and the largest.
    """
    values = _ends(options) if len(options) > MAX_OPTIONS else tuple(options)
    if not values:
        return site.unknown(f"{name}, which the search varies")
    texts = tuple(f"{name} = {value.value!r}" if isinstance(value, Scalar) else "" for value in values)
    if not all(texts):
        return values[0] if len(values) == 1 else site.unknown(f"{name}, which the search varies")
    machine.searches.found.setdefault(name, texts)
    chosen = machine.searches.chosen.get(name)
    if chosen in texts:
        return values[texts.index(chosen)]
    scope = machine.searches.scopes.setdefault(name, machine.new_scope(None, "search").serial)
    return among(values, name, scope)


def _ends(options: Many[Object]) -> tuple[Object, ...]:
    numbers = [item for item in options if isinstance(item, Scalar) and isinstance(item.value, int | float)]
    if len(numbers) != len(options):
        return ()
    ordered = sorted(numbers, key=lambda item: float(item.value) if isinstance(item.value, int | float) else 0.0)
    return ordered[0], ordered[-1]


# ---------------------------------------------------------------------- Optuna


def suggested(machine: Machine, name: str, site: Site) -> Object | None:
    """`trial.suggest_int("batch", 1, 64)` and its kin (optuna 4, trial/_trial.py); None for any other method."""
    if name not in _SUGGESTIONS:
        return None
    key = site.arguments.get("name", 0)
    if not isinstance(key, Scalar):
        return None
    if name == "suggest_categorical":
        return offered(machine, str(key.value), _elements(site.arguments.get("choices", 1)), site)
    low, high = site.arguments.get("low", 1), site.arguments.get("high", 2)
    return offered(machine, str(key.value), _range(low, high), site)


def _elements(item: Object | None) -> tuple[Object, ...]:
    return (item.elements or ()) if isinstance(item, Sequence) else ()


def _range(low: Object | None, high: Object | None) -> tuple[Object, ...]:
    return (low, high) if isinstance(low, Scalar) and isinstance(high, Scalar) else ()


# ---------------------------------------------------------------------- Ray Tune


def _choice(machine: Machine, site: Site) -> Object:
    return offered(machine, _key_of(machine, site), _elements(site.first()), site)


def _between(machine: Machine, site: Site) -> Object:
    low, high = site.arguments.get("lower", 0), site.arguments.get("upper", 1)
    return offered(machine, _key_of(machine, site), _range(low, high), site)


def _below(machine: Machine, site: Site) -> Object:
    """`tune.randint(1, 9)`: the upper end is not taken (ray 2.4 to 2.50 tune/search/sample.py)."""
    low, high = site.arguments.get("lower", 0), site.arguments.get("upper", 1)
    if isinstance(high, Scalar) and isinstance(high.value, int):
        high = Scalar(high.value - 1, high.place, high.via)
    return offered(machine, _key_of(machine, site), _range(low, high), site)


def _key_of(machine: Machine, site: Site) -> str:
    """A parameter of Ray Tune has the name of its key in the dict around it: read from the text in front of it."""
    document = machine.source_of(site.node).document
    before = document.line(site.place.span.line)[: site.place.span.column - 1].rstrip()
    name = before.removesuffix(":").removesuffix("=").rstrip().rpartition("[")[2].rpartition(",")[2].rpartition("{")[2]
    found = name.strip().strip("]").strip("\"'").rpartition(".")[2]
    return found if found.replace("-", "_").isidentifier() else f"line {site.place.span.line}"


def _resources(_: Machine, site: Site) -> Object:
    return site.arguments.get("trainable", 0) or site.unknown("what is tuned")


def _parameters(_: Machine, site: Site) -> Object:
    target = site.arguments.get("trainable", 0)
    keywords = tuple(given for given in site.arguments.keywords if given.name != "trainable")
    return Partial(target, (), keywords, site.place) if target is not None else site.unknown("what is tuned")


def _tune(machine: Machine, site: Site) -> None:
    """`tune.run(train, config={…})`, `tune.Tuner(train, param_space={…})`: run the function with the settings."""
    target = site.arguments.get("run_or_experiment") or site.arguments.get("trainable", 0)
    space = site.arguments.get("config") or site.arguments.get("param_space")
    if isinstance(target, _STARTED) and space is not None:
        machine.invoke(site.of(target, Arguments((space,))))


# ---------------------------------------------------------------------- Weights & Biases


def _sweep(machine: Machine, site: Site) -> None:
    space = site.arguments.get("sweep", 0)
    if isinstance(space, Dict):
        machine.journal.put(machine.process, _SWEEP, space)
        machine.journal.remove(machine.process, _VIEW)


def _agent(machine: Machine, site: Site) -> None:
    target = site.arguments.get("function", 1)
    if isinstance(target, _STARTED):
        machine.invoke(site.of(target, Arguments()))


def _init(machine: Machine, site: Site) -> None:
    config = site.arguments.get("config")
    if isinstance(config, Dict):
        machine.journal.put(machine.process, _CONFIG, config)
        machine.journal.remove(machine.process, _VIEW)


def run_config(machine: Machine, place: Place) -> Object | None:
    """`wandb.config`: what the run was initialised with, under what an agent was given; None where nobody says."""
    view = machine.process.get(_VIEW)
    if isinstance(view, Dict):
        return view
    base, sweep = machine.process.get(_CONFIG), machine.process.get(_SWEEP)
    slots: dict[str, Slot] = dict(base.slots()) if isinstance(base, Dict) else {}
    slots |= {name: Slot(None, value) for name, value in _options(machine).items()}
    space = sweep.state.get("parameters") if isinstance(sweep, Dict) else None
    if isinstance(space, Slot) and isinstance(space.value, Dict):
        for name, slot in space.value.slots():
            slots[name] = Slot(slot.key_place, _parameter(machine, name, slot.value, place))
    if not slots:
        return None
    view = Dict(dict(slots), place, attributes=True)
    machine.journal.put(machine.process, _VIEW, view)
    return view


def _options(machine: Machine) -> Mapping[str, Object]:
    """What the agent writes on the command line: `--name=value`."""
    given = machine.process.get("argv")
    found: dict[str, Object] = {}
    for word in (given.elements or ())[1:] if isinstance(given, Sequence) else ():
        names = {name for name in (_named(item) for item in _each_of(word)) if name}
        if len(names) == 1:
            found[names.pop()] = each(_value, word)
    return found


def _each_of(item: Object) -> tuple[Object, ...]:
    options = getattr(item, "options", None)
    return tuple(option for option, _ in options) if options is not None else (item,)


def _named(item: Object) -> str:
    text = item.value if isinstance(item, Scalar) and isinstance(item.value, str) else ""
    return text.partition("=")[0].lstrip("-") if text.startswith("--") and "=" in text else ""


def _value(item: Object) -> Object:
    text = item.value if isinstance(item, Scalar) and isinstance(item.value, str) else ""
    return Scalar(_plain(text.partition("=")[2]), item.place if isinstance(item, Scalar) else None, "cli")


def _plain(text: str) -> Plain:
    if text in ("True", "False", "true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and text.lstrip("+-").isdigit() else number


def _parameter(machine: Machine, name: str, said: Object, place: Place) -> Object:
    """What a sweep gives a parameter: `{"value": 8}`, `{"values": [4, 8]}`, `{"min": 1, "max": 64}`."""
    if not isinstance(said, Dict):
        return said
    value, values, low, high = (_of(said, key) for key in ("value", "values", "min", "max"))
    if value is not None:
        return value
    options = _elements(values) if values is not None else _range(low, high)
    distribution = _of(said, "distribution")
    if isinstance(distribution, Scalar) and str(distribution.value) in ("log_uniform", "q_log_uniform"):
        options = tuple(_exponential(item) for item in options)
    site = machine.searches.site
    return offered(machine, name, options, site) if site is not None else Unknown(f"{name} of the sweep", place)


def _exponential(item: Object) -> Object:
    """The bounds of a `log_uniform` are exponents of e."""
    known = isinstance(item, Scalar) and isinstance(item.value, int | float) and item.value < 40
    return computed(math.exp(item.value), item.place) if known and isinstance(item, Scalar) else item  # type: ignore[arg-type]


def _of(table: Dict, key: str) -> Object | None:
    slot = table.state.get(key)
    return slot.value if isinstance(slot, Slot) else None


# ---------------------------------------------------------------------- the Trainer's own search


def searched_by_trainer(machine: Machine, name: str, trainer: Object, site: Site) -> None:
    """`trainer.hyperparameter_search(hp_space=…)`: the trial's values take the place of the arguments'."""
    if name != "hyperparameter_search" or not isinstance(trainer, LibraryObject):
        return
    arguments = trainer.argument("args")
    if not isinstance(arguments, LibraryObject):
        return
    space = site.arguments.get("hp_space", 0)
    if isinstance(space, _STARTED):
        found = machine.invoke(site.of(space, Arguments((site.unknown("a trial"),))))
        inner = _of(found, "parameters") if isinstance(found, Dict) else None
        given = inner if isinstance(inner, Dict) else found
        for key, slot in given.slots() if isinstance(given, Dict) else ():
            value = _parameter(machine, key, slot.value, site.place)
            machine.bind(arguments, key, value, slot.key_place or site.place)
    elif space is None:
        sizes = tuple(Scalar(size, site.place, "library") for size in DEFAULT_SPACE)
        name = "per_device_train_batch_size"
        machine.bind(arguments, name, offered(machine, name, sizes, site), site.place)
    machine.emit(LibraryObject(".train", (), (), site.place, receiver=trainer))


_STARTS: Mapping[str, Callable[[Machine, Site], None]] = MappingProxyType(
    {
        "wandb.sweep": _sweep,
        "wandb.agent": _agent,
        "wandb.init": _init,
        "ray.tune.run": _tune,
        "ray.tune.tune.run": _tune,
        "ray.tune.Tuner": _tune,
    }
)


def search(machine: Machine, callee: str, site: Site) -> None:
    """Run what a search runs, or keep what it searches."""
    handler = _STARTS.get(callee)
    if handler is not None:
        machine.searches.site = site
        handler(machine, site)


_UNIFORM = ("uniform", "quniform", "loguniform", "qloguniform")
SEARCH_FUNCTIONS: Mapping[str, Handler] = MappingProxyType(
    {
        "ray.tune.choice": _choice,
        "ray.tune.grid_search": _choice,
        "ray.tune.randint": _below,
        "ray.tune.qrandint": _between,
        "ray.tune.lograndint": _below,
        **{f"ray.tune.{name}": _between for name in _UNIFORM},
        "ray.tune.with_resources": _resources,
        "ray.tune.with_parameters": _parameters,
    }
)
"""Ray Tune's search spaces by their qualified names."""
