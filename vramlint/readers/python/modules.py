"""Modules of torch while a program builds them: containers that grow, layers in loops, tensors of a known shape."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.classes import library_base
from vramlint.readers.python.machine import Machine, Site
from vramlint.readers.python.objects import Class, Function, LibraryObject, Mapping, Object, Sequence
from vramlint.values import Scalar

_MODULES = (".Module", ".LightningModule", ".PreTrainedModel")
_LISTS = ("torch.nn.ModuleList", "torch.nn.Sequential", "torch.nn.ParameterList")
_DICTS = ("torch.nn.ModuleDict", "torch.nn.ParameterDict")
_FACTORIES = frozenset(
    f"torch.{name}" for name in ("zeros", "ones", "empty", "full", "rand", "randn", "normal", "arange", "linspace")
)
MAX_BUILT = 600
"""Modules of the file's own classes that are built; a model of 96 layers has fewer."""
MAX_LAYERS = 256
"""More turns of a loop that builds layers are not taken one by one."""


def is_module(kind: Class | None) -> bool:
    """Whether objects of the class are modules of torch."""
    return kind is not None and (library_base(kind) or "").endswith(_MODULES)


def is_builder(function: Function) -> bool:
    """Whether a function is the constructor of a module."""
    return function.name == "__init__" and is_module(function.owner)


def builds(machine: Machine) -> bool:
    """Whether the program is in the constructor of a module."""
    return bool(machine.frames) and is_builder(machine.frames[-1].function)


def is_container(item: object) -> bool:
    """Whether an object is a container of modules, or of a class over one."""
    return isinstance(item, LibraryObject) and item.callee in {*_LISTS, *_DICTS}


def part_of(item: LibraryObject, name: str) -> Object | None:
    """The module that a container holds under a name or number, None for anything else."""
    held = item.args[0] if item.args else None
    if item.callee in _DICTS and isinstance(held, Mapping):
        slot = held.state.get(name)
        return getattr(slot, "value", None)
    elements = (
        item.args if item.callee == "torch.nn.Sequential" else held.elements if isinstance(held, Sequence) else ()
    )
    if item.callee in _LISTS and elements and name.lstrip("-").isdecimal():
        index = int(name)
        return elements[index] if -len(elements) <= index < len(elements) else None
    return None


def grow(machine: Machine, method: str, container: LibraryObject, site: Site) -> bool:
    """`layers.append(module)`, `self.add_module(name, module)`: kept as attributes of the container.

    Returns:
        Whether it was one of these.
    """
    arguments = site.arguments.positional
    if method == "__init__":  # a class over the container hands up what the container holds
        container.args = arguments
        return True
    if method in {"add_module", "register_module", "register_parameter"} and len(arguments) > 1:
        name = arguments[0]
        if isinstance(name, Scalar):
            machine.bind(container, str(name.value), arguments[1], site.place)
        return isinstance(name, Scalar)
    if container.callee not in _LISTS or not arguments:
        return False
    more: tuple[Object, ...] | None = (arguments[0],)
    if method == "extend":
        more = arguments[0].elements if isinstance(arguments[0], Sequence) else None
    elif method != "append":
        return False
    for item in more if more is not None else arguments:
        machine.bind(container, f"{method}[{len(container.state)}]", item, site.place)
    return True


def same_shape(left: Object, right: Object) -> LibraryObject | None:
    """The tensor that keeps its shape under arithmetic with a number: `0.02 * torch.randn(n, d)`."""
    for tensor, other in ((left, right), (right, left)):
        if isinstance(tensor, LibraryObject) and tensor.callee in _FACTORIES and not isinstance(other, LibraryObject):
            return tensor
    return None


def leaves_early(node: cst.For) -> bool:
    """Whether the body of a loop may end it before its elements do."""
    return any(isinstance(child, (cst.Break, cst.Return)) for child in _statements(node.body))


def _statements(node: cst.CSTNode) -> list[cst.CSTNode]:
    found: list[cst.CSTNode] = []
    waiting = list(node.children)
    while waiting:
        child = waiting.pop()
        found.append(child)
        if not isinstance(child, cst.BaseExpression):
            waiting += child.children
    return found
