"""SmolLM3: llama with layers that do not rotate (transformers 5.23 models/smollm3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.layer_kinds import Kind, attention_types, every
from vramlint.memory.architectures.llama import Llama


class SmolLM3(Llama):
    """SmolLM3ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    }

    def _kinds(self, config: Config) -> Sequence[Kind]:
        stated = config.get("no_rope_layers")
        rotates = every(number(config, "no_rope_layer_interval", default=4))
        rotating = [rotates(index) for index in range(self.count)]
        if isinstance(stated, Sequence) and not isinstance(stated, str):
            rotating = [bool(flag) for flag in stated[: self.count]]
        if len(rotating) < self.count:
            raise ValueError("no_rope_layers")
        if not config.get("use_sliding_window", False):
            self.window = None
        types = attention_types(config, self.count, lambda index: self.window is not None and not rotating[index])
        return tuple([Kind(*kind) for kind in zip(types, rotating, strict=True)])
