"""Flash attention of padded batches (transformers 5.23 modeling_flash_attention_utils.py): only real tokens attend.

Every layer looks for them, copies their queries, keys and values, and puts what comes out into zeros. Memory is that of
a batch without padding at worst, so all tokens count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vramlint.memory.ops import shaping
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def unpadded(tape: Tape, q: Tensor, k: Tensor, v: Tensor, attend: Attend) -> Tensor:
    """`attend` over the real tokens of q, k and v [B, heads, S, d]; its result padded again."""
    indices = tape.empty((q.shape[0] * q.shape[2],), "int64", "token indices")
    k, v, q = (shaping.index(tape, x, x.shape, (indices,)) for x in (k, v, q))
    out = attend(q, k, v)
    return tape.apply("index_put", (out,), out.shape, out.dtype, _picked, save=(indices,))


def _picked(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """`gradient[indices]`: a copy."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    result = None if gradient is None else tape.empty(gradient.shape, gradient.dtype, "index")
    del saved
    return (result,)
