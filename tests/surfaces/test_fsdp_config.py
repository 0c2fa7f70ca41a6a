"""The file that `--fsdp_config` names, by itself."""

from __future__ import annotations

from vramlint.readers.json import read_json
from vramlint.surfaces.fsdp_config import fsdp_sheet
from vramlint.text import Document
from vramlint.values import Table


def said(text: str) -> dict[str, object]:
    root = read_json(Document.of("fsdp.json", text)).root
    assert isinstance(root, Table)
    return {fact.name: fact.value for fact in fsdp_sheet("fsdp.json", root).facts}


def test_options_with_and_without_their_prefix() -> None:
    assert said('{"fsdp_transformer_layer_cls_to_wrap": ["Qwen2DecoderLayer"], "cpu_ram_efficient_loading": true}') == {
        "parallelism": "fsdp",
        "fsdp_wrap_class": "Qwen2DecoderLayer",
        "ram_efficient_loading": True,
    }
    assert said('{"version": 2, "reshard_after_forward": false, "activation_checkpointing": true}') == {
        "parallelism": "fsdp",
        "fsdp_version": 2,
        "fsdp_reshard_after_forward": False,
        "activation_checkpointing": True,
    }


def test_a_preset_with_the_strategy_beside_its_options() -> None:
    text = '{"_note": "x", "fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2, "offload_params": true}}'
    assert said(text) == {
        "parallelism": "fsdp",
        "fsdp": "full_shard auto_wrap",
        "fsdp_version": 2,
        "offload_parameters": "cpu",
        "offload_optimizer": "cpu",
    }
