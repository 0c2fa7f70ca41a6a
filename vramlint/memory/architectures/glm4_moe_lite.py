"""GLM-4.7-Flash: DeepSeek's latent attention and choice of experts (transformers 5.23 models/glm4_moe_lite)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures.deepseek import DeepseekV3
from vramlint.memory.architectures.family import Config


class Glm4MoeLite(DeepseekV3):
    """Glm4MoeLiteForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 2048,
        "intermediate_size": 10240,
        "moe_intermediate_size": 1536,
        "num_hidden_layers": 47,
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        "vocab_size": 154880,
        "n_routed_experts": 64,
        "num_experts_per_tok": 4,
        "q_lora_rank": 768,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "n_group": 1,
        "topk_group": 1,
    }

    def is_sparse(self, config: Config, position: int) -> bool:
        """As the list of layers says; without one, all but the first layer."""
        kinds = config.get("mlp_layer_types")
        if isinstance(kinds, Sequence) and position < len(kinds):
            return bool(kinds[position] == "sparse")
        return position > 0
