"""Matrix products: plain, quantized, with adapters.

`Weights` is what an architecture passes around for one linear layer; adapters and quantization are wrappers of
it, so every architecture has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Joining(Struct, frozen=True):
    """How PEFT's LoRA layer for a kind of base adds its product to the base's output.

    It has one class for each kind (peft 0.21 tuners/lora/{layer,bnb,gptq,awq,hqq,eetq,aqlm}.py).
    """

    clones: bool = False
    """The base's output is copied first."""
    casts_always: bool = True
    """The input is cast to the adapter's dtype, and the result back, under autocast too."""
    narrows: str = "result"
    """What is cast back to the output's dtype: the result, the scaled product, or the unscaled one."""
    in_place: bool = False


class Adapter(Protocol):
    """What PEFT wraps around a linear layer."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The wrapped layer's forward; `base` is the layer's own."""


class Shared(Protocol):
    """How ranks share a matrix."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The layer's forward on one of them."""


class Packed(Protocol):
    """How a quantized weight is multiplied."""

    @property
    def joining(self) -> Joining:
        """How a LoRA layer around it adds up."""

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The layer's forward."""

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """The dequantized weight [out, in]."""


class Weights(Struct):
    """One linear layer. `weight` is [out, in]; Conv1D stores it transposed, which allocates the same."""

    weight: Parameter
    bias: Parameter | None = None
    adapter: Adapter | None = None
    packed: Packed | None = None
    """The form in which the weight is quantized."""
    shared: Shared | None = None
    """How ranks share the weight."""
    plain: bool = False
    """Written as `x @ weight.T + bias`: autocast does not cache the cast of a view."""

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.weight.shape[0]

    @property
    def joining(self) -> Joining:
        """How a LoRA layer around it adds up."""
        return PLAIN if self.packed is None else self.packed.joining


PLAIN = Joining()


def linear(tape: Tape, x: Tensor, weights: Weights) -> Tensor:
    """`module(x)` for nn.Linear, Conv1D or a quantized layer, each with or without an adapter around it."""
    if weights.shared is not None:
        return weights.shared(tape, x, weights)
    return base(tape, x, weights) if weights.adapter is None else weights.adapter(tape, x, weights)


def base(tape: Tape, x: Tensor, weights: Weights) -> Tensor:
    """The layer without its adapter."""
    if weights.packed is not None:
        return weights.packed.product(tape, x, weights)
    if weights.plain:
        out = product(tape, x, weights.weight)
        return out if weights.bias is None else e.add(tape, out, weights.bias)
    return matmul_weight(tape, x, weights.weight, weights.bias)


def joined(tape: Tape, x: Tensor, weights: Weights) -> Tensor:
    """The layer without its adapter, as an adapter adds to it: over bitsandbytes' 4 bits a copy."""
    result = base(tape, x, weights)
    return e.clone(tape, result) if weights.joining.clones else result


def matmul_weight(
    tape: Tape, x: Tensor, weight: Tensor, bias: Tensor | None, *, copies: bool = False, columns: bool = False
) -> Tensor:
    """`F.linear(x, weight, bias)`: keeps x when the weight needs a gradient and the weight when x does.

    `copies`: x is a transposed view, which a flat product needs in one piece. `columns`: the weight is [in, out].
    """
    # autocast's casts are arguments of one C++ call, which GCC evaluates from the last to the first
    offset = None if bias is None else tape.lower(bias)
    matrix = tape.lower(weight)
    rows = tape.lower(x)
    if copies:
        rows = shaping.reordered(tape, rows, rows.shape)
    save = []
    # transformers' Conv1D is no F.linear
    of_linear = isinstance(weight, Parameter) and (weight.linear or weight.embedding)
    if matrix.requires_grad or (tape.keeps_linear_inputs and of_linear):
        save.append(rows)
    if rows.requires_grad:
        save.append(matrix)
    inputs = (rows, matrix) if offset is None else (rows, matrix, offset)
    shape = (*rows.shape[:-1], weight.shape[1 if columns else 0])
    if offset is not None and tape.workspaces is not None:
        tape.workspaces.adds_bias(backward=tape.replays)
    return tape.apply("linear", inputs, shape, rows.dtype, _linear_backward, save=save)


def product(tape: Tape, x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`."""
    # the cast is that of the transposed view, so the weight's gradient is a view of the cast's
    matrix = weight if tape.autocast is None else tape.to(shaping.viewed(tape, weight, weight.shape), tape.autocast)
    rows = tape.lower(x)
    save = [tensor for tensor, other in ((rows, matrix), (matrix, rows)) if other.requires_grad]
    shape = (*rows.shape[:-1], weight.shape[0])
    return tape.apply("linear", (rows, matrix), shape, rows.dtype, _linear_backward, save=save)


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
            tape.multiplies_backward()
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
    right = tape.lower(b)
    left = tape.lower(a)
    save = [tensor for tensor, other in ((left, right), (right, left)) if other.requires_grad]
    return tape.apply("matmul", (left, right), shape, left.dtype, _matmul_backward, save=save)


def bmm(tape: Tape, a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`torch.bmm(a, b)`: as `matmul`, but its gradients are views of nothing."""
    right = tape.lower(b)
    left = tape.lower(a)
    save = [tensor for tensor, other in ((left, right), (right, left)) if other.requires_grad]
    out = tape.apply("bmm", (left, right), shape, left.dtype, _bmm_backward, save=save)
    out.heads_first = True
    return out


def _matmul_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    results = _bmm_backward(tape, node, gradients)
    for result in results:
        if result is not None:
            result.view = True
    return results


def _bmm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    results: list[Tensor | None] = [None, None]
    for position in (1, 0):
        edge = node.edges[position]
        if edge is not None:
            results[position] = out = tape.empty(edge[2], gradient.dtype, "matmul backward")
            out.heads_first = True
    del saved
    return results
