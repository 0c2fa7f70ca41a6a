"""Which layers a Megatron model has: list expressions, patterns of hybrid models, vocabularies of tokenizers."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint import syntax
from vramlint.catalog.models import find_model
from vramlint.surfaces.frameworks.framework import Config

_MOST = 10_000
"""Layers of a list expression; more are not meant."""


def frequencies(text: str, layers: int | None) -> tuple[int, ...]:
    """1 for every layer that has experts, from `--moe-layer-freq`; empty where it cannot be told.

    Args:
        text: an integer N, of every N layers the first; or a list in Python, `([0]*3+[1]*11)`.
        layers: how many there are.
    """
    if text.strip().isdigit():
        every = int(text)
        return tuple([int(number % every == 0) for number in range(layers)]) if layers and every else ()
    try:
        parsed = syntax.expression(text.strip())
    except syntax.UNPARSED:
        return ()
    found = _list(parsed, 0)
    return tuple(found) if found is not None else ()


def _list(node: ast.expr, depth: int) -> list[int] | None:
    """A list made of literals, sums and products, as megatron/training/arguments.py, moe_freq_type, evaluates it."""
    if depth > 20:
        return None
    if isinstance(node, ast.List):
        values = [item.value for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, int)]
        return values if len(values) == len(node.elts) else None
    if not isinstance(node, ast.BinOp):
        return None
    if isinstance(node.op, ast.Mult):
        for listed, times in ((node.left, node.right), (node.right, node.left)):
            inner = _list(listed, depth + 1)
            if inner is not None and isinstance(times, ast.Constant) and isinstance(times.value, int):
                return inner * times.value if len(inner) * times.value <= _MOST else None
        return None
    left, right = _list(node.left, depth + 1), _list(node.right, depth + 1)
    if not isinstance(node.op, ast.Add) or left is None or right is None:
        return None
    return left + right


class Pattern(Struct, frozen=True):
    """Layers of a hybrid model by kind (megatron/core/models/hybrid/hybrid_layer_allocation.py, Symbols)."""

    mamba: int
    attention: int
    mlp: int
    experts: int
    predictions: int
    """Depths of multi-token prediction."""

    @property
    def layers(self) -> int:
        """All layers of the main decoder."""
        return self.mamba + self.attention + self.mlp + self.experts


def hybrid_pattern(text: str) -> Pattern:
    """The layers of `--hybrid-layer-pattern`, `M-M*E/*E`: those behind a slash predict further tokens."""
    main, *further = text.split("/")
    return Pattern(
        mamba=sum(map(main.count, "MG")),
        attention=sum(map(main.count, "*D+")),
        mlp=main.count("-"),
        experts=main.count("E"),
        predictions=len(further),
    )


_VOCABULARIES: Mapping[str, int] = MappingProxyType(
    {
        "GPT2BPETokenizer": 50257,
        "TikTokenizer": 131072,
        "BertWordPieceLowerCase": 30524,
        "BertWordPieceCase": 28998,
        "Llama2Tokenizer": 32000,
    }
)
"""Tokens of tokenizers that need no file to be told (megatron/core/tokenizers; those of BERT with two extra ones)."""


def vocabulary(config: Config, usual: str) -> tuple[int, bool]:
    """Tokens before padding, and whether the flags say them; those of the `usual` tokenizer where none is known."""
    size = config.integer("vocab_size") if config.given("vocab_size") else None
    if size is not None:
        return size, True
    kind, source = (
        config.text("tokenizer_type"),
        config.text("tokenizer_model") or config.text("tokenizer_name_or_path"),
    )
    row = find_model(source) if kind == "HuggingFaceTokenizer" and source else None
    known = row.config.get("vocab_size") if row is not None else None
    if isinstance(known, int):
        return known, False
    extra = config.integer("vocab_extra_ids") or 0 if config.given("vocab_extra_ids") else 0
    return _VOCABULARIES.get(kind, _VOCABULARIES[usual]) + extra, False
