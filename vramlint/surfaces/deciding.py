"""Why a program's facts are as they are: the settings that decided them, and the further places that say them.

The reader tells which settings decided a branch, what that selected and what the other side names. A fact that stands
in what was selected is decided by those settings. Where the other side would have made a fact another one, they are the
reason that it is left out (`LeftOut`), which `resolve` tells of the default that holds instead.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, LeftOut, Link, Origin
from vramlint.patterns import lazy
from vramlint.text import Place, Span
from vramlint.values import Call, Decision, Program

_MARKS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        name: lazy(pattern)
        for name, pattern in {
            "tuning": r"(?i)\w*(get_peft_model|peft_?config|lora_?config|add_adapter|inject_adapter\w*)"
            r"|\w*(add|apply|attach|inject|make|setup|wrap|create|init)\w*_(lora|peft|adapters?)\w*|convert\w*_to_lora"
            r"|mark_only_lora_as_trainable",
            "quantization_bits": r"\w*(BitsAndBytes|GPTQ|Awq|Hqq|Quanto|TorchAo|Quantization)Config|quantization_config"
            r"|(bnb|quant)_config|load_in_[48]bit|bnb_4bit_\w+|prepare_model_for_(kbit|int8)_training|quantize_?",
            "attention_implementation": r"_?attn_implementation|use_flash_attention_2|\w*flash_?(attn|attention)\w*"
            r"|\w*xformers\w*|sdpa",
            "activation_checkpointing": r"gradient_checkpointing(_enable)?|enable_gradient_checkpointing"
            r"|\w*activation_checkpointing\w*|checkpoint_(wrapper|sequential)",
            "fused_loss": r"(?i)\w*liger\w*|\w*fused_(linear_)?cross_entropy\w*|cut_cross_entropy",
            "torch_compile": r"compile|torch_compile|compile_model",
            "packing": r"packing|ConstantLengthDataset|pack_\w+",
            "bf16": r"bf16|bfloat16|autocast|mixed_precision",
            "fp16": r"fp16|float16|half|autocast|GradScaler|mixed_precision",
            "precision": r"bf16|fp16|bfloat16|float16|half|autocast|mixed_precision",
            "load_dtype": r"(torch_)?dtype|half|bfloat16|float16",
            "optimizer": r"optim|\w*Adam\w*|Adafactor|Lion|\w*8bit",
            "parallelism": r"DistributedDataParallel|FullyShardedDataParallel|DataParallel|fully_shard|DDP|FSDP",
            "zero_stage": r"(zero_)?stage",
            "allocator_settings": r"PYTORCH_CUDA_ALLOC_CONF",
            "lora_modules_to_save": r"modules_to_save",
        }.items()
    }
)
"""Facts and what a program calls, assigns or passes to make them other than the library's default."""

_CHOICES = frozenset((*_MARKS, "model", "objective", "liger", "quantization_type", "device_map", "fsdp", "fp8"))
"""Facts that a branch decides by what it calls, wherever in the files that call stands."""


_WHOLE = ("run_kind", "loop")
"""Facts of a run as a whole, which no single branch decides, and which the loops around a backward pass say too."""


def left_out(program: Program) -> tuple[LeftOut, ...]:
    """Settings because of which the program does without something, by the fact that it would make another one."""
    found: defaultdict[str, dict[Place, None]] = defaultdict(dict)
    for decision in program.decisions:
        for name, pattern in _MARKS.items() if decision.skipped else ():
            if any(map(pattern.fullmatch, decision.skipped)):
                found[name] |= dict.fromkeys(decision.by)
    return tuple(LeftOut(name, tuple(places)) for name, places in found.items())


def named_at(links: Iterable[Link], program: Program) -> Iterator[Link]:
    """The links, those that point into a data file that the program loads at the declaration of its path."""
    declared = _declarations(program)
    files = dict(program.files)
    for link in links:
        place = files.get(link.place.path) if link.place is not None else None
        yield link if place is None else replace(link, place=next(iter(declared.get(place, ())), place))


def with_reasons(facts: Iterable[Fact], program: Program, omitted: Sequence[LeftOut]) -> Iterator[Fact]:
    """The facts with the settings that decided them and the further places that say them."""
    declared = _declarations(program)
    passed = _passed(program)
    taken = [(place, decision) for decision in program.decisions for place in decision.taken]
    called = [call for call in program.calls if call.decided or call.entered]
    files = dict(program.files)
    without = next((item.by for item in omitted if item.name == "quantization_bits"), ())
    for fact in facts:
        decided: dict[Place, None] = dict.fromkeys(fact.decided)
        also: dict[Place, None] = dict.fromkeys(fact.also)
        through: dict[Place, None] = dict.fromkeys(fact.through)
        by_setting = fact.origin is Origin.WRITTEN and fact.name not in _WHOLE and fact.key != "backward"
        for place in _places(fact.candidates):
            decided |= dict.fromkeys(_deciding(fact.name, place, taken, called) if by_setting else ())
            also |= dict.fromkeys(_passed_under(fact, place, passed))
            through |= dict.fromkeys(_leading_to(place, program.path, called, files))
            if fact.name in (*_WHOLE, "objective"):
                also |= dict.fromkeys(loop for call in program.calls if call.place == place for loop in call.loops)
        if fact.name == "tuning" and fact.value == "lora":
            decided |= dict.fromkeys(without)  # without them it were qlora
        also |= dict.fromkeys(
            item for place in (*_places(fact.candidates), *decided) for item in declared.get(place, ())
        )
        own = set(_places(fact.candidates))
        yield replace(
            fact,
            decided=tuple(place for place in decided if place not in own),
            also=tuple(place for place in also if place not in own and place not in decided),
            through=tuple(through),
        )


def _places(candidates: Iterable[Candidate]) -> Iterator[Place]:
    yield from dict.fromkeys(item.place for item in candidates if item.place is not None)


def _deciding(
    name: str, place: Place, taken: Sequence[tuple[Place, Decision]], called: Sequence[Call]
) -> tuple[Place, ...]:
    """The settings that decided what stands at a place: of the smallest part around it that some selected.

    Whether there is an adapter, all parts around it decide: a branch inside says only where it comes from.
    """
    around = [(outer, decision.by) for outer, decision in taken if _covers(outer, place)]
    if name in _CHOICES:
        around += [(call.place, call.decided) for call in called if call.decided and _covers(call.place, place)]
    if name == "tuning":
        return tuple([by for _, places in sorted(around, key=lambda item: _size(item[0])) for by in places])
    return min(around, key=lambda item: _size(item[0]), default=(place, ()))[1]


def _passed_under(fact: Fact, place: Place, passed: Mapping[tuple[Place, str], tuple[Place, ...]]) -> Iterator[Place]:
    """Where a value is passed on under the key of the fact, or as the name of the model."""
    for name in (fact.key.rpartition(".")[2], *([""] if fact.name == "model" else [])):
        yield from passed.get((place, name), ())


def _leading_to(place: Place, own: str, called: Sequence[Call], files: Mapping[str, Place]) -> tuple[Place, ...]:
    """Where the program's own file leads to another one: the call into a module, the path of a data file."""
    if place.path == own:
        return ()
    if place.path in files:
        return (files[place.path],)
    entered = [call for call in called if call.entered and _covers(call.place, place)]
    inner = min(entered, key=lambda call: _size(call.place), default=None)
    return (inner.entered,) if inner is not None and inner.entered else ()


def _covers(outer: Place, inner: Place) -> bool:
    return outer.path == inner.path and outer.span[:2] <= inner.span[:2] and outer.span[2:] >= inner.span[2:]


def _size(place: Place) -> tuple[int, int]:
    line, column, end_line, end_column = place.span
    return end_line - line, end_column - column


def _declarations(program: Program) -> Mapping[Place, tuple[Place, ...]]:
    """The declarations of settings from name to value, where that takes several lines, by the place of the value."""
    found: defaultdict[Place, tuple[Place, ...]] = defaultdict(tuple)
    for entry in program.settings:
        value, name = entry.value.place, entry.key_place
        if value is not None and name is not None and _apart(value, name) and name.span < value.span:
            found[value] += (Place(name.path, Span(*name.span[:2], *value.span[2:])),)
    return found


def _passed(program: Program) -> Mapping[tuple[Place, str], tuple[Place, ...]]:
    """Where values are passed on that are written elsewhere, by their place and the name under which."""
    found: defaultdict[tuple[Place, str], tuple[Place, ...]] = defaultdict(tuple)
    found |= {(item.value, item.name): item.places for item in program.passed}
    for call in program.calls:
        for item in call.bindings:
            if (
                item.value.place is not None
                and item.name_place is not None
                and _apart(item.value.place, item.name_place)
            ):
                found[item.value.place, item.name.rpartition(".")[2]] += (item.name_place,)
    return found


def _apart(value: Place, name: Place) -> bool:
    """Whether the name of a value stands in the same file on another line."""
    return value.path == name.path and value.span.line != name.span.line
