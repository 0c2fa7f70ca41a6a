"""Decoders in which the MLP of all or of some layers is a choice of experts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.family import Config, Outputs, number
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.layer_kinds import Kind
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.conversion import convert_targets
from vramlint.memory.lifetimes import Kept
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.balancing import balancing_loss, balancing_loss_at_once
from vramlint.memory.ops.expert_forms import BatchedExperts, EagerExperts, RepeatingExperts
from vramlint.memory.ops.expert_loops import LoopedExperts
from vramlint.memory.ops.experts import Experts, FusedExperts, gated
from vramlint.memory.ops.jitter import jittered
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.merged import Target
from vramlint.memory.ops.routing import Router
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

FUSED_FROM = (5, 0)
"""Since then the experts of a layer are two tensors; before it every expert was a module of linear layers."""
GATHERED_ONCE_FROM = (5, 5)
"""Since then tokens are put in order at once; before it they were repeated first."""
LOWERED_FROM = (5, 6)
"""Since then routers have a name for probabilities besides logits, whose dtype the weights get."""
FORMS: Mapping[str, type[FusedExperts]] = MappingProxyType(
    {"grouped_mm": FusedExperts, "eager": EagerExperts, "batched_mm": BatchedExperts}
)
"""What computes fused experts, by `experts_implementation`."""
Record = Callable[[Tape, Tensor], None]
"""Takes a router's logits."""


class Block(Struct):
    """…SparseMoeBlock: route every token, run the experts, add up."""

    router: Router
    experts: Experts
    record: Record
    jitters: bool = False

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""
        if self.jitters:
            x = jittered(tape, x)
        flat = x.as_shape((x.numel // x.shape[-1], x.shape[-1]))
        logits, scores, indices = self.router(tape, flat)
        self.record(tape, logits)
        out = self.experts(tape, flat, scores, indices).as_shape(x.shape)
        del logits
        return out


class JoinedBlock(Struct):
    """…MoE with an MLP that every token takes, before the others."""

    router: Router
    experts: Experts
    shared: GatedMlp | None
    record: Record

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""
        shared = None if self.shared is None else self.shared(tape, x)
        flat = x.as_shape((x.numel // x.shape[-1], x.shape[-1]))
        logits, scores, indices = self.router(tape, flat)
        self.record(tape, logits)
        out = self.experts(tape, flat, scores, indices).as_shape(x.shape)
        if shared is not None:
            out = e.add(tape, out, shared)
        del logits
        return out


class Mixture(Llama):
    """A llama with experts. What a class sets below is how its model names and counts them."""

    module: ClassVar[str] = "mlp"
    """Name of a layer's block before the experts were fused."""
    fused_module: ClassVar[str] = "mlp"
    """Its name since."""
    parts: ClassVar[tuple[str, str, str]] = ("gate_proj", "up_proj", "down_proj")
    """Names of an expert's gate, up and down then."""
    counts: ClassVar[tuple[str, ...]] = ("num_experts", "num_local_experts", "n_routed_experts")
    """Keys of the config that may hold the number of experts."""
    converts_targets: ClassVar[bool] = True
    """Whether PEFT finds the experts in transformers 5 under their old names."""
    has_biases: ClassVar[bool] = False
    """Whether MLPs, but no fused experts, have biases if `mlp_bias` says so."""
    balances: ClassVar[bool] = True
    """Whether `output_router_logits` adds a loss that balances the experts."""
    names_logits: ClassVar[bool] = True
    """Whether, before the experts were fused, a layer had its router's logits named until it returned."""
    returns_logits: ClassVar[bool] = False
    """Whether, before the experts were fused, layers returned their router's logits; others' were picked up."""

    adds_shared: ClassVar[bool] = False
    """Whether the block adds a shared expert's output in the forward that looped over the others."""

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        self.experts = number(config, *self.counts)
        self.chosen = number(config, "num_experts_per_tok")
        self.fused = build.transformers >= FUSED_FROM
        self.fused_form = self._form(config, build.transformers)
        self.lowers = "input" if not self.fused else "logits" if build.transformers >= LOWERED_FROM else ""
        if self.fused and self.converts_targets:
            gate, up, down = self.parts
            convert_targets(build, {"gate.weight": ("gate",), "gate_up_proj": (gate, up), "down_proj": (down,)})
        asked = bool(config.get("output_router_logits", False)) and (self.fused or self.balances)
        self.keeps_logits = asked and self.predicts_next
        if self.keeps_logits and self.returns_logits and not self.fused and build.reentrant:
            raise NotFollowedError("a router loss under reentrant checkpointing")
        self.recorded: list[Kept] = []
        """Logits of the routers in the forward that runs."""
        self.recording = False
        self.last: Tensor | None = None
        """The last hidden state, which the model's outputs refer to."""
        self.biases = self.has_biases and bool(config.get("mlp_bias", False))
        super().__init__(build, {**config, "mlp_bias": self.biases})

    def _form(self, config: Config, version: tuple[int, ...]) -> type[FusedExperts]:
        implementation = str(config.get("experts_implementation") or "grouped_mm")
        if self.fused and implementation not in FORMS:
            raise NotFollowedError(f"the experts implementation {implementation}")
        form = FORMS.get(implementation, FusedExperts)
        return RepeatingExperts if form is FusedExperts and version < GATHERED_ONCE_FROM else form

    def is_sparse(self, config: Config, position: int) -> bool:
        """Whether the layer of that number has experts."""
        return True

    def _kinds(self, config: Config) -> Sequence[Kind]:
        kinds = super()._kinds(config)
        return tuple([kind._replace(sparse=self.is_sparse(config, at)) for at, kind in enumerate(kinds)])

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        if not self.kinds[int(name.split(".")[2])].sparse:
            return super()._mlp(build, config, name)
        module = self.fused_module if self.fused else self.module
        return self.block(build, config, f"{name.removesuffix('mlp')}{module}")

    def record(self, tape: Tape, logits: Tensor) -> None:
        """Keep a router's logits where the model returns them; a layer that runs again is not asked."""
        if self.names_logits and not self.fused:
            tape.held.append(logits)
        if self.recording:
            tape.lifetimes.keep(logits)
            self.recorded.append(tape.lifetimes.of(logits))

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """The model's forward, which collects the routers' logits if asked to."""
        self.recording = self.keeps_logits
        hidden = super().hidden_states(tape, regime, embedded)
        self.recording = False
        self.last = hidden if self.recorded else None
        return hidden

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """…ForCausalLM.forward, with the loss that balances experts if routers' logits are asked for."""
        outputs = super().outputs(tape, regime, batch)
        if self.recorded and self.balances:
            loss = self.balance(tape, batch.get("attention_mask"))
            outputs.loss = e.add_in_place(tape, outputs.loss, e.linear_unary(tape, "mul", loss))
        self.recorded, self.last = [], None
        return outputs

    def balance(self, tape: Tape, mask: Tensor | None) -> Tensor:
        """load_balancing_loss_func."""
        if self.fused:
            return balancing_loss(tape, self.recorded, self.chosen, mask)
        logits = [kept.tensor for kept in self.recorded]
        layers = sum(kind.sparse for kind in self.kinds)
        return balancing_loss_at_once(tape, logits, layers, self.chosen, mask)

    @abstractmethod
    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """The experts of a layer with what is around them, built under `name`."""

    def expert_width(self, config: Config) -> int:
        """Width of an expert."""
        return number(config, "moe_intermediate_size")

    def build_experts(self, build: Builder, name: str, width: int) -> Experts:
        """Build `name.experts`: two tensors, or a module for each."""
        if self.fused:
            return self.fused_form(
                build.target(f"{name}.experts.gate_up_proj", (self.experts, 2 * width, self.hidden)),
                build.target(f"{name}.experts.down_proj", (self.experts, self.hidden, width)),
                gated(self.activation),
            )
        return self.looped([self._expert(build, f"{name}.experts.{at}", width) for at in range(self.experts)])

    def looped(self, experts: list[GatedMlp]) -> Experts:
        """The loop over them."""
        return LoopedExperts(experts, lingers=self.adds_shared)

    def _expert(self, build: Builder, name: str, width: int) -> GatedMlp:
        gate, up, down = self.parts
        return GatedMlp(
            gate=build.linear(f"{name}.{gate}", self.hidden, width, bias=self.biases),
            up=build.linear(f"{name}.{up}", self.hidden, width, bias=self.biases),
            down=build.linear(f"{name}.{down}", width, self.hidden, bias=self.biases),
            activation=self.activation,
        )

    def gate(self, build: Builder, name: str) -> Weights | Target:
        """The router's weight, a linear layer before the experts were fused."""
        if self.fused:
            return build.target(f"{name}.gate.weight", (self.experts, self.hidden))
        return build.linear(f"{name}.gate", self.hidden, self.experts)
