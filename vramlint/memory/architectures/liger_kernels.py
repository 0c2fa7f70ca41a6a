"""Models whose norms, rotations and MLPs Liger's kernels compute (liger_kernel 0.8.5 transformers/monkey_patch.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.catalog.liger import CROSS_ENTROPY, FUSED_HEAD, GEGLU, PATCHES, RMS_NORM, ROPE, SWIGLU, LigerPatch
from vramlint.memory.architectures import llama, phi3
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import LayerNorm, Network
from vramlint.memory.architectures.feed_forward import FusedMlp, GatedMlp
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.architectures.mixture import Mixture
from vramlint.memory.architectures.phi3 import Phi3
from vramlint.memory.ops import liger
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor

LOSSES = frozenset({CROSS_ENTROPY, FUSED_HEAD})
"""Kernels that Objective.loss stands for."""
FOLLOWED = frozenset({ROPE, RMS_NORM, SWIGLU, GEGLU})
HEAD_NORMS = ("q_norm", "k_norm", "query_layernorm", "key_layernorm")


def patched(family: type[Network], model_type: str, kernels: Sequence[str]) -> type[Network]:
    """The family with `kernels` in place of its own operators.

    Raises:
        NotFollowedError: a kernel is not followed there.
    """
    wanted = frozenset(kernels) - LOSSES
    patch = PATCHES.get(model_type)
    if not wanted or patch is None or not issubclass(family, CausalLM):
        return family
    base = next((base for known, base in _PATCHED.items() if issubclass(family, known)), None)
    refused = sorted(wanted - FOLLOWED)
    if refused:
        raise NotFollowedError(f"Liger's {refused[0]}")
    if issubclass(family, Mixture) and SWIGLU in wanted:
        raise NotFollowedError("Liger's mixture of experts")
    if base is None:
        raise NotFollowedError(f"Liger in {model_type}")
    return type(f"Liger{family.__name__}", (base, family), {"kernels": wanted, "patch": patch})


class LigerLlama(Llama):
    """A relative of llama with Liger's kernels."""

    kernels: ClassVar[frozenset[str]] = frozenset()
    patch: ClassVar[LigerPatch] = LigerPatch()

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """LigerRMSNorm."""
        if isinstance(norm, LayerNorm) or not _patches(self.kernels, self.patch, norm):
            return super().normalise(tape, x, norm)
        in_place = self.patch.last_in_place if norm is self.norm else self.patch.in_place
        return liger.rms_norm(tape, x, norm, in_place=in_place)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """liger_rotary_pos_emb."""
        return liger.rotate(tape, q, k, position) if ROPE in self.kernels else super().rotate(tape, q, k, position)

    def feed_forward(self, tape: Tape, w: llama.Layer, x: Tensor) -> Tensor:
        """LigerSwiGLUMLP, LigerGEGLUMLP and LigerPhi3SwiGLUMLP."""
        mlp = w.mlp
        if not self.kernels & {SWIGLU, GEGLU}:
            return super().feed_forward(tape, w, x)
        if isinstance(mlp, GatedMlp):
            product = liger.gated_product(tape, linear(tape, x, mlp.gate), linear(tape, x, mlp.up))
            return linear(tape, product, mlp.down)
        if isinstance(mlp, FusedMlp):
            return linear(tape, liger.gated_halves(tape, linear(tape, x, mlp.gate_up)), mlp.down)
        return super().feed_forward(tape, w, x)


class LigerPhi3(Phi3):
    """Phi-3 with Liger's kernels."""

    kernels: ClassVar[frozenset[str]] = frozenset()
    patch: ClassVar[LigerPatch] = LigerPatch()

    def normalise(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        """LigerRMSNorm."""
        if RMS_NORM not in self.kernels:
            return super().normalise(tape, x, norm)
        return liger.rms_norm(tape, x, norm, in_place=self.patch.in_place)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """liger_rotary_pos_emb."""
        if ROPE not in self.kernels:
            return super().rotate(tape, q, k, position)
        return liger.rotate(tape, q, k, position, copies=True)

    def feed_forward(self, tape: Tape, w: phi3.Layer, x: Tensor) -> Tensor:
        """LigerPhi3SwiGLUMLP."""
        if SWIGLU not in self.kernels:
            return super().feed_forward(tape, w, x)
        return linear(tape, liger.gated_halves(tape, linear(tape, x, w.gate_up)), w.down)


def _patches(kernels: frozenset[str], patch: LigerPatch, norm: Parameter) -> bool:
    of_heads = any(f".{name}." in norm.name for name in HEAD_NORMS)
    return RMS_NORM in kernels and (patch.head_norms or not of_heads)


_PATCHED: dict[type[Network], type[Network]] = {Llama: LigerLlama, Phi3: LigerPhi3}
