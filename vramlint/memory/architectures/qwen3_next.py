"""Layers of linear attention and of gated attention in turns: Qwen3-Next, Qwen3.5 (transformers 5.23 models/qwen3_*).

Linear attention runs in plain operators, as it does without the package `fla`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config, LayerNorm, number, ratio
from vramlint.memory.architectures.layer_kinds import FULL, LINEAR, Kind
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.architectures.qwen_moe import SharedMoe
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.delta_net import DeltaNet, JoinedInput, SeparateInput, Sizes
from vramlint.memory.ops.delta_rule import delta_rule
from vramlint.memory.ops.delta_rule_loops import looped_delta_rule
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm_unit_offset
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_part
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SOLVED_FROM = (5, 17)
"""Since this version of transformers the delta rule solves a triangular system, which it did row by row before."""
FUNCTIONS_FROM = (5, 15)
"""Since this version the convolution is a function of its weight."""


class DeltaLayer(llama.Layer):
    """A layer of linear attention, the projections of which are in `net`; those of attention stand for its output's."""

    net: DeltaNet


class DeltaLayers(Llama):
    """A llama with both kinds of layers."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "sliding_window": None,
    }
    joined_input: ClassVar[bool] = False
    """Whether linear attention projects its input by two products."""
    positions_by_sequence: ClassVar[bool] = True
    """Whether every sequence has rotary tables of its own."""

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        self.rotated = int(number(config, "head_dim") * ratio(config, "partial_rotary_factor", default=0.25))
        self.padding: Tensor | None = None
        """The mask of the batch where it hides something."""
        super().__init__(build, config)

    def _kinds(self, config: Config) -> Sequence[Kind]:
        stated, interval = config.get("layer_types"), number(config, "full_attention_interval", default=4)
        if not isinstance(stated, Sequence) or isinstance(stated, str):
            stated = [LINEAR if (index + 1) % interval else FULL for index in range(self.count)]
        unknown = set(stated) - {LINEAR, FULL}
        if unknown:
            raise NotFollowedError(f"a layer of type {min(map(str, unknown))}")
        return tuple([Kind(kind) for kind in stated[: self.count]])

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _layer(self, build: Builder, config: Config, name: str) -> llama.Layer:
        if self.kinds[int(name.rpartition(".")[2])].attention == LINEAR:
            net = self._net(build, config, f"{name}.linear_attn")
            mlp = self._mlp(build, config, f"{name}.mlp")
            norms = [self._norm(build, f"{name}.{norm}") for norm in self.norm_names]
            return DeltaLayer(norms[0], net.out, net.out, net.out, net.out, None, None, norms[1], mlp, net)
        block, (bias, _) = f"{name}.self_attn", self._biases(config)
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return llama.Layer(
            q=build.linear(f"{block}.q_proj", self.hidden, 2 * queries, bias=bias),
            k=build.linear(f"{block}.k_proj", self.hidden, keys, bias=bias),
            v=build.linear(f"{block}.v_proj", self.hidden, keys, bias=bias),
            o=build.linear(f"{block}.o_proj", queries, self.hidden, bias=bias),
            q_norm=build.norm(f"{block}.q_norm.weight", self.head_size),
            k_norm=build.norm(f"{block}.k_norm.weight", self.head_size),
            mlp=self._mlp(build, config, f"{name}.mlp"),
            input_norm=self._norm(build, f"{name}.{self.norm_names[0]}"),
            post_norm=self._norm(build, f"{name}.{self.norm_names[1]}"),
        )

    def _net(self, build: Builder, config: Config, name: str) -> DeltaNet:
        keys, values = number(config, "linear_num_key_heads"), number(config, "linear_num_value_heads")
        sizes = Sizes(keys, values, number(config, "linear_key_head_dim"), number(config, "linear_value_head_dim"))
        width, mixed = sizes.widths[2], sum(sizes.widths)
        kernel = number(config, "linear_conv_kernel_dim")

        def projection(part: str, outputs: int) -> Weights:
            return build.linear(f"{name}.in_proj_{part}", self.hidden, outputs)

        return DeltaNet(
            sizes=sizes,
            activation=self.activation,
            dt_bias=build.parameter(f"{name}.dt_bias", (values,), decay=False),
            a_log=build.parameter(f"{name}.A_log", (values,)),
            convolution=build.parameter(f"{name}.conv1d.weight", (mixed, 1, kernel)),
            project=JoinedInput(projection("qkvz", mixed + width), projection("ba", 2 * values))
            if self.joined_input
            else SeparateInput(
                projection("qkv", mixed), projection("z", width), projection("b", values), projection("a", values)
            ),
            norm=build.norm(f"{name}.norm.weight", sizes.value_size),
            out=build.linear(f"{name}.out_proj", width, self.hidden),
            rule=delta_rule if build.transformers >= SOLVED_FROM else looped_delta_rule,
            as_module=build.transformers < FUNCTIONS_FROM,
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """…Model.forward. Linear attention takes the batch's own mask, if it hides anything."""
        masked = regime.padding and regime.attention_mask
        self.padding = Tensor(embedded.shape[:2], "int64", None) if masked else None
        return super().hidden_states(tape, regime, embedded)

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """The causal mask, which layers of linear attention do not take."""
        return {FULL: regime.mask(tape, embedded, None), LINEAR: None}

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables for a part of every head."""
        if not self.positions_by_sequence:
            return dict.fromkeys((FULL, LINEAR), rotary(tape, embedded, self.rotated))
        shape = (embedded.shape[0], 1, embedded.shape[1], self.rotated)
        tables = Rotary(*[tape.empty(shape, embedded.dtype, f"rotary {name}") for name in ("cos", "sin")])
        return dict.fromkeys((FULL, LINEAR), tables)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of a part of every head."""
        return rotate_part(tape, q, k, position)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """Qwen3NextRMSNorm, which is Gemma's."""
        assert not isinstance(norm, LayerNorm)  # noqa: S101  narrowing: there are no other norms
        return rms_norm_unit_offset(tape, x, norm)

    def _attention(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        if isinstance(w, DeltaLayer):
            return w.net(tape, hidden, self.padding, caches=regime.use_cache)
        assert position is not None and w.q_norm is not None  # noqa: S101  narrowing
        width = self.heads * self.head_size
        q, gate = shaping.split_last(tape, linear(tape, hidden, w.q), (width, width))
        gate = e.clone(tape, gate)
        by_head = q.as_shape((*hidden.shape[:2], self.heads, self.head_size))
        q = attention.split_heads(tape, self.normalise(tape, by_head, w.q_norm).as_shape(q.shape), self.heads)
        k = self._projected(tape, hidden, w.k, w.k_norm, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        q, k = self.rotate(tape, q, k, position)
        out = self._attend(tape, regime, q, k, v, mask)
        out = e.mul(tape, out, e.unary_of_result(tape, "sigmoid", gate))
        return linear(tape, out, w.o)


class Qwen3Next(SharedMoe, DeltaLayers):
    """Qwen3NextForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        **DeltaLayers.defaults,
        "num_experts_per_tok": 10,
        "num_experts": 512,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "norm_topk_prob": True,
    }
    joined_input: ClassVar[bool] = True
    positions_by_sequence: ClassVar[bool] = False


class Qwen35(DeltaLayers):
    """Qwen3_5ForCausalLM: the text model, also of a checkpoint with a vision tower."""

    defaults: ClassVar[Mapping[str, object]] = {**DeltaLayers.defaults, "num_key_value_heads": 4}

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, _text_part(config))


class Qwen35Moe(SharedMoe, DeltaLayers):
    """Qwen3_5MoeForCausalLM: the text model, also of a checkpoint with a vision tower."""

    defaults: ClassVar[Mapping[str, object]] = {
        **Qwen3Next.defaults,
        "num_experts_per_tok": 8,
        "num_experts": 256,
        "intermediate_size": 0,
        "decoder_sparse_step": 1,
        "mlp_only_layers": (),
        "norm_topk_prob": True,
    }
    converts_targets: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, _text_part(config))


def _text_part(config: Config) -> Config:
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config
