"""Adapters and quantized bases of a settled world."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.job import Adapter, ConfigValue, Quantization
from vramlint.resolve.board import Board
from vramlint.resolve.defaults import has_lora, library_default
from vramlint.resolve.network import stored_number
from vramlint.resolve.preparation import Preparation, preparation

_RANKS: Mapping[str, int] = MappingProxyType(
    {
        "adalora": 12,
        "vera": 256,
        "miss": 64,
        "bone": 64,
        "oft": 0,
        "hira": 32,
        "peanut": 32,
        "randlora": 32,
        "shira": 32,
        "unilora": 4,
    }
)
"""Ranks of other methods by default, where it is not 8 (peft 0.21 tuners/*/config.py)."""
FOUR, UNQUANTIZED = 4, 16
_OTHERS: Mapping[tuple[FactValue, str], str] = MappingProxyType({("torchao", "nf4"): "nf4-tensor"})
"""Who quantizes and how, where bitsandbytes has a form of the same name."""
_HALVES = ("fabric", "lightning")
"""Loops whose BitsandbytesPrecision quantizes weights that it made float16 (lightning 2.5
fabric/plugins/precision/bitsandbytes.py, quantize)."""
EMBEDDINGS = "embed_tokens"
"""A target that Unsloth trains as a whole instead (unsloth 2026.8 models/llama.py, get_peft_model)."""
WITHOUT_ADAPTERS = ("full", "freeze")
"""Ways to tune that train parameters of the model itself: all, or those that are not frozen."""
_LISTS = frozenset({"feedforward_modules"})
"""Options that are lists of names."""


def adapter_of(board: Board) -> Adapter | None:
    """What is trained instead of the base; None if the base is."""
    tuning = board.value("tuning")
    if tuning in (None, *WITHOUT_ADAPTERS):
        return None
    method = "lora" if has_lora(board) else str(tuning)
    dropout, bias = board.value("lora_dropout"), board.value("adapter_bias")
    targets, excluded = board.value("lora_target_modules"), board.value("lora_exclude_modules")
    unsloth = board.value("unsloth") is True
    trained = EMBEDDINGS if unsloth and isinstance(targets, tuple) and EMBEDDINGS in targets else ""
    if trained and isinstance(targets, tuple):
        targets = tuple(name for name in targets if name != trained)
    return Adapter(
        r=_rank(board, method),
        dropout=float(dropout) if isinstance(dropout, int | float) else 0.0,
        target_modules=targets if isinstance(targets, str | tuple) else None,
        modules_to_save=tuple(dict.fromkeys((*_words(board, "lora_modules_to_save"), *filter(None, (trained,))))),
        dora=board.value("use_dora") is True,
        bias=bias if isinstance(bias, str) else "none",
        lora_bias=board.value("lora_bias") is True,
        rank_pattern=_pairs(board, "lora_rank_pattern"),
        layers_to_transform=tuple([int(word) for word in _words(board, "lora_layers")]),
        exclude_modules=excluded if isinstance(excluded, str | tuple) else None,
        target_parameters=_words(board, "lora_target_parameters"),
        variants=_words(board, "lora_variants"),
        trained_tokens=_pairs(board, "trained_tokens"),
        autocast_adapter_dtype=_casts(board),
        from_peft=board.value("adapter_library") in (None, "peft"),
        dtype=None if preparation(board) is not Preparation.NARROWS else "bfloat16",
        method=method,
        merged=board.value("merges_adapter") is True,
        originals_on_host=unsloth and board.value("checkpointing_offload") is True,
        virtual_tokens=board.integer("virtual_tokens") or 0,
        options=dict(_option(word) for word in _words(board, "adapter_options")),
    )


def frozen_of(board: Board) -> tuple[str, ...]:
    """Patterns of the parameters that the program freezes itself; adapters freeze the base whatever it does."""
    return _words(board, "frozen_parameters") if board.value("tuning") in WITHOUT_ADAPTERS else ()


def _rank(board: Board, method: str) -> int:
    rank = board.integer("lora_r")
    return _RANKS.get(method, Adapter().r) if rank is None else rank


def _casts(board: Board) -> bool:
    given = board.value("adapter_cast")
    if isinstance(given, bool):
        return given
    cast = library_default(board, "", "peft", "get_peft_model.autocast_adapter_dtype")
    return cast is None or cast.value is True


def _words(board: Board, name: str) -> tuple[str, ...]:
    value = board.value(name)
    return (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()


def _pairs(board: Board, name: str) -> Mapping[str, int]:
    """What a fact says as `key=number`."""
    split = [word.rpartition("=") for word in _words(board, name)]
    return {key: int(number) for key, _, number in split if number.isdecimal()}


def _option(word: str) -> tuple[str, ConfigValue]:
    """One `key=value` of a config, its value as the config had it."""
    key, _, text = word.partition("=")
    if key in _LISTS:
        return key, tuple(text.split(","))
    if text in ("True", "False", "None"):
        return key, {"True": True, "False": False, "None": None}[text]
    if re.fullmatch(r"-?\d+\.\d+", text):
        return key, float(text)
    return key, int(text) if text.lstrip("-").isdecimal() else text


def quantization_of(board: Board) -> Quantization | None:
    """The quantized base; None if it is none."""
    bits = board.integer("quantization_bits")
    if bits is None or bits >= UNQUANTIZED:
        return None
    trl = preparation(board)
    kind = str(board.value("quantization_type") or "nf4")
    group = board.integer("quantization_group_size")
    group = stored_number(board.network, "group_size", "q_group_size") if group is None else group
    return Quantization(
        kind=_OTHERS.get((board.value("quantization_method"), kind), kind),
        double_quantization=board.value("double_quantization") is True,
        compute_dtype=str(board.value("quantization_compute_dtype") or "float32"),
        prepared_for_kbit=board.value("prepared_for_kbit") is True
        or trl in (Preparation.WIDENS, Preparation.WIDENS_NORMS),
        narrowed_embeddings=trl is Preparation.WIDENS and bits == FOUR and board.value("bf16") is True,
        only_norms=trl is Preparation.WIDENS_NORMS and board.value("prepared_for_kbit") is not True,
        source_dtype="float16" if board.value("loop") in _HALVES else None,
        group_size=Quantization().group_size if group is None else group,
        skipped_modules=_words(board, "quantization_skip_modules"),
        bits=bits,
        experts=board.value("quantized_experts") is True,
    )
