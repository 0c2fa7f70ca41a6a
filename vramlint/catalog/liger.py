"""What Liger patches in which model (liger_kernel 0.8.5 transformers/monkey_patch.py)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

ROPE, RMS_NORM, SWIGLU, GEGLU = "rope", "rms_norm", "swiglu", "geglu"
CROSS_ENTROPY, FUSED_HEAD = "cross_entropy", "fused_linear_cross_entropy"
KERNELS = (ROPE, RMS_NORM, "layer_norm", SWIGLU, GEGLU, "relu_squared", CROSS_ENTROPY, FUSED_HEAD)
"""The options of `apply_liger_kernel_to_…` and of the Trainer's `liger_kernel_config`."""


class LigerPatch(Struct, frozen=True):
    """The kernels of one model type."""

    kernels: tuple[str, ...] = (ROPE, RMS_NORM, SWIGLU, FUSED_HEAD)
    """Those that `use_liger_kernel` and `apply_liger_kernel_to_…` without options put in place."""
    in_place: bool = True
    """A norm's backward overwrites the gradient that it gets."""
    last_in_place: bool = True
    """So does that of the norm behind the last layer."""
    head_norms: bool = False
    """The norms of queries and keys are patched, too."""


_GEGLU = (ROPE, RMS_NORM, GEGLU, FUSED_HEAD)
_NO_ROPE = (RMS_NORM, SWIGLU, FUSED_HEAD)
_OWN_EXPERTS = (ROPE, RMS_NORM, FUSED_HEAD)

PATCHES: Mapping[str, LigerPatch] = MappingProxyType(
    {
        "deepseek_v2": LigerPatch(_NO_ROPE),
        "deepseek_v3": LigerPatch(_NO_ROPE),
        "exaone4": LigerPatch(in_place=False, last_in_place=False, head_norms=True),
        "gemma": LigerPatch(_GEGLU),
        "gemma2": LigerPatch(_GEGLU, in_place=False, last_in_place=False),
        "gemma3_text": LigerPatch(_GEGLU, in_place=False, last_in_place=False, head_norms=True),
        "glm4": LigerPatch(_NO_ROPE, in_place=False, last_in_place=False),
        "gpt_oss": LigerPatch(_OWN_EXPERTS),
        "granite": LigerPatch((ROPE, RMS_NORM, SWIGLU, CROSS_ENTROPY)),
        "hunyuan_v1_dense": LigerPatch(),
        "hunyuan_v1_moe": LigerPatch(),
        "llama": LigerPatch(),
        "ministral": LigerPatch(),
        "mistral": LigerPatch(),
        "mixtral": LigerPatch(),
        "nemotron": LigerPatch(("relu_squared", FUSED_HEAD)),
        "olmo2": LigerPatch(in_place=False),
        "olmo3": LigerPatch(in_place=False),
        "phi3": LigerPatch(),
        "qwen2": LigerPatch(),
        "qwen3": LigerPatch(head_norms=True),
        "qwen3_5": LigerPatch(_NO_ROPE, in_place=False, last_in_place=False, head_norms=True),
        "qwen3_5_text": LigerPatch(_NO_ROPE, in_place=False, last_in_place=False, head_norms=True),
        "qwen3_moe": LigerPatch(head_norms=True),
        "qwen3_next": LigerPatch(_NO_ROPE, in_place=False, last_in_place=False, head_norms=True),
        "smollm3": LigerPatch(),
    }
)
"""By `model_type`: causal language models, the others aside."""


def kernels_of(model_type: str, options: Mapping[str, bool]) -> tuple[str, ...]:
    """The kernels that are in place of a model's own operators, given the options that say otherwise than the default.

    Nothing where Liger does not know the model, and of its two losses only the one that is asked for.
    """
    patch = PATCHES.get(model_type)
    if patch is None:
        return ()
    return tuple([name for name in KERNELS if options.get(name, name in patch.kernels) and _exists(patch, name)])


def _exists(patch: LigerPatch, name: str) -> bool:
    """Whether the model's function has the option: those for other MLPs are passed over."""
    of_mlps = {SWIGLU, GEGLU, "relu_squared"}
    return name not in of_mlps or name in patch.kernels
