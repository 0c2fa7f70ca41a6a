"""Models whose layers run through Unsloth's own forward: unsloth 2026.8 models/{llama,mistral,qwen2,qwen3,gemma}.py."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace

from vramlint.catalog.unsloth import FAST
from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config, LayerNorm, Network
from vramlint.memory.architectures.feed_forward import GatedMlp
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.ops import attention, liger, unsloth
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

LEAST_OFFLOADED = 2 << 20
"""Hidden states of fewer bytes stay on the device (unsloth_zoo gradient_checkpointing.py, MINIMUM_SIZE)."""
TABLES_SHARED_FROM = (4, 48)
"""Before this version of transformers every attention layer had rotary tables of its own."""
TABLES_GROW_FROM = (4, 43)
"""Since about this version of transformers (Unsloth of July 2024) tables of each layer begin with so many positions."""
FIRST_POSITIONS = 4 * 8192


def patched(family: type[Network], model_type: str, usable: int) -> type[Network]:
    """The family with Unsloth's layers.

    Args:
        family: of the model.
        model_type: of the model.
        usable: bytes of the card that torch sees, 0 where it is not known.

    Raises:
        NotFollowedError: Unsloth's forward of such a model is not followed.
    """
    if model_type not in FAST or not issubclass(family, Llama):
        raise NotFollowedError(f"Unsloth's {model_type}")
    return type(f"Unsloth{family.__name__}", (UnslothLlama, family), {"usable": usable})


class UnslothLlama(Llama):
    """A relative of llama with Unsloth's norms, rotations and products."""

    usable: ClassVar[int] = 0

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        # tables for short and for long texts are apart in models that tell them by these positions
        longest = config.get("original_max_position_embeddings") or config.get("max_position_embeddings")
        positions = longest if isinstance(longest, int) else 2048
        shared = build.transformers >= TABLES_SHARED_FROM
        if not shared and build.transformers >= TABLES_GROW_FROM:
            positions = min(positions, FIRST_POSITIONS)
        own = build.transformers < llama.ROTARY_TABLES_UNTIL.get(self.model_type, llama.LLAMA_TABLES_UNTIL)
        for _ in () if own else ("cos", "sin"):
            build.buffer(build.width * positions * self.rotated_size * (1 if shared else self.count))
        for nbytes in unsloth.shared_buffers([w for layer in self.layers for w in _linears(layer)], build.width):
            build.buffer(nbytes)
        held = sum(p.multiplicity * sum(p.stored_tensors) for p in build.inventory.parameters)
        self.free = max(1, self.usable - held) if self.usable else 0

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """LlamaModel_fast_forward: masks of padding are dropped in training."""
        checkpointing = regime.checkpointing
        if embedded.nbytes <= LEAST_OFFLOADED:
            checkpointing = replace(checkpointing, offload=False)
        return super().hidden_states(tape, replace(regime, padding=False, checkpointing=checkpointing), embedded)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """Fast_RMS_Layernorm: Gemma's does not write its gradient over the one that it gets."""
        if isinstance(norm, LayerNorm):
            return super().normalise(tape, x, norm)
        return liger.rms_norm(tape, x, norm, in_place=self.model_type != "gemma")

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """Fast_RoPE_Embedding_QK: heads come transposed, so they are copied."""
        return liger.rotate(tape, q, k, position, copies=True)

    def _attention(
        self,
        tape: Tape,
        regime: Regime,
        w: llama.Layer,
        hidden: Tensor,
        position: Rotary | None,
        mask: Tensor | None,
    ) -> Tensor:
        """LlamaAttention_fast_forward."""
        if not unsloth.is_fast(w.q, w.k, w.v):
            q = self._projected(tape, hidden, w.q, w.q_norm, self.heads)
            k = self._projected(tape, hidden, w.k, w.k_norm, self.kv_heads)
            v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        else:
            q, k, v = unsloth.products(tape, hidden, (w.q, w.k, w.v), overwrites=True)
            q = self._by_head(tape, q, w.q_norm, self.heads)
            k = self._by_head(tape, k, w.k_norm, self.kv_heads)
            v = self._by_head(tape, v, None, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        merged = self._attend(tape, regime, q, k, v, mask)
        if unsloth.is_fast(w.o):
            return unsloth.products(tape, merged, (w.o,), overwrites=False)[0]
        return linear(tape, merged, w.o)

    def _by_head(self, tape: Tape, x: Tensor, norm: Norm | None, heads: int) -> Tensor:
        if norm is not None:
            by_head = x.as_shape((*x.shape[:-1], heads, self.head_size))
            x = self.normalise(tape, by_head, norm).as_shape(x.shape)
        return attention.split_heads(tape, x, heads)

    def feed_forward(self, tape: Tape, w: llama.Layer, x: Tensor) -> Tensor:
        """apply_lora_mlp_swiglu and its relatives; without adapters a kernel for the product of both parts alone."""
        mlp = w.mlp
        if isinstance(mlp, GatedMlp) and unsloth.is_fast(mlp.gate, mlp.up, mlp.down):
            return unsloth.gated_mlp(tape, x, mlp.gate, mlp.up, mlp.down)
        return super().feed_forward(tape, w, x)


def _linears(layer: llama.Layer) -> tuple[Weights, ...]:
    mlp = layer.mlp
    inner = (mlp.gate, mlp.up, mlp.down) if isinstance(mlp, GatedMlp) else ()
    return (layer.q, layer.k, layer.v, layer.o, *inner)
