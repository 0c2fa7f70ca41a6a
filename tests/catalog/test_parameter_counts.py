"""Parameter counts recomputed from the config, against the exact counts of the rows."""

from collections.abc import Callable

import pytest

from vramlint.catalog import ModelRow, all_models


def config_of(row: ModelRow) -> dict[str, int]:
    return {key: value for key, value in row.config.items() if isinstance(value, int)}


class Sizes:
    """The letters of the formulas: V, H, L, A, K, d, I, t and P (attention projections)."""

    def __init__(self, row: ModelRow) -> None:
        config = config_of(row)
        self.config = config
        self.vocabulary = config["vocab_size"]
        self.hidden = config["hidden_size"]
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head_dim = config.get("head_dim") or self.hidden // self.heads
        self.inner = config.get("intermediate_size") or 4 * self.hidden
        self.copies = 1 if config.get("tie_word_embeddings") else 2
        self.projections = (
            2 * self.heads * self.head_dim * self.hidden + 2 * self.kv_heads * self.head_dim * self.hidden
        )
        self.qkv_bias = (self.heads + 2 * self.kv_heads) * self.head_dim

    def stack(self, per_layer: int, final: int, copies: int | None = None) -> int:
        return (copies or self.copies) * self.vocabulary * self.hidden + self.layers * per_layer + final


def llama(row: ModelRow) -> int:
    z = Sizes(row)
    layer = z.projections + 3 * z.hidden * z.inner + 2 * z.hidden
    if config_of(row).get("attention_bias"):
        layer += z.qkv_bias + z.hidden
    if config_of(row).get("mlp_bias"):
        layer += 2 * z.inner + z.hidden
    return z.stack(layer, z.hidden)


def qwen2(row: ModelRow) -> int:
    z = Sizes(row)
    return z.stack(z.projections + z.qkv_bias + 3 * z.hidden * z.inner + 2 * z.hidden, z.hidden)


def qwen3(row: ModelRow) -> int:
    z = Sizes(row)
    return z.stack(z.projections + 2 * z.head_dim + 3 * z.hidden * z.inner + 2 * z.hidden, z.hidden)


def qwen3_moe(row: ModelRow) -> int:
    z = Sizes(row)
    experts = config_of(row)["num_experts"]
    moe = z.hidden * experts + 3 * experts * z.hidden * config_of(row)["moe_intermediate_size"]
    return z.stack(z.projections + 2 * z.head_dim + moe + 2 * z.hidden, z.hidden)


def mixtral(row: ModelRow) -> int:
    z = Sizes(row)
    experts = config_of(row)["num_local_experts"]
    layer = z.projections + z.hidden * experts + 3 * experts * z.hidden * z.inner + 2 * z.hidden
    return z.stack(layer, z.hidden)


def gemma(row: ModelRow) -> int:
    z = Sizes(row)
    return z.stack(z.projections + 3 * z.hidden * z.inner + 2 * z.hidden, z.hidden, copies=1)


def gemma2(row: ModelRow) -> int:
    z = Sizes(row)
    return z.stack(z.projections + 3 * z.hidden * z.inner + 4 * z.hidden, z.hidden, copies=1)


def olmo2(row: ModelRow) -> int:
    z = Sizes(row)
    norms = 2 * z.hidden + (z.heads + z.kv_heads) * z.head_dim
    return z.stack(z.projections + 3 * z.hidden * z.inner + norms, z.hidden)


def starcoder2(row: ModelRow) -> int:
    z = Sizes(row)
    layer = z.projections + z.qkv_bias + z.hidden + 2 * z.hidden * z.inner + z.inner + z.hidden + 4 * z.hidden
    return z.stack(layer, 2 * z.hidden)


def _gpt_layer(width: int, inner: int) -> int:
    return 4 * width**2 + 4 * width + 2 * width * inner + inner + width + 4 * width


def gpt2(row: ModelRow) -> int:
    config = config_of(row)
    width = config["n_embd"]
    layers = config["n_layer"] * _gpt_layer(width, config.get("n_inner") or 4 * width)
    return (config["vocab_size"] + config["n_positions"]) * width + layers + 2 * width


def gpt_neox(row: ModelRow) -> int:
    z = Sizes(row)
    return z.stack(_gpt_layer(z.hidden, z.inner), 2 * z.hidden, copies=2)


def bloom(row: ModelRow) -> int:
    config = config_of(row)
    width = config.get("hidden_size") or config["n_embed"]
    return config["vocab_size"] * width + config["n_layer"] * (12 * width**2 + 13 * width) + 4 * width


def bert(row: ModelRow) -> int:
    z = Sizes(row)
    config = config_of(row)
    embeddings = (z.vocabulary + config["max_position_embeddings"] + config["type_vocab_size"] + 2) * z.hidden
    body = embeddings + z.layers * _gpt_layer(z.hidden, z.inner)
    if row.architecture.endswith("ForMaskedLM") or row.architecture.endswith("ForPreTraining"):
        return body + z.hidden**2 + z.hidden + 2 * z.hidden + z.vocabulary
    return body + z.hidden**2 + z.hidden


def distilbert(row: ModelRow) -> int:
    config = config_of(row)
    width, vocabulary = config["dim"], config["vocab_size"]
    embeddings = (vocabulary + config["max_position_embeddings"] + 2) * width
    layers = config["n_layers"] * _gpt_layer(width, config["hidden_dim"])
    return embeddings + layers + width**2 + width + 2 * width + vocabulary


FORMULAS: dict[str, Callable[[ModelRow], int]] = {
    "llama": llama,
    "mistral": llama,
    "granite": llama,
    "smollm3": llama,
    "phi3": llama,
    "internlm2": llama,
    "baichuan": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "mixtral": mixtral,
    "gemma": gemma,
    "gemma2": gemma2,
    "olmo2": olmo2,
    "starcoder2": starcoder2,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "bloom": bloom,
    "bert": bert,
    "roberta": bert,
    "distilbert": distilbert,
}


@pytest.mark.parametrize("model_type", FORMULAS)
def test_the_formula_gives_the_exact_count_of_every_row(model_type):
    rows = [row for row in all_models() if row.model_type == model_type]
    assert rows
    for row in rows:
        assert FORMULAS[model_type](row) == row.parameter_count, row.id


def test_weights_of_7b_in_fp32_by_the_rule_are_more_than_the_model_really_has():
    """The article's 3.725 GiB × 7 = 26.075; the exact count gives 25.1 GiB."""
    row = next(row for row in all_models() if row.id == "meta-llama/Llama-2-7b-hf")
    assert 4 * row.parameter_count / 2**30 == pytest.approx(25.10, abs=0.01)
