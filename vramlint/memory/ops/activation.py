"""Activation functions by their names in transformers (5.23 activations.py, ACT2FN)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

OF_RESULT = frozenset({"relu", "tanh", "sigmoid"})
"""Their derivative is a function of the result, which is what autograd keeps."""


def activation(tape: Tape, name: str, x: Tensor) -> Tensor:
    """ACT2FN[name](x)."""
    composed = COMPOSED.get(name)
    if composed is not None:
        return composed(tape, x)
    return e.unary_of_result(tape, name, x) if name in OF_RESULT else e.unary(tape, name, x)


def _gelu_new(tape: Tape, x: Tensor) -> Tensor:
    """NewGELUActivation: 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).

    One expression, as in transformers: a name for a part of it would keep that part alive too long.
    """
    return e.mul(
        tape,
        e.linear_unary(tape, "mul", x),
        e.add_number(
            tape,
            e.unary_of_result(
                tape,
                "tanh",
                e.linear_unary(tape, "mul", e.add(tape, x, e.linear_unary(tape, "mul", e.power(tape, x)))),
            ),
        ),
    )


def _quick_gelu(tape: Tape, x: Tensor) -> Tensor:
    """QuickGELUActivation: x · sigmoid(1.702 · x)."""
    return e.mul(tape, x, e.unary_of_result(tape, "sigmoid", e.linear_unary(tape, "mul", x)))


def _squared_relu(tape: Tape, x: Tensor) -> Tensor:
    """ReLUSquaredActivation; a square is a power to autograd and to autocast."""
    return e.power(tape, e.unary_of_result(tape, "relu", x))


COMPOSED: Mapping[str, Callable[[Tape, Tensor], Tensor]] = {
    "gelu_new": _gelu_new,
    "quick_gelu": _quick_gelu,
    "relu2": _squared_relu,
}
"""Written out in Python operators: every intermediate that a product needs is kept."""


def esm_gelu(tape: Tape, x: Tensor) -> Tensor:
    """`x * 0.5 * (1.0 + torch.erf(x / √2))` (models/esm/modeling_esm.py)."""
    half = e.linear_unary(tape, "mul", x)
    scaled = e.linear_unary(tape, "div", x)
    error = tape.apply("erf", (scaled,), x.shape, x.dtype, _erf_backward, save=(scaled,))
    del scaled
    shifted = e.add_number(tape, error)
    del error
    return e.mul(tape, half, shifted)


def _erf_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """`2 / √π * exp(-x.pow(2)) * grad`, one C++ expression."""
    (x,) = node.unpack(tape)
    (gradient,) = gradients
    parts = [e.like(tape, x, "erf backward") for _ in ("pow", "neg", "exp", "mul")]
    result = e.like(tape, x, "erf backward")
    parts.clear()
    del x, gradient
    return (result,)


def bloom_gelu(tape: Tape, x: Tensor) -> Tensor:
    """GeLUFunction (models/bloom): keeps its input only; both passes are written out in Python operators."""
    half = e.like(tape, x, "gelu")
    scaled = e.like(tape, x, "gelu")
    cubic = e.like(tape, x, "gelu")
    square = e.like(tape, x, "gelu")
    del cubic
    shifted = e.like(tape, x, "gelu")
    del square
    inner = e.like(tape, x, "gelu")
    del scaled, shifted
    curve = e.like(tape, x, "tanh")
    del inner
    curve = e.like(tape, x, "gelu")
    out = tape.apply("gelu", (x,), x.shape, x.dtype, _bloom_gelu_backward, save=(x,))
    del half, curve
    return out


def _bloom_gelu_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """bloom_gelu_back: tanh again, then 0.5·x·((1 - tanh²)·(a + b·x²)) + 0.5·(1 + tanh), times the gradient."""
    (x,) = node.unpack(tape)

    def new() -> Tensor:
        return e.like(tape, x, "gelu backward")

    scaled, cubic = new(), new()
    square = new()
    del cubic
    shifted = new()
    del square
    inner = new()
    del scaled, shifted
    tanh = new()
    del inner
    half, square = new(), new()
    slope = new()
    del square
    factor = new()
    square = new()
    del factor
    shifted = new()
    del square
    product = new()
    del slope, shifted
    first = new()
    del half, product
    shifted = new()
    second = new()
    del shifted
    derivative = new()
    del first, second
    result = new()
    del tanh, derivative, gradients
    return (result,)
