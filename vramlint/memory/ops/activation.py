"""Activation functions by their names in transformers (5.23 activations.py, ACT2FN)."""

from __future__ import annotations

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

OF_RESULT = frozenset({"relu", "tanh", "sigmoid"})
"""Their derivative is a function of the result, which is what autograd keeps."""
COMPOSED = frozenset({"gelu_new"})
"""Written out in Python operators: every intermediate that a product needs is kept."""


def activation(tape: Tape, name: str, x: Tensor) -> Tensor:
    """ACT2FN[name](x)."""
    if name in COMPOSED:
        return _gelu_new(tape, x)
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
