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
    assert [(fact.name, fact.value) for fact in sheet.facts] == [("model_type", "gemma3")]
    assert [name for name, _ in sheet.tables] == ["model-config"]
    assert config_values(root) == {
        "model_type": "gemma3",
        "tie": True,
        "text_config": {"hidden_size": 64, "layer_types": ("full", "slide")},
    }
