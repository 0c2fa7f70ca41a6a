"""Megatron-Core's experts on one rank (NVIDIA/Megatron-LM@d98e8a6 megatron/core/transformer/moe).

Tokens are taken to be shared out evenly. [T, H] are the tokens that a rank's experts get.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.megatron import like_inputs
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

ALL_GATHER = "allgather"
"""The dispatcher that gathers the tokens of all ranks that share the experts (moe_token_dispatcher_type)."""


class Routing(Struct, frozen=True):
    """How tokens get to a rank's experts."""

    experts: int
    """Of the whole model."""
    local: int
    """Of this rank."""
    chosen: int
    """Experts of a token."""
    ranks: int
    """That share the experts."""
    tensor: int
    """Ranks that share the attention's matrices, and the sequence between them."""
    expert_tensor: int
    """Ranks that share every expert's matrices."""
    dispatcher: str = ALL_GATHER
    grouped: bool = False
    """One grouped product takes all local experts."""
    wide: bool = False
    """The router's probabilities are float32."""
    fused_gradients: bool = True

    def arriving(self, tokens: int) -> int:
        """Tokens, counted once for each expert, that this rank's experts get of `tokens` of each of the ranks."""
        return tokens * self.chosen * self.expert_tensor


def routed(tape: Tape, x: Tensor, router: Parameter, routing: Routing) -> Tensor:
    """Probabilities [tokens, experts] (router.py): keeps the input, and the scores in float32."""
    shape = (x.numel // x.shape[-1], routing.experts)
    dtype = "float32" if routing.wide else x.dtype
    logits = tape.apply("linear", (x, router), shape, dtype, like_inputs, save=(x,))
    return tape.apply("softmax", (logits,), shape, "float32", like_inputs, save_output=True)


def dispatched(tape: Tape, x: Tensor, probabilities: Tensor, routing: Routing) -> Tensor:
    """[B, S, H] as the tokens [T, H] of this rank's experts, sorted by expert (token_dispatcher.py, permute).

    Keeps the row numbers. Gathering them first takes all ranks' tokens at once; an all-to-all takes what is sent, what
    arrives and the sorted copy of it.
    """
    width = x.shape[-1]
    tokens = x.numel // width
    count = routing.arriving(tokens)
    if routing.dispatcher == ALL_GATHER:
        tape.scratch((x.nbytes * routing.ranks * routing.expert_tensor,), "gathered tokens")
    else:
        tape.scratch((x.nbytes * routing.chosen,), "sent tokens")
        if routing.local > 1:
            tape.scratch((count * width * 2,), "arriving tokens")
    results = (((count,), "int64", "token indices"),)
    inputs = (x, probabilities)
    return tape.apply("index_select", inputs, (count, width), x.dtype, like_inputs, results=results)


def product(tape: Tape, x: Tensor, weight: Parameter, width: int, routing: Routing) -> Tensor:
    """The local experts' products of [T, n] with their matrices, to [T, width]: keeps x.

    A gradient that no kernel adds up is made expert by expert, or of all experts at once by a grouped product.
    """
    shape = (x.shape[0], width)
    return tape.apply("linear", (x, weight), shape, x.dtype, _product_backward, save=(x,), context=routing)


def _product_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    routing: Routing = node.context
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge, weight = node.edges[0], node.edges[1]
    if gradient is None:
        return (None, None)
    found = None if edge is None else tape.empty(edge[2], edge[3], "linear backward")
    if weight is not None and not routing.fused_gradients:
        elements = weight[2][0] * weight[2][1]
        tape.scratch((2 * elements // (1 if routing.grouped else routing.local),), "linear backward")
    del saved
    return (found, None)


def activated(tape: Tape, x: Tensor, *, gated: bool, wide: bool) -> Tensor:
    """`activation(x) * probability`: one kernel that keeps x where it is gated, else every result by itself.

    fusions/fused_bias_swiglu.py, weighted_bias_swiglu_impl; moe/experts.py, bias_act_func.
    """
    width = x.shape[-1] // (2 if gated else 1)
    shape = (*x.shape[:-1], width)
    if gated:
        return tape.apply("gelu", (x,), shape, x.dtype, like_inputs, save=(x,))
    inner = tape.apply("gelu", (x,), shape, x.dtype, like_inputs, save=(x,))
    scaled = tape.apply("mul", (inner,), shape, "float32" if wide else x.dtype, like_inputs, save=(inner,))
    return tape.to(scaled, x.dtype)


def combined(tape: Tape, x: Tensor, residual: Tensor, routing: Routing) -> Tensor:
    """The experts' outputs [T, H] back in their places, summed to [B, S, H] (token_dispatcher.py, unpermute).

    Experts that run one after the other are put together first.
    """
    if not routing.grouped and routing.local > 1:
        x = e.clone(tape, x)
    rows = residual.nbytes
    if routing.dispatcher == ALL_GATHER:
        whole = rows * routing.ranks * routing.expert_tensor
        tape.scratch((whole, 2 * whole) if routing.wide else (whole,), "partial sums")
    else:
        tape.scratch((x.nbytes // routing.expert_tensor,), "returned tokens")
    return tape.apply("index_put", (x,), residual.shape, residual.dtype, like_inputs)
