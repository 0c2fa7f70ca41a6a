"""An adapter's config by itself: what is written, PEFT's defaults, its tables of targets."""

from __future__ import annotations

import json

import pytest

from vramlint.facts import Fact, Origin
from vramlint.readers.json import read_json
from vramlint.surfaces.adapter_config import adapter_config_sheet
from vramlint.text import Document
from vramlint.values import Table

LORA = {"peft_type": "LORA", "base_model_name_or_path": None, "r": 64, "target_modules": None, "use_rslora": True}


def facts(config: object, path: str = "out/adapter_config.json") -> dict[str, Fact]:
    root = read_json(Document.of(path, json.dumps(config, indent=1))).root
    assert isinstance(root, Table)
    return {fact.name: fact for fact in adapter_config_sheet(path, root).facts}


def test_a_config_of_an_older_release_has_peft_s_defaults() -> None:
    found = facts(LORA)
    assert {name: found[name].value for name in ("tuning", "lora_r", "lora_alpha", "lora_dropout", "use_dora")} == {
        "tuning": "lora",
        "lora_r": 64,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "use_dora": False,
    }
    assert (found["lora_r"].origin, found["lora_alpha"].origin) == (Origin.WRITTEN, Origin.DEFAULT)
    assert found["use_rslora"].value is True
    assert found["model"].origin is Origin.UNKNOWN


@pytest.mark.parametrize(
    ("config", "path", "targets"),
    [
        (LORA | {"base_model_name_or_path": "Qwen/Qwen2.5-7B"}, "out/adapter_config.json", ("q_proj", "v_proj")),
        (LORA, "experiments/lora/llama-3.2-3B-rank64/adapter_config.json", ("q_proj", "v_proj")),
        ({"peft_type": "IA3"}, "experiments/ia3/llama-3.2-3B/adapter_config.json", ("k_proj", "v_proj", "down_proj")),
        ({"peft_type": "VERA"}, "experiments/vera/gpt2-small/adapter_config.json", ("c_attn",)),
    ],
)
def test_targets_that_are_not_named_are_those_of_the_architecture(
    config: object, path: str, targets: tuple[str, ...]
) -> None:
    said = facts(config, path)["lora_target_modules"]
    assert (said.value, said.origin) == (targets, Origin.DEFAULT)


def test_no_targets_where_nothing_tells_the_architecture_or_the_method_has_none() -> None:
    assert "lora_target_modules" not in facts(LORA)
    path = "experiments/prefix/llama-3.2-3B/adapter_config.json"
    assert "lora_target_modules" not in facts({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 20}, path)


def test_modules_that_are_written_as_null() -> None:
    said = facts(LORA | {"modules_to_save": None})["lora_modules_to_save"]
    assert (said.value, said.origin) == (None, Origin.WRITTEN)
    assert said.place is not None
