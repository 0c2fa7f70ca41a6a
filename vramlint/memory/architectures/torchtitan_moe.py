"""torchtitan's decoders with experts: Llama 4 and Qwen3-MoE (torchtitan 0.2 models/{llama4,qwen3}/model/model.py)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgspec import Struct

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.torchtitan import Transformer
from vramlint.memory.architectures.torchtune import Attention
from vramlint.memory.ops import dtensor
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.titan_experts import EXCHANGED, KEPT_EXCHANGE, Exchange, Mixture, Routing, mixture
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

ROUTING_BUFFERS = 2
"""Floats that a layer has for every expert: its bias, and a count of its tokens."""


class SparseLayer(Struct):
    """A layer with experts in place of its feed-forward."""

    attention: Attention
    moe: Mixture
    sa_norm: Parameter
    mlp_norm: Parameter


class MixtureTransformer(Transformer):
    """torchtitan.models.llama4.Transformer, torchtitan.models.qwen3.Qwen3Model with experts."""

    def __init__(self, build: Builder, config: Config) -> None:
        self.experts = number(config, "num_experts")
        self.routing = Routing(
            chosen=number(config, "num_experts_per_tok"),
            score=str(config.get("scoring_func", "softmax")),
            normalises=bool(config.get("norm_topk_prob")),
            first=bool(config.get("scores_first")),
            balances=bool(config.get("balances_experts", True)),
            limited=bool(config.get("n_group")),
        )
        self.exchange = Exchange(
            ranks=number(config, "expert_ranks", default=1),
            tensor=number(config, "tensor_ranks", default=1),
            divided=bool(config.get("divides_tokens")),
            operator=KEPT_EXCHANGE if config.get("keeps_exchanges") else EXCHANGED,
        )
        self.width = number(config, "moe_intermediate_size")
        self.shared_width = number(config, "shared_expert_intermediate_size", default=0)
        self.experts_share = (number(config, "expert_shards", default=0), number(config, "expert_shard_dim", default=0))
        self.sparse = _sparse_layers(config)
        """Of each chunk's layers, which have experts."""
        super().__init__(build, config)

    def kinds(self, chunk: int) -> Sequence[Hashable]:
        """Of a chunk's layers: whether they have experts."""
        return self.sparse[chunk]

    def _layer_of(self, build: Builder, chunk: int, position: int) -> object:
        if not self.sparse[chunk][position]:
            return super()._layer_of(build, chunk, position)
        name = f"layers.{chunk}.{position}"
        return SparseLayer(
            self._attention_of(build, name),
            self._mixture(build, f"{name}.moe"),
            build.norm(f"{name}.sa_norm.scale", self.hidden),
            build.norm(f"{name}.mlp_norm.scale", self.hidden),
        )

    def _mixture(self, build: Builder, name: str) -> Mixture:
        local, hidden = self.experts // self.exchange.ranks, self.hidden
        build.buffer(4 * ROUTING_BUFFERS * self.experts)
        shapes = {
            "w1": (local, self.width, hidden),
            "w2": (local, hidden, self.width),
            "w3": (local, self.width, hidden),
        }
        weights = {key: build.parameter(f"{name}.experts.{key}", shape) for key, shape in shapes.items()}
        for weight in weights.values():
            if self.experts_share[0]:
                weight.shared_by = self.experts_share
        gate = build.linear(f"{name}.router.gate", hidden, self.experts)
        shared = None
        if self.shared_width:
            shared = (
                build.linear(f"{name}.shared_experts.w1", hidden, self.shared_width),
                build.linear(f"{name}.shared_experts.w2", self.shared_width, hidden),
                build.linear(f"{name}.shared_experts.w3", hidden, self.shared_width),
            )
        return Mixture(gate, weights["w1"], weights["w2"], weights["w3"], shared)

    def forward(self, tape: Tape, regime: Regime, layer: object, x: Tensor) -> Tensor:
        """TransformerBlock.forward."""
        if not isinstance(layer, SparseLayer):
            return super().forward(tape, regime, layer, x)
        h = self._column_input(tape, self._normalise(tape, x, layer.sa_norm))
        h = e.add(tape, x, self._attention(tape, regime, layer.attention, h))
        return e.add(tape, h, self._experts(tape, layer, h))

    def _experts(self, tape: Tape, layer: SparseLayer, h: Tensor) -> Tensor:
        """Under tensor parallelism the whole sequence on every rank, whose results are added up."""
        x = dtensor.gathered(tape, self._normalise(tape, h, layer.mlp_norm), self.ranks, partial=False)
        return dtensor.scattered(tape, mixture(tape, x, layer.moe, self.routing, self.exchange), self.ranks)


def _sparse_layers(config: Config) -> Sequence[Sequence[bool]]:
    given = config.get("sparse_layers")
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [tuple(bool(one) for one in chunk) for chunk in given]
    return [tuple(has_experts(config, layer) for layer in range(number(config, "num_hidden_layers")))]


def has_experts(config: Config, layer: int) -> bool:
    """Whether the layer of that number has experts."""
    step, dense = (
        number(config, "interleave_moe_layer_step", default=1),
        number(config, "first_k_dense_replace", default=0),
    )
    return layer >= dense and (layer + 1) % step == 0
