"""Megatron-Core's TransformerBlock on one rank (NVIDIA/Megatron-LM@d98e8a6 megatron/core/transformer).

The config is that of a rank: heads and widths are divided by the tensor-parallel ranks. Layers are made of Transformer
Engine's modules or of Megatron's own (`implementation`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory import checkpoint
from vramlint.memory.architectures.family import Config, number, probability
from vramlint.memory.architectures.megatron_latent import LatentAttention, LatentWeights
from vramlint.memory.discarded import Dropped
from vramlint.memory.divided_checkpoint import divided
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import megatron, megatron_experts
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.megatron_experts import Routing
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

LOCAL = "local"
"""Megatron's own modules, by `implementation`."""
WIDE, FILLED = "float32", "torch"
"""Their softmax is torch's (core/fusions/fused_softmax.py, forward_torch_softmax), of float32 or as it comes."""


class Layer(Struct):
    """Weights of one TransformerLayer; norms are weight and, with LayerNorm, bias."""

    input_norm: tuple[Parameter, ...]
    qkv: Weights | None
    latent: LatentWeights | None
    q_norm: tuple[Parameter, ...]
    k_norm: tuple[Parameter, ...]
    proj: Weights
    cross: Cross | None
    mlp_norm: tuple[Parameter, ...]
    fc1: Weights | None
    fc2: Weights | None
    experts: Experts | None


class Cross(Struct):
    """Weights of a decoder's attention to its encoder's output (core/transformer/attention.py, CrossAttention)."""

    norm: tuple[Parameter, ...]
    q: Weights
    kv: Weights
    proj: Weights


class Experts(Struct):
    """Weights of a layer's experts on this rank: each matrix that of all of them, one below the other."""

    router: Parameter
    fc1: Parameter
    fc2: Parameter
    shared_fc1: Weights | None
    shared_fc2: Weights | None


class _Kind(Struct, frozen=True):
    """What tells a group of layers from others."""

    sparse: tuple[bool, ...]
    """For each layer whether it has experts."""
    recomputed: bool


class Segment(Struct):
    """Layers that are recomputed together, or not."""

    layers: list[Layer]
    recomputed: bool


class Layers:
    """The layers of a stage, a stack for each of its model chunks.

    Raises, when it is made:
        KeyError: a dimension is missing from the config.
    """

    def __init__(self, config: Config, group: megatron.Group, *, name: str = "decoder", stack: int = 0) -> None:
        self.group, self.name, self.stack = group, name, stack
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.groups = number(config, "num_key_value_heads", default=self.heads)
        self.size = number(config, "head_dim")
        self.inner = number(config, "intermediate_size")
        self.expert_inner = number(config, "expert_intermediate_size", default=0)
        self.shared_inner = number(config, "shared_expert_intermediate_size", default=0)
        self.sparse = _layers(config)
        """Of each model chunk for every layer whether it has experts."""
        self.gated, self.biased = bool(config.get("gated")), bool(config.get("bias", True))
        self.qkv_biased = bool(config.get("qkv_bias", self.biased))
        self.rotary, self.normed = bool(config.get("rotary")), bool(config.get("qk_norm"))
        self.norm_biased = config.get("normalization") != "RMSNorm"
        self.local = config.get("implementation") == LOCAL
        self.hidden_dropout = probability(config, "hidden_dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout", default=0.1)
        self.fuses_dropout = bool(config.get("bias_dropout_fusion", True))
        self.fuses_activation = bool(config.get("bias_activation_fusion", True))
        self.widens_softmax = self.local and config.get("softmax") == WIDE
        self.fills_mask = self.local and config.get("softmax") == FILLED
        self.latent = LatentAttention(config, group) if config.get("latent") else None
        if self.latent is not None and self.local:
            raise NotFollowedError("multi-latent attention of Megatron's own modules")
        self.routing = _routing(config, group)
        self.recompute = str(config.get("recompute", "none"))
        modules = config.get("recompute_modules", ("core_attn",))
        again = modules if self.recompute == "selective" and isinstance(modules, tuple) else ()
        self.again = frozenset(map(str, again))
        """Parts of a layer that run again in backward, by Megatron's names."""
        self.divides = bool(config.get("distributes_checkpoints"))
        """Ranks that share every matrix keep a part each of what a recomputed layer began with."""
        self.uniform = config.get("recompute_first") is None
        """Recomputation takes every layer, in groups."""
        self.every = number(config, "recompute_every", default=1)
        """Layers that are recomputed together."""
        self.recomputed = number(config, "recompute_first", default=max(map(len, self.sparse)))
        """How many of a chunk's layers are recomputed, from the first on."""
        self.segments: list[list[Segment]] = []
        """Of each chunk the traced layers, in groups that are recomputed together."""

    @property
    def chunks(self) -> int:
        """Model chunks of the stage."""
        return len(self.sparse)

    def build(self, build: Builder, *, crosses: bool = False) -> None:
        """Make the weights of every chunk."""
        for chunk in range(self.chunks):
            kinds, made = self._kinds(chunk), []
            for position in build.layers(kinds, stack=self.stack + chunk):
                kind, name = kinds[position], f"{self.name}.layers.{position}"
                layers = [self.layer(build, name, sparse=sparse, crosses=crosses) for sparse in kind.sparse]
                made.append(Segment(layers, recomputed=kind.recomputed))
            self.segments.append(made)

    def norm(self, build: Builder, name: str, width: int = 0) -> tuple[Parameter, ...]:
        """The parameters of a norm over `width`, or the hidden size."""
        parts = ("weight", "bias") if self.norm_biased else ("weight",)
        return tuple([build.norm(f"{name}.{part}", width or self.hidden) for part in parts])

    def _kinds(self, chunk: int) -> Sequence[_Kind]:
        """The groups of a chunk's layers."""
        sparse, every = self.sparse[chunk], self.every
        whole = self.recompute == "full"
        return [
            _Kind(tuple(sparse[start : start + every]), recomputed=whole and start < self.recomputed)
            for start in range(0, len(sparse), every)
        ]

    def layer(self, build: Builder, name: str, *, sparse: bool, crosses: bool) -> Layer:
        """The weights of one layer."""
        queries, keys = self.heads * self.size, self.groups * self.size
        inner, attention = (2 if self.gated else 1) * self.inner, f"{name}.self_attention"
        routing, latent = self.routing if sparse else None, self.latent
        values = self.heads * (latent.value if latent is not None else self.size)
        return Layer(
            input_norm=self.norm(build, f"{attention}.linear_qkv.layer_norm"),
            qkv=None
            if latent
            else build.linear(f"{attention}.linear_qkv", self.hidden, queries + 2 * keys, bias=self.qkv_biased),
            latent=latent.build(build, attention) if latent else None,
            q_norm=self.norm(build, f"{attention}.q_layernorm", self.size) if self.normed and not latent else (),
            k_norm=self.norm(build, f"{attention}.k_layernorm", self.size) if self.normed and not latent else (),
            proj=build.linear(f"{attention}.linear_proj", values, self.hidden, bias=self.biased),
            cross=self._cross(build, name) if crosses else None,
            mlp_norm=self.norm(build, f"{name}.mlp.linear_fc1.layer_norm"),
            fc1=None if routing else build.linear(f"{name}.mlp.linear_fc1", self.hidden, inner, bias=self.biased),
            fc2=None if routing else build.linear(f"{name}.mlp.linear_fc2", self.inner, self.hidden, bias=self.biased),
            experts=self._experts(build, routing, f"{name}.mlp") if routing else None,
        )

    def _cross(self, build: Builder, name: str) -> Cross:
        queries, attention = self.heads * self.size, f"{name}.cross_attention"
        return Cross(
            norm=self.norm(build, f"{name}.pre_cross_attn_layernorm"),
            q=build.linear(f"{attention}.linear_q", self.hidden, queries, bias=self.biased),
            kv=build.linear(f"{attention}.linear_kv", self.hidden, 2 * queries, bias=self.biased),
            proj=build.linear(f"{attention}.linear_proj", queries, self.hidden, bias=self.biased),
        )

    def _experts(self, build: Builder, routing: Routing, name: str) -> Experts:
        """The experts of this rank; their tensor-parallel ranks divide them as they do the matrices, or otherwise."""
        wide = 2 if self.gated else 1
        inner, shared, beside = self.expert_inner, self.shared_inner, f"{name}.shared_experts"
        return Experts(
            router=build.parameter(f"{name}.router.weight", (routing.experts, self.hidden)),
            fc1=build.parameter(f"{name}.experts.linear_fc1.weight", (routing.local * wide * inner, self.hidden)),
            fc2=build.parameter(f"{name}.experts.linear_fc2.weight", (routing.local * self.hidden, inner)),
            shared_fc1=build.linear(f"{beside}.linear_fc1", self.hidden, wide * shared) if shared else None,
            shared_fc2=build.linear(f"{beside}.linear_fc2", shared, self.hidden) if shared else None,
        )

    # ------------------------------------------------------------------ forward

    def __call__(
        self, tape: Tape, regime: Regime, entering: list[Tensor], source: Tensor | None = None, *, chunk: int = 0
    ) -> Tensor:
        """TransformerBlock.forward over one model chunk, without the last norm.

        Args:
            tape: records.
            regime: of the run.
            entering: [B, S, H], handed over: nobody else holds it.
            source: an encoder's output [B, T, H], for layers that attend to it.
            chunk: its number.
        """
        segments = self.segments[chunk]

        def layers(x: Tensor, index: int) -> Tensor:
            for weights in segments[index].layers:
                x = self.forward(tape, regime, weights, x, source)
            return x

        def group(x: Tensor, index: int) -> Tensor:
            if not segments[index].recomputed:
                return layers(x, index)
            if self.divides:
                return divided(tape, lambda y: layers(y, index), x, self.group.ranks)
            return checkpoint.reentrant(tape, lambda y: (layers(y, index),), (x,), offload=False)[0]

        return tape.course.repeat(self._kinds(chunk), group, entering, stack=self.stack + chunk)

    def forward(self, tape: Tape, regime: Regime, w: Layer, x: Tensor, source: Tensor | None = None) -> Tensor:
        """TransformerLayer.forward of [B, S, H]."""
        attended = self._attention(tape, regime, w, x)
        x = self._residual(tape, attended, w.proj, x)
        del attended
        if w.cross is not None and source is not None:
            attended = self._crossing(tape, regime, w.cross, x, source)
            x = self._residual(tape, attended, w.cross.proj, x)
            del attended
        if w.experts is not None and self.routing is not None:
            return self._sparse(tape, w, w.experts, self.routing, x)
        return self._dense(tape, w, x)

    def _dense(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        """The MLP and what is added to its output; Transformer Engine's has the norm in front in it."""
        fc1, fc2 = w.fc1, w.fc2
        if fc1 is None or fc2 is None:
            raise KeyError("intermediate_size")

        def mlp(x: Tensor) -> tuple[Tensor]:
            if self.local:
                inner = megatron.column(tape, x, fc1, self.group)
            else:
                inner = megatron.norm_column(tape, x, w.mlp_norm, fc1, self.group)
            del x
            inner = megatron.activated(tape, inner, fc1.bias, gated=self.gated, fused=self.fuses_activation)
            return (megatron.row(tape, inner, fc2, self.group),)

        entering, dropped = self._normed(tape, x, w.mlp_norm) if self.local else (x, None)
        again = "mlp" in self.again
        (fed,) = checkpoint.reentrant(tape, mlp, (entering,), offload=False) if again else mlp(entering)
        del entering
        if dropped is not None:
            dropped.discard(fed)
        return self._residual(tape, fed, fc2, x)

    def _sparse(self, tape: Tape, w: Layer, experts: Experts, routing: Routing, x: Tensor) -> Tensor:
        """The experts and what is added to their output."""
        normed, dropped = self._normed(tape, x, w.mlp_norm)

        def moe(y: Tensor) -> tuple[Tensor]:
            return (self._routed(tape, experts, routing, y),)

        out = checkpoint.reentrant(tape, moe, (normed,), offload=False)[0] if "moe" in self.again else moe(normed)[0]
        del normed
        if dropped is not None:
            dropped.discard(out)
        return megatron.bias_dropout_add(tape, out, None, x, self.hidden_dropout, fused=self.fuses_dropout)

    def _normed(self, tape: Tape, x: Tensor, norm: tuple[Parameter, ...]) -> tuple[Tensor, Dropped | None]:
        """A norm that stands alone, and the checkpoint that drops its output."""
        if "layernorm" not in self.again:
            return megatron.norm(tape, x, norm), None
        dropped = Dropped(tape, lambda y: (megatron.norm(tape, y, norm),), (x,))
        return dropped.outputs[0], dropped

    def _routed(self, tape: Tape, experts: Experts, routing: Routing, normed: Tensor) -> Tensor:
        """MoELayer.forward: the experts, and the shared one beside them."""
        beside = self._shared(tape, experts, normed)
        probabilities = megatron_experts.routed(tape, normed, experts.router, routing)
        tokens = megatron_experts.dispatched(tape, normed, probabilities, routing)
        wide = 2 if self.gated else 1
        inner = megatron_experts.product(tape, tokens, experts.fc1, wide * self.expert_inner, routing)
        del tokens

        def activated(y: Tensor) -> tuple[Tensor]:
            return (megatron_experts.activated(tape, y, gated=self.gated, wide=routing.wide),)

        dropped = Dropped(tape, activated, (inner,)) if "moe_act" in self.again else None
        active = dropped.outputs[0] if dropped is not None else activated(inner)[0]
        del inner
        made = megatron_experts.product(tape, active, experts.fc2, self.hidden, routing)
        del active
        if dropped is not None:
            dropped.discard(made)
        out = megatron_experts.combined(tape, made, normed, routing)
        del made
        return out if beside is None else e.add(tape, out, beside)

    def _shared(self, tape: Tape, experts: Experts, normed: Tensor) -> Tensor | None:
        """The expert that every token passes, which runs before the others."""
        fc1, fc2 = experts.shared_fc1, experts.shared_fc2
        if fc1 is None or fc2 is None:
            return None

        def shared(x: Tensor) -> tuple[Tensor]:
            inner = megatron.column(tape, x, fc1, self.group)
            inner = megatron.activated(tape, inner, None, gated=self.gated, fused=True)
            return (megatron.row(tape, inner, fc2, self.group),)

        again = "shared_experts" in self.again
        return checkpoint.reentrant(tape, shared, (normed,), offload=False)[0] if again else shared(normed)[0]

    def _residual(self, tape: Tape, x: Tensor, weights: Weights, residual: Tensor) -> Tensor:
        return megatron.bias_dropout_add(tape, x, weights.bias, residual, self.hidden_dropout, fused=self.fuses_dropout)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        if w.latent is not None and self.latent is not None:
            return self._latent_attention(tape, regime, w, w.latent, self.latent, x)
        if w.qkv is None:
            raise KeyError("num_attention_heads")
        dropped = None
        if self.local:
            normed, dropped = self._normed(tape, x, w.input_norm)
            fused = megatron.column(tape, normed, w.qkv, self.group)
            del normed
        else:
            fused = megatron.norm_column(tape, x, w.input_norm, w.qkv, self.group)
        if w.qkv.bias is not None:
            fused.view = True
        plain = not (self.rotary or self.normed or self.heads != self.groups)
        fast = regime.implementation != "eager"
        widths = [heads * self.size for heads in (self.heads, self.groups, self.groups)]
        q, k, v = megatron.split_heads(tape, fused, widths, self.size, joint=fast and plain)
        del fused
        if self.normed:
            q, k = megatron.norm(tape, q, w.q_norm), megatron.norm(tape, k, w.k_norm)
        if self.rotary:
            q, k = e.linear_unary(tape, "rotary", q), e.linear_unary(tape, "rotary", k)
        context = self._core(tape, regime, q, k, v, joint=plain)
        del q, k, v
        out = megatron.row(tape, context, w.proj, self.group)
        if dropped is not None:
            dropped.discard(out)
        return out

    def _latent_attention(
        self, tape: Tape, regime: Regime, w: Layer, weights: LatentWeights, latent: LatentAttention, x: Tensor
    ) -> Tensor:
        normed, dropped = self._normed(tape, x, w.input_norm)
        narrow = latent.narrowed(tape, normed, weights)
        del normed

        def up(*parts: Tensor) -> tuple[Tensor, ...]:
            return latent.widened(tape, parts, weights)

        heads = Dropped(tape, up, narrow) if "mla_up_proj" in self.again else None
        q, k, v = heads.outputs if heads is not None else up(*narrow)
        del narrow
        context = self._core(tape, regime, q, k, v, joint=False)
        del q, k, v
        if heads is not None:
            heads.discard(context)
        out = megatron.row(tape, context, w.proj, self.group)
        if dropped is not None:
            dropped.discard(out)
        return out

    def _crossing(self, tape: Tape, regime: Regime, w: Cross, x: Tensor, source: Tensor) -> Tensor:
        """CrossAttention.forward: queries of `x` [B, S, H], keys and values of `source` [B, T, H]."""
        normed = megatron.norm(tape, x, w.norm)
        width = self.heads * self.size
        pairs = megatron.column(tape, source, w.kv, self.group)
        k, v = megatron.split_heads(tape, pairs, (width, width), self.size, joint=False)
        del pairs
        queries = megatron.column(tape, normed, w.q, self.group)
        del normed
        (q,) = megatron.split_heads(tape, queries, (width,), self.size, joint=True)
        del queries
        context = self._core(tape, regime, q, k, v, joint=False)
        del q, k, v
        return megatron.row(tape, context, w.proj, self.group)

    def _core(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, *, joint: bool) -> Tensor:
        """Core attention of [B, heads, S, d], recomputed where the run recomputes it alone."""

        def core(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
            if regime.implementation != "eager":
                return (megatron.flash(tape, q, k, v, joint=joint),)
            widens = k.shape[2] > megatron.LARGEST_FUSED_SOFTMAX or self.widens_softmax
            dropped, fills = self.attention_dropout, self.fills_mask
            return (megatron.unfused_attention(tape, q, k, v, dropped, widens=widens, fills=fills),)

        if "core_attn" in self.again:
            return checkpoint.reentrant(tape, core, (q, k, v), offload=False)[0]
        return core(q, k, v)[0]


def _layers(config: Config) -> Sequence[Sequence[bool]]:
    """The layers of each chunk as the config says them, or one chunk of equal ones."""
    chunks = config.get("chunks")
    if isinstance(chunks, tuple):
        return [[bool(sparse) for sparse in chunk] for chunk in chunks]
    return [[bool(config.get("experts"))] * number(config, "num_hidden_layers")]


def _routing(config: Config, group: megatron.Group) -> Routing | None:
    """How the run routes tokens; None without experts."""
    experts = number(config, "experts", default=0)
    ranks = number(config, "expert_ranks", default=1)
    if not experts:
        return None
    return Routing(
        experts=experts,
        local=experts // ranks,
        chosen=number(config, "experts_per_token", default=2),
        ranks=ranks,
        tensor=group.ranks,
        expert_tensor=number(config, "expert_tensor_ranks", default=1),
        dispatcher=str(config.get("dispatcher") or megatron_experts.ALL_GATHER),
        grouped=bool(config.get("grouped_experts")),
        wide=config.get("router_dtype") in ("fp32", "fp64"),
        fused_gradients=group.fused_gradients,
    )
