"""The DeepSpeed JSON: its facts, its contradictions, its unknown keys."""

from __future__ import annotations

import json

import pytest

from vramlint.catalog.deepspeed import all_deepspeed_keys
from vramlint.catalog.versions import version_of
from vramlint.facts import FactValue, Remark, Sheet
from vramlint.readers.json import read_json
from vramlint.surfaces.deepspeed import deepspeed_facts, deepspeed_sheet
from vramlint.surfaces.deepspeed_keys import KnownKey, check_deepspeed_keys
from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Scalar, Table


def table_of(config: object) -> Table:
    root = read_json(Document.of("ds.json", config if isinstance(config, str) else json.dumps(config, indent=1))).root
    assert isinstance(root, Table)
    return root


def sheet_of(config: object) -> Sheet:
    return deepspeed_sheet("ds.json", table_of(config))


def keys_of(config: object, version: tuple[int, ...] = (0, 19, 8)) -> list[Remark]:
    known = {row.key: KnownKey(row.status, version_of(row.since), row.type) for row in all_deepspeed_keys()}
    return list(check_deepspeed_keys(table_of(config), known, version, "deepspeed 0.19.8"))


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        ({"zero_optimization": {"stage": 3}}, "zero_stage", 3),
        ({"zero_optimization": True}, "zero_stage", 1),
        ({"zero_optimization": {"reduce_bucket_size": 5e8}}, "reduce_bucket_size", 500_000_000),
        ({"zero_optimization": {"reduce_bucket_size": "auto"}}, "reduce_bucket_size", "auto"),
        ({"zero_optimization": {"offload_optimizer": {"device": "none"}}}, "offload_optimizer", "none"),
        ({"zero_optimization": {"offload_param": {"device": "nvme"}}}, "offload_parameters", "nvme"),
        ({"zero_optimization": {"cpu_offload": True}}, "offload_optimizer", "cpu"),
        ({"zero_optimization": {"cpu_offload": False}}, "offload_optimizer", "none"),
        ({"zero_optimization": {"max_live_parameters": 7}}, "max_live_parameters", 7),
        ({"zero_optimization": {"overlap_comm": False}}, "overlap_comm", False),
        ({"train_micro_batch_size_per_gpu": 2}, "micro_batch_size", 2),
        ({"train_batch_size": "auto"}, "global_batch_size", "auto"),
        ({"bf16": {"enabled": "auto"}}, "bf16", "auto"),
        ({"bfloat16": {"enabled": True}}, "bf16", True),
        ({"optimizer": {"type": "AdamW"}}, "optimizer", "AdamW"),
        ({"data_types": {"grad_accum_dtype": "fp32"}}, "gradient_accumulation_dtype", "float32"),
        ({"seq_parallel_communication_data_type": "bf16"}, "sequence_reduce_dtype", "bfloat16"),
        ({"gradient_clipping": 0.5}, "max_grad_norm", 0.5),
    ],
)
def test_facts(config: object, name: str, value: FactValue) -> None:
    fact = sheet_of(config).get(name)
    assert fact is not None
    assert (fact.value, fact.via, fact.place is not None) == (value, "config-file", True)


def test_places_are_those_of_the_values() -> None:
    fact = sheet_of('{\n  "zero_optimization": {\n    "stage": 3\n  }\n}').get("zero_stage")
    assert fact is not None
    assert fact.place is not None
    assert (fact.place.span.line, fact.place.span.column, fact.place.span.end_column) == (3, 14, 15)


@pytest.mark.parametrize(
    ("config", "kind", "subject"),
    [
        (
            {"zero_optimization": {"stage": 2, "reduce_bucket_size": "5e8"}},
            "wrong-type",
            "zero_optimization.reduce_bucket_size",
        ),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "conflicting-keys", "bf16.enabled"),
        (
            {"zero_optimization": {"stage": 2, "stage3_max_live_parameters": 1}},
            "misplaced-key",
            "zero_optimization.stage3_max_live_parameters",
        ),
        (
            {"zero_optimization": {"stage": 1, "offload_param": {"device": "cpu"}}},
            "misplaced-key",
            "zero_optimization.offload_param",
        ),
        ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "deprecated-key", "zero_optimization.cpu_offload"),
    ],
)
def test_remarks(config: object, kind: str, subject: str) -> None:
    (remark,) = sheet_of(config).remarks
    assert (remark.kind, remark.subject, remark.vocabulary) == (kind, subject, "deepspeed")


@pytest.mark.parametrize(
    "config",
    [
        {"zero_optimization": {"stage": 3, "stage3_max_live_parameters": 1, "offload_param": {"device": "cpu"}}},
        {"zero_optimization": {"stage": 2, "offload_param": {"device": "none"}}},
        {"zero_optimization": {"stage": 2, "stage3_max_live_parameters": "auto"}},
        {"fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}},
    ],
)
def test_quiet(config: object) -> None:
    assert sheet_of(config).remarks == ()


def test_stage_3_keys_at_another_stage_have_one_cause() -> None:
    config = {"zero_optimization": {"stage": 2, "stage3_max_live_parameters": 1, "offload_param": {"device": "cpu"}}}
    (remark,) = sheet_of(config).remarks
    assert remark.message.startswith("offload_param, stage3_max_live_parameters have no effect at ZeRO stage 2")


def test_a_dict_for_any_stage_may_hold_the_keys_of_all() -> None:
    def at(line: int, column: int = 1) -> Place:
        return Place("config.py", Span(line, column, line, column + 5))

    def config(stage: Place) -> Table:
        entries = (
            Entry("stage", at(2), Scalar(2, stage)),
            Entry("stage3_max_live_parameters", at(3), Scalar(1, at(3, 20))),
        )
        return Table((Entry("zero_optimization", at(1), Table(entries, at(1, 20))),), at(1))

    assert len(deepspeed_facts(config(at(2, 20)))[1]) == 1
    assert deepspeed_facts(config(at(40, 20)))[1] == ()


def test_misspelt_section_is_ignored_in_silence() -> None:
    (remark,) = keys_of({"zero_optimisation": {"stage": 3}})
    assert (remark.kind, remark.suggestion) == ("unknown-key", "zero_optimization")
    assert "ignored in silence" in remark.message


def test_misspelt_key_in_a_section_raises() -> None:
    (remark,) = keys_of({"zero_optimization": {"stge": 3}})
    assert remark.suggestion == "stage"
    assert "raises a validation error" in remark.message


def test_sections_are_validated_since_they_have_classes() -> None:
    """deepspeed 0.17.1 added runtime/precision_config.py."""
    config = {"fp16": {"min_loss_scale": 1e-10, "scale": 1}}
    wrong, unknown = keys_of(config)
    assert wrong.message == "`fp16.min_loss_scale` cannot be 1e-10: deepspeed 0.19.8 takes int"
    assert "raises a validation error" in unknown.message
    (unknown,) = keys_of(config, (0, 17, 0))
    assert "is ignored in silence" in unknown.message


def test_strangers_of_one_section_are_one_remark() -> None:
    (remark,) = keys_of({"bf16": {"enabled": True, "hysteresis": 2, "loss_scale_window": 1}})
    assert "hysteresis, loss_scale_window" in remark.message
    assert remark.place.span.line == 4


def test_free_sections_and_comments_are_left_alone() -> None:
    config = {"_comment": "x", "optimizer": {"type": "AdamW", "params": {"anything": 1}}, "zero_optimization": {}}
    assert keys_of(config) == []


def test_removed_keys_depend_on_the_version() -> None:
    config = {"progressive_layer_drop": {"enabled": True}}
    assert [remark.kind for remark in keys_of(config)] == ["removed-key"]
    assert keys_of(config, (0, 15, 4)) == []


def test_aliases_without_the_stage_are_known() -> None:
    assert keys_of({"zero_optimization": {"stage": 3, "max_live_parameters": 1}}) == []
