"""Options of FSDP: the `fsdp_config` of TrainingArguments and of an Accelerate configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.surfaces.convert import CONVERTERS, Converted, Converter, Outcome
from vramlint.surfaces.draft import Drawn, draw
from vramlint.surfaces.keys import all_rows, rows
from vramlint.values import Entry, Items, Scalar, Table, Value

VOCABULARY = "fsdp"
_PREFIX = "fsdp_"
_PREFETCHES = ("BACKWARD_PRE", "BACKWARD_POST", "NO_PREFETCH")
_WRAPS = ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP")
SHARDINGS: Mapping[str, str] = MappingProxyType(
    {
        "1": "full_shard",
        "2": "shard_grad_op",
        "3": "no_shard",
        "4": "hybrid_shard",
        "5": "hybrid_shard_zero2",
        "FULL_SHARD": "full_shard",
        "SHARD_GRAD_OP": "shard_grad_op",
        "NO_SHARD": "no_shard",
        "NO_RESHARD": "no_shard",
        "HYBRID_SHARD": "hybrid_shard",
        "HYBRID_SHARD_ZERO2": "hybrid_shard_zero2",
        "TRUE": "full_shard",
        "FALSE": "shard_grad_op",
    }
)
"""Strategies of FSDP 1 by name and number, and `reshard_after_forward` of FSDP 2, in the words of `--fsdp`
(accelerate 1.15 utils/dataclasses.py, FullyShardedDataParallelPlugin)."""


def without_prefix(table: Table) -> Table:
    """The options without the `fsdp_` that either spelling may carry; the last of two spellings wins."""
    entries = (Entry(entry.key.removeprefix(_PREFIX), entry.key_place, entry.value) for entry in table)
    return Table(tuple(entries), table.place)


def truth(value: Value) -> Converted:
    """A boolean, also spelled as a word: `"true"` and `"1"` count, as accelerate reads them from the environment."""
    if isinstance(value, Scalar) and isinstance(value.value, str):
        word = value.value.strip().lower()
        if word in ("true", "1", "yes", "on", "y", "t"):
            return True
        return False if word in ("false", "0", "no", "off", "n", "f", "none", "") else Outcome.WRONG_TYPE
    return CONVERTERS["flag"](value)


def common_facts(table: Table, key: str = "fsdp_config.") -> list[Drawn]:
    """What both vocabularies say alike: the wrapped classes, activation checkpointing, offloading.

    Args:
        table: the options, without their prefix.
        key: stands before each key in the facts.
    """
    found: list[Drawn] = []
    for row in all_rows(VOCABULARY):
        value = table.get(row.key) if row.key in _COMMON else None
        if value is not None:
            # switching FSDP's own checkpointing off leaves the trainer's as it is
            convert = only_on if row.fact == "activation_checkpointing" else FSDP_CONVERTERS[row.converter]
            found.append(draw(row.fact, value, convert, f"{key}{row.key}"))
    return found


def classes(value: Value) -> Converted:
    """Names of classes: one, several with commas between, or a list."""
    if isinstance(value, Items) and len(value.values) == 1:
        value = value.values[0]
    if isinstance(value, Scalar) and isinstance(value.value, str) and "," in value.value:
        return tuple([name.strip() for name in value.value.split(",") if name.strip()])
    return CONVERTERS["names"](value)


def offload_device(value: Value) -> Converted:
    """A flag of offloading as the device that keeps it."""
    on = truth(value)
    if isinstance(on, Outcome):
        return on
    return "cpu" if on is True else "none"


def only_on(value: Value) -> Converted:
    """A flag that says nothing when it is off."""
    on = truth(value)
    return on if isinstance(on, Outcome) or on is True else Outcome.ABSENT


def resharding(value: Value) -> Converted:
    """True or false for FSDP 2; a strategy's name, which FSDP 1 takes there, is no answer."""
    on = truth(value)
    return Outcome.ABSENT if on is Outcome.WRONG_TYPE else on


PREFETCHES: Mapping[str, str] = MappingProxyType({"1": "backward_pre", "2": "backward_post", "NONE": "no_prefetch"})
"""Numbers of torch's BackwardPrefetch (torch 2.13 distributed/fsdp/api.py), and what stands for none."""


def prefetch(value: Value) -> Converted:
    """When the next unit of backward is gathered, by torch's name or number."""
    if not isinstance(value, Scalar):
        return Outcome.OPAQUE
    word = str(value.value).upper()
    return PREFETCHES.get(word) or (word.lower() if word in _PREFETCHES else Outcome.WRONG_TYPE)


STATE_DICTS: Mapping[str, str] = MappingProxyType(
    {"1": "full_state_dict", "2": "local_state_dict", "3": "sharded_state_dict"}
)
"""Numbers of torch's StateDictType (torch 2.13 distributed/fsdp/api.py)."""


def state_dict(value: Value) -> Converted:
    """What is saved, by torch's name or number."""
    if not isinstance(value, Scalar):
        return Outcome.OPAQUE
    if value.value is None:
        return Outcome.ABSENT
    word = str(value.value).lower()
    return STATE_DICTS.get(word) or (word if word in STATE_DICTS.values() else Outcome.WRONG_TYPE)


def policy(value: Value) -> Converted:
    """A policy that finds the layers by their class or size."""
    return CONVERTERS["text"](value) if isinstance(value, Scalar) and value.value in _WRAPS else Outcome.ABSENT


FSDP_CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        **CONVERTERS,
        "truth": truth,
        "classes": classes,
        "policy": policy,
        "offload-device": offload_device,
        "resharding": resharding,
        "prefetch": prefetch,
        "state-dict": state_dict,
    }
)
"""Converters by the name that key tables use: those of all vocabularies, and of FSDP's options."""

_COMMON = (
    "transformer_layer_cls_to_wrap",
    "activation_checkpointing",
    "offload_params",
    "cpu_offload",
    "cpu_ram_efficient_loading",
    "state_dict_type",
    "backward_prefetch",
)
_FILE = ("reshard_after_forward", "use_orig_params", "auto_wrap_policy")
_ALONE = ("version", "activation_checkpointing")


def file_facts(table: Table, key: str = "fsdp_config.") -> list[Drawn]:
    """What a configuration by itself says: what is freed behind a forward, how layers are found that are not named.

    Args:
        table: the options, without their prefix.
        key: stands before each key in the facts.
    """
    return _drawn(table, _FILE, key)


def _drawn(table: Table, options: tuple[str, ...], key: str) -> list[Drawn]:
    said = [(rows(VOCABULARY)[option], table.get(option)) for option in options]
    return [
        draw(row.fact, value, FSDP_CONVERTERS[row.converter], f"{key}{row.key}")
        for row, value in said
        if value is not None
    ]


def trainer_facts(table: Table, switched: Fact | None, *, inline: bool) -> Iterator[Drawn]:
    """What the `fsdp_config` of TrainingArguments says, and which words it adds to `fsdp`.

    Args:
        table: as written, in a file or in the script.
        switched: the fact `fsdp` so far; without it the Trainer does not shard, and the rest has no effect.
        inline: it stands in the script, whose values say by themselves how they came.
    """
    if switched is None or switched.value in (None, False, ""):
        return
    options = without_prefix(table)
    for drawn in (*common_facts(options), *_drawn(options, ("version",), "fsdp_config.")):
        filed = isinstance(drawn, Fact) and not inline and drawn.via == "literal"
        yield replace(drawn, via="config-file") if filed and isinstance(drawn, Fact) else drawn
    words = str(switched.value).split() if switched.value is not True else []
    if not any(word in SHARDINGS.values() for word in words):
        words.insert(
            0, "full_shard" if truth(options.get("reshard_after_forward") or Scalar(True)) else "shard_grad_op"
        )
    offloads = any(truth(value) is True for key in ("offload_params", "cpu_offload") if (value := options.get(key)))
    words += ["offload"] if offloads and "offload" not in words else []
    wraps = options.get("transformer_layer_cls_to_wrap") or options.get("min_num_params")
    words += ["auto_wrap"] if switched.value is True and wraps is not None else []
    if isinstance(switched.value, str) and words == switched.value.split():
        return
    candidates = tuple([replace(item, value=" ".join(words)) for item in switched.candidates])
    yield replace(switched, candidates=candidates)


def sharding(table: Table, fallback: Value | None) -> Fact:
    """The fact `fsdp` of an Accelerate configuration, in the words of the Trainer's `--fsdp`.

    Args:
        table: the options, without their prefix.
        fallback: what switched FSDP on, the place to show where no strategy is written.
    """
    wraps = table.get("auto_wrap_policy")
    tail = " auto_wrap" if isinstance(wraps, Scalar) and str(wraps.value) in _WRAPS else ""
    offload = table.get("offload_params")
    tail += " offload" if offload is not None and truth(offload) is True else ""
    for option in _sharding_keys(table):
        value = table.get(option)
        if value is None:
            continue

        def convert(value: Value) -> Converted:
            word = SHARDINGS.get(str(value.value).upper()) if isinstance(value, Scalar) else None
            return f"{word}{tail}" if word else Outcome.OPAQUE

        drawn = draw("fsdp", value, convert, f"fsdp_config.{_PREFIX}{option}")
        if isinstance(drawn, Fact):
            return drawn
    place = fallback.place if fallback is not None else None
    return Fact(
        "fsdp",
        (Candidate(f"full_shard{tail}", place),),
        Origin.DEFAULT,
        "fsdp_sharding_strategy",
        "library",
        "accelerate",
    )


def fsdp_sheet(path: str, table: Table) -> Sheet:
    """The facts of the file that `--fsdp_config` names, by itself; ms-swift's presets hold `fsdp` beside it.

    Args:
        path: the file.
        table: its root.
    """
    inner = table.get("fsdp_config")
    options = without_prefix(inner if isinstance(inner, Table) else table)
    found: dict[str, Fact] = {}
    switched = table.entry("fsdp")
    drawn = [
        draw("fsdp", switched.value, CONVERTERS["fsdp"], "fsdp", switched.key_place) if switched else None,
        *common_facts(options),
        *file_facts(options),
        *_drawn(options, _ALONE, "fsdp_config."),
    ]
    for fact in drawn:
        if isinstance(fact, Fact):
            found.setdefault(fact.name, replace(fact, via="config-file"))
    kind = Fact("parallelism", (Candidate("fsdp"),), Origin.DERIVED, via="code", reason="the file holds FSDP's options")
    return Sheet(path, "fsdp-json", (kind, *found.values()), tables=(("fsdp", table),))


def _sharding_keys(table: Table) -> tuple[str, ...]:
    version = table.get("version")
    second = isinstance(version, Scalar) and str(version.value) == "2"
    return ("reshard_after_forward",) if second else ("sharding_strategy", "reshard_after_forward")
