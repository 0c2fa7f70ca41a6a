"""Making calls: the file's own code in place, known functions by their result, everything else as a recorded call."""

from __future__ import annotations

from types import MappingProxyType

import libcst as cst

from vramlint.readers.python.choices import choose, each, narrow
from vramlint.readers.python.classes import construct, note_config
from vramlint.readers.python.commandline.argparsers import is_parser_class, new_own_parser
from vramlint.readers.python.commandline.dataclass_parsers import (
    dataclass_parser_method,
    extends_dataclass_parser,
    new_dataclass_parser,
)
from vramlint.readers.python.commandline.decorated import started
from vramlint.readers.python.commandline.lightning_cli import extends_lightning_cli, run_cli
from vramlint.readers.python.commandline.nested_parsers import nested_parser_method
from vramlint.readers.python.commandline.settings_classes import is_settings, new_settings
from vramlint.readers.python.conditions import Tests
from vramlint.readers.python.datafiles import exists_method, load_with
from vramlint.readers.python.decisions import passed
from vramlint.readers.python.enums import member_of
from vramlint.readers.python.functions import call_function
from vramlint.readers.python.hyperparameters import save
from vramlint.readers.python.instances import brought_method
from vramlint.readers.python.library import known_call
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.maps import feed
from vramlint.readers.python.methods import mapping_method, sequence_method, text_method
from vramlint.readers.python.modules import grow, is_container
from vramlint.readers.python.objects import (
    NOT_GIVEN,
    Attribute,
    BoundMethod,
    Choice,
    Class,
    DataclassParser,
    Function,
    Given,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    OptionParser,
    Partial,
    Scope,
    Sequence,
)
from vramlint.readers.python.operators import reason_of
from vramlint.readers.python.paths import path_method
from vramlint.readers.python.records import as_mapping
from vramlint.readers.python.searches import search, searched_by_trainer, suggested
from vramlint.readers.python.starters import launch, start
from vramlint.values import Name, Scalar, Unknown

_RETURN_SELF_WORDS = """
    bfloat16 cpu cuda double eval float half requires_grad_ to train to_bettertransformer set_format
"""
_RETURN_SELF = frozenset(_RETURN_SELF_WORDS.split())
"""Methods of a model that give back the model."""


def evaluate_call(machine: Machine, node: cst.Call, scope: Scope) -> Object:
    """The object that a call expression gives."""
    place = machine.place(node)
    method = _super_method(machine, node, scope)
    callee = machine.evaluate(node.func, scope) if method is None else method
    arguments = _arguments(machine, node, scope)
    for item in (*arguments.positional, *(given.value for given in arguments.keywords)):
        note_config(machine, item)
    return invoke(machine, Site(callee, arguments, node, scope, place))


def invoke(machine: Machine, site: Site) -> Object:
    """Call `site.callee`."""
    callee = narrow(site.callee, machine.path)
    match callee:
        case Choice():
            return _each_callee(machine, callee, site)
        case Name():
            return _library(machine, callee.qualified, site)
        case Function():
            return call_function(machine, callee, started(machine, callee, site))
        case BoundMethod():
            return call_function(machine, callee.function, site, callee.owner)
        case Class():
            return _construct(machine, callee, site)
        case Partial():
            joined = Arguments(
                (*callee.args, *site.arguments.positional),
                (*callee.keywords, *site.arguments.keywords),
                site.arguments.open,
            )
            return invoke(machine, site.of(callee.target, joined))
        case Attribute():
            return _method(machine, callee, site)
        case Instance():
            member = callee.kind.member("__call__") if callee.kind else None
            if isinstance(member, Function):
                return call_function(machine, member, site, callee)
        case LibraryObject():
            return _record(machine, ".__call__", site, callee)
    return site.unknown(reason_of(callee))


def _construct(machine: Machine, kind: Class, site: Site) -> Object:
    if is_parser_class(kind):
        return new_own_parser(machine, kind, site)
    if extends_dataclass_parser(kind):
        return new_dataclass_parser(machine, site)
    if extends_lightning_cli(kind):
        return run_cli(machine, site)
    if is_settings(kind):
        return new_settings(machine, kind, site)
    if kind.members:
        return each(lambda value: member_of(kind, value) or site.unknown(f"member of {kind.name}"), site.first())
    return construct(machine, kind, site)


def _each_callee(machine: Machine, callee: Choice, site: Site) -> Object:
    results: list[tuple[Object, Tests]] = []
    for option, tests in callee.options:
        with machine.under(*tests):
            results.append((invoke(machine, site.of(option)), tests))
    return choose(results)


def _library(machine: Machine, callee: str, site: Site) -> Object:
    found = known_call(machine, callee, site)
    if found is not None:
        return found
    made = _record(machine, callee, site)
    start(machine, callee, site)
    search(machine, callee, site)
    wrapped = made.args[0] if callee == "torch.compile" and made.args else None
    return wrapped if isinstance(wrapped, (LibraryObject, Choice, Function, BoundMethod)) else made


def _record(machine: Machine, callee: str, site: Site, receiver: Object | None = None) -> LibraryObject:
    arguments = site.arguments
    return machine.emit(
        LibraryObject(callee, arguments.positional, arguments.keywords, site.place, receiver, open=arguments.open)
    )


def _method(machine: Machine, method: Attribute, site: Site) -> Object:
    """A method of a value that the file does not define."""
    receiver, name = method.receiver, method.name
    found: Object | None = None
    match receiver:
        case Scalar():
            found = text_method(name, receiver, site) or path_method(name, receiver, site)
            found = found or exists_method(machine, name, receiver, site)
        case Sequence():
            found = sequence_method(machine, name, receiver, site)
        case Mapping():
            found = mapping_method(machine, name, receiver, site)
        case Instance():
            found = brought_method(machine, receiver, name, site)
            if found is None and receiver.items is not None:
                found = mapping_method(machine, name, receiver.items, site)
        case OptionParser():
            found = nested_parser_method(machine, name, receiver, site)
        case DataclassParser():
            found = dataclass_parser_method(machine, name, receiver, site)
        case Unknown() if name in {"endswith", "startswith"} and receiver.reason.startswith("command line argument"):
            # whether a config file is named: the program is read as called without arguments
            return Scalar(False, None, "environment")
        case LibraryObject() if name == "to_dict":
            return as_mapping(receiver, site)
        case LibraryObject(callee="ruamel.yaml.YAML") if name == "load":
            return load_with(machine, "yaml", site)
    if found is not None:
        return found
    if isinstance(receiver, LibraryObject) and grow(machine, name, receiver, site):
        return receiver
    trial = suggested(machine, name, site)
    if trial is not None:
        return trial
    if save(machine, name, receiver, site):
        return Scalar(None, site.place, "computed")
    made = _record(machine, f".{name}", site, receiver)
    feed(machine, name, site, invoke)
    launch(machine, name, receiver, site)
    searched_by_trainer(machine, name, receiver, site)
    if made.args and _gives_back(name, receiver):
        return made.args[0] if len(made.args) == 1 else Sequence.of(made.args, site.place)
    return receiver if name in _RETURN_SELF and isinstance(receiver, (LibraryObject, Choice)) else made


_SETUPS = frozenset({"setup", "setup_dataloaders", "setup_module", "setup_optimizers"})


def _gives_back(name: str, receiver: Object) -> bool:
    """Whether a method gives back what it was given: `accelerator.prepare(…)`, `fabric.setup(…)`."""
    if name == "prepare":
        return True
    return name in _SETUPS and isinstance(receiver, LibraryObject) and receiver.callee.endswith(".Fabric")


_OF_DICTS = MappingProxyType({"__init__": "update", "update": "update", "get": "get", "__getitem__": "get"})
"""What `super()` gives to a class that extends `dict`: methods of the dict that the object is."""


def _super_method(machine: Machine, node: cst.Call, scope: Scope) -> Object | None:
    """The method behind `super().name`, None for every other callee."""
    target = node.func
    if not (
        type(target) is cst.Attribute
        and type(target.value) is cst.Call
        and type(target.value.func) is cst.Name
        and target.value.func.value == "super"
    ):
        return None
    name = target.attr.value
    invocation: Scope | None = scope
    while invocation is not None and invocation.owner is None:
        invocation = invocation.parent
    if invocation is None or invocation.owner is None or invocation.self_object is None:
        return Unknown(f"super().{name}")
    for base in invocation.owner.ancestry()[1:]:
        member = base.scope.state.get(name)
        if isinstance(member, Function):
            return BoundMethod(member, invocation.self_object)
    own = invocation.self_object
    if isinstance(own, Instance) and own.items is not None and name in _OF_DICTS:
        return Attribute(own.items, _OF_DICTS[name], machine.place(target))
    if name.startswith("__") and not is_container(own):
        return Unknown(f"super().{name}")
    return Attribute(invocation.self_object, name, machine.place(target))


def _arguments(machine: Machine, node: cst.Call, scope: Scope) -> Arguments:
    positional: list[Object] = []
    keywords: list[Given] = []
    origins: list[LibraryObject] = []
    unseen = False
    for argument in node.args:
        value = narrow(machine.evaluate(argument.value, scope), machine.path)
        if argument.star == "*":
            elements = value.elements if isinstance(value, Sequence) else None
            unseen = unseen or elements is None
            positional += elements or ()
        elif argument.star == "**":
            more, complete = _spread(value)
            written = {given.name for given in more}
            keywords = [given for given in keywords if given.name not in written] + more
            unseen = unseen or not complete
            origins += [value.origin] if isinstance(value, Mapping) and value.origin else []
        elif argument.keyword is not None:
            here = machine.place(argument.keyword)
            keywords.append(Given(argument.keyword.value, value, here))
            passed(machine, value, argument.keyword.value, here)
        else:
            if not positional and isinstance(value, Scalar) and isinstance(value.value, str):
                passed(machine, value, "", machine.place(argument.value))
            positional.append(value)
    return Arguments(tuple(positional), tuple(keywords), unseen, tuple(origins))


def _spread(value: Object) -> tuple[list[Given], bool]:
    """The keywords of a `**mapping` and whether they are all of them."""
    if isinstance(value, Mapping):
        return [Given(key, slot.value) for key, slot in value.slots()], not value.open
    if isinstance(value, Choice):
        return _spread_choice(value)
    return [], False


def _spread_choice(value: Choice) -> tuple[list[Given], bool]:
    """The keywords of one of several mappings."""
    names: dict[str, None] = {}
    complete = True
    for option, _ in value.options:
        complete = complete and isinstance(option, Mapping) and not option.open
        if isinstance(option, Mapping):
            names |= dict.fromkeys(key for key, _ in option.slots())
    spread = []
    for name in names:
        parts = []
        for option, tests in value.options:
            slot = option.state.get(name) if isinstance(option, Mapping) else None
            parts.append((NOT_GIVEN if slot is None else slot.value, tests))
        spread.append(Given(name, choose(parts)))
    return spread, complete
