"""Which parameters Axolotl leaves in float32: loaders/model.py of axolotl 0.18, _configure_embedding_dtypes.

Norms, routers, embeddings and the head are widened first, prepare_model_for_kbit_training widens whatever is not
quantized, and norms, embeddings and the head get the dtype of the weights again where an adapter, the attention or the
loss wants them so.
"""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config

_BACK_AND_FORTH = r"norm|embed_tokens|lm_head|embed_in|embed_out|\bword_embeddings\b"
"""Norms, and the modules of get_linear_embedding_layers (loaders/utils.py)."""
_LEFT = rf"^(?!.*(?:{_BACK_AND_FORTH}))"
_ROUTER = r"\.gate\."
_STAGE_3 = ("zero3", "stage3", "zero_3", "stage_3")
"""Parts of the names of DeepSpeed files, the shipped ones among them, under which nothing is prepared."""


def widened(config: Config) -> None:
    """Parameters that are float32 beside others in 16 bits."""
    adapter = config.text("adapter")
    sharded = config.fact("fsdp") is not None
    attention, loss = config.fact("attention_implementation"), config.fact("loss_type")
    narrow = attention is not None and attention.value not in {"sdpa", "eager"}
    if adapter:
        if not sharded:
            _beside_quantized(config, adapter)
    elif not (narrow or sharded or config.given("deepspeed") or (loss is not None and loss.value == "cut")):
        reason = "norms, embeddings and head are widened to float32, which only flash attention and adapters undo"
        config.derive("float32_parameters", (_BACK_AND_FORTH,), reason)


def _beside_quantized(config: Config, adapter: str) -> None:
    """Experts in one tensor, which bitsandbytes leaves alone, are widened unless they are quantized as well."""
    asked = [key for key in ("load_in_4bit", "load_in_8bit") if config.on(key)]
    if adapter not in ("lora", "qlora") or not asked:
        return
    if config.on("quantize_moe_experts"):
        reason = "nothing is prepared beside quantized experts, and routers stay wide"
        config.derive("float32_parameters", (_ROUTER,), reason, "quantize_moe_experts")
    elif not any(name in config.text("deepspeed") for name in _STAGE_3):
        reason = (
            "what is not quantized is prepared for training, and only norms, embeddings and head are narrowed again"
        )
        config.derive("float32_parameters", (_LEFT,), reason, asked[0])
