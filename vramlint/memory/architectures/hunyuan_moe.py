"""HunYuan MoE: the dense model's attention, experts and a shared MLP (transformers 5.23 models/hunyuan_v1_moe)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.hunyuan import HunYuanDense
from vramlint.memory.architectures.mixture import JoinedBlock, Mixture
from vramlint.memory.ops.routing import SoftmaxRouter
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.weights import Builder


class HunYuanMoE(Mixture, HunYuanDense):
    """HunYuanMoEV1ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        **HunYuanDense.defaults,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_experts": 1,
        "moe_topk": 1,
    }
    adds_shared: ClassVar[bool] = True
    balances: ClassVar[bool] = False
    names_logits: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        chosen = _equal(config, "moe_topk") if "num_experts_per_tok" not in config else config["num_experts_per_tok"]
        super().__init__(build, {**config, "num_experts": _equal(config, "num_experts"), "num_experts_per_tok": chosen})

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """HunYuanMoEV1Moe. The router's weight is kept in float32, and tokens are made so for it."""
        gate = build.linear(f"{name}.gate.wg", self.hidden, self.experts, wide=True)
        wide = gate.packed is None
        router = SoftmaxRouter(gate, self.chosen, True, "logits" if self.fused else "input", widens_input=wide)
        width = number(config, "intermediate_size")
        experts = self.build_experts(build, name, width)
        shared = GatedMlp.of(build, f"{name}.shared_mlp", self.hidden, width, self.activation, bias=False)
        return JoinedBlock(router, experts, shared, self.record)


def _equal(config: Config, key: str) -> object:
    """A number that may be given for every layer.

    Raises:
        NotFollowedError: it differs from layer to layer.
    """
    value = config[key]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    if len(set(value)) != 1:
        raise NotFollowedError(f"{key} that differs from layer to layer")
    return value[0]
