"""Megatron-Core's and Transformer Engine's operators (NVIDIA/Megatron-LM@d98e8a6 megatron/core, TransformerEngine 2.8).

Tensors are [B, S, H], of which Megatron has the first two dimensions the other way round. Where ranks share the
sequence, S is a rank's part of it outside of the matrices, and all of it between a column-parallel product and the
row-parallel one behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights
from vramlint.memory.tape import Result, Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

LARGEST_FUSED_SOFTMAX = 4096
"""Longest rows of the fused scale-mask-softmax (megatron/core/fusions/fused_softmax.py, is_kernel_available)."""


class Group(Struct, frozen=True):
    """The ranks that share every matrix, and how the products with them are written."""

    ranks: int = 1
    sequence: bool = False
    """They share the sequence between the matrices."""
    fused_gradients: bool = True
    """A weight's gradient is added to the main gradient by the product that makes it."""

    @property
    def gathers(self) -> int:
        """How many parts of a sequence a column-parallel product puts together."""
        return self.ranks if self.sequence else 1


class _Product(Struct, frozen=True):
    group: Group
    column: bool
    norm: int
    """Parameters of the norm in front; 0 without one."""


def norm_column(tape: Tape, x: Tensor, norm: Sequence[Parameter], weights: Weights, group: Group) -> Tensor:
    """TE's LayerNormLinear, column-parallel: [B, S, H] normalised and multiplied.

    Keeps its input, the norm's output of this rank and its statistics; where the sequence is shared, the gathered
    output is made again in backward (pytorch/module/layernorm_linear.py). A bias is handed on, not added.
    """
    rows = x.shape[:-1]
    results: list[Result] = [(x.shape, x.dtype, "norm")]
    results += [((*rows, 1), "float32", "layer_norm rstd") for _ in norm]
    if group.gathers > 1:
        tape.scratch((x.nbytes * group.gathers,), "gathered sequence")
    shape = (x.shape[0], x.shape[1] * group.gathers, weights.out_features)
    inputs = (x, weights.weight, *norm)
    context = _Product(group, column=True, norm=len(norm))
    return tape.apply("linear", inputs, shape, x.dtype, _product_backward, save=(x,), results=results, context=context)


def column(tape: Tape, x: Tensor, weights: Weights, group: Group) -> Tensor:
    """A column-parallel product: keeps this rank's part of its input."""
    if group.gathers > 1:
        tape.scratch((x.nbytes * group.gathers,), "gathered sequence")
    shape = (x.shape[0], x.shape[1] * group.gathers, weights.out_features)
    inputs, context = (x, weights.weight), _Product(group, column=True, norm=0)
    return tape.apply("linear", inputs, shape, x.dtype, _product_backward, save=(x,), context=context)


def gathered(tape: Tape, x: Tensor, group: Group) -> Tensor:
    """The parts of a sequence put together, for all ranks that share it; x itself where none do."""
    if group.gathers == 1:
        return x
    shape = (x.shape[0], x.shape[1] * group.gathers, *x.shape[2:])
    return tape.apply("all-gather", (x,), shape, x.dtype, like_inputs)


def row(tape: Tape, x: Tensor, weights: Weights, group: Group) -> Tensor:
    """A row-parallel product: keeps its input; the parts of the sum are added up, or scattered over the sequence."""
    width = weights.out_features
    if group.gathers > 1:
        tape.scratch((x.numel // x.shape[-1] * width * 2,), "partial sums")
    shape = (x.shape[0], x.shape[1] // group.gathers, width)
    inputs, context = (x, weights.weight), _Product(group, column=False, norm=0)
    return tape.apply("linear", inputs, shape, x.dtype, _product_backward, save=(x,), context=context)


def _product_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    product: _Product = node.context
    group = product.group
    saved = node.unpack(tape)
    (gradient,) = gradients
    results: list[Tensor | None] = [None] * len(node.edges)
    if gradient is None:
        return results
    edge, weight = node.edges[0], node.edges[1]
    gathered: Tensor | None = None
    if group.gathers > 1:
        # the input of a column-parallel product, the gradient behind a row-parallel one
        like = saved[0] if product.column else gradient
        gathered = _times(tape, like, group.gathers, "gathered sequence")
    if edge is not None and product.column and group.gathers > 1:
        whole = tape.empty((edge[2][0], edge[2][1] * group.gathers, edge[2][2]), gradient.dtype, "linear backward")
        results[0] = tape.empty(edge[2], gradient.dtype, "reduce-scatter")
        del whole
    elif edge is not None:
        results[0] = tape.empty(edge[2], gradient.dtype, "linear backward")
    if weight is not None and not group.fused_gradients:
        results[1] = tape.empty(weight[2], gradient.dtype, "linear backward")
    del gathered
    if product.norm and edge is not None:
        results[0] = tape.empty(edge[2], gradient.dtype, "norm backward")
        for position in range(2, len(node.edges)):
            behind = node.edges[position]
            if behind is not None:
                results[position] = tape.empty(behind[2], behind[3], "norm backward")
    del saved
    return results


def _times(tape: Tape, x: Tensor, parts: int, operator: str) -> Tensor:
    return tape.empty((x.shape[0], x.shape[1] * parts, *x.shape[2:]), x.dtype, operator, "temporaries")


def norm(tape: Tape, x: Tensor, parameters: Sequence[Parameter]) -> Tensor:
    """A norm in one kernel: keeps its input and its statistics."""
    results = [((*x.shape[:-1], 1), "float32", "layer_norm rstd") for _ in parameters]
    inputs = (x, *parameters)
    return tape.apply("norm", inputs, x.shape, x.dtype, like_inputs, save=(x,), results=results)


def bias_dropout_add(
    tape: Tape, x: Tensor, bias: Parameter | None, residual: Tensor, probability: float, *, fused: bool
) -> Tensor:
    """`residual + dropout(x + bias)`: keeps a bool mask where it drops (fusions/fused_bias_dropout.py).

    Fused, which is torch.compile's since torch 2.2, one kernel makes the sum.
    """
    if not fused:
        biased = x if bias is None else e.add(tape, x, bias)
        return e.add(tape, residual, e.dropout(tape, biased, probability))
    results: tuple[Result, ...] = ((x.shape, "bool", "dropout mask"),) if probability > 0 and tape.training else ()
    inputs = (x, residual) if bias is None else (x, residual, bias)
    return tape.apply("add", inputs, x.shape, residual.dtype, _added_backward, results=results, context=bool(results))


def _added_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    scaled = e.like(tape, gradient, "dropout backward") if node.context else gradient
    found: list[Tensor | None] = [scaled, gradient]
    if len(node.edges) > 2:
        edge = node.edges[2]
        found.append(None if edge is None else tape.empty(edge[2], edge[3], "sum"))
    del saved
    return found


def activated(tape: Tape, x: Tensor, bias: Parameter | None, *, gated: bool, fused: bool) -> Tensor:
    """GELU or, `gated`, SwiGLU of `x + bias` in one kernel: keeps x (fusions/fused_bias_{gelu,swiglu}.py)."""
    if bias is not None and not fused:
        x, bias = e.add(tape, x, bias), None
    width = x.shape[-1] // (2 if gated else 1)
    inputs = (x,) if bias is None else (x, bias)
    return tape.apply("gelu", inputs, (*x.shape[:-1], width), x.dtype, _activated_backward, save=(x,))


def _activated_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    if gradients[0] is None or edge is None:
        return [None] * len(node.edges)
    found: list[Tensor | None] = [tape.empty(edge[2], edge[3], "gelu backward")]
    if len(node.edges) > 1:
        bias = node.edges[1]
        found.append(None if bias is None else tape.empty(bias[2], bias[3], "sum"))
    del saved
    return found


def unfused_attention(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, probability: float, *, widens: bool, fills: bool = False
) -> Tensor:
    """Scores [B, heads, S, T] of queries and keys, their softmax and what dropout leaves of it, all kept.

    megatron/core/transformer/dot_product_attention.py. `widens`: the fused softmax does not take the rows, and
    torch's takes them in float32. `fills`: torch's takes them as they are, behind a mask that is filled into them.
    """
    batch, heads, length, _ = q.shape
    scores = (batch, heads, length, k.shape[2])
    made = tape.apply("baddbmm", (q, k), scores, q.dtype, like_inputs, save=(q, k))
    if widens:
        wide = tape.to(made, "float32")
        wide = tape.apply("masked_fill", (wide,), scores, "float32", like_inputs)
        wide = tape.apply("softmax", (wide,), scores, "float32", like_inputs, save_output=True)
        probabilities = tape.to(wide, q.dtype)
        del wide
    else:
        if fills and tape.grad_enabled:
            node = tape.view_node((made,), _filled_backward)
            made = made.as_shape(scores)
            made.node = node
        probabilities = tape.apply("softmax", (made,), scores, q.dtype, like_inputs, save_output=True)
    del made
    dropped = e.dropout(tape, probabilities, probability)
    del probabilities
    shape = (batch, heads, length, v.shape[-1])
    context = tape.apply("matmul", (dropped, v), shape, q.dtype, like_inputs, save=(dropped, v))
    del dropped
    return tape.apply("contiguous", (context,), (batch, length, heads * v.shape[-1]), q.dtype, like_inputs)


def _filled_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Of `masked_fill_` on a view: a gradient of the whole, a copy of the view's, and the filled one.

    torch 2.13 torch/csrc/autograd/functions/tensor.cpp, CopySlices::apply.
    """
    edge, (gradient,) = node.edges[0], gradients
    if edge is None or gradient is None:
        return (None,)
    whole = tape.empty(edge[2], gradient.dtype, "new_empty_strided")
    tape.scratch((gradient.nbytes, gradient.nbytes), "masked_fill backward")
    return (whole,)


def split_heads(tape: Tape, fused: Tensor, sizes: Sequence[int], head: int, *, joint: bool) -> list[Tensor]:
    """Views of the fused queries, keys and values by head, [B, heads, S, d].

    `joint`: attention's backward writes their gradients into one tensor of that form, and splitting costs nothing;
    else they are put together (pytorch/utils.py, SplitAlongDim).
    """
    batch, length = fused.shape[:2]
    node = tape.view_node((fused,), _joined if joint else _concatenated) if tape.grad_enabled else None
    found = []
    for slot, width in enumerate(sizes):
        part = Tensor((batch, width // head, length, head), fused.dtype, fused.storage)
        part.view, part.requires_grad, part.node, part.slot = True, fused.requires_grad, node, slot
        found.append(part)
    if node is not None:
        node.outputs = len(found)
    return found


def _concatenated(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge = node.edges[0]
    found = None if edge is None else tape.empty(edge[2], edge[3], "cat")
    return (found,)


def _joined(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge, whole = node.edges[0], gradients[0]
    return (None,) if edge is None or whole is None else (whole.as_shape(edge[2]),)


class _Attention(Struct, frozen=True):
    joint: bool


def flash(tape: Tape, q: Tensor, k: Tensor, v: Tensor, *, joint: bool) -> Tensor:
    """A fused kernel over [B, heads, S, d] views: keeps them, the output and a sum for each row; [B, S, heads · d]."""
    batch, heads, length, _ = q.shape
    results = (((batch, heads, length), "float32", "logsumexp"), ((2,), "int64", "rng state"))
    shape = (batch, length, heads * v.shape[-1])
    return tape.apply(
        "flash attention",
        (q, k, v),
        shape,
        q.dtype,
        _flash_backward,
        save=(q, k, v),
        results=results,
        save_output=True,
        context=_Attention(joint),
    )


def _flash_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    attention: _Attention = node.context
    saved = node.unpack(tape)
    (gradient,) = gradients
    edges = [edge for edge in node.edges if edge is not None]
    if gradient is None or len(edges) < len(node.edges):
        return [None] * len(node.edges)
    q = saved[0]
    batch, heads, length, size = q.shape
    found: list[Tensor | None]
    if attention.joint:
        elements = sum(tensor.numel for tensor in saved[:3])
        whole = tape.empty((elements,), gradient.dtype, "flash backward")
        found = []
        for edge in edges:
            part = Tensor(edge[2], gradient.dtype, whole.storage)
            part.view = True
            found.append(part)
        del whole
    else:
        found = [tape.empty(edge[2], gradient.dtype, "flash backward") for edge in edges]
    tape.scratch((4 * batch * heads * length, 4 * batch * heads * length * size), "flash dq accumulator")
    del saved, q
    return found


def cross_entropy(tape: Tape, logits: Tensor, *, fused: bool) -> Tensor:
    """The vocabulary-parallel loss of logits [B, S, V / ranks]: one value for each token.

    It keeps the softmax in float32, which the gradient is written into (tensor_parallel/cross_entropy.py). The fused
    one (fusions/fused_cross_entropy.py) keeps the same, beside a copy that its compiled pieces cannot write over.
    """
    rows = logits.shape[:-1]
    copied = tape.empty(logits.shape, "float32", "wide logits", "logits and loss") if fused else None
    results = ((logits.shape, "float32", "softmax"), (rows, "bool", "target mask"), (rows, "int64", "masked target"))
    outer, tape.recorder.component = tape.recorder.component, "logits and loss"
    loss = tape.apply("cross entropy", (logits,), rows, "float32", _loss_backward, results=results)
    tape.recorder.component = outer
    del copied
    return loss


def _loss_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    found = None if edge is None else saved[0].as_shape(edge[2])
    del saved
    return (found,)


def like_inputs(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """A gradient for every input that needs one."""
    saved = node.unpack(tape)
    if gradients[0] is None:
        return [None] * len(node.edges)
    found = [None if edge is None else tape.empty(edge[2], edge[3], "backward") for edge in node.edges]
    del saved
    return found
