"""Megatron-Core's GPTModel on one rank (NVIDIA/Megatron-LM@d98e8a6 megatron/core/models/gpt, core/transformer).

The config is that of a rank: heads, widths and vocabulary are divided by the tensor-parallel ranks, the layers are one
stage's. Layers are made of Transformer Engine's modules or of Megatron's own (`implementation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory import checkpoint
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, Outputs, number, probability
from vramlint.memory.leaves import capture
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import megatron, megatron_experts
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.megatron_experts import Routing
from vramlint.memory.ops.softmax import mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

LOCAL = "local"
"""Megatron's own modules, by `implementation`."""


@dataclass(slots=True)
class Layer:
    """Weights of one TransformerLayer; norms are weight and, with LayerNorm, bias."""

    input_norm: tuple[Parameter, ...]
    qkv: Weights
    q_norm: tuple[Parameter, ...]
    k_norm: tuple[Parameter, ...]
    proj: Weights
    mlp_norm: tuple[Parameter, ...]
    fc1: Weights | None
    fc2: Weights | None
    experts: Experts | None


@dataclass(slots=True)
class Experts:
    """Weights of a layer's experts on this rank: each matrix that of all of them, one below the other."""

    router: Parameter
    fc1: Parameter
    fc2: Parameter
    shared_fc1: Weights | None
    shared_fc2: Weights | None


class GPTModel(CausalLM):
    """One rank's part of megatron.core.models.gpt.GPTModel."""

    widens_logits: ClassVar[bool] = False
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.groups = number(config, "num_key_value_heads", default=self.heads)
        self.size = number(config, "head_dim")
        self.inner = number(config, "intermediate_size")
        self.expert_inner = number(config, "expert_intermediate_size", default=0)
        self.shared_inner = number(config, "shared_expert_intermediate_size", default=0)
        self.vocabulary = number(config, "vocab_size")
        self.count = number(config, "num_hidden_layers")
        """Layers of a model chunk."""
        self.chunks = number(config, "chunks", default=1)
        self.gated, self.biased = bool(config.get("gated")), bool(config.get("bias", True))
        self.qkv_biased = bool(config.get("qkv_bias", self.biased))
        self.rotary, self.normed = bool(config.get("rotary")), bool(config.get("qk_norm"))
        self.norm_biased = config.get("normalization") != "RMSNorm"
        self.local = config.get("implementation") == LOCAL
        self.hidden_dropout = probability(config, "hidden_dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout", default=0.1)
        self.fuses_dropout = bool(config.get("bias_dropout_fusion", True))
        self.fuses_activation = bool(config.get("bias_activation_fusion", True))
        self.fuses_loss = bool(config.get("fused_loss"))
        self.first, self.last = bool(config.get("first", True)), bool(config.get("last", True))
        self.group = megatron.Group(
            number(config, "tensor_ranks", default=1),
            sequence=bool(config.get("sequence")),
            fused_gradients=bool(config.get("fused_gradients", True)),
        )
        self.dtype = build.dtype
        self.masked = bool(config.get("attention_mask"))
        self.keys = number(config, "keys", default=0)
        """Columns of the attention mask: the whole sequence, where ranks share it."""
        self.routing = _routing(config, self.group)
        self.recompute = str(config.get("recompute", "none"))
        self.every = number(config, "recompute_every", default=1)
        """Layers that are recomputed together."""
        self.recomputed = number(config, "recompute_first", default=self.count)
        """How many of the layers are recomputed, from the first on."""
        tied = bool(config.get("tie_word_embeddings", True))
        limit = number(config, "max_position_embeddings", default=0)
        if self.first or (self.last and tied):
            self.embedding = build.parameter("embedding.word_embeddings.weight", (self.vocabulary, self.hidden))
        learned = self.first and not self.rotary and bool(config.get("learned_positions", True))
        shape = (limit, self.hidden)
        self.positions = build.parameter("embedding.position_embeddings.weight", shape) if learned else None
        self.layers: list[list[Layer]] = []
        for chunk in range(self.chunks):
            made = [
                [self._layer(build, f"decoder.layers.{position}") for _ in range(self.every)]
                for position in build.layers(self._kinds(), stack=chunk)
            ]
            self.layers = self.layers or made
        self.final_norm = self._norm(build, "decoder.final_layernorm") if self.last else ()
        if self.last:
            shared = self.embedding if tied else None
            self.head = build.linear("output_layer", self.hidden, self.vocabulary, head=True, tied_to=shared)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """What the stages at the ends of the pipeline load: masks are made by the data loader, unless told not to."""
        tokens = (batch.micro_batch_size, batch.sequence_length)
        if not (self.first or self.last):
            return {"input_ids": (tokens, "int64")}
        whole: dict[str, tuple[Shape, str]] = {
            "input_ids": (tokens, "int64"),
            "labels": (tokens, "int64"),
            "position_ids": (tokens, "int64"),
        }
        whole["loss_mask"] = (tokens, "float32")
        if self.masked:
            whole["attention_mask"] = ((batch.micro_batch_size, 1, batch.sequence_length, self.keys), "bool")
        return whole

    @property
    def begins(self) -> bool:
        """Whether the chunk that runs is the model's first; of several chunks the embedding's keeps little more."""
        return self.first and (self.chunks == 1 or self.final)

    @property
    def ends(self) -> bool:
        """Whether the chunk that runs is the model's last."""
        return self.last and (self.chunks == 1 or self.final)

    def _kinds(self) -> list[bool]:
        """For every group of layers whether it is recomputed."""
        return [number * self.every < self.recomputed for number in range(self.count // self.every)]

    def _norm(self, build: Builder, name: str, width: int = 0) -> tuple[Parameter, ...]:
        parts = ("weight", "bias") if self.norm_biased else ("weight",)
        return tuple([build.norm(f"{name}.{part}", width or self.hidden) for part in parts])

    def _layer(self, build: Builder, name: str) -> Layer:
        queries, keys = self.heads * self.size, self.groups * self.size
        inner, attention = (2 if self.gated else 1) * self.inner, f"{name}.self_attention"
        routing = self.routing
        return Layer(
            input_norm=self._norm(build, f"{attention}.linear_qkv.layer_norm"),
            qkv=build.linear(f"{attention}.linear_qkv", self.hidden, queries + 2 * keys, bias=self.qkv_biased),
            q_norm=self._norm(build, f"{attention}.q_layernorm", self.size) if self.normed else (),
            k_norm=self._norm(build, f"{attention}.k_layernorm", self.size) if self.normed else (),
            proj=build.linear(f"{attention}.linear_proj", queries, self.hidden, bias=self.biased),
            mlp_norm=self._norm(build, f"{name}.mlp.linear_fc1.layer_norm"),
            fc1=None if routing else build.linear(f"{name}.mlp.linear_fc1", self.hidden, inner, bias=self.biased),
            fc2=None if routing else build.linear(f"{name}.mlp.linear_fc2", self.inner, self.hidden, bias=self.biased),
            experts=self._experts(build, routing, f"{name}.mlp") if routing else None,
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

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """LanguageModelEmbedding.forward on the first stage; elsewhere what the stage before has sent."""
        if not self.begins:
            shape = (tokens.shape[0], tokens.shape[1] // self.group.gathers, self.hidden)
            received = tape.empty(shape, self.dtype, "received")
            capture(tape, received, [])
            return received
        words = embedding(tape, tokens, self.embedding)
        if self.group.ranks > 1:
            tape.scratch((tokens.numel, tokens.nbytes), "masked input")
        if self.positions is not None:
            order = tape.empty(tokens.shape, "int64", "position ids")
            words = e.add(tape, words, embedding(tape, order, self.positions))
        shape = (words.shape[0], words.shape[1] // self.group.gathers, self.hidden)
        turned = tape.apply("contiguous", (words,), shape, words.dtype, _grown)
        return e.dropout(tape, turned, self.hidden_dropout)

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """TransformerBlock.forward over one model chunk, with the last norm on the last stage."""
        entering = [embedded]
        del embedded

        def layers(x: Tensor, index: int) -> Tensor:
            for weights in self.layers[index]:
                x = self._forward(tape, regime, weights, x)
            return x

        def group(x: Tensor, index: int) -> Tensor:
            if self.recompute != "full" or not kinds[index]:
                return layers(x, index)
            return checkpoint.reentrant(tape, lambda y: (layers(y, index),), (x,), offload=False)[0]

        kinds = self._kinds()
        hidden = tape.course.repeat(kinds, group, entering.pop())
        return megatron.norm(tape, hidden, self.final_norm) if self.ends else hidden

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """GPTModel.forward: the loss of every token on the last stage, hidden states elsewhere."""
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        if not self.ends:
            sent = hidden.as_shape(hidden.shape)
            sent.storage = None  # deallocate_output_tensor (pipeline_parallel/schedules.py)
            return Outputs(sent, [], tape.lifetimes.taken_cache())
        logits = megatron.column(tape, hidden, self.head, self.group)
        mark_logits(tape, logits)
        return Outputs(megatron.cross_entropy(tape, logits, fused=self.fuses_loss), [], tape.lifetimes.taken_cache())

    def _forward(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        attended = self._attention(tape, regime, w, x)
        x = self._residual(tape, attended, w.proj, x)
        del attended
        if w.experts is not None and self.routing is not None:
            return self._routed(tape, w, w.experts, self.routing, x)
        if w.fc1 is None or w.fc2 is None:
            raise KeyError("intermediate_size")
        inner = self._normed_column(tape, x, w.mlp_norm, w.fc1)
        inner = megatron.activated(tape, inner, w.fc1.bias, gated=self.gated, fused=self.fuses_activation)
        fed = megatron.row(tape, inner, w.fc2, self.group)
        del inner
        return self._residual(tape, fed, w.fc2, x)

    def _routed(self, tape: Tape, w: Layer, experts: Experts, routing: Routing, x: Tensor) -> Tensor:
        """MoELayer.forward: the experts, and the shared one beside them."""
        normed = megatron.norm(tape, x, w.mlp_norm)
        probabilities = megatron_experts.routed(tape, normed, experts.router, routing)
        tokens = megatron_experts.dispatched(tape, normed, probabilities, routing)
        wide = 2 if self.gated else 1
        inner = megatron_experts.product(tape, tokens, experts.fc1, wide * self.expert_inner, routing)
        del tokens
        inner = megatron_experts.activated(tape, inner, gated=self.gated, wide=routing.wide)
        made = megatron_experts.product(tape, inner, experts.fc2, self.hidden, routing)
        del inner
        out = megatron_experts.combined(tape, made, normed, routing)
        del made
        if experts.shared_fc1 is not None and experts.shared_fc2 is not None:
            beside = megatron.column(tape, normed, experts.shared_fc1, self.group)
            beside = megatron.activated(tape, beside, None, gated=self.gated, fused=True)
            out = e.add(tape, out, megatron.row(tape, beside, experts.shared_fc2, self.group))
            del beside
        return megatron.bias_dropout_add(tape, out, None, x, self.hidden_dropout, fused=self.fuses_dropout)

    def _residual(self, tape: Tape, x: Tensor, weights: Weights, residual: Tensor) -> Tensor:
        return megatron.bias_dropout_add(tape, x, weights.bias, residual, self.hidden_dropout, fused=self.fuses_dropout)

    def _normed_column(self, tape: Tape, x: Tensor, norm: tuple[Parameter, ...], weights: Weights) -> Tensor:
        if not self.local:
            return megatron.norm_column(tape, x, norm, weights, self.group)
        return megatron.column(tape, megatron.norm(tape, x, norm), weights, self.group)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        fused = self._normed_column(tape, x, w.input_norm, w.qkv)
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

        def core(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
            if fast:
                return (megatron.flash(tape, q, k, v, joint=plain),)
            long = q.shape[2] > megatron.LARGEST_FUSED_SOFTMAX
            return (megatron.unfused_attention(tape, q, k, v, self.attention_dropout, widens=long),)

        if self.recompute == "selective":
            context = checkpoint.reentrant(tape, core, (q, k, v), offload=False)[0]
        else:
            context = core(q, k, v)[0]
        del q, k, v
        return megatron.row(tape, context, w.proj, self.group)


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


def _grown(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradient of a part of the sequence put together to the whole."""
    edge = node.edges[0]
    (gradient,) = gradients
    if gradient is None or edge is None:
        return (None,)
    return (tape.empty(edge[2], gradient.dtype, "contiguous backward"),)
