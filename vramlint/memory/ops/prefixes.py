"""Prefix tuning: keys and values before those of the text, in every layer (peft 0.21 peft_model.py, get_prompt)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import look_up
from vramlint.memory.ops.linear import matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Prefix(Struct):
    """A table [tokens, layers · 2 · heads · size], or one of embeddings and two layers (weight, bias) after it."""

    table: Parameter
    layers: Sequence[tuple[Parameter, Parameter]]
    heads: int
    size: int
    dtype: str
    """Of the model that takes it."""
    copies: Tensor | None = None
    """What the cache holds of it for all layers; let go of when the body has run, in truth layer by layer."""

    @property
    def length(self) -> int:
        """Virtual tokens."""
        return self.table.shape[0]

    def begin(self, tape: Tape, rows: int) -> None:
        """Encode the prefix for `rows` sequences; DynamicCache copies each layer's keys and values."""
        past = look_up(tape, tape.empty((rows, self.length), "int64", "prompt tokens"), self.table)
        for number, (weight, bias) in enumerate(self.layers):
            past = e.unary_of_result(tape, "tanh", past) if number else past
            past = matmul_weight(tape, past, weight, bias)
        past = tape.to(past, self.dtype)
        self.copies = tape.apply("cat", (past,), past.shape, past.dtype, _copies_backward, component="key/value cache")
        if self.copies.node is not None:
            self.copies.node.outputs, self.copies.node.context = 0, []

    def end(self) -> None:
        """Forget it."""
        self.copies = None

    def before(self, tape: Tape, x: Tensor) -> Tensor:
        """The next keys or values with those of the prefix before them, [B, heads, tokens + S, size]."""
        rows, _, length, _ = x.shape
        assert self.copies is not None  # noqa: S101  narrowing: the forward has begun with it
        part = self.copies.as_shape((rows, self.heads, self.length, self.size))
        if part.node is not None:
            part.slot = part.node.outputs
            part.node.outputs += 1
            part.node.context.append(tape.course.unit)
        shape = (rows, self.heads, self.length + length, self.size)
        out = tape.apply("cat", (part, x), shape, e.promoted(part, x), _before_backward, component="key/value cache")
        out.heads_first = True
        tape.lifetimes.keep(out)
        return out


def _before_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Views: the prefix' part keeps the whole gradient until all layers are done."""
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    parts = [None if edge is None else gradient.as_shape(edge[2]) for edge in node.edges]
    for part in parts:
        if part is not None:
            part.heads_first = True
    return parts


def _copies_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Every layer's gradients are stacked, all of them concatenated, and put in the order of the table."""
    edge = node.edges[0]
    dtype = next((gradient.dtype for gradient in gradients if gradient is not None), None)
    stacked = None if edge is None or dtype is None else tape.empty(edge[2], dtype, "stack")
    for slot, unit in enumerate(node.context):
        with tape.course.within(unit):
            gradients[slot] = None
    if edge is None or dtype is None:
        return (None,)
    joined = tape.empty(edge[2], dtype, "cat backward")
    del stacked
    out = tape.empty(edge[2], dtype, "reshape")
    del joined
    return (out,)
