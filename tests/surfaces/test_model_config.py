"""A model's config.json."""

from __future__ import annotations

from vramlint.readers.json import read_json
from vramlint.surfaces.model_config import config_values, model_config_sheet
from vramlint.text import Document
from vramlint.values import Table

TEXT = '{"model_type": "gemma3", "tie": true, "text_config": {"hidden_size": 64, "layer_types": ["full", "slide"]}}'


def test_config() -> None:
    root = read_json(Document.of("config.json", TEXT)).root
    assert isinstance(root, Table)
    sheet = model_config_sheet("config.json", root)
    assert [(fact.name, fact.value) for fact in sheet.facts] == [("model_type", "gemma3"), ("hidden_size", 64)]
    assert [name for name, _ in sheet.tables] == ["model-config"]
    assert config_values(root) == {
        "model_type": "gemma3",
        "tie": True,
        "text_config": {"hidden_size": 64, "layer_types": ("full", "slide")},
    }


def sizes(text: str) -> dict[str, object]:
    root = read_json(Document.of("config.json", text)).root
    assert isinstance(root, Table)
    return {fact.name: fact.value for fact in model_config_sheet("config.json", root).facts}


def test_sizes_of_a_model() -> None:
    found = sizes(
        '{"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,'
        ' "num_key_value_heads": 4, "intermediate_size": 6144, "vocab_size": 151936, "tie_word_embeddings": false,'
        ' "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "torch_dtype": "bfloat16"}'
    )
    assert found == {
        "model_type": "qwen3_moe",
        "layers": 48,
        "attention_heads": 32,
        "key_value_heads": 4,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "vocabulary_size": 151936,
        "tied_embeddings": False,
        "experts": 128,
        "experts_per_token": 8,
        "expert_intermediate_size": 768,
        "load_dtype": "bfloat16",
    }


def test_what_follows_where_a_size_is_not_written() -> None:
    found = sizes('{"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16, "n_inner": null}')
    assert found["intermediate_size"] == 4096
    assert found["key_value_heads"] == 16
    assert "intermediate_size" not in sizes('{"model_type": "llama", "hidden_size": 64}')
    assert "key_value_heads" not in sizes('{"model_type": "falcon", "num_attention_heads": 71, "multi_query": true}')


def test_sizes_in_a_table_of_their_own() -> None:
    found = sizes('{"bert_model_config": {"vocab_size_or_config_json_file": 119547, "hidden_size": 1024}, "data": {}}')
    assert found == {"vocabulary_size": 119547, "hidden_size": 1024}
