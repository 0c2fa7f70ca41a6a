"""Jobs for tests: small models, every regime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Job,
    Model,
    Optimizer,
    Precision,
    Quantization,
)

LLAMA = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 2000,
    "tie_word_embeddings": False,
}
GPT2 = {"n_embd": 256, "n_layer": 6, "n_head": 8, "vocab_size": 2000, "n_positions": 1024}


def llama(config: Mapping[str, Any] | None = None, **overrides: Any) -> Job:
    """A small llama; keywords replace parts of the job, `config` keys of its config."""
    base = Job(Model("small", "llama", {**LLAMA, **(config or {})}), batch=Batch(2, 128))
    return replace(base, **overrides)


PRECISIONS = [
    Precision("float32"),
    Precision("bfloat16"),
    Precision("float32", "bfloat16"),
    Precision("float32", "float16", True),
]
OPTIMIZERS = [
    *("adamw_torch", "adamw_torch_fused", "adamw_torch_forloop", "sgd", "torch_nadam", "adafactor", "torch_muon"),
    *("adamw_bnb_8bit", "ademamix_8bit", "adamw_torch_4bit", "schedule_free_radam", "galore_adamw", "apollo_adamw"),
    *("galore_adamw_8bit", "apollo_adamw_layerwise", "lomo", "adalomo", "grokadamw"),
]
"""One of each kind of course."""


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any small job that the simulator follows."""
    family, config = draw(st.sampled_from([("llama", LLAMA), ("qwen3", LLAMA), ("gpt2", GPT2), ("phi3", LLAMA)]))
    adapted = draw(st.booleans())
    precision = draw(st.sampled_from(PRECISIONS))
    quantized = adapted and precision.weights == "bfloat16" and draw(st.booleans())
    return Job(
        Model("small", family, {**config, "tie_word_embeddings": draw(st.booleans())}),
        precision=precision,
        optimizer=Optimizer(
            draw(st.sampled_from(OPTIMIZERS)),
            weight_decay=draw(st.sampled_from([0.0, 0.1])),
            target_modules=("attn", "mlp"),
        ),
        batch=Batch(
            draw(st.integers(1, 4)),
            draw(st.sampled_from([16, 100, 128, 257])),
            draw(st.integers(1, 3)),
            padding=draw(st.booleans()),
        ),
        attention=Attention(draw(st.sampled_from(["sdpa", "eager", "flash_attention_2"]))),
        checkpointing=Checkpointing(draw(st.sampled_from(["none", "reentrant", "nonreentrant"]))),
        adapter=Adapter(8, draw(st.sampled_from([0.0, 0.1])), "all-linear") if adapted else None,
        quantization=Quantization("nf4", draw(st.booleans()), "bfloat16", True) if quantized else None,
    )
