"""Settings that DeepSpeed refuses, offloading that offloads nothing, values of other types than the reader takes."""

from __future__ import annotations

import json

import pytest

from vramlint.catalog.deepspeed import all_deepspeed_keys
from vramlint.catalog.versions import version_of
from vramlint.facts import FactValue, Remark
from vramlint.readers.json import read_json
from vramlint.surfaces.deepspeed import deepspeed_sheet
from vramlint.surfaces.deepspeed_keys import KnownKey, check_deepspeed_keys
from vramlint.surfaces.deepspeed_settings import idle_offloads, refused_settings
from vramlint.text import Document
from vramlint.values import Table

ZERO = "zero_optimization"


def table_of(config: object) -> Table:
    root = read_json(Document.of("ds.json", json.dumps(config, indent=1))).root
    assert isinstance(root, Table)
    return root


def zero(stage: object, **others: object) -> dict[str, object]:
    return {"zero_optimization": {"stage": stage, **others}}


def keys_of(config: object, version: tuple[int, ...] = (0, 19, 8)) -> list[Remark]:
    known = {row.key: KnownKey(row.status, version_of(row.since), row.type) for row in all_deepspeed_keys()}
    return list(check_deepspeed_keys(table_of(config), known, version, "deepspeed"))


@pytest.mark.parametrize(
    ("config", "subject"),
    [
        ({"optimizer": {"type": "Adam", "params": {"max_grad_norm": 1.0}}}, "optimizer.params.max_grad_norm"),
        (zero(2, offload_optimizer={"device": "cpu", "ratio": 0.4}), "zero_optimization.offload_optimizer.ratio"),
        (zero(1, legacy_stage1=True), "zero_optimization.legacy_stage1"),
        (zero(3, elastic_checkpoint=True), "zero_optimization.elastic_checkpoint"),
        ({"bf16": {"enabled": True, "bf16_optimizer_states": True}, **zero(2)}, "bf16.bf16_optimizer_states"),
        ({"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}}, "bf16.bf16_master_weights_and_grads"),
        ({"fp16": {"fp16_master_weights_and_grads": True}, **zero(0)}, "fp16.fp16_master_weights_and_grads"),
        ({"gradient_allreduce_op": "sum", **zero(3)}, "gradient_allreduce_op"),
        (zero(3, compute_grad_norm=False), "zero_optimization.compute_grad_norm"),
        ({"optimizer": {"type": "OneBitAdam"}, **zero(1)}, "optimizer.type"),
        (zero(3, offload_optimizer={"device": "nvme"}), "zero_optimization.offload_optimizer.device"),
        (zero(3, offload_param={"device": "nvme"}), "zero_optimization.offload_param.device"),
    ],
)
def test_what_is_refused(config: object, subject: str) -> None:
    (remark,) = refused_settings(table_of(config))
    assert (remark.kind, remark.subject, remark.vocabulary) == ("refused-setting", subject, "deepspeed")


@pytest.mark.parametrize(
    "config",
    [
        {},
        zero(3, offload_optimizer={"device": "cpu", "ratio": 0.4}),
        zero(2, offload_optimizer={"device": "cpu", "ratio": 1}),
        zero("auto", offload_optimizer={"device": "cpu", "ratio": 0.4}),
        {"bf16": {"bf16_optimizer_states": True, "bf16_master_weights_and_grads": True}, **zero(2)},
        {"gradient_allreduce_op": "sum", **zero(2)},
        {"optimizer": {"type": "OneBitAdam"}},
        zero(3, offload_optimizer={"device": "nvme", "nvme_path": "/local_nvme"}),
        {"fp16": {"fp16_master_weights_and_grads": True}, "zero_optimization": True},
    ],
)
def test_what_is_taken(config: object) -> None:
    assert list(refused_settings(table_of(config))) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (zero(2, offload_optimizer={"pin_memory": True}), "offload_optimizer has no `device`"),
        (zero(3, offload_param={}), "offload_param has no `device`"),
        (zero(0, offload_optimizer={"device": "cpu"}), "offload_optimizer has no effect at ZeRO stage 0"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, "offload_optimizer has no effect at ZeRO"),
        (zero(1, offload_optimizer={"device": "nvme"}), "offload_optimizer goes to host memory at ZeRO stage 1"),
    ],
)
def test_idle_offloads(config: object, message: str) -> None:
    (remark,) = idle_offloads(table_of(config))
    assert remark.kind == "idle-offload"
    assert remark.message.startswith(message)


@pytest.mark.parametrize(
    "config",
    [
        zero(3, offload_optimizer={"device": "none"}, offload_param={"device": "none"}),
        zero(0, offload_optimizer={"device": "none"}),
        zero(2, offload_param={"pin_memory": True}),
        zero(2, offload_optimizer=None),
        zero("auto", offload_optimizer={"pin_memory": True}),
        zero(3, offload_optimizer={"device": "nvme", "nvme_path": "/local_nvme"}),
    ],
)
def test_offloads_that_do_what_they_say(config: object) -> None:
    assert list(idle_offloads(table_of(config))) == []


@pytest.mark.parametrize(
    ("config", "subject"),
    [
        (
            {"zero_optimization": {"stage": 3, "stage3_model_persistence_threshold": "5e8"}},
            "zero_optimization.stage3_model_persistence_threshold",
        ),
        ({"zero_optimization": {"reduce_scatter": "maybe"}}, "zero_optimization.reduce_scatter"),
        (
            {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 1.5}},
            "zero_optimization.zero_hpz_partition_size",
        ),
        ({"zero_optimization": {"offload_optimizer": "cpu"}}, "zero_optimization.offload_optimizer"),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {"device": "gpu"}}},
            "zero_optimization.offload_param.device",
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {"buffer_size": "1e8"}}},
            "zero_optimization.offload_param.buffer_size",
        ),
        ({"fp16": True}, "fp16"),
        ({"wall_clock_breakdown": "false"}, "wall_clock_breakdown"),
        ({"steps_per_print": "10"}, "steps_per_print"),
        ({"optimizer": {"params": {"lr": "3e-5"}}}, "optimizer.params.lr"),
        ({"communication_data_type": "float16"}, "communication_data_type"),
    ],
)
def test_other_types(config: object, subject: str) -> None:
    (remark,) = [*deepspeed_sheet("ds.json", table_of(config)).remarks, *keys_of(config)]
    assert (remark.kind, remark.subject) == ("wrong-type", subject)


@pytest.mark.parametrize(
    "config",
    [
        {"zero_optimization": {"reduce_bucket_size": "500000000", "overlap_comm": "true"}},
        {"fp16": {"enabled": "True", "loss_scale": "0", "initial_scale_power": "auto", "min_loss_scale": None}},
        {"steps_per_print": 1e2, "wall_clock_breakdown": False, "gradient_clipping": "auto"},
        {"optimizer": {"type": "AdamW", "params": {"lr": 3e-5, "anything": "goes"}}},
        {"checkpoint": {"tag_validation": "Warn"}, "zero_optimization": True},
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "linear", "warmup_num_steps": "auto"}}},
    ],
)
def test_types_that_the_reader_takes(config: object) -> None:
    assert [*deepspeed_sheet("ds.json", table_of(config)).remarks, *keys_of(config)] == []


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        ({"zero_optimization": {"reduce_bucket_size": "500_000_000"}}, "reduce_bucket_size", 500_000_000),
        ({"fp16": {"enabled": "true"}}, "fp16", True),
        ({"bf16": {"enabled": "False"}}, "bf16", False),
    ],
)
def test_quoted_values_are_what_they_spell(config: object, name: str, value: FactValue) -> None:
    fact = deepspeed_sheet("ds.json", table_of(config)).get(name)
    assert fact is not None
    assert fact.value == value


def test_a_key_of_a_later_release() -> None:
    config = {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 8}}
    (remark,) = keys_of(config, (0, 9, 5))
    assert (remark.kind, remark.subject) == ("unknown-key", "zero_optimization.zero_hpz_partition_size")
    assert remark.message.startswith("zero_optimization.zero_hpz_partition_size came with deepspeed 0.10.0")
    assert keys_of(config, (0, 10)) == []
