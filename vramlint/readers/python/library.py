"""Built-in and library functions whose results can be worked out without running anything."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from types import MappingProxyType

from vramlint.readers.python.builtin_functions import BUILTIN_FUNCTIONS
from vramlint.readers.python.choices import each
from vramlint.readers.python.commandline.argparsers import PARSERS, extended_by_deepspeed, new_parser
from vramlint.readers.python.commandline.dataclass_parsers import is_dataclass_parser, new_dataclass_parser
from vramlint.readers.python.commandline.flags import define, defines
from vramlint.readers.python.commandline.functions import command_line_interface, run_target
from vramlint.readers.python.commandline.kinds import parsed_literal
from vramlint.readers.python.commandline.lightning_cli import is_lightning_cli, run_cli
from vramlint.readers.python.commandline.settings_classes import run_settings
from vramlint.readers.python.config_functions import CONFIG_FUNCTIONS
from vramlint.readers.python.datafiles import LOADING_FUNCTIONS
from vramlint.readers.python.execution import execute_text, global_names
from vramlint.readers.python.machine import Handler, Machine, Site
from vramlint.readers.python.methods import join_path
from vramlint.readers.python.objects import (
    LibraryObject,
    Mapping,
    Object,
    Partial,
    Sequence,
    Slot,
    computed,
)
from vramlint.readers.python.paths import PATH_FUNCTIONS
from vramlint.readers.python.probes import call_probe, environment_variable, set_variable
from vramlint.readers.python.records import RECORD_FUNCTIONS
from vramlint.readers.python.searches import SEARCH_FUNCTIONS
from vramlint.readers.python.standard_library import STANDARD_FUNCTIONS
from vramlint.readers.python.trl_functions import helper_result
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
    if defines(callee):
        return define(machine, callee, site)
    if is_lightning_cli(callee):
        return run_cli(machine, site)
    if is_dataclass_parser(callee):
        return new_dataclass_parser(machine, site)
    helped = helper_result(machine, callee, site)
    if helped is not None:
        return helped
    probed = call_probe(machine, callee, site.arguments, site)
    if probed is not None:
        return probed
    # an opened file is recorded, because `json.load(open(path))` names a file of the run
    return site.unknown(f"result of {callee}()") if callee in BUILTINS and callee != "open" else None


def _local_names(_: Machine, site: Site) -> Object:
    return Mapping({name: Slot(None, value) for name, value in site.scope.state.items()}, site.place)


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


def _path_part(work: Callable[[str], str]) -> Handler:
    def found(_: Machine, site: Site) -> Object:
        def of(item: Object) -> Object:
            if isinstance(item, Scalar) and isinstance(item.value, str):
                return computed(work(item.value), site.place)
            return site.unknown("path with unknown parts")

        return each(of, site.first())

    return found


def _repository(_: Machine, site: Site) -> Object:
    """`snapshot_download("owner/name")`: the folder of a repository of a hub, which is known by the repository's id."""
    return site.arguments.get("repo_id") or site.arguments.get("model_id") or site.first()


def _environment(machine: Machine, site: Site) -> Object:
    return environment_variable(machine, site.first(), site.arguments.get("default", 1), site)


def _default_variable(machine: Machine, site: Site) -> Object:
    name, value = site.first(), site.arguments.get("value", 1) or site.unknown("environment variable")
    found = environment_variable(machine, name, value, site)
    machine.emit(LibraryObject("os.environ.setdefault", site.arguments.positional, (), site.place))
    if isinstance(found, Scalar):
        set_variable(machine, name, found)
    return found


def _variables(machine: Machine, site: Site) -> Object:
    given = site.first() if site.arguments.positional else Mapping({})
    for key, slot in given.slots() if isinstance(given, Mapping) else ():
        set_variable(machine, slot.key_object(key), slot.value)
        machine.emit(LibraryObject("os.environ.__setitem__", (slot.key_object(key), slot.value), (), site.place))
    return Scalar(None, None, "computed")


def _version(_: Machine, site: Site) -> Object:
    """`packaging.version.parse("2.1.0")`: the release numbers, which compare as versions do."""
    item = site.first()
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        return site.unknown("version of a library")
    release = item.value.partition("+")[0].split(".")
    numbers = tuple(computed(int(part), site.place) for part in release if part.isdecimal())
    return Sequence.of(numbers, site.place)


_HANDLERS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        **BUILTIN_FUNCTIONS,
        **RECORD_FUNCTIONS,
        **SEARCH_FUNCTIONS,
        **CONFIG_FUNCTIONS,
        **LOADING_FUNCTIONS,
        **dict.fromkeys(PARSERS, new_parser),
        "ast.literal_eval": lambda _, site: parsed_literal(site.first()),
        "exec": execute_text,
        "globals": global_names,
        "locals": _local_names,
        **PATH_FUNCTIONS,
        **STANDARD_FUNCTIONS,
        "typing.cast": lambda _, site: site.arguments.get("val", 1) or site.unknown("cast"),
        "functools.partial": _partial,
        "packaging.version.parse": _version,
        "packaging.version.Version": _version,
        "os.path.join": _join,
        "posixpath.join": _join,
        "os.path.expanduser": _same,
        "os.path.abspath": _same,
        "os.path.realpath": _same,
        "os.path.dirname": _path_part(posixpath.dirname),
        "os.path.basename": _path_part(posixpath.basename),
        "os.path.normpath": _same,
        "os.fspath": _same,
        "pathlib.Path": _path,
        "pathlib.PurePath": _path,
        "os.environ.get": _environment,
        "os.getenv": _environment,
        "os.environ.setdefault": _default_variable,
        "os.environ.update": _variables,
        "huggingface_hub.snapshot_download": _repository,
        "modelscope.snapshot_download": _repository,
        "modelscope.hub.snapshot_download.snapshot_download": _repository,
        "deepspeed.add_config_arguments": extended_by_deepspeed,
        "fire.Fire": run_target,
        "fire.core.Fire": run_target,
        "typer.run": run_target,
        "jsonargparse.CLI": run_target,
        "jsonargparse.auto_cli": run_target,
        "pydantic_settings.CliApp.run": run_settings,
        "pyrallis.parse": command_line_interface,
        "tyro.cli": command_line_interface,
        "simple_parsing.parse": command_line_interface,
        "draccus.parse": command_line_interface,
    }
)
