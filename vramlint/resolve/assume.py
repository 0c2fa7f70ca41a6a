"""Ranges for what no file says and only run time knows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.defaults import effective_default
from vramlint.catalog.keys import LIBRARIES
from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.patterns import lazy
from vramlint.resolve.board import Board, by_default, derived, possible
from vramlint.resolve.defaults import any_default
from vramlint.surfaces.lengths import OWN_MAXIMUM

_EITHER: Mapping[str, tuple[FactValue, ...]] = MappingProxyType(
    {
        "bf16": (False, True),
        "fp16": (False, True),
        "activation_checkpointing": (True, False),
        "fused_loss": (True, False),
        "packing": (False, True),
        "gradient_accumulation_steps": (1, 2),
        "quantization_bits": (4, 16),
        "tuning": ("lora", "full"),
        "load_dtype": ("bfloat16", "float32"),
        "zero_stage": (0, 3),
        "lora_target_modules": (None, "all-linear"),
    }
)
"""Facts that only run time knows and the ends of what they may be. More than two micro batches need no more
memory than two."""

SHORTEST = 64
"""The low end of an unknown sequence length, in tokens."""

_LONGEST = 2048
"""The high end where the model's own bound is not known, in tokens."""

_SHORT_CONTEXT = 1024
"""Models that take no more have tokenizers that say so; others' say a number without bound."""

LONGEST_ASSUMED = 8192
"""The high end for models that take more: hardly any data has samples that long, and the end of a long context
(131072 tokens) would only say that nothing fits."""


_SEVERAL = 2
"""The smallest batch that can shrink."""

WITHOUT_TOKENS = ("diffusion",)
"""Objectives whose samples have no length in tokens."""


def at_run_time(board: Board, name: str) -> Fact | None:
    """A range in place of a fact that only run time knows; the library's default where no range is sensible."""
    fact = board.facts[name]
    declared = _declared_default(board, fact)
    if declared is not None:
        return declared
    if name in _EITHER:
        return possible(name, _EITHER[name], fact.reason)
    found = any_default(board, name)
    if found is None:
        return None
    reason = f"{fact.reason}; the default of {found.library} is assumed"
    return replace(found, origin=Origin.ASSUMED, reason=reason, key=fact.key)


_ATTRIBUTE = lazy(r"attribute (\w+) of (?:\w+\.)*(\w+)\b")
"""How the reader words an attribute of command-line arguments whose class a library declares."""


def in_words(reason: str) -> str:
    """A reason for people: an attribute of a library's arguments is an option that the command line may give."""
    match = _ATTRIBUTE.match(reason)
    if match is None or match[2] not in LIBRARIES:
        return reason
    return f"command line: --{match[1]}, an option of {match[2]}{reason[match.end() :]}"


def _declared_default(board: Board, fact: Fact) -> Fact | None:
    """The default that a library's own argument class declares for what the command line may say."""
    libraries = board.setting.libraries
    if "trl.get_peft_config" in fact.reason and fact.name == "tuning":
        return by_default("tuning", "full", board.setting.label("trl"), "use_peft")
    match = _ATTRIBUTE.match(fact.reason)
    found = effective_default(match[2], match[1], libraries) if match else None
    if found is None or found.value is None:
        return None
    return by_default(fact.name, found.value, board.setting.label(found.library), found.key)


def micro_batch_size(board: Board) -> Fact | None:
    """One sequence, the least there is."""
    fact = board.facts.get("micro_batch_size")
    if fact is not None and fact.candidates:
        return None
    reason = fact.reason if fact else "no file says the micro batch size"
    return possible("micro_batch_size", (1,), f"{reason}; the least is assumed")


def adapting_batch(board: Board) -> Fact | None:
    """From one sequence to what is written, where the Trainer shrinks the batch until a step fits.

    transformers 5.23 trainer.py, `train`: `find_executable_batch_size` begins with per_device_train_batch_size.
    """
    fact, size = board.facts.get("micro_batch_size"), board.integer("micro_batch_size")
    if fact is None or fact.origin not in (Origin.WRITTEN, Origin.DEFAULT):
        return None
    if size is None or size < _SEVERAL or board.value("batch_adapts") is not True:
        return None
    reason = f"auto_find_batch_size shrinks the {size} of {fact.key or 'the configuration'} until a step fits"
    ends = tuple([Candidate(end, fact.place) for end in (1, size)])
    return replace(fact, candidates=ends, origin=Origin.DERIVED, library="", reason=reason)


def sequence_length(board: Board) -> Fact | None:
    """The trainer's default, else everything from a short sequence to the model's own bound, within reason."""
    fact = board.facts.get("sequence_length")
    if (fact is not None and fact.candidates) or board.value("objective") in WITHOUT_TOKENS:
        return None
    if fact is None:
        found = any_default(board, "sequence_length") or _prompt_and_completion(board)
        if found is not None:
            return found
    bound = board.network.positions if board.network else None
    longest = min(bound or _LONGEST, LONGEST_ASSUMED)
    if fact is not None and fact.key == OWN_MAXIMUM and bound and bound <= _SHORT_CONTEXT:
        return possible("sequence_length", (bound,), f"{fact.reason}; the model's, {bound} tokens, is assumed")
    shortest = min(SHORTEST, longest)
    said = fact.reason if fact else "no file bounds the sequences"
    known = f"the model takes up to {bound}" if bound else "the model's own bound is not known"
    reason = f"{said}; {known}, {shortest} to {longest} tokens are assumed"
    return possible("sequence_length", (shortest, longest), reason)


def _prompt_and_completion(board: Board) -> Fact | None:
    """Prompt and completion together, for trainers that generate what they train on."""
    completion = board.facts.get("completion_length")
    answer = board.integer("completion_length")
    if completion is None or answer is None or completion.key != "max_completion_length":
        return None
    prompt = board.integer("prompt_length")
    if prompt is not None:
        return derived("sequence_length", prompt + answer, "max_prompt_length + max_completion_length", completion)
    ends = (answer + SHORTEST, answer + _LONGEST)
    reason = f"max_completion_length is {answer}, and prompts of {SHORTEST} to {_LONGEST} tokens are assumed"
    return possible("sequence_length", ends, reason)


def padding(board: Board) -> Fact | None:
    """Whether a mask reaches the attention kernel; a range where the files don't show it and it matters."""
    if board.value("objective") in WITHOUT_TOKENS:
        return None
    if not board.is_missing("padding") and not board.is_unknown("padding"):
        return None
    if board.value("packing") is True:
        return Fact("padding", possible("padding", (False,), "").candidates, Origin.DERIVED, reason="rows are packed")
    if board.value("micro_batch_size") == 1:
        reason = "a batch of one sequence needs no padding"
        return Fact("padding", possible("padding", (False,), "").candidates, Origin.DERIVED, reason=reason)
    reason = "sequences of one batch may differ in length"
    return possible("padding", (False, True) if board.value("attention_implementation") == "sdpa" else (True,), reason)
