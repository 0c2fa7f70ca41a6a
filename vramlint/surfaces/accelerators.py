"""`Accelerator(…)` of a hand-written loop: precision, accumulation, and the plugins that share the model.

accelerate 1.15: accelerator.py, utils/dataclasses.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.facts import Fact
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.deepspeed import deepspeed_facts
from vramlint.surfaces.draft import Arguments, Draft, Drawn, conditional, draw, is_absent, options, stated
from vramlint.surfaces.lineage import last
from vramlint.surfaces.parallelism_config import made
from vramlint.surfaces.sharded import bucket_view, flags_of, sharded_facts
from vramlint.surfaces.trainers import deepspeed_of
from vramlint.values import Call, Entry, Items, Option, Scalar, Table, Value

_PLUGIN_KEYS = (
    ("gradient_accumulation_steps", "gradient_accumulation_steps"),
    ("gradient_clipping", "gradient_clipping"),
    ("zero3_save_16bit_model", "zero_optimization.stage3_gather_16bit_weights_on_model_save"),
    ("offload_optimizer_device", "zero_optimization.offload_optimizer.device"),
    ("offload_param_device", "zero_optimization.offload_param.device"),
)
"""Parameters of DeepSpeedPlugin, and where it puts them in the configuration that it makes."""
_STAGE = 2
"""Its stage where neither it nor the launcher says one."""


def accelerators(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The `Accelerator(…)` objects of the program."""
    made = (call for call in calls if last(call.callee) == "Accelerator" and call.callee.startswith("accelerate"))
    return tuple({call.place: call for call in made}.values())


def accelerator_facts(draft: Draft, accelerator: Call) -> None:
    """Put what an Accelerator is given into the draft. What it is not given its launcher decides."""
    arguments = Arguments.of(accelerator)
    draft.put(_accumulation(arguments))
    draft.take(_precision(arguments))
    deepspeed = arguments.value("deepspeed_plugin") or arguments.value("deepspeed_plugins")
    ways = [_plugin(option) for option in options(deepspeed)] if deepspeed is not None else []
    if len(ways) == 1 and isinstance(ways[0].value, Call):
        _deepspeed(draft, ways[0].value)
    draft.take(_perhaps(ways, "deepspeed") if len(ways) > 1 else ())
    fsdp = arguments.value("fsdp_plugin")
    draft.take(_perhaps(options(fsdp), "fsdp") if fsdp is not None else ())
    draft.put(_dynamo(arguments))
    draft.take(made(arguments.value("parallelism_config")))
    draft.put(_handler(arguments.value("kwargs_handlers")))


def _handler(given: Value | None) -> Drawn:
    """`kwargs_handlers=[DistributedDataParallelKwargs(…)]`, whose options accelerate hands on to DDP."""
    handlers = given.values if isinstance(given, Items) else ()
    calls = (call for call in handlers if isinstance(call, Call))
    wrapper = next((call for call in calls if last(call.callee) == "DistributedDataParallelKwargs"), None)
    return bucket_view(wrapper) if wrapper is not None else None


def _perhaps(ways: Sequence[Option], strategy: str) -> Iterable[Drawn]:
    """Facts of a plugin that may be None on some path."""
    given = next((way for way in ways if isinstance(way.value, Call)), None)
    if given is None or not isinstance(given.value, Call):
        return
    held = (given.condition,) if given.condition and len(ways) > 1 else ()
    call = given.value
    found: list[Drawn] = [stated("parallelism", strategy, call.place, last(call.callee))]
    if strategy == "fsdp":
        found += [item for item in sharded_facts(call) if not _is_flag(item)]
    else:
        facts, remarks = deepspeed_facts(_configuration(Arguments.of(call), call), via="")
        found += (*facts, *remarks)
    for drawn in found:
        yield conditional(drawn, held) if isinstance(drawn, Fact) else drawn


def _dynamo(arguments: Arguments) -> Fact | None:
    keyword = arguments.find("dynamo_backend") or arguments.find("dynamo_plugin")
    backend = keyword.value if keyword is not None else None
    if isinstance(backend, Call):
        backend = backend.argument("backend", 0)
    off = not isinstance(backend, Scalar) or str(backend.value).lower() in {"no", "none"}
    return None if off or keyword is None else stated("torch_compile", True, keyword.value.place, keyword.name)


def _is_flag(drawn: Drawn) -> bool:
    """Whether a fact is of the plugin's own policy of precision, which `mixed_precision` replaces."""
    return isinstance(drawn, Fact) and drawn.name in {"bf16", "fp16"}


def splits_batches(accelerator: Call) -> bool:
    """Whether the loaders' batch size is that of all processes together."""
    config = accelerator.argument("dataloader_config")
    flags = [accelerator.argument("split_batches")]
    flags += [config.argument("split_batches", 0)] if isinstance(config, Call) else []
    return any(isinstance(flag, Scalar) and flag.value is True for flag in flags)


def _accumulation(arguments: Arguments) -> Drawn:
    steps = arguments.find("gradient_accumulation_steps")
    if steps is not None:
        return draw(steps.name, steps.value, CONVERTERS["count"], steps.name, steps.name_place)
    plugin = arguments.value("gradient_accumulation_plugin")
    given = plugin.argument("num_steps", 0) if isinstance(plugin, Call) else None
    if given is None:
        return None
    return draw("gradient_accumulation_steps", given, CONVERTERS["count"], "num_steps", arguments.place)


def _precision(arguments: Arguments) -> Iterable[Drawn]:
    given = arguments.find("mixed_precision")
    if given is None or is_absent(given.value):
        return
    word = draw("bf16", given.value, CONVERTERS["text"], "mixed_precision", given.name_place)
    if isinstance(word, Fact):
        yield from flags_of(word, {"bf16": "bf16", "fp16": "fp16"})
        if word.known and word.value == "fp8":
            yield stated("fp8", True, word.place, "mixed_precision")


def _plugin(way: Option) -> Option:
    """The plugin, or the first of several by name, which is the one that is in force."""
    if not isinstance(way.value, Table):
        return way
    first = next((entry.value for entry in way.value if isinstance(entry.value, Call)), way.value)
    return Option(first, way.condition)


def _deepspeed(draft: Draft, plugin: Call) -> None:
    draft.put(stated("parallelism", "deepspeed", plugin.place, "deepspeed_plugin"))
    arguments = Arguments.of(plugin)
    config = arguments.value("hf_ds_config")
    if config is not None and not is_absent(config):
        deepspeed_of(draft, config, "hf_ds_config", plugin.place)
        return
    draft.tables.append(("deepspeed", _configuration(arguments, plugin)))


def _configuration(arguments: Arguments, plugin: Call) -> Table:
    """The DeepSpeed configuration that a plugin without a file makes of its parameters."""
    stage = arguments.value("zero_stage") or Scalar(_STAGE, plugin.place, "library")
    zero = [Entry("stage", None, stage)]
    whole: list[Entry] = []
    for parameter, key in _PLUGIN_KEYS:
        keyword = arguments.find(parameter)
        if keyword is None or is_absent(keyword.value):
            continue
        path = key.split(".")
        value = keyword.value
        for name in reversed(path[2:]):
            value = Table((Entry(name, None, value),), plugin.place)
        (zero if len(path) > 1 else whole).append(Entry(path[min(1, len(path) - 1)], None, value))
    return Table((Entry("zero_optimization", None, Table(tuple(zero), plugin.place)), *whole), plugin.place)
