"""Settings that the program declares under usual names and that no call was seen to take."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import Fact, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Draft, draw
from vramlint.surfaces.keys import all_rows
from vramlint.values import Program, Scalar, Value

_LORA = (
    ("lora_r", "lora_r", "count"),
    ("lora_rank", "lora_r", "count"),
    ("lora_alpha", "lora_alpha", "number"),
    ("lora_dropout", "lora_dropout", "number"),
    ("lora_target_modules", "lora_target_modules", "names"),
    ("lora_modules_to_save", "lora_modules_to_save", "names"),
    ("target_modules", "lora_target_modules", "names"),
)

_LOOP = all_rows("settings")


def inactive_adapter(draft: Draft, settings: Mapping[str, Value]) -> None:
    """LoRA settings of a run in which LoRA is off: shown, but said to have no effect."""
    for name, fact, convert in _LORA:
        value = settings.get(name)
        if value is None or fact in draft.facts:
            continue
        drawn = draw(fact, value, CONVERTERS[convert], name)
        if isinstance(drawn, Fact) and drawn.origin is Origin.WRITTEN:
            reason = "inactive: no adapter is attached"
            draft.put(Fact(fact, drawn.candidates, drawn.origin, name, drawn.via, reason=reason))


_SHAPE = (("B", "micro_batch_size"), ("T", "sequence_length"))
"""The shape of a batch of tokens as karpathy/build-nanogpt and karpathy/llm.c name it, with loaders of their own."""


def loop_settings(draft: Draft, settings: Mapping[str, Value]) -> None:
    """Batch sizes of a hand-written loop by their usual names, when no DataLoader was seen to take them."""
    for _, name, fact, convert in _LOOP:
        value = settings.get(name)
        if value is not None and fact not in draft.facts:
            draft.put(draw(fact, value, CONVERTERS[convert], name))
    if "micro_batch_size" not in draft.facts and all(isinstance(settings.get(name), Scalar) for name, _ in _SHAPE):
        draft.take(draw(fact, settings[name], CONVERTERS["count"], name) for name, fact in _SHAPE)


def has_loop_settings(program: Program) -> bool:
    """Whether the program declares settings of a training loop, on its command line or as module constants."""
    names = {row.key for row in _LOOP}
    return any(entry.key in names for entry in (*program.settings, *program.constants))
