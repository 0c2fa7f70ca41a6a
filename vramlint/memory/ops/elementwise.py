"""Pointwise operators and reductions over the last dimension."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tape import Backward, Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor

Results = Sequence["Tensor | None"]


def promoted(first: Tensor, second: Tensor) -> str:
    """The dtype of an operation on two floating-point tensors: the wider one's."""
    return first.dtype if DTYPE_BYTES[first.dtype] >= DTYPE_BYTES[second.dtype] else second.dtype


def broadcast(first: Shape, second: Shape) -> Shape:
    """The shape of an operation on two shapes that broadcast."""
    if first == second:
        return first
    long, short = (first, second) if len(first) >= len(second) else (second, first)
    short = (1,) * (len(long) - len(short)) + short
    return tuple([max(a, b) for a, b in zip(long, short, strict=True)])


def like(tape: Tape, tensor: Tensor, operator: str) -> Tensor:
    """A new tensor of the shape, dtype and memory order of `tensor`."""
    out = tape.empty(tensor.shape, tensor.dtype, operator)
    out.heads_first = tensor.heads_first
    return out


def unary(tape: Tape, operator: str, x: Tensor) -> Tensor:
    """A pointwise function whose derivative needs its input (silu, gelu): one gradient tensor in backward."""
    return tape.apply(operator, (x,), x.shape, x.dtype, _one_gradient, save=(x,))


def unary_of_result(tape: Tape, operator: str, x: Tensor) -> Tensor:
    """A pointwise function whose derivative needs its result (tanh, sigmoid, relu)."""
    return tape.apply(operator, (x,), x.shape, x.dtype, _one_gradient, save_output=True)


def linear_unary(tape: Tape, operator: str, x: Tensor) -> Tensor:
    """A pointwise function whose derivative needs nothing (neg, multiplication by a number)."""
    out = tape.apply(operator, (x,), x.shape, x.dtype, _one_gradient)
    out.heads_first = x.heads_first
    return out


def add_number(tape: Tape, x: Tensor) -> Tensor:
    """`x + number`: the gradient passes through."""
    return tape.apply("add", (x,), x.shape, x.dtype, pass_gradient)


def add(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a + b`: both get the same gradient tensor."""
    out = tape.apply("add", (a, b), broadcast(a.shape, b.shape), promoted(a, b), _pass_both)
    out.heads_first = a.heads_first
    return out


def sub(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a - b`: `a` gets the gradient itself, `b` its negative, summed where `b` was broadcast."""
    out = tape.apply("sub", (a, b), broadcast(a.shape, b.shape), promoted(a, b), _sub_backward)
    out.heads_first = a.heads_first
    return out


def mul(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a * b`: each is kept when the other needs a gradient."""
    save = [tensor for tensor, other in ((a, b), (b, a)) if other.requires_grad]
    out = tape.apply("mul", (a, b), broadcast(a.shape, b.shape), promoted(a, b), _mul_backward, save=save)
    out.heads_first = a.heads_first
    return out


def divided(tape: Tape, x: Tensor, divisor: Tensor) -> Tensor:
    """`x / divisor`, which is a constant to autograd and kept."""
    return tape.apply("div", (x,), broadcast(x.shape, divisor.shape), x.dtype, _one_gradient, save=(divisor,))


def power(tape: Tape, x: Tensor) -> Tensor:
    """`x.pow(n)`; float32 under autocast. Backward: grad * (n * x.pow(n - 1)), three tensors at once."""
    wide = tape.upper(x)
    return tape.apply("pow", (wide,), wide.shape, wide.dtype, _power_backward, save=(wide,))


def add_in_place(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a += b`: the result lives in the memory of `a`."""
    out = a.as_shape(a.shape)
    if tape.grad_enabled and (a.requires_grad or b.requires_grad):
        out.node, out.slot, out.requires_grad = tape.view_node((a, b), _pass_both), 0, True
    return out


def scale_in_place(tape: Tape, x: Tensor) -> Tensor:
    """`x *= number` and `x /= number`: the result lives in the memory of `x`."""
    out = x.as_shape(x.shape)
    out.heads_first = x.heads_first
    if tape.grad_enabled and x.requires_grad:
        out.node, out.slot = tape.in_place((), (x,), _one_gradient), 0
    return out


def clamp_in_place(tape: Tape, x: Tensor) -> Tensor:
    """`x.clamp_(low, high)`: the derivative needs the values before, so they are copied first."""
    out = x.as_shape(x.shape)
    if tape.grad_enabled and x.requires_grad:
        before = tape.empty(x.shape, x.dtype, "clone")
        out.node, out.slot, out.requires_grad = tape.in_place((before,), (x,), _one_gradient), 0, True
    return out


def where(tape: Tape, condition: Tensor, a: Tensor, operator: str = "where") -> Tensor:
    """`torch.where(condition, a, number)`: keeps the condition. Backward: one tensor of the result's shape."""
    shape = broadcast(condition.shape, a.shape)
    return tape.apply(operator, (a,), shape, a.dtype, _one_gradient, save=(condition,))


def clamp(tape: Tape, x: Tensor, bounds: Sequence[Tensor] = ()) -> Tensor:
    """`torch.clamp(x, min, max)`: keeps its input and bounds that are tensors. Backward compares it with both."""
    return tape.apply("clamp", (x,), x.shape, x.dtype, _clamp_backward, save=(*bounds, x))


def clamp_one_side(tape: Tape, x: Tensor, operator: str = "clamp") -> Tensor:
    """`x.clamp(max=limit)` or `x.clamp_min(limit)`: keeps its input. Backward compares it with the one bound."""
    return tape.apply(operator, (x,), x.shape, x.dtype, _clamp_one_side_backward, save=(x,))


def at_least(tape: Tape, x: Tensor) -> Tensor:
    """`torch.max(x, number)` of a scalar tensor: keeps its input."""
    return tape.apply("maximum", (x,), x.shape, x.dtype, _at_least_backward, save=(x,))


def expanded(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """`x.expand(shape)`. Backward: the sum over the copies."""
    return x if x.shape == shape else view_as(tape, x, shape, pass_gradient)


def view_as(tape: Tape, x: Tensor, shape: Shape, backward: Backward) -> Tensor:
    """A view in another shape, with its derivative."""
    out = x.as_shape(shape)
    if x.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.view_node((x,), backward), 0
    return out


def softcapped(tape: Tape, held: list[Tensor]) -> Tensor:
    """`cap * tanh(x / cap)` in three operators, each of which takes the name of the one before; `held` is only x."""
    x = linear_unary(tape, "div", held.pop())
    x = unary_of_result(tape, "tanh", x)
    return linear_unary(tape, "mul", x)


def mean_last(tape: Tape, x: Tensor) -> Tensor:
    """`x.mean(-1, keepdim=True)`. Backward divides the expanded gradient: one full tensor."""
    return tape.apply("mean", (x,), (*x.shape[:-1], 1), x.dtype, _expand_backward)


def mean_rows(tape: Tape, x: Tensor) -> Tensor:
    """`x.mean(1)` of [B, S, H]. Backward divides the expanded gradient: one full tensor."""
    shape = (x.shape[0], x.shape[2])
    out = tape.apply("mean", (x,), shape, x.dtype, _expand_backward)
    tape.sums_partially(x.shape, shape)
    return out


def sum_last(tape: Tape, x: Tensor) -> Tensor:
    """`x.sum(-1)`. Backward: a view."""
    return tape.apply("sum", (x,), x.shape[:-1], x.dtype, _expanded_view)


def sum_all(tape: Tape, x: Tensor) -> Tensor:
    """`x.sum()`. Backward: a view."""
    return tape.apply("sum", (x,), (1,), x.dtype, _expanded_view)


def rsqrt(tape: Tape, x: Tensor) -> Tensor:
    """`torch.rsqrt(x)`; float32 under autocast."""
    wide = tape.upper(x)
    return tape.apply("rsqrt", (wide,), wide.shape, wide.dtype, _rsqrt_backward, save_output=True)


def dropout(tape: Tape, x: Tensor, probability: float) -> Tensor:
    """Training-mode dropout: nothing for p = 0, else the result and a bool mask (native_dropout)."""
    if probability <= 0 or not tape.training:
        return x
    mask = (x.shape, "bool", "dropout mask")
    return tape.apply("dropout", (x,), x.shape, x.dtype, _one_gradient, results=(mask,))


def clone(tape: Tape, x: Tensor) -> Tensor:
    """A copy; the gradient passes through."""
    return tape.apply("clone", (x,), x.shape, x.dtype, pass_gradient)


def _one_gradient(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    result = None if gradient is None else like(tape, gradient, "backward")
    del saved
    return (result,)


def no_gradient(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """Of an operator that nobody differentiates."""
    return (None,)


def pass_gradient(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """The derivative of what leaves the gradient as it is."""
    return (gradients[0],)


def _pass_both(tape: Tape, node: Node, gradients: Gradients) -> Results:
    return (gradients[0] if node.needs(0) else None, gradients[0] if node.needs(1) else None)


def _sub_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    return (gradient if node.needs(0) else None, like(tape, gradient, "neg") if node.needs(1) else None)


def _mul_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    other = like(tape, gradient, "mul backward") if node.needs(1) else None
    first = like(tape, gradient, "mul backward") if node.needs(0) else None
    del saved
    return (first, other)


def _at_least_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """`where(x == number, grad / 2, grad).masked_fill_(x < number, 0)`, whose parts live to the end of the line."""
    (x,) = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    equal = tape.empty(x.shape, "bool", "maximum backward")
    half = like(tape, gradient, "maximum backward")
    result = like(tape, gradient, "maximum backward")
    less = tape.empty(x.shape, "bool", "maximum backward")
    del equal, half, less, x
    return (result,)


def _clamp_one_side_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (x,) = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    within = tape.empty(x.shape, "bool", "clamp backward")
    result = like(tape, gradient, "clamp backward")
    del x, within
    return (result,)


def _clamp_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    *_, x = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    within = [tape.empty(x.shape, "bool", "clamp backward") for _ in ("min", "max")]
    result = like(tape, gradient, "clamp backward")
    within.clear()
    del x
    return (result,)


def _power_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (x,) = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    power_of_x = like(tape, x, "pow backward")
    scaled = like(tape, x, "pow backward")
    result = like(tape, gradient, "pow backward")
    del power_of_x, scaled
    return (result,)


def _expand_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (tape.empty(edge[2], gradient.dtype, "mean backward"),)


def _expanded_view(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None if gradient is None or edge is None else gradient.as_shape(edge[2]),)


def _rsqrt_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (result,) = node.unpack(tape)
    cubed = like(tape, result, "rsqrt backward")
    scaled = like(tape, result, "rsqrt backward")
    out = like(tape, result, "rsqrt backward")
    del cubed, scaled, gradients
    return (out,)
