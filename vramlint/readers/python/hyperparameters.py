"""`self.save_hyperparameters()` of Lightning: the constructor's arguments as `self.hparams`."""

from __future__ import annotations

from vramlint.readers.python.machine import Machine, Site
from vramlint.readers.python.objects import Instance, LibraryObject, Mapping, Object

_NAME = "hparams"


def save(machine: Machine, name: str, module: Object, site: Site) -> bool:
    """Keep the arguments as `hparams`; whether the method was `save_hyperparameters` of a module of Lightning.

    Without arguments, or with names, these are all of the constructor's; one that holds settings becomes them.
    """
    if name != "save_hyperparameters" or not isinstance(module, LibraryObject):
        return False
    given = site.arguments.positional
    held = given[0] if len(given) == 1 else None
    if not isinstance(held, (Instance, Mapping)):
        held = Instance(None, site.place, {key: value for key, value in site.scope.state.items() if key != "self"})
    elif isinstance(held, Mapping):
        held = Instance(None, site.place, {key: slot.value for key, slot in held.slots()})
    machine.bind(module, _NAME, held, site.place)
    return True
