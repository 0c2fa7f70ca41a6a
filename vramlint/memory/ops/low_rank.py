"""Low-rank adapters of linear layers: LoRA and DoRA."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import inductor
from vramlint.memory.ops.linear import Weights, joined, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor

REUSES_RESULT_FROM = (0, 14)
"""Since this version of PEFT DoRA without dropout takes the base's output instead of computing it again."""


class LowRank(Struct):
    """A LoRA adapter of one linear layer: A is [r, in], B is [out, r]."""

    a: Parameter
    b: Parameter
    dropout: float
    offset: Parameter | None = None
    """The bias of B (`lora_bias`)."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward and its relatives, as `Joining` tells them apart."""
        joining = weights.joining
        result = joined(tape, x, weights)
        dtype = result.dtype
        converts = joining.casts_always or tape.autocast is None
        # x itself lives on: the module call holds its arguments
        inputs = tape.to(x, tape.stored_adapters or self.a.dtype) if converts else x
        update = self._product(tape, inputs)
        if tape.compiled and dtype == update.dtype:
            return inductor.scaled_sum(tape, result, update)
        if joining.narrows == "unscaled" and converts:
            update = tape.to(update, dtype)
        update = e.linear_unary(tape, "mul", update)
        if joining.narrows == "update" and converts:
            update = tape.to(update, dtype)
        result = e.add_in_place(tape, result, update) if joining.in_place else e.add(tape, result, update)
        return tape.to(result, dtype) if joining.narrows == "result" and converts else result

    def _product(self, tape: Tape, x: Tensor) -> Tensor:
        # one expression in peft: a module's call holds its argument until it returns, no name holds what stands between
        dropped = e.dropout(tape, x, self.dropout)
        if tape.stored_adapters is not None:
            dropped = tape.to(dropped, self.a.dtype)
        hidden = matmul_weight(tape, dropped, self.a, None)
        del dropped
        return matmul_weight(tape, hidden, self.b, self.offset)


class Dora(Struct):
    """DoRA: LoRA whose sum with the base has a norm of its own for every output (peft 0.21 tuners/lora/dora.py)."""

    low_rank: LowRank
    magnitude: Parameter
    reuses_result: bool

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """DoraLinearVariant.forward within the forward of the LoRA layer."""
        joining = weights.joining
        result = joined(tape, x, weights)
        dtype = result.dtype
        converts = joining.casts_always or tape.autocast is None
        inputs = tape.to(x, self.low_rank.a.dtype) if converts else x
        dropped = e.dropout(tape, inputs, self.low_rank.dropout)
        reused = self.reuses_result and (self.low_rank.dropout <= 0 or not tape.training)
        result = e.add(tape, result, self._update(tape, dropped, weights, result if reused else None))
        return tape.to(result, dtype) if converts else result

    def _update(self, tape: Tape, x: Tensor, weights: Weights, output: Tensor | None) -> Tensor:
        """DoraLinearLayer.forward: its locals, two dense weights among them, live until it returns."""
        low = self.low_rank
        *_graph, product = self._dense_product(tape)
        product = tape.to(product.as_shape(product.shape[::-1]), x.dtype)
        dense = weights.weight if weights.packed is None else weights.packed.dense(tape, weights.weight)
        weight = tape.to(dense, x.dtype)
        del dense
        norm = self._norm(tape, weight, product)
        scale = e.divided(tape, self.magnitude, norm).as_shape((1, weights.out_features))
        update = matmul_weight(tape, matmul_weight(tape, x, low.a, None), low.b, low.offset)
        if output is None:
            output = matmul_weight(tape, x, weight, None)
        elif weights.bias is not None:
            output = e.sub(tape, output, weights.bias)
        shrunk = e.mul(tape, e.add_number(tape, scale), output)
        return e.add(tape, shrunk, e.linear_unary(tape, "mul", e.mul(tape, scale, update)))

    def _dense_product(self, tape: Tape) -> tuple[Tensor, ...]:
        """`lora_B(lora_A(eye))`, after what its graph keeps as long as it lives, though nobody differentiates it."""
        low = self.low_rank
        width = low.a.shape[1]
        identity = tape.lower(tape.empty((width, width), low.a.dtype, "eye"))
        hidden = matmul_weight(tape, identity, low.a, None)
        product = matmul_weight(tape, hidden, low.b, low.offset)
        tape.abandon(hidden, product)
        return (identity, hidden, product) if tape.grad_enabled else (product,)

    def _norm(self, tape: Tape, weight: Tensor, product: Tensor) -> Tensor:
        """The norm of each row of the sum, cut off from the graph."""
        with tape.grad_mode(enabled=False):
            merged = e.add(tape, weight, e.linear_unary(tape, "mul", product))
            norm = tape.apply("norm", (merged,), (weight.shape[0],), merged.dtype, e.no_gradient)
            return tape.to(norm, weight.dtype)
