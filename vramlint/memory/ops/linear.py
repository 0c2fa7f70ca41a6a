"""Matrix products: plain, quantized, with adapters.

`Weights` is what an architecture passes around for one linear layer; LoRA and quantization are wrappers of
it, so every architecture has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

KEEPS_INPUTS_UNTIL = (0, 43, 2)
"""Before this release of bitsandbytes the products of 4-bit weights kept their input, as an attribute of their context
that lives as long as the graph (autograd/_functions.py, MatMul4Bit)."""
NF4_BLOCK = 64
"""Elements per absmax value of a 4-bit weight (bitsandbytes 0.50 nn/modules.py, Params4bit blocksize)."""


@dataclass(slots=True)
class LowRank:
    """A LoRA adapter of one linear layer: A is [r, in], B is [out, r]."""

    a: Parameter
    b: Parameter
    dropout: float


@dataclass(slots=True)
class Weights:
    """One linear layer. `weight` is [out, in]; Conv1D stores it transposed, which allocates the same."""

    weight: Parameter
    bias: Parameter | None = None
    adapter: LowRank | None = None
    quantized_compute_dtype: str | None = None
    """dtype of the dequantized product when the weight is quantized."""
    source_dtype: str | None = None
    """dtype that the weight had when it was quantized, and has again before it is cast to the compute dtype."""
    keeps_input: bool = False
    """The product's input lives as long as the graph."""
    gptq: bool = False
    """Quantized by GPTQ: scales need no unpacking, and PEFT adds an adapter's product in place."""
    plain: bool = False
    """Written as `x @ weight.T + bias`: autocast does not cache the cast of a view."""

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.weight.shape[0]


def linear(tape: Tape, x: Tensor, weights: Weights) -> Tensor:
    """`module(x)` for nn.Linear, Conv1D, bitsandbytes' Linear4bit, each with or without LoRA around it."""
    if weights.adapter is None:
        return _base(tape, x, weights)
    if weights.quantized_compute_dtype is not None:
        return _quantized_lora(tape, x, weights, weights.adapter)
    result = _base(tape, x, weights)
    dtype = result.dtype
    adapter = weights.adapter
    # x itself lives on: the module call holds its arguments
    result = e.add(tape, result, _low_rank(tape, tape.to(x, adapter.a.dtype), adapter))
    return tape.to(result, dtype)


def _quantized_lora(tape: Tape, x: Tensor, weights: Weights, adapter: LowRank) -> Tensor:
    """Peft 0.21 tuners/lora/bnb.py Linear4bit.forward: clones the result, converts only without autocast.

    tuners/lora/gptq.py does not clone and adds in place.
    """
    result = _base(tape, x, weights)
    if not weights.gptq:
        result = e.clone(tape, result)
    if tape.autocast is None:
        dtype = result.dtype
        output = tape.to(_low_rank(tape, tape.to(x, adapter.a.dtype), adapter), dtype)
    else:
        output = _low_rank(tape, x, adapter)
    return e.add_in_place(tape, result, output) if weights.gptq else e.add(tape, result, output)


def _low_rank(tape: Tape, x: Tensor, adapter: LowRank) -> Tensor:
    # one expression in peft: a module's call holds its argument until it returns, no name holds what stands between
    dropped = e.dropout(tape, x, adapter.dropout)
    hidden = matmul_weight(tape, dropped, adapter.a, None)
    del dropped
    raised = matmul_weight(tape, hidden, adapter.b, None)
    del hidden
    return e.linear_unary(tape, "mul", raised)


def _base(tape: Tape, x: Tensor, weights: Weights) -> Tensor:
    if weights.quantized_compute_dtype is None and weights.plain:
        out = _plain(tape, x, weights.weight)
        return out if weights.bias is None else e.add(tape, out, weights.bias)
    if weights.quantized_compute_dtype is None:
        return matmul_weight(tape, x, weights.weight, weights.bias)
    return _quantized(tape, x, weights, weights.quantized_compute_dtype)


def matmul_weight(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor | None, *, copies: bool = False) -> Tensor:
    """`F.linear(x, weight, bias)`: keeps x when the weight needs a gradient and the weight when x does.

    `copies`: x is a transposed view, which a flat product needs in one piece.
    """
    # autocast's casts are arguments of one C++ call, which GCC evaluates from the last to the first
    offset = None if bias is None else tape.lower(bias)
    matrix = tape.lower(weight)
    x = tape.lower(x)
    if copies:
        x = e.reordered(tape, x, x.shape)
    save = []
    if matrix.requires_grad:
        save.append(x)
    if x.requires_grad:
        save.append(matrix)
    inputs = (x, matrix) if offset is None else (x, matrix, offset)
    return tape.apply("linear", inputs, (*x.shape[:-1], weight.shape[0]), x.dtype, _linear_backward, save=save)


def _plain(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """`x @ weight.T`."""
    matrix = weight if tape.autocast is None else tape.to(weight, tape.autocast)
    x = tape.lower(x)
    save = [tensor for tensor, other in ((x, matrix), (matrix, x)) if other.requires_grad]
    shape = (*x.shape[:-1], weight.shape[0])
    return tape.apply("linear", (x, matrix), shape, x.dtype, _linear_backward, save=save)


def _linear_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    if gradient.heads_first and len(gradient.shape) == 3:
        gradients[0] = None  # seen as two-dimensional, a gradient in another memory order is a copy
        gradient = tape.empty(gradient.shape, gradient.dtype, "reshape")
    results: list[Tensor | None] = [None] * len(node.edges)
    biased = len(node.edges) > 2
    # AddmmBackward0 computes mat1 (the input) first, MmBackward0 mat2 (the weight)
    for position in (0, 1) if biased else (1, 0):
        edge = node.edges[position]
        if edge is not None:
            results[position] = tape.empty(edge[2], gradient.dtype, "linear backward")
    first = results[0]
    if first is not None and len(first.shape) > 2:
        first.view = True  # the product is two-dimensional, the gradient a view of it
    if results[1] is not None:
        results[1].view = True  # of the transposed product
    if biased and node.edges[2] is not None:
        results[2] = gradient
    del saved
    return results


def matmul(tape: Tape, a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Batched `a @ b` of two activations of shape [..., n, k] and [..., k, m]."""
    b = tape.lower(b)
    a = tape.lower(a)
    save = [tensor for tensor, other in ((a, b), (b, a)) if other.requires_grad]
    return tape.apply("matmul", (a, b), shape, a.dtype, _matmul_backward, save=save)


def _matmul_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    results: list[Tensor | None] = [None, None]
    for position in (1, 0):
        edge = node.edges[position]
        if edge is not None:
            out = tape.empty(edge[2], gradient.dtype, "matmul backward")
            out.view = out.heads_first = True
            results[position] = out
    del saved
    return results


def _dequantize(tape: Tape, weights: Weights, dtype: str) -> list[Tensor]:
    """The dense weight in the dtype that it had once, and its cast to `dtype`."""
    elements = prod(weights.weight.shape)
    dtypes = dict.fromkeys((weights.source_dtype or dtype, dtype))
    return [tape.empty((elements,), name, "dequantize", "temporaries") for name in dtypes]


def _absmax(tape: Tape, weights: Weights) -> Tensor | None:
    """The float32 scales of a 4-bit weight; GPTQ's kernel reads them as they are."""
    blocks = -(-prod(weights.weight.shape) // NF4_BLOCK)
    return None if weights.gptq else tape.empty((blocks,), "float32", "absmax", "temporaries")


def _quantized(tape: Tape, x: Tensor, weights: Weights, compute_dtype: str) -> Tensor:
    """Bitsandbytes 0.50 Linear4bit.forward with MatMul4Bit: keeps only the packed weight."""
    dtype = x.dtype
    x = tape.to(x, compute_dtype)
    shape = (*x.shape[:-1], weights.weight.shape[0])
    context = (weights, tape.attach(x) if weights.keeps_input else None)
    absmax, dense = _absmax(tape, weights), _dequantize(tape, weights, compute_dtype)
    out = tape.apply("linear4bit", (x,), shape, x.dtype, _quantized_backward, context=context)
    del absmax, dense, context
    return tape.to(out, dtype)


def _quantized_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    dense = _dequantize(tape, node.context[0], gradient.dtype)
    out = tape.empty(edge[2], gradient.dtype, "linear4bit backward")
    del dense
    return (out,)
