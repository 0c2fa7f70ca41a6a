"""A configuration of each framework, as people write it: the file's name and its text."""

from __future__ import annotations

SAMPLES: dict[str, tuple[str, str]] = {
    "axolotl": (
        "axolotl/qlora.yml",
        """\
# a first try
base_model: NousResearch/Llama-2-7b-hf   # the base
load_in_4bit: true
adapter: qlora
sequence_len: 1024
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05

datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca

micro_batch_size: 2      # per GPU
gradient_accumulation_steps: 4
optimizer: 'paged_adamw_8bit'
gradient_checkpointing: true
""",
    ),
}
