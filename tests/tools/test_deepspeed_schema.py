"""The JSON Schema of DeepSpeed's configuration: complete, of the published draft, and of one mind with the linter."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tools import deepspeed_schema
from vramlint.catalog.deepspeed import all_deepspeed_keys
from vramlint.catalog.versions import version_of
from vramlint.readers.json import read_json
from vramlint.surfaces.deepspeed import deepspeed_sheet
from vramlint.surfaces.deepspeed_keys import KnownKey, check_deepspeed_keys
from vramlint.text import Document
from vramlint.values import Table

SCHEMA: dict[str, Any] = json.loads((files("vramlint") / "schemas" / "deepspeed-1.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
KNOWN = {row.key: KnownKey(row.status, version_of(row.since), row.type) for row in all_deepspeed_keys()}
CORPUS = Path(os.environ.get("VRAMLINT_CORPUS", ""), "deepspeed-json")


def refused(config: object) -> list[str]:
    """Paths at which the schema finds fault; an unknown key is told at the object that has it."""
    return sorted({".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(config)})


def linted(text: str) -> set[str]:
    """What the linter says of the file by itself that a schema can say too."""
    root = read_json(Document.of("ds.json", text)).root
    assert isinstance(root, Table)
    remarks = (
        *deepspeed_sheet("ds.json", root).remarks,
        *check_deepspeed_keys(root, KNOWN, (0, 19, 8), "deepspeed 0.19.8"),
    )
    return {remark.subject for remark in remarks if remark.kind in ("unknown-key", "wrong-type")}


def test_it_is_what_the_catalog_gives() -> None:
    assert deepspeed_schema.main(["--check"]) == 0


def test_a_schema_that_has_drifted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepspeed_schema, "PATH", tmp_path / "deepspeed-1.json")
    assert deepspeed_schema.main(["--check"]) == 1
    assert deepspeed_schema.main([]) == 0
    assert deepspeed_schema.main(["--check"]) == 0


def test_it_is_of_the_draft_that_editors_read() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_every_key_is_in_it_with_its_description() -> None:
    described = set(deepspeed_schema.keys(SCHEMA))
    wanted = {row.key.split(" ")[0] for row in all_deepspeed_keys() if "<" not in row.key}
    assert wanted <= described


def test_what_an_editor_shows() -> None:
    zero = SCHEMA["properties"]["zero_optimization"]["anyOf"][0]["properties"]
    bucket = zero["reduce_bucket_size"]
    assert bucket["default"] == 500_000_000
    assert bucket["description"].startswith("Elements, not bytes")
    assert zero["stage"]["anyOf"][0] == {"enum": [0, 1, 2, 3]}
    assert zero["cpu_offload"]["deprecated"] is True
    assert SCHEMA["properties"]["amp"]["deprecationMessage"] == "Removed in 0.19.8; its presence raises an error."


ZERO_3 = {
    "$schema": "deepspeed-1.json",
    "fp16": {"enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2},
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "scheduler": {
        "type": "WarmupLR",
        "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"},
    },
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "none"},
        "overlap_comm": True,
        "contiguous_gradients": True,
        "sub_group_size": 1e9,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9,
        "max_reuse_distance": 1e9,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "steps_per_print": 2000,
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "wall_clock_breakdown": False,
}
"""Of the form that the documentation of transformers gives for ZeRO stage 3."""


@pytest.mark.parametrize(
    "config",
    [
        ZERO_3,
        {"train_batch_size": 8, "zero_optimization": True},
        {"train_batch_size": 8, "zero_optimization": {"stage": 2, "reduce_bucket_size": "500000000"}},
        {"_note": "for two GPUs", "train_batch_size": 8, "aio": {"block_size": 1048576, "queue_depth": 8}},
        {"optimizer": {"type": "MyOptimizer", "params": {"anything": [1, {"goes": None}]}}},
        {
            "data_efficiency": {
                "enabled": True,
                "data_sampling": {
                    "curriculum_learning": {
                        "enabled": True,
                        "curriculum_metrics": {"seqlen": {"difficulty_type": "value", "min_difficulty": 64}},
                    }
                },
            }
        },
    ],
)
def test_files_as_they_are_written_are_valid(config: object) -> None:
    assert refused(config) == []
    assert linted(json.dumps(config)) == set()


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"zero_optimisation": {"stage": 3}}, ""),
        ({"zero_optimization": {"stage": 3, "stage3_max_live_params": 1e9}}, "zero_optimization"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization"),
        ({"zero_optimization": {"reduce_bucket_size": "5e8"}}, "zero_optimization"),
        ({"zero_optimization": {"offload_param": {"device": "gpu"}}}, "zero_optimization"),
        ({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1.0}}}, "optimizer"),
        ({"bf16": {"enabled": True, "loss_scale": 0}}, "bf16"),
        ({"fp16": True}, "fp16"),
        ({"train_batch_size": "8"}, "train_batch_size"),
        ({"wall_clock_breakdown": "false"}, "wall_clock_breakdown"),
    ],
)
def test_what_is_wrong_is_found(config: object, where: str) -> None:
    assert refused(config) == [where]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus")
def test_schema_and_linter_agree_on_real_files() -> None:
    judged = 0
    for path in sorted(CORPUS.rglob("*.json")):
        text = path.read_text("utf-8")
        try:
            config = json.loads(text)
        except ValueError:
            continue
        judged += 1
        assert bool(refused(config)) == bool(linted(text)), (path, refused(config), linted(text))
    assert judged > 20
