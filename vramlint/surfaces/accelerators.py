"""`Accelerator(…)` of a hand-written loop: precision, accumulation, and the plugins that share the model.

accelerate 1.15: accelerator.py, utils/dataclasses.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.facts import Fact
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Draft, Drawn, draw, is_absent, options, stated
from vramlint.surfaces.lineage import last
from vramlint.surfaces.sharded import flags_of, sharded_facts
from vramlint.surfaces.trainers import deepspeed_of
from vramlint.values import Call, Entry, Scalar, Table, Value

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
    for plugin in _plugins(arguments.value("deepspeed_plugin") or arguments.value("deepspeed_plugins")):
        _deepspeed(draft, plugin)
    fsdp = arguments.find("fsdp_plugin")
    if fsdp is not None and not is_absent(fsdp.value):
        draft.put(stated("parallelism", "fsdp", accelerator.place, "fsdp_plugin"))
        for option in options(fsdp.value):
            if isinstance(option.value, Call):
                draft.take(item for item in sharded_facts(option.value) if not _is_flag(item))
    dynamo = arguments.find("dynamo_backend") or arguments.find("dynamo_plugin")
    if (
        dynamo is not None
        and isinstance(dynamo.value, Scalar)
        and str(dynamo.value.value).lower() not in {"no", "none"}
    ):
        draft.put(stated("torch_compile", True, dynamo.value.place, dynamo.name))


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


def _plugins(value: Value | None) -> Iterable[Call]:
    """The plugin, or the first of several by name, which is the one that is in force."""
    if isinstance(value, Call):
        yield value
    if isinstance(value, Table):
        yield from [entry.value for entry in value if isinstance(entry.value, Call)][:1]


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
