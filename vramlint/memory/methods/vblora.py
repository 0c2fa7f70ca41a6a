"""VB-LoRA: factors put together from a bank of vectors that all layers share."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.shared_bases import BankFactors
from vramlint.memory.refusal import NotFollowedError

VECTORS, LENGTH, BEST = 256, 256, 2
"""VBLoRAConfig.num_vectors, vector_length, topk (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """A logit for every part of a factor and every vector of the bank.

    Raises:
        NotFollowedError: vectors do not fit the layer.
    """
    rank, count = adapters.rank_of(adapter, name), option(adapter, "num_vectors", VECTORS)
    length = option(adapter, "vector_length", LENGTH)
    if inputs % length or outputs % length:
        raise NotFollowedError(f"the form of VB-LoRA on {name}")
    bank = build.shared(f"{name}.vblora_vector_bank", (count, length))
    first = build.trained(f"{name}.vblora_logits_A", (rank, inputs // length, count))
    second = build.trained(f"{name}.vblora_logits_B", (outputs // length, rank, count))
    return BankFactors(bank, first, second, option(adapter, "topk", BEST), adapter.dropout)
