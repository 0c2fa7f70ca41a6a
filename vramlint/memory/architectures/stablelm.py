"""StableLM: llama with layer norms, partial rotation, parallel residual and norms for every head.

transformers 5.23 models/stablelm/modeling_stablelm.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import asdict

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability, ratio
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

ATTENTION_INTERFACE_FROM = (5, 0)
"""Since then attention and masks are those that most models share."""


class Layer(llama.Layer):
    """Weights of one decoder layer, with norms for every head of queries and keys."""

    q_norms: Sequence[LayerNorm]
    k_norms: Sequence[LayerNorm]


class StableLm(Llama):
    """StableLmForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"stablelm": ("q_proj", "v_proj")}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)
    defaults: ClassVar[Mapping[str, object]] = {"num_attention_heads": 32, "num_key_value_heads": 32}

    def __init__(self, build: Builder, config: Config) -> None:
        self.parallel = bool(config.get("use_parallel_residual", False))
        self.dropout = probability(config, "hidden_dropout")
        size = number(config, "hidden_size") // number(config, "num_attention_heads", default=32)
        self.rotated = int(size * ratio(config, "partial_rotary_factor", default=0.25))
        super().__init__(build, config)

    @property
    def rotated_size(self) -> int:
        """A part of a head."""
        return self.rotated

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return bool(config.get("use_qkv_bias", False)), False

    def _norm(self, build: Builder, name: str) -> Norm:
        if self.parallel and name.endswith(self.norm_names[1]):
            return LayerNorm(None, None)  # there is no second norm
        return LayerNorm.of(build, name, self.hidden)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        base = super()._layer(build, config, name)

        def norms(part: str, heads: int) -> Sequence[LayerNorm]:
            if not config.get("qk_layernorm", False):
                return ()
            path = f"{name}.self_attn.{part}_layernorm.norms"
            return [LayerNorm.of(build, f"{path}.{head}", self.head_size, bias=False) for head in range(heads)]

        return Layer(
            **asdict(base),
            q_norms=norms("q", self.heads),
            k_norms=norms("k", self.kv_heads),
        )

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """The causal mask."""
        if regime.transformers >= ATTENTION_INTERFACE_FROM:
            return super().masks(tape, regime, embedded)
        return {FULL: regime.unshared_mask(tape, embedded)}

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of the rotated part."""
        return {FULL: rotary(tape, embedded, self.rotated)}

    def _forward(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        attended = self._attention(tape, regime, w, hidden, position, mask)
        if self.parallel:
            fed = e.dropout(tape, self.feed_forward(tape, w, hidden), self.dropout)
            return e.add(tape, e.add(tape, residual, attended), fed)
        residual = e.add(tape, residual, attended)
        fed = self.feed_forward(tape, w, self.normalise(tape, residual, w.post_norm))
        fed = e.dropout(tape, fed, self.dropout)
        return e.add(tape, residual, fed)

    def _attention(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        assert isinstance(w, Layer)  # noqa: S101  narrowing: _layer makes no other
        q, k, v = (linear(tape, hidden, part) for part in (w.q, w.k, w.v))
        q = attention.split_heads(tape, q, self.heads)
        k = attention.split_heads(tape, k, self.kv_heads)
        v = attention.split_heads(tape, v, self.kv_heads)
        if w.q_norms:
            q = _normalised_by_head(tape, q, w.q_norms)
            k = _normalised_by_head(tape, k, w.k_norms)
        assert position is not None  # noqa: S101  narrowing: all layers rotate
        q_rot, q_pass = self._parts(tape, q)
        k_rot, k_pass = self._parts(tape, k)
        q_rot, k_rot = rotate(tape, q_rot, position), rotate(tape, k_rot, position)
        q = shaping.concatenate_last(tape, q_rot, q_pass)
        k = shaping.concatenate_last(tape, k_rot, k_pass)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)

    def _parts(self, tape: Tape, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is rotated, and the rest."""
        return shaping.slice_last(tape, x, self.rotated), shaping.slice_last(tape, x, self.head_size - self.rotated)

    def _attend(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if regime.transformers >= ATTENTION_INTERFACE_FROM:
            return super()._attend(tape, regime, q, k, v, mask)
        return regime.attend_unshared(tape, q, k, v, mask, self.attention_dropout, masks_in_place=True)


def _normalised_by_head(tape: Tape, x: Tensor, norms: Sequence[LayerNorm]) -> Tensor:
    """StableLmLayerNormPerHead: a norm of its own for each of the heads of [B, heads, S, d]."""
    heads = shaping.split_heads_apart(tape, x)
    out = shaping.concatenate(tape, [norm(tape, head) for norm, head in zip(norms, heads, strict=True)], x.shape)
    out.heads_first = True
    return out
