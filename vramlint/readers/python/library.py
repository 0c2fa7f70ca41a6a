"""Built-in and library functions whose results can be worked out without running anything."""

from __future__ import annotations

from types import MappingProxyType

from vramlint.readers.python.builtin_functions import BUILTIN_FUNCTIONS
from vramlint.readers.python.choices import each
from vramlint.readers.python.commandline import (
    command_line_interface,
    is_dataclass_parser,
    new_dataclass_parser,
    new_parser,
    run_target,
)
from vramlint.readers.python.machine import Handler, Machine, Site
from vramlint.readers.python.methods import join_path
from vramlint.readers.python.objects import (
    Object,
    OptionParser,
    Partial,
    Sequence,
    computed,
)
from vramlint.readers.python.probes import call_probe, environment_variable
from vramlint.readers.python.records import RECORD_FUNCTIONS
from vramlint.values import Scalar

_BUILTINS_WORDS = """
    ArithmeticError AssertionError AttributeError BaseException Ellipsis Exception FileNotFoundError ImportError
    IndexError KeyError KeyboardInterrupt NotImplemented NotImplementedError OSError RuntimeError StopIteration
    TypeError ValueError abs all any bool bytes callable chr classmethod compile delattr dict dir divmod enumerate
    eval exec exit filter float format frozenset getattr globals hasattr hash id input int isinstance issubclass
    iter len list locals map max memoryview min next object open ord pow print property quit range repr reversed
    round set setattr slice sorted staticmethod str sum super tuple type vars zip __import__
"""
BUILTINS = frozenset(_BUILTINS_WORDS.split())


def known_call(machine: Machine, callee: str, site: Site) -> Object | None:
    """The result of a library call that is worked out here, None for one to record."""
    handler = _HANDLERS.get(callee)
    if handler is not None:
        return handler(machine, site)
    if is_dataclass_parser(callee):
        return new_dataclass_parser(machine, site)
    probed = call_probe(machine, callee, site.arguments, site)
    if probed is not None:
        return probed
    # an opened file is recorded, because `json.load(open(path))` names a file of the run
    return site.unknown(f"result of {callee}()") if callee in BUILTINS and callee != "open" else None


def _same(_: Machine, site: Site) -> Object:
    return site.first()


def _partial(_: Machine, site: Site) -> Object:
    return Partial(site.first(), site.arguments.positional[1:], site.arguments.keywords, site.place)


def _join(_: Machine, site: Site) -> Object:
    return each(lambda *parts: join_path(parts, site), *site.arguments.positional)


def _path(_: Machine, site: Site) -> Object:
    if len(site.arguments.positional) == 1:
        return site.first()
    return each(lambda *parts: join_path(parts, site), *site.arguments.positional)


def _environment(machine: Machine, site: Site) -> Object:
    return environment_variable(machine, site.first(), site.arguments.get("default", 1), site)


def _version(_: Machine, site: Site) -> Object:
    """`packaging.version.parse("2.1.0")`: the release numbers, which compare as versions do."""
    item = site.first()
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        return site.unknown("version of a library")
    release = item.value.partition("+")[0].split(".")
    numbers = tuple(computed(int(part), site.place) for part in release if part.isdecimal())
    return Sequence.of(numbers, site.place)


def _parser_itself(_: Machine, site: Site) -> Object:
    """`deepspeed.add_config_arguments(parser)` gives back the parser that it extends."""
    item = site.first()
    return item if isinstance(item, OptionParser) else site.unknown("parser")


_HANDLERS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        **BUILTIN_FUNCTIONS,
        **RECORD_FUNCTIONS,
        "typing.cast": lambda _, site: site.arguments.get("val", 1) or site.unknown("cast"),
        "functools.partial": _partial,
        "packaging.version.parse": _version,
        "packaging.version.Version": _version,
        "os.path.join": _join,
        "posixpath.join": _join,
        "os.path.expanduser": _same,
        "os.path.abspath": _same,
        "os.path.normpath": _same,
        "os.fspath": _same,
        "pathlib.Path": _path,
        "pathlib.PurePath": _path,
        "os.environ.get": _environment,
        "os.getenv": _environment,
        "argparse.ArgumentParser": new_parser,
        "configargparse.ArgumentParser": new_parser,
        "deepspeed.add_config_arguments": _parser_itself,
        "fire.Fire": run_target,
        "fire.core.Fire": run_target,
        "typer.run": run_target,
        "jsonargparse.CLI": run_target,
        "tyro.cli": command_line_interface,
        "simple_parsing.parse": command_line_interface,
        "draccus.parse": command_line_interface,
    }
)
