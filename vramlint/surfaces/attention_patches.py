"""Attention of transformers' models that a program replaces by its own: `LlamaAttention.forward = forward`.

Before transformers had flash attention of its own (4.34), programs brought it along like that: FastChat's, LLaVA's and
LongLoRA's `*_attn_monkey_patch.py` and those that took them over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.patterns import lazy
from vramlint.values import PATCHED, Call, Scalar

_TARGET = lazy(rf"(?:.+\.)?(\w+)\.modeling_\w+\.\w+Attention\.(?:forward|_attn){re.escape(PATCHED)}")
"""A method of a model type's attention."""
_KERNELS = (
    ("flash_attention_2", lazy(r"\b_?flash_attn\w*\(|\b_?flash_attention\w*\(|\bFlashAttention\(")),
    ("sdpa", lazy(r"\bmemory_efficient_attention\(|\bscaled_dot_product_attention\(")),
    ("eager", lazy(r"\bsoftmax\(")),
)
"""What a replacement calls, by the implementation of transformers that keeps the same for backward."""
ITS_OWN = ""
"""In the place of a kernel: attention that may also stay what it is."""


def replaced_attention(calls: Sequence[Call]) -> Fact | None:
    """The model types whose attention is replaced, each with the kernels that it may have then: `llama=sdpa`.

    A replacement that calls no known kernel may be any of them.
    """
    found: dict[str, Candidate] = {}
    for call in calls:
        target = _TARGET.fullmatch(call.callee)
        if target is None:
            continue
        for kernel in (*_kernels(call), *((ITS_OWN,) if call.conditions else ())):
            found.setdefault(f"{target[1]}={kernel}", Candidate("", call.place))
    if not found:
        return None
    place = next(iter(found.values())).place
    return Fact("replaced_attention", (Candidate(tuple(found), place),), Origin.WRITTEN, via="code")


def _kernels(call: Call) -> Iterator[str]:
    for item in call.args:
        text = item.value if isinstance(item, Scalar) else None
        called = [name for name, words in _KERNELS if isinstance(text, str) and words.search(text)]
        yield from called or [name for name, _ in _KERNELS if name != "sdpa"]
