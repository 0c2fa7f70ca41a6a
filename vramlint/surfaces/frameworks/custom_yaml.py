"""Training configurations with keys of somebody's own: well-known names, wherever in the file they stand.

What a program makes of them only the program says. A value that is written is taken for what its key usually means;
what is not written is left open, no key is unknown, and no figure of such a file alone is more than likely.
"""

from __future__ import annotations

from vramlint.catalog.frameworks import CUSTOM
from vramlint.catalog.usual_keys import OBJECTIVE, SIZES, USUAL
from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import draw
from vramlint.surfaces.flat import NUMERIC, lenient
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.interpolation import interpolated
from vramlint.surfaces.recipe_objectives import NAMED
from vramlint.surfaces.usual import Found, leaves, switched, training_keys, usual_keys
from vramlint.values import Plain, Scalar, Table

_DECIDES = "the program that reads the file decides"
_OPEN = (
    "loop",
    "bf16",
    "fp16",
    "activation_checkpointing",
    "attention_implementation",
    "fused_loss",
    "gradient_accumulation_steps",
    "load_dtype",
    "max_grad_norm",
    "packing",
)
"""Facts that only run time knows, of a program that is not seen, where no key says them."""
_OPEN_ADAPTER = ("lora_target_modules", "lora_alpha", "lora_dropout", "lora_r")
_OPEN_FOUR_BIT = ("quantization_type", "double_quantization", "quantization_compute_dtype")
_PRECISIONS = {
    "bf16": ("bf16", True),
    "bf16-mixed": ("bf16", True),
    "bfloat16": ("bf16", True),
    "fp16": ("fp16", True),
    "16-mixed": ("fp16", True),
    "float16": ("fp16", True),
}
_TYPES = ("finetuning_type", "finetune_type", "tuning_type", "tuner_type", "train_type")
_TUNINGS = ("full", "lora", "qlora")
_DEEPSPEED = ("deepspeed", "deepspeed_config", "deepspeed_config_file", "ds_config", "deepspeed_file")
_PRECISION_KEYS = ("mixed_precision", "precision")


def _complete(config: Config) -> None:
    found = usual_keys(config.table)
    for fact, items in found.items():
        _say(config, fact, items)
    _precision(config)
    if "model" not in found:
        for fact, items in usual_keys(config.table, SIZES).items():
            _say(config, fact, items)
        _partial(config, "the file names no model")
    elif not training_keys(config.table) and "micro_batch_size" not in found:
        _partial(config, "no key of training is there")
    _tuning(config)
    _objective(config)
    _world(config)
    tuning, bits = config.fact("tuning"), config.fact("quantization_bits")
    adapts = tuning is not None and tuning.value in ("lora", "qlora")
    four = bits is not None and bits.value == 4 and "4bit" not in str(_value(config, "model"))
    for fact in (*_OPEN, *(_OPEN_ADAPTER if adapts else ()), *(_OPEN_FOUR_BIT if four else ())):
        config.unknown(fact, _DECIDES)
    _deepspeed(config)


def _partial(config: Config, reason: str) -> None:
    """A file for one part of a run: other files say the rest of it."""
    config.draft.replace(Fact("run_kind", (Candidate("data"),), Origin.DERIVED, via="code", reason=reason))
    for flag in ("bf16", "fp16"):  # no run follows, in which the flags would decide it
        said = config.fact(flag)
        if said is not None and said.value is True:
            config.state("precision", f"{flag}-mixed", said.key)


def _deepspeed(config: Config) -> None:
    """DeepSpeed's configuration: a table of the file, or the file that a key names, in whatever section it stands."""
    if config.link("deepspeed", "deepspeed"):
        return
    for sections, entry in leaves(config.table):
        named = isinstance(entry.value, Scalar) and str(entry.value.value).endswith((".json", ".yaml", ".yml"))
        if named and entry.key in _DEEPSPEED and config.link("deepspeed", ".".join((*sections, entry.key))):
            return


def _value(config: Config, name: str) -> object:
    fact = config.fact(name)
    return fact.value if fact is not None else None


def _say(config: Config, fact: str, items: list[Found]) -> None:
    """The first key that has a value of the right type; others that agree are further places."""
    for path, entry, usual in items:
        value = lenient(entry.value) if usual.converter in NUMERIC else entry.value
        drawn = draw(fact, value, CONVERTERS[usual.converter], path, entry.key_place)
        if isinstance(drawn, Fact) and drawn.candidates:
            config.say(fact, path, usual.converter)
            return


def _world(config: Config) -> None:
    """The GPUs of all nodes, of a file that counts those of one."""
    each, nodes = config.fact("gpus_per_node"), _value(config, "nodes")
    if each is not None and isinstance(each.value, int) and (nodes is None or isinstance(nodes, int)):
        count = each.value * (nodes or 1)
        config.derive("world_size", count, f"{nodes or 1} nodes with {each.value} GPUs each", each.key)


def _precision(config: Config) -> None:
    for sections, entry in leaves(config.table):
        if entry.key in _PRECISION_KEYS and isinstance(entry.value, Scalar):
            path = ".".join((*sections, entry.key))
            word = str(entry.value.value).lower()
            if word in _PRECISIONS:
                fact, value = _PRECISIONS[word]
                config.state(fact, value, path)
                config.state("fp16" if fact == "bf16" else "bf16", False, path)
            elif word in ("no", "fp32", "float32", "32", "false"):
                config.state("bf16", False, path)
                config.state("fp16", False, path)


def _tuning(config: Config) -> None:
    said = {fact: config.fact(fact) for fact in ("lora_r", "lora_alpha", "lora_target_modules", "quantization_bits")}
    for sections, entry in leaves(config.table):
        if entry.key in _TYPES and isinstance(entry.value, Scalar) and entry.value.value in _TUNINGS:
            config.state("tuning", str(entry.value.value), ".".join((*sections, entry.key)))
            return
    switch = switched(config.table)
    on = switch is None or not isinstance(switch.entry.value, Scalar) or switch.entry.value.value is not False
    adapter = next((fact for name, fact in said.items() if name.startswith("lora") and fact is not None), None)
    bits = said["quantization_bits"]
    if switch is not None and not on:
        config.state("tuning", "full", switch.path)
    elif adapter is not None:
        four = bits is not None and bits.value == 4
        source = bits if four and bits is not None else adapter
        config.state("tuning", "qlora" if four else "lora", source.key)
    elif switch is not None:
        config.state("tuning", "lora", switch.path)
    else:
        config.assume("tuning", "full", "no key of an adapter is there")


def _objective(config: Config) -> None:
    for sections, entry in leaves(config.table):
        word = str(entry.value.value).lower() if isinstance(entry.value, Scalar) else ""
        if entry.key in OBJECTIVE and word in NAMED:
            config.state("objective", NAMED[word], ".".join((*sections, entry.key)))
            return
    named = [
        entry.key.lower() for entry in config.table if isinstance(entry.value, Table) and entry.key.lower() in NAMED
    ]
    if "generations" in config.draft.facts or "grpo" in named:
        config.assume("objective", "grpo", "several completions of a prompt are asked for")
    else:
        config.assume("objective", NAMED[named[0]] if named else "sft", f"no key names another; {_DECIDES}")


def _located(table: Table, key: str) -> str:
    """The key of the file that says what the most usual key says."""
    meant = next((row for row in USUAL if key in row.names), None)
    items = usual_keys(table).get(meant.fact, ()) if meant else ()
    return next((item.path for item in items if meant and item.usual.converter == meant.converter), key)


def _bits(value: FactValue) -> dict[str, Plain] | None:
    return {"load_in_4bit": value == 4, "load_in_8bit": value == 8} if value in (4, 8) else None


FRAMEWORK = Framework(
    CUSTOM,
    "Custom YAML",
    "",
    tuple([Row(row.names[0], row.fact, row.converter) for row in USUAL if not row.sections]),
    _complete,
    checked=False,
    located=_located,
    prepared=interpolated,
    spelled={"quantization_bits": _bits},
)
