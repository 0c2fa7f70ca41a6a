"""absl.flags: `flags.DEFINE_integer("batch_size", 32, …)` and `FLAGS.batch_size`."""

from __future__ import annotations

from vramlint.readers.python.commandline.argparsers import relabelled
from vramlint.readers.python.commandline.flag_values import REGISTRY, flag_value
from vramlint.readers.python.commandline.options import Reader, Spec
from vramlint.readers.python.commandline.words import command_line, split_flag
from vramlint.readers.python.configs import as_config, override_value, put_path, resolved
from vramlint.readers.python.execution import module_scope
from vramlint.readers.python.machine import Arguments, Machine, Setting, Site
from vramlint.readers.python.objects import Function, Instance, Mapping, Object, Option
from vramlint.values import Scalar, Unknown

DEFINE = "DEFINE_"


def defines(callee: str) -> bool:
    """Whether a function of absl or ml_collections defines a flag."""
    return callee.startswith(("absl.flags.DEFINE_", "ml_collections.config_flags.DEFINE_"))


def define(machine: Machine, callee: str, site: Site) -> Object:
    """`flags.DEFINE_…(name, default, help)`; the holder of the flag has its value as `value`."""
    name = site.arguments.get("name", 0)
    if not isinstance(name, Scalar):
        return site.unknown("a flag without a name")
    kind = callee.rpartition(DEFINE)[2]
    default = site.arguments.get("default", 1) or Scalar(None)
    if kind in ("config_file", "config_dict"):
        default = _config(machine, kind, str(name.value), default, site)
    option = Option(str(name.value), name.place, relabelled(default), (f"--{name.value}",), kind)
    machine.journal.put(machine.process, f"{REGISTRY} {name.value}", option)
    value = flag_value(machine, str(name.value))
    shown = Unknown("flag") if value is None else value
    if not isinstance(shown, Mapping):
        machine.settings.append(Setting(str(name.value), name.place, shown))
    return Instance(None, site.place, {"value": shown, "default": option.default, "name": name})


def _config(machine: Machine, kind: str, name: str, default: Object, site: Site) -> Object:
    """`config_flags.DEFINE_config_file("config", "configs/x.py")`: what the file's `get_config()` returns."""
    words = command_line(machine) or ()
    made = default
    if kind == "config_file":
        spec = Spec(name, (f"--{name}", f"-{name}"))
        hits = Reader((spec,), abbreviates=False).read(words).hits
        made = _config_of(machine, hits[-1].words[0] if hits and hits[-1].words else default, site)
    config = as_config(made)
    if not isinstance(config, Mapping):
        return made
    for word in words:
        flag, value = split_flag(word)
        path = flag.lstrip("-")
        if path.startswith(f"{name}.") and value is not None:
            put_path(config, path.removeprefix(f"{name}."), override_value(value), getattr(word, "place", None))
    return resolved(machine, config)


def _config_of(machine: Machine, path: Object, site: Site) -> Object:
    if not isinstance(path, Scalar) or not isinstance(path.value, str):
        return site.unknown("a file of settings")
    file, _, argument = path.value.partition(":")
    scope = module_scope(machine, file)
    function = scope.state.get("get_config") if scope is not None else None
    if not isinstance(function, Function):
        return site.unknown(f"the config of {file}")
    given = (Scalar(argument, path.place, path.via),) if argument else ()
    return machine.invoke(site.of(function, Arguments(given)))
