"""gpt-neox's ParallelTransformerLayer on one rank (EleutherAI/gpt-neox@ea7aefd megatron/model/transformer.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory import checkpoint
from vramlint.memory.architectures.family import Config, number, probability
from vramlint.memory.ops import attention, megatron, norm, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, matmul_weight
from vramlint.memory.ops.rotary import Rotary, rotate, rotate_part
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor
from vramlint.memory.weights import Builder

LONGEST_FUSED_SOFTMAX = 2048
"""Keys of the fused softmax (megatron/model/fused_softmax.py, is_kernel_available)."""


class Layer(Struct):
    """Weights of one layer."""

    input_norm: tuple[Parameter, ...]
    qkv: Weights
    dense: Weights
    norm: tuple[Parameter, ...]
    up: Weights
    down: Weights


class Segment(Struct, frozen=True):
    """Layers that run, or are recomputed, together."""

    layers: int
    recomputed: bool


class Layers:
    """The layers of a stage.

    Raises, when it is made:
        KeyError: a dimension is missing from the config.
    """

    def __init__(self, config: Config, group: megatron.Group) -> None:
        self.group = group
        self.rows = number(config, "rows", default=1)
        """Sequences of a micro batch."""
        self.keys = number(config, "keys", default=1)
        """Tokens of each."""
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.groups = number(config, "num_key_value_heads", default=self.heads)
        self.size = number(config, "head_dim")
        self.inner = number(config, "intermediate_size")
        self.rotated = number(config, "rotary_dim", default=0)
        """Elements of a head that rotary embeddings turn; 0: none."""
        self.gate = str(config.get("gate") or "")
        """What a gated activation does to its gate; empty without one."""
        self.activation = str(config.get("activation") or "gelu")
        self.fuses_activation = bool(config.get("bias_gelu_fusion"))
        self.fuses_dropout = bool(config.get("bias_dropout_fusion"))
        self.fuses_norm = bool(config.get("norm_fusion"))
        self.fuses_softmax = bool(config.get("softmax_fusion")) and self.keys <= LONGEST_FUSED_SOFTMAX
        self.wide_softmax = bool(config.get("attention_softmax_in_fp32"))
        self.root = config.get("norm") == "rmsnorm"
        self.parallel, self.shares_norm = bool(config.get("gpt_j_residual")), bool(config.get("gpt_j_tied"))
        self.attention_biased = bool(config.get("attention_bias", True))
        self.mlp_biased = bool(config.get("mlp_bias", True))
        self.hidden_dropout = probability(config, "hidden_dropout", default=0.0)
        self.attention_dropout = probability(config, "attention_dropout", default=0.0)
        self.parts = number(config, "checkpoint_parts", default=1)
        """Ranks that share a checkpoint (partition_activations)."""
        self.offloads = bool(config.get("checkpoint_in_cpu"))
        self.segments = _segments(config)
        self.built: list[tuple[Segment, list[Layer]]] = []
        """The traced ones."""

    def build(self, build: Builder) -> None:
        """Make the weights of every traced segment."""
        for position in build.layers(self.segments):
            name = f"sequential.{position}"
            segment = self.segments[position]
            self.built.append((segment, [self._layer(build, name) for _ in range(segment.layers)]))

    def norm(self, build: Builder, name: str) -> tuple[Parameter, ...]:
        """A norm's parameters."""
        parts = ("scale",) if self.root else ("weight", "bias")
        return tuple([build.norm(f"{name}.{part}", self.hidden) for part in parts])

    def _layer(self, build: Builder, name: str) -> Layer:
        width = (self.heads + 2 * self.groups) * self.size
        attention, mlp = f"{name}.attention", f"{name}.mlp"
        wide = 2 if self.gate else 1
        biased, mixed = self.mlp_biased, self.attention_biased
        return Layer(
            input_norm=self.norm(build, f"{name}.input_layernorm"),
            qkv=build.linear(f"{attention}.query_key_value", self.hidden, width, bias=mixed),
            dense=build.linear(f"{attention}.dense", self.heads * self.size, self.hidden, bias=mixed),
            norm=self.norm(build, f"{name}.post_attention_layernorm"),
            up=build.linear(f"{mlp}.linear1", self.hidden, wide * self.inner, bias=biased),
            down=build.linear(f"{mlp}.linear2", self.inner, self.hidden, bias=biased),
        )

    # ------------------------------------------------------------------ forward

    def __call__(self, tape: Tape, regime: Regime, entering: list[Tensor]) -> Tensor:
        """The stage's layers over [B, S, H], handed over: nobody else holds it."""

        def layers(x: Tensor, index: int) -> Tensor:
            for weights in self.built[index][1]:
                x = self._forward(tape, regime, weights, x)
            return x

        def segment(x: Tensor, index: int) -> Tensor:
            if not self.built[index][0].recomputed:
                return layers(x, index)
            offload, parts = self.offloads, self.parts
            return checkpoint.reentrant(tape, lambda y: (layers(y, index),), (x,), offload=offload, parts=parts)[0]

        return tape.course.repeat(self.segments, segment, entering)

    def normed(self, tape: Tape, x: Tensor, parameters: Sequence[Parameter]) -> Tensor:
        """LayerNorm or RMSNorm, in one kernel where it is asked for (megatron/model/norms.py)."""
        if self.fuses_norm:
            return megatron.norm(tape, x, parameters)
        if not self.root:
            return norm.layer_norm(tape, x, parameters[0], parameters[1])
        rows, like = (*x.shape[:-1], 1), megatron.like_inputs
        length = tape.apply("norm", (x,), rows, x.dtype, like, save=(x,), save_output=True)
        divisor = e.add_number(tape, e.linear_unary(tape, "mul", length))
        scaled = tape.apply("div", (x, divisor), x.shape, x.dtype, like, save=(x, divisor))
        return e.mul(tape, parameters[0], scaled)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        if self.parallel:
            return self._parallel(tape, regime, w, x)
        attended = self._attention(tape, regime, w, [self.normed(tape, x, w.input_norm)])
        x = self._residual(tape, self._reduced(tape, attended, w.dense), w.dense, x)
        del attended
        fed = self._fed(tape, w, self.normed(tape, x, w.norm))
        return self._residual(tape, self._reduced(tape, fed, w.down), w.down, x)

    def _parallel(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        """gpt_j_residual: `x + attention(norm(x)) + mlp(norm(x))`, summed over the ranks once."""
        first = self.normed(tape, x, w.input_norm)
        second = first if self.shares_norm else self.normed(tape, x, w.norm)
        attended = self._product(tape, self._attention(tape, regime, w, [first]), w.dense)
        del first
        if w.dense.bias is not None:
            attended = e.dropout(tape, e.add(tape, attended, w.dense.bias), self.hidden_dropout)
        fed = self._product(tape, self._fed(tape, w, second), w.down)
        del second
        if w.down.bias is not None:
            fed = e.add(tape, attended, e.dropout(tape, e.add(tape, fed, w.down.bias), self.hidden_dropout))
        del attended
        return e.add(tape, x, self._scattered(tape, fed))

    def _residual(self, tape: Tape, x: Tensor, weights: Weights, residual: Tensor) -> Tensor:
        return megatron.bias_dropout_add(
            tape, x, weights.bias, residual, self.hidden_dropout, fused=self.fuses_dropout and weights.bias is not None
        )

    def _product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        return matmul_weight(tape, x, weights.weight, None)

    def _reduced(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """RowParallelLinear without its bias."""
        return self._scattered(tape, self._product(tape, x, weights))

    def _scattered(self, tape: Tape, x: Tensor) -> Tensor:
        """Summed over the ranks in place; where they share the sequence, each has its part (mpu/mappings.py)."""
        if self.group.gathers == 1:
            return x
        shape = (x.shape[0], x.shape[1] // self.group.gathers, x.shape[2])
        return tape.apply("reduce-scatter", (x,), shape, x.dtype, megatron.like_inputs)

    def _fed(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        inner = self._product(tape, megatron.gathered(tape, x, self.group), w.up)
        if self.gate:
            up, gate = shaping.split_last(tape, inner, (self.inner, self.inner))
            del inner
            if w.up.bias is not None:
                up, gate = e.add_number(tape, up), e.add_number(tape, gate)
            return e.mul(tape, self._gated(tape, gate), up)
        if self.activation == "gelu" and self.fuses_activation:
            return megatron.activated(tape, inner, w.up.bias, gated=False, fused=True)
        if w.up.bias is not None:
            inner = e.add(tape, inner, w.up.bias)
        return activation(tape, self.activation, inner)

    def _gated(self, tape: Tape, gate: Tensor) -> Tensor:
        """Swish is `x * sigmoid(x)` in two operators (megatron/model/activations.py)."""
        if self.gate == "swish":
            return e.mul(tape, gate, e.unary_of_result(tape, "sigmoid", e.linear_unary(tape, "mul", gate)))
        return gate if self.gate == "bilinear" else activation(tape, self.gate, gate)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, entering: list[Tensor]) -> Tensor:
        x = entering.pop()
        mixed = matmul_weight(tape, megatron.gathered(tape, x, self.group), w.qkv.weight, w.qkv.bias)
        del x
        widths = [heads * self.size for heads in (self.heads, self.groups, self.groups)]
        q, k, v = megatron.split_heads(tape, mixed, widths, self.size, joint=False)
        del mixed
        fast = regime.implementation != "eager"
        if self.groups != self.heads:
            q, k, v = (shaping.reordered(tape, part, part.shape) for part in (q, k, v))
            if not fast:
                k, v = (attention.repeat_heads(tape, part, self.heads // self.groups) for part in (k, v))
        if self.rotated:
            table = Tensor((1, 1, q.shape[2], self.rotated), q.dtype, None)
            position = Rotary(table, table)
            if self.rotated < self.size:
                q, k = rotate_part(tape, q, k, position)
            else:
                q, k = rotate(tape, q, position), rotate(tape, k, position)
        if fast:
            context = megatron.flash(tape, q, k, v, joint=False)
            return shaping.reordered(tape, context, context.shape) if context.shape[0] > 1 else context
        return self._scored(tape, q, k, v)

    def _scored(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """attention(): scores [B, heads, S, T], masked in place, their softmax and the product with the values."""
        shape, like = (*q.shape[:3], k.shape[2]), megatron.like_inputs
        made = tape.apply("baddbmm", (q, k), shape, q.dtype, like, save=(q, k))
        if not self.fuses_softmax and self.wide_softmax:
            made = tape.to(made, "float32")
            made = e.view_as(tape, made, shape, _filled)
        elif not self.fuses_softmax:
            made = e.view_as(tape, made, shape, _filled_view)
        probabilities = tape.apply("softmax", (made,), shape, made.dtype, like, save_output=True)
        del made
        probabilities = tape.to(probabilities, q.dtype)
        dropped = e.dropout(tape, probabilities, self.attention_dropout)
        del probabilities
        rows, heads, length, size = q.shape[0], q.shape[1], q.shape[2], v.shape[-1]
        context = tape.apply("matmul", (dropped, v), (rows, heads, length, size), q.dtype, like, save=(dropped, v))
        del dropped
        return tape.apply("contiguous", (context,), (rows, length, heads * size), q.dtype, like)


def _filled(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Behind masked_fill_: the gradient with the mask's elements set to zero."""
    edge, (gradient,) = node.edges[0], gradients
    return (None,) if edge is None or gradient is None else (tape.empty(edge[2], gradient.dtype, "masked_fill"),)


def _filled_view(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The same of a view: a copy of the base's gradient, a copy of its part, and what becomes of that.

    torch 2.13 torch/csrc/autograd/functions/tensor.cpp, CopySlices.
    """
    edge, (gradient,) = node.edges[0], gradients
    if edge is None or gradient is None:
        return (None,)
    whole = tape.empty(edge[2], gradient.dtype, "slices")
    part = tape.empty(edge[2], gradient.dtype, "clone")
    filled = tape.empty(edge[2], gradient.dtype, "masked_fill")
    del part, filled
    return (whole,)


def _segments(config: Config) -> list[Segment]:
    """The segments of a stage as the config says them, or its layers one by one."""
    said = config.get("segments")
    if isinstance(said, tuple):
        return [Segment(int(str(one[0])), bool(one[1])) for one in said if isinstance(one, tuple)]
    return [Segment(1, recomputed=False)] * number(config, "num_hidden_layers")
