"""torchtitan's configurations since February 2026: Python functions that return a `Trainer.Config` (config/manager.py).

`--module llama3 --config llama3_8b` is `torchtitan/models/llama3/config_registry.py`, function `llama3_8b`. The file is
read, never run; what a function makes is put in the words of the older TOML files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.torchtitan import Said, registries
from vramlint.patterns import lazy
from vramlint.surfaces.launch.options import nested
from vramlint.surfaces.overlay import overlaid
from vramlint.text import Document, Place
from vramlint.values import Call, Entry, Items, Plain, Scalar, Table, Unknown, Value

FUNCTION = lazy(r"^def (?P<name>[A-Za-z]\w*)\(\)\s*->\s*[\w.\"']*Trainer[\w.]*\.Config[\"']?\s*:", re.MULTILINE)
"""A function of a registry."""
_CHOSEN = "vramlint_chosen_"
_CONFIG = ".Config"
"""How the names of the classes of configurations end."""
_MODEL = "model_spec"
"""The argument of a configuration that is the model; one without it was made by a function that is not read."""
_TYPE, _FIRST = "type", "first"
"""Entries of a table that is an object: its class, and its first positional argument."""
_PREFIXES = ("torchtitan.models.", "torchtitan.experiments.", "torchtitan.experiments.rl.examples.")
"""Where `--module` of one word is looked for, in this order."""
_CONVERTERS: Mapping[str, str] = MappingProxyType(
    {
        "Float8LinearConverter": "float8",
        "Float8GroupedExpertsConverter": "float8",
        "MXFP8LinearConverter": "mx",
        "NVFP4LinearConverter": "nvfp4",
        "LoRAConverter": "lora",
        "QATConverter": "qat",
    }
)
"""Classes of `converters=` and the words of `[model] converters`."""
_CHECKPOINTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"FullAC": ("full", ""), "SelectiveAC": ("selective", "op"), "MemoryBudgetAC": ("memory_budget", "")}
)
"""Classes of `activation_checkpoint=`, and mode and option of `[activation_checkpoint]`."""
_OPTIMIZERS: Mapping[str, str] = MappingProxyType({"default_adamw": "AdamW"})

Finder = Callable[[str], Document | None]
"""The file of a dotted module, where the project has it."""


def functions_of(document: Document) -> tuple[str, ...]:
    """The functions of a registry that a command line can choose."""
    return tuple(dict.fromkeys(match["name"] for match in FUNCTION.finditer(document.text)))


def chosen(own: Table, find: Finder) -> Table | Unknown | None:
    """The configuration that `--module` and `--config` choose; None without them, unknown where nothing tells it.

    Where the project doesn't have the registry, torchtitan's own of that name is meant, if it has one.
    """
    module, name = (_text(_first(own.get(key))) for key in ("module", "config"))
    if not module or not name:
        return None
    for candidate in _modules(module):
        document = find(candidate)
        if document is not None and name in functions_of(document):
            computed = Unknown(f"what {name} of {document.path} returns is made elsewhere")
            return next(iter(made(document, (name,)).values()), computed)
    found = next((said for path in _modules(module) if (said := registries().get((path, name))) is not None), None)
    if found is None:
        return Unknown(f"the registry of {module} is not there to be read")
    return _shipped(found)


def _shipped(said: Said) -> Table:
    table = Table(())
    for key, value in said.items():
        given: Value = Items(tuple(map(_library, value))) if isinstance(value, tuple) else _library(value)
        table = overlaid(table, nested(key, None, given))
    return table


def _library(value: Plain) -> Scalar:
    return Scalar(value, None, "library")


def _first(value: Value | None) -> Value | None:
    """The word behind an option; a `"$@"` behind it may be more of them to a reader of command lines."""
    return value.values[0] if isinstance(value, Items) and value.values else value


def _modules(module: str) -> Iterator[str]:
    for prefix in _PREFIXES if "." not in module else ("",):
        yield f"{prefix}{module}.config_registry"
    yield module


def made(document: Document, names: Sequence[str]) -> dict[str, Table]:
    """What the functions of a registry make, by their names; those that cannot be followed are left out."""
    from vramlint.readers.python import read_program

    calls = "".join(f"\n{_CHOSEN}{number} = {name}()" for number, name in enumerate(names))
    # without the modules of the project: torchtitan's own classes are then known by their names
    program, _ = read_program(Document.of(document.path, f"{document.text}\n{calls}\n"), {})
    found = {entry.key: entry.value for entry in (program.constants if program is not None else ())}
    values = {name: found.get(f"{_CHOSEN}{number}") for number, name in enumerate(names)}
    own = Table((Entry("model", None, Table((Entry("name", None, _library(_model_of(document.path))),))),))
    tables = {name: _configuration(own, value) for name, value in values.items() if isinstance(value, Call)}
    return {name: table for name, table in tables.items() if table is not None}


def _configuration(own: Table, call: Call) -> Table | None:
    """What a call makes over the model's name; None where it is another function than torchtitan's registries have."""
    if call.callee.endswith(_CONFIG):
        return replace(overlaid(own, _table(call)), place=call.place) if _speaks_of_a_model(call) else None
    module, _, name = call.callee.rpartition(".")
    said = registries().get((module, name))
    if said is None:
        return None
    return replace(overlaid(_shipped(said), _table(replace(call, args=(), keywords=()))), place=call.place)


def _speaks_of_a_model(call: Call) -> bool:
    return any(word.name == _MODEL for word in (*call.keywords, *call.bindings))


def _model_of(path: str) -> str:
    """`llama3` of `torchtitan/models/llama3/config_registry.py`."""
    parts = path.replace("\\", "/").split("/")
    return parts[-2] if len(parts) > 1 else ""


def _table(call: Call) -> Table:
    """An object as the table of its arguments; attributes that it gets later lie over them."""
    table = Table((Entry(_TYPE, None, Scalar(_class(call), call.place)),), call.place)
    if call.args:
        table = overlaid(table, nested(_FIRST, None, _plain(call.args[0])))
    for word in (*call.keywords, *call.bindings):
        table = overlaid(table, nested(word.name, None, _plain(word.value)))
    return table


def _plain(value: Value) -> Value:
    match value:
        case Call():
            return _table(value)
        case Items():
            return Items(tuple([_plain(item) for item in value.values]), value.place)
    return value


def _class(call: Call) -> str:
    """`FullAC` of `torchtitan.distributed.activation_checkpoint.FullAC.Config`."""
    return call.callee.removesuffix(_CONFIG).rpartition(".")[2]


def in_older_words(table: Table) -> Table:
    """A configuration of the registry, what the command line says over it included, as `[sections]` of TOML files."""
    if table.entry(_MODEL) is None and table.entry("training", "max_context_length") is None:
        return table
    for path, value in _translated(table):
        table = overlaid(table, nested(path, None, value))
    return table


def _translated(table: Table) -> Iterator[tuple[str, Value]]:
    spec = table.get(_MODEL)
    if isinstance(spec, Table):
        flavor = spec.get(_FIRST) or spec.get("flavor")
        yield "model.flavor", flavor if flavor is not None else Unknown("the model's flavor is computed")
        yield from _converted(spec.get("converters"))
    elif spec is not None:
        yield "model.flavor", Unknown("the model is computed", spec.place)
    yield from _tokens(table)
    yield from _checkpoint(table.get("activation_checkpoint"))
    optimizer = table.get("optimizer", _TYPE)
    if isinstance(optimizer, Scalar) and str(optimizer.value) in _OPTIMIZERS:
        yield "optimizer.name", Scalar(_OPTIMIZERS[str(optimizer.value)], optimizer.place)
    enabled = table.get("validator", "enable")
    if enabled is not None:
        yield "validation.enable", enabled


def _converted(converters: Value | None) -> Iterator[tuple[str, Value]]:
    if not isinstance(converters, Items):
        return
    tables = [item for item in converters.values if isinstance(item, Table)]
    words = [(_CONVERTERS.get(_text(item.get(_TYPE)), ""), item) for item in tables]
    yield "model.converters", Items(tuple([Scalar(word, item.place) for word, item in words if word]), converters.place)
    for word, item in words:
        if word == "lora":
            yield "lora", item


def _tokens(table: Table) -> Iterator[tuple[str, Value]]:
    """Rows of the longest length that fill the tokens of one rank's forward.

    The first registries had `seq_len` and `local_batch_size` of the TOML files still; they hold where they are written.
    """
    length, tokens = table.get("training", "max_context_length"), table.get("training", _TOKENS)
    if table.entry("training", "seq_len") is not None:
        length = table.get("training", "seq_len")
    elif length is not None:
        yield "training.seq_len", length
    most, longest = _number(tokens), _number(length)
    written = table.entry("training", "local_batch_size") is not None
    if isinstance(tokens, Scalar) and not written and most and longest and most % longest == 0:
        via = tokens.via if tokens.via == "library" else "computed"
        yield "training.local_batch_size", Scalar(most // longest, tokens.place, via)
    step = _number(table.get("training", "num_tokens_per_train_step"))
    if step and step > 0 and longest:
        yield (
            "training.global_batch_size",
            Scalar(step // longest, _place(table, "num_tokens_per_train_step"), "computed"),
        )


_TOKENS = "num_tokens_per_microbatch_per_dp_rank"


def _checkpoint(value: Value | None) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Scalar) and value.value is None:
        yield "activation_checkpoint.mode", Scalar("none", value.place)
    known = _CHECKPOINTS.get(_text(value.get(_TYPE)) if isinstance(value, Table) else "")
    if known is not None and value is not None:
        yield "activation_checkpoint.mode", Scalar(known[0], value.place)
        if known[1]:
            yield "activation_checkpoint.selective_ac_option", Scalar(known[1], value.place)


def _place(table: Table, key: str) -> Place | None:
    value = table.get("training", key)
    return value.place if value is not None else None


def _text(value: Value | None) -> str:
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""


def _number(value: Value | None) -> int:
    known = value.value if isinstance(value, Scalar) else None
    return known if isinstance(known, int) and not isinstance(known, bool) else 0
