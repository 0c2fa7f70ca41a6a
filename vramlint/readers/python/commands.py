"""Functions as commands: click and typer options, and what fire or a never-called function is run with."""

from __future__ import annotations

from collections.abc import Container, Iterator

from vramlint.readers.python.classes import relabel
from vramlint.readers.python.objects import Function, LibraryObject, Object, decorator_name
from vramlint.values import Name, Scalar, Unknown

_PARAMETER_CALLS = frozenset({"typer.Option", "typer.Argument"})


_BATCH_SEARCH = ".find_executable_batch_size"
"""accelerate 1.15 utils/memory.py: the decorator calls a function with ever smaller batch sizes until one fits."""


def _first(function: Function) -> str:
    parameters = function.node.params.params
    return parameters[0].name.value if parameters else ""


def command_default(function: Function, name: str) -> Object | None:
    """What a click or typer option, or accelerate's search for a batch size, gives a parameter; else None."""
    for decorator in function.decorators:
        if isinstance(decorator, LibraryObject) and decorator_name(decorator).endswith((".option", ".argument")):
            names, required = _option_names(decorator)
            if name in names:
                return _click_default(decorator, name, required=required)
        if (
            isinstance(decorator, LibraryObject)
            and decorator.callee.endswith(_BATCH_SEARCH)
            and name == _first(function)
        ):
            return Unknown("accelerate looks for a batch size that fits", decorator.place)
    default = function.defaults.get(name)
    if isinstance(default, LibraryObject) and default.callee in _PARAMETER_CALLS:
        value = default.args[0] if default.args else default.argument("default")
        if value is None or (isinstance(value, Name) and value.qualified == "Ellipsis"):
            return Unknown(f"command line: --{name} is required", default.place)
        return relabel(value, "click-default")
    if default is not None and function.decorated_with("command"):
        return relabel(default, "click-default")
    return None


def remaining_options(function: Function, taken: Container[str]) -> Iterator[tuple[str, Object]]:
    """The click options that fall to a command's `**kwargs`, with their defaults: those that `taken` does not name."""
    seen: set[str] = set()
    for decorator in function.decorators:
        if not (isinstance(decorator, LibraryObject) and decorator_name(decorator).endswith((".option", ".argument"))):
            continue
        names, required = _option_names(decorator)
        name = next(iter(names), "")
        if name and name not in taken and name not in seen:
            seen.add(name)
            yield name, _click_default(decorator, name, required=required)


def _option_names(decorator: LibraryObject) -> tuple[tuple[str, ...], bool]:
    """The parameter names that a click decorator may fill, and whether it is a required argument."""
    written = [item.value for item in decorator.args if isinstance(item, Scalar) and isinstance(item.value, str)]
    plain = [text for text in written if not text.startswith("-")]
    if plain:
        return (plain[-1].lower(),), decorator.callee.endswith(".argument")
    long = [text.split("/")[0].lstrip("-").replace("-", "_").lower() for text in written if text.startswith("--")]
    return tuple(long), False


def _click_default(decorator: LibraryObject, name: str, *, required: bool) -> Object:
    asked = decorator.argument("required")
    if isinstance(asked, Scalar):
        required = bool(asked.value)
    default = decorator.argument("default")
    if default is not None:
        return relabel(default, "click-default")
    if required:
        return Unknown(f"command line: --{name} is required", decorator.place)
    flag = decorator.argument("is_flag")
    if isinstance(flag, Scalar) and flag.value:
        return Scalar(False, flag.place, "click-default")
    return Scalar(None, None, "click-default")


def is_command(function: Function) -> bool:
    """Whether a decorator makes the function a command of the program."""
    return function.decorated_with("command", "option", "argument", "call_parse")
