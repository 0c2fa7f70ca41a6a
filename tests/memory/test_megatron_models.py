"""Models of transformers on Megatron's ranks."""

from __future__ import annotations

import pytest

from vramlint.job import Adapter, Batch, ConfigValue, Job, Megatron, Model, Optimizer, Parallelism, Precision
from vramlint.memory import simulate
from vramlint.memory.megatron_models import of_transformers

_QWEN: dict[str, ConfigValue] = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "tie_word_embeddings": True,
}
_EXPERTS: dict[str, ConfigValue] = {
    **_QWEN,
    "head_dim": 128,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
}


def _job(model: Model, engine: Megatron, adapter: Adapter | None = None) -> Job:
    return Job(
        model=model,
        precision=Precision("bfloat16", "bfloat16"),
        optimizer=Optimizer("megatron_adam"),
        batch=Batch(micro_batch_size=1, sequence_length=2048, gradient_accumulation_steps=4),
        adapter=adapter,
        parallelism=Parallelism(8, "megatron", megatron=engine),
    )


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        # embeddings, which need no padding; per layer: qkv with bias, output, gated MLP, two norms
        ("qwen2", _QWEN, 151936 * 896 + 24 * (896 * 1152 + 1152 + 896 * 896 + 3 * 896 * 4864 + 2 * 896) + 896),
        (
            "qwen3_moe",
            _EXPERTS,
            151936 * 896
            + 24 * (896 * 18 * 128 + 2 * 128 + 14 * 128 * 896 + 64 * 896 + 64 * 3 * 896 * 768 + 2 * 896)
            + 896,
        ),
    ],
)
def test_a_model_has_its_own_parameters(name: str, config: dict[str, ConfigValue], parameters: int) -> None:
    estimate = simulate(_job(Model("m", name, config=config), Megatron()), reserved=False)
    assert estimate.method == "simulated"
    assert estimate.total_parameters == parameters
    assert estimate.parameters == 2 * parameters


def test_the_vocabulary_is_padded_for_every_rank() -> None:
    sizes = of_transformers(Model("m", "qwen2", config={**_QWEN, "vocab_size": 151937}), 4)
    assert sizes is not None
    assert sizes["vocab_size"] == 152064


@pytest.mark.parametrize(
    ("model", "adapter"),
    [(Model("m", "gemma2", config=_QWEN), None), (Model("m", "qwen2", config=_QWEN), Adapter(r=8))],
)
def test_what_has_no_form_is_bounded(model: Model, adapter: Adapter | None) -> None:
    estimate = simulate(_job(model, Megatron(), adapter), reserved=False)
    assert estimate.method == "bounded"
    assert "Megatron's training of" in estimate.notes[0]
