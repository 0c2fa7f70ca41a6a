"""The block around the gated delta rule: projections, a causal convolution, gates and a gated norm.

transformers 5.23 models/{qwen3_next,qwen3_5,qwen3_5_moe}, …GatedDeltaNet, without the packages fla and causal_conv1d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.remembered import remembered
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

Results = Sequence["Tensor | None"]


class Rule(Protocol):
    """The delta rule."""

    def __call__(
        self, tape: Tape, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor, *, keeps: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The result [B, heads, S, d], and the last state if it `keeps` it."""


class Sizes(Struct, frozen=True):
    """Heads of keys and of values, and their sizes."""

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int

    @property
    def widths(self) -> tuple[int, int, int]:
        """Widths of queries, keys and values."""
        keys = self.key_heads * self.key_size
        return keys, keys, self.value_heads * self.value_size


class Projected(NamedTuple):
    """What the input is projected to: queries, keys and values side by side, and three kinds of gates.

    `held` are tensors that stay named.
    """

    mixed: Tensor
    z: Tensor
    b: Tensor
    a: Tensor
    held: tuple[Tensor, ...]
    strided: bool = False
    """`z` is a part of another tensor."""


class JoinedInput(Struct):
    """Qwen3NextGatedDeltaNet: two products, the columns of which are sorted by key head."""

    qkvz: Weights
    ba: Weights

    def __call__(self, tape: Tape, x: Tensor, sizes: Sizes) -> Projected:
        """Cut both apart; what is no view by then is copied."""
        batch, length, _ = x.shape
        keys, _, values = sizes.widths
        qkvz = linear(tape, x, self.qkvz)
        ba = linear(tape, x, self.ba)
        query, key, value, z = shaping.split_last(tape, qkvz, (keys, keys, values, values))
        b, a = shaping.split_last(tape, ba, (sizes.value_heads, sizes.value_heads))
        grouped = sizes.value_heads > sizes.key_heads
        if grouped:
            value, z, b, a = [e.clone(tape, part) for part in (value, z, b, a)]
            query, key = [e.clone(tape, part) for part in (query, key)]
        else:
            query, key, value = [e.clone(tape, part) for part in (query, key, value)]
        mixed = shaping.concatenate(tape, (query, key, value), (batch, length, 2 * keys + values))
        return Projected(mixed, z, b, a, (qkvz, ba, query, key, value), strided=not grouped)


class SeparateInput(Struct):
    """Qwen3_5GatedDeltaNet: four products."""

    qkv: Weights
    z: Weights
    b: Weights
    a: Weights

    def __call__(self, tape: Tape, x: Tensor, sizes: Sizes) -> Projected:
        """Nothing is copied."""
        mixed = linear(tape, x, self.qkv)
        z = linear(tape, x, self.z)
        b = linear(tape, x, self.b)
        return Projected(mixed, z, b, linear(tape, x, self.a), ())


class DeltaNet(Struct):
    """…GatedDeltaNet."""

    sizes: Sizes
    activation: str
    dt_bias: Parameter
    a_log: Parameter
    convolution: Parameter
    """[channels, 1, kernel]."""
    project: JoinedInput | SeparateInput
    norm: Parameter
    out: Weights
    rule: Rule
    as_module: bool
    """The convolution is called as a module, and a single sequence is not masked: before transformers 5.15."""

    def __call__(self, tape: Tape, x: Tensor, mask: Tensor | None, *, caches: bool) -> Tensor:
        """[B, S, H] to [B, S, H]; `mask` hides padding. Names live until the end."""
        if mask is not None and (x.shape[0] > 1 or not self.as_module):
            x = _masked(tape, x, mask)
        batch, length, _ = x.shape
        heads, size = self.sizes.value_heads, self.sizes.value_size
        mixed, z, b, a, held, strided = self.project(tape, x, self.sizes)
        if caches:
            tape.lifetimes.keep(
                tape.empty((batch, mixed.shape[2], self.convolution.shape[2]), mixed.dtype, "convolution state")
            )
        mixed = self._convolved(tape, mixed)
        if caches and not self.as_module:
            mixed = shaping.slice_last(tape, mixed, mixed.shape[2])
        query, key, value = shaping.split_last(tape, mixed, self.sizes.widths)
        held = held[:2]
        query = attention.split_heads(tape, query, self.sizes.key_heads)
        key = attention.split_heads(tape, key, self.sizes.key_heads)
        value = attention.split_heads(tape, value, heads)
        beta = e.unary_of_result(tape, "sigmoid", b)
        g = self._decay(tape, a)
        by_head = [shaping.viewed(tape, gate, (batch, heads, length)) for gate in (g, beta)]
        core, state = remembered(tape, self.rule, (query, key, value, *by_head), keeps=caches)
        if state is not None:
            tape.lifetimes.keep(e.clone(tape, state))  # with the graph that made it
        assert core is not None  # noqa: S101  narrowing: the first result is always there
        core = attention.merge_heads(tape, core).as_shape((batch * length * heads, size))
        z = e.clone(tape, z).as_shape(core.shape) if strided else shaping.viewed(tape, z, core.shape)
        core = gated_norm(tape, core, z, self.norm)
        out = linear(tape, core.as_shape((batch, length, heads * size)), self.out)
        del held, beta
        return out

    def _convolved(self, tape: Tape, mixed: Tensor) -> Tensor:
        """causal_conv1d_fn: as many columns before the sequence as the kernel reaches back, cut off after it."""
        batch, length, channels = mixed.shape
        weight: Tensor = self.convolution
        wide = mixed
        if not self.as_module:
            weight = shaping.viewed(tape, weight, weight.shape)
            wide = tape.to(mixed, weight.dtype)
        weight = tape.lower(weight)
        lowered = tape.lower(wide)
        shape = (batch, length + self.convolution.shape[2] - 1, channels)
        inputs = (lowered, weight)
        out = tape.apply("convolution", inputs, shape, lowered.dtype, _convolution_backward, save=inputs)
        del wide, lowered, weight, inputs
        out = shaping.part(tape, out, (batch, length, channels))
        out = activation(tape, self.activation, out)
        return out if self.as_module else tape.to(out, mixed.dtype)

    def _decay(self, tape: Tape, a: Tensor) -> Tensor:
        """`-A_log.float().exp() * softplus(a.float() + dt_bias)`."""
        rate = e.linear_unary(tape, "neg", e.unary_of_result(tape, "exp", tape.to(self.a_log, "float32")))
        return e.mul(tape, rate, e.unary(tape, "softplus", e.add(tape, tape.to(a, "float32"), self.dt_bias)))


def gated_norm(tape: Tape, x: Tensor, gate: Tensor, weight: Parameter) -> Tensor:
    """Qwen3NextRMSNormGated."""
    dtype = x.dtype
    hidden = tape.to(x, "float32")
    variance = e.mean_last(tape, e.power(tape, hidden))
    hidden = e.mul(tape, hidden, e.rsqrt(tape, e.add_number(tape, variance)))
    hidden = e.mul(tape, weight, tape.to(hidden, dtype))
    hidden = e.mul(tape, hidden, e.unary(tape, "silu", tape.to(gate, "float32")))
    return tape.to(hidden, dtype)


def _masked(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`x * mask` of integers: keeps the mask."""
    return tape.apply("mul", (x,), x.shape, x.dtype, _masked_backward, save=(mask,))


def _masked_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    return (None if gradient is None else e.like(tape, gradient, "mul backward"),)


def _convolution_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    results: list[Tensor | None] = []
    for edge in node.edges:
        results.append(None if edge is None else tape.empty(edge[2], gradient.dtype, "convolution backward"))
    del saved
    return results
