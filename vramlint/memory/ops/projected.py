"""DEFT: a subspace is taken out of the output, and something learned put into it (peft 0.20 tuners/deft/layer.py)."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, base, matmul, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Projected(Struct):
    """P is [out, r]; R [r, in], where something is put in. All of it is float32."""

    subspace: Parameter
    injected: Parameter | None
    orthogonal: bool
    """By a QR decomposition; else the projection is `P @ relu(P).T`."""
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """DeftLinear.forward."""
        dtype = x.dtype
        result = tape.to(base(tape, x, weights), "float32")
        x = tape.to(x, "float32")
        outputs, rank = self.subspace.shape
        basis = tape.to(self.subspace, "float32")
        if self.orthogonal:
            basis = right = tape.apply("qr", (basis,), basis.shape, "float32", _qr_backward, save_output=True)
        else:
            right = e.unary_of_result(tape, "relu", basis)
        low = matmul(tape, result, right, (*result.shape[:-1], rank))
        result = e.sub(tape, result, matmul(tape, low, basis, result.shape))
        del low
        if self.injected is not None:
            factor = e.linear_unary(tape, "mul", tape.to(self.injected, "float32"))
            inner = matmul_weight(tape, e.dropout(tape, x, self.dropout), factor, None)
            result = e.add(tape, result, matmul(tape, inner, basis, (*inner.shape[:-1], outputs)))
        return tape.to(result, dtype)


def _qr_backward(tape: Tape, node: Node, gradients: Gradients) -> tuple[Tensor | None]:
    """A triangular solve and products of the basis's size."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    held = [tape.empty(gradient.shape, gradient.dtype, "qr backward") for _ in ("product", "sum")]
    out = tape.empty(gradient.shape, gradient.dtype, "qr backward")
    del held, saved
    return (out,)
