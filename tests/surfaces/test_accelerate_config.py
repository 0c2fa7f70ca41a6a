"""Accelerate's configuration files: what they say, and what accelerate drops."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.discovery.prefilter import may_train
from vramlint.facts import Origin, Sheet
from vramlint.readers.json import read_json
from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.accelerate_config import accelerate_sheet
from vramlint.surfaces.kinds import kind_of_table
from vramlint.text import Document
from vramlint.values import Table

ZERO_3 = """\
compute_environment: LOCAL_MACHINE
deepspeed_config:
  zero_stage: 3
  offload_optimizer_device: cpu
  offload_param_device: none
  gradient_accumulation_steps: 4
  gradient_clipping: 1.0
  zero3_save_16bit_model: true
distributed_type: DEEPSPEED
mixed_precision: bf16
num_machines: 2
num_processes: 16
"""
FSDP = """\
distributed_type: FSDP
fsdp_config:
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_sharding_strategy: SHARD_GRAD_OP
  fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer
  fsdp_offload_params: false
  fsdp_activation_checkpointing: true
mixed_precision: 'no'
num_processes: 4
"""


def table_of(text: str) -> Table:
    root = read_yaml(Document.of("accelerate.yaml", text)).root
    assert isinstance(root, Table)
    return root


def sheet_of(text: str) -> Sheet:
    return accelerate_sheet("accelerate.yaml", table_of(text))


def values(sheet: Sheet) -> dict[str, object]:
    return {fact.name: fact.value for fact in sheet.facts}


def test_deepspeed():
    sheet = sheet_of(ZERO_3)
    assert values(sheet) == {
        "launcher": "deepspeed",
        "parallelism": "deepspeed",
        "world_size": 16,
        "nodes": 2,
        "gpus_per_node": 8,
        "bf16": True,
        "fp16": False,
        "zero_stage": 3,
        "offload_optimizer": "cpu",
        "offload_parameters": "none",
        "gradient_accumulation_steps": 4,
        "max_grad_norm": 1.0,
        "gather_16bit_on_save": True,
    }
    fact = sheet.get("zero_stage")
    assert (fact.origin, fact.via, fact.key, fact.place.span.line) == (
        Origin.WRITTEN,
        "config-file",
        "deepspeed_config.zero_stage",
        3,
    )
    ((_, built),) = sheet.tables
    assert built.get("zero_optimization", "offload_optimizer", "device").value == "cpu"


def test_fsdp():
    said = values(sheet_of(FSDP))
    assert said["fsdp"] == "shard_grad_op auto_wrap"
    assert said["fsdp_wrap_class"] == "LlamaDecoderLayer"
    assert said["activation_checkpointing"] is True
    assert said["fsdp_version"] == 1
    assert (said["bf16"], said["fp16"]) == (False, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{}", "full_shard"),
        ("{fsdp_auto_wrap_policy: SIZE_BASED_WRAP}", "full_shard auto_wrap"),
        ("{fsdp_auto_wrap_policy: NO_WRAP}", "full_shard"),
        ("{fsdp_sharding_strategy: 1}", "full_shard"),
        ("{fsdp_sharding_strategy: '2'}", "shard_grad_op"),
        ("{sharding_strategy: HYBRID_SHARD}", "hybrid_shard"),
        ("{fsdp_sharding_strategy: NO_SHARD}", "no_shard"),
        ("{fsdp_version: 1, fsdp_reshard_after_forward: FULL_SHARD}", "full_shard"),
        ("{fsdp_version: 2, fsdp_reshard_after_forward: true}", "full_shard"),
        ("{fsdp_version: 2, fsdp_reshard_after_forward: false}", "shard_grad_op"),
        ("{fsdp_version: 2, fsdp_sharding_strategy: NO_SHARD}", "full_shard"),
        ("{fsdp_offload_params: true}", "full_shard offload"),
        ("{fsdp_offload_params: 'true'}", "full_shard offload"),
    ],
)
def test_sharding_in_the_words_of_the_trainer(options, words):
    assert values(sheet_of(f"distributed_type: FSDP\nfsdp_config: {options}\n"))["fsdp"] == words


def test_deepspeed_block_pasted_into_it_says_nothing():
    sheet = sheet_of(
        "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_optimization:\n    stage: 3\n"
        "    offload_optimizer: {device: cpu}\n  optimizer: {type: AdamW}\n"
    )
    said = values(sheet)
    assert (said["zero_stage"], said["offload_optimizer"]) == (2, "none")
    assert sheet.get("zero_stage").origin is Origin.DEFAULT
    assert "optimizer" not in said


def test_deepspeed_file_takes_the_place_of_the_keys():
    sheet = sheet_of("distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: ds.json\n")
    assert [(link.kind, link.target, link.place.span.line) for link in sheet.links] == [("deepspeed", "ds.json", 3)]
    assert "zero_stage" not in values(sheet)


@pytest.mark.parametrize(
    ("text", "parallelism", "world"),
    [
        ("distributed_type: MULTI_GPU\nnum_processes: 8\n", "ddp", 8),
        ("distributed_type: MULTI_GPU\nnum_processes: -1\n", "ddp", None),
        ("distributed_type: 'NO'\nnum_processes: 8\n", "none", 1),
        ("distributed_type: no\nmachine_rank: 0\n", "none", 1),
    ],
)
def test_processes(text, parallelism, world):
    said = values(sheet_of(text))
    assert said["parallelism"] == parallelism
    assert said.get("world_size") == world


def test_what_is_not_simulated_is_unknown():
    fact = sheet_of("distributed_type: MEGATRON_LM\nmegatron_lm_config: {megatron_lm_tp_degree: 2}\n").get(
        "parallelism"
    )
    assert (fact.candidates, fact.reason) == ((), "distributed_type is MEGATRON_LM, which is not simulated (line 1)")
    text = (
        "distributed_type: FSDP\nparallelism_config: {parallelism_config_cp_size: 2, parallelism_config_tp_size: 1}\n"
    )
    said = values(sheet_of(text))
    assert (said["context_parallel"], said["tensor_parallel"]) == (2, 1)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.yaml", ZERO_3, "accelerate-config"),
        (
            "a.json",
            json.dumps({"distributed_type": "FSDP", "num_processes": 2, "fsdp_config": {}}),
            "accelerate-config",
        ),
        ("a.yaml", "distributed_type: FSDP\nmodel: gpt2\n", None),
    ],
)
def test_files_are_recognised(name, text, kind):
    form = "json" if name.endswith("json") else "yaml"
    read = read_json if form == "json" else read_yaml
    assert kind_of_table(name, read(Document.of(name, text)).root) == kind
    assert may_train(form, text.encode())


_KEYS = st.sampled_from(
    [
        "distributed_type",
        "num_processes",
        "num_machines",
        "mixed_precision",
        "deepspeed_config",
        "fsdp_config",
        "zero_stage",
        "fsdp_version",
        "fsdp_sharding_strategy",
        "parallelism_config",
        "tp_size",
        "dynamo_backend",
    ]
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from(["FSDP", "DEEPSPEED", "NO", "auto", "2"]),
)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=12
)


@given(st.dictionaries(_KEYS, _TREES, min_size=1, max_size=6))
def test_any_tree_is_read(tree):
    root = read_json(Document.of("a.json", json.dumps(tree))).root
    assert isinstance(root, Table)
    assert accelerate_sheet("a.json", root).kind == "accelerate-config"


def test_what_a_configuration_of_fsdp_says_by_itself() -> None:
    sheet = sheet_of(
        """\
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_reshard_after_forward: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_use_orig_params: false
num_processes: 2
"""
    )
    found = values(sheet)
    assert found["launcher"] == "fsdp"
    assert found["fsdp_reshard_after_forward"] is True
    assert found["fsdp_use_orig_params"] is False
    assert found["fsdp_wrap_class"] == "TRANSFORMER_BASED_WRAP"


def test_megatron_s_degrees() -> None:
    found = values(
        sheet_of(
            """\
distributed_type: MEGATRON_LM
megatron_lm_config:
  megatron_lm_tp_degree: 2
  megatron_lm_pp_degree: 4
  megatron_lm_sequence_parallelism: true
  megatron_lm_use_distributed_optimizer: 'true'
num_processes: 8
"""
        )
    )
    assert {name: found[name] for name in ("tensor_parallel", "pipeline_parallel", "distributed_optimizer")} == {
        "tensor_parallel": 2,
        "pipeline_parallel": 4,
        "distributed_optimizer": True,
    }
    assert found["parallelism"] is None


def _remarks(text: str) -> list[tuple[str, str]]:
    root = read_yaml(Document.of("accelerate.yaml", text)).root
    assert isinstance(root, Table)
    return [(remark.kind, remark.subject) for remark in accelerate_sheet("accelerate.yaml", root).remarks]


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\n  zero_optimization: {stage: 3}\n"
            "  train_batch_size: auto\n",
            [("unknown-key", "deepspeed_config.zero_optimization")],
        ),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero3_init: true\n",
            [],
        ),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stages: 3\n",
            [("unknown-key", "deepspeed_config.zero_stages")],
        ),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: ds.json\n  zero_stage: 3\n",
            [("refused-setting", "deepspeed_config.zero_stage")],
        ),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: none, zero_stage: 3}\n", []),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json, zero3_init_flag: true}\n",
            [],
        ),
        (
            "distributed_type: FSDP\nfsdp_config:\n  fsdp_activation_checkpoint: true\n  auto_wrap_policy: NO_WRAP\n",
            [("unknown-key", "fsdp_config.fsdp_activation_checkpoint")],
        ),
        ("distributed_type: MULTI_GPU\ndeepspeed_config:\n  zero_optimization: {stage: 3}\n", []),
    ],
)
def test_keys_that_go_nowhere(text: str, remarks: list[tuple[str, str]]) -> None:
    assert _remarks(text) == remarks


def test_checkpointing_that_is_written_off_leaves_the_trainers_and_is_said_where_it_is_written() -> None:
    off = sheet_of(FSDP.replace("fsdp_activation_checkpointing: true", "fsdp_activation_checkpointing: false"))
    fact = off.get("activation_checkpointing")
    assert fact is not None
    assert (fact.value, fact.origin) == (False, Origin.DEFAULT)
    assert [place.span.line for place in fact.also] == [7]
    silent = sheet_of(FSDP.replace("  fsdp_activation_checkpointing: true\n", "")).get("activation_checkpointing")
    assert silent is not None
    assert (silent.value, silent.also) == (False, ())


def test_a_mesh_of_its_own_divides_more_than_the_data() -> None:
    text = (
        "distributed_type: FSDP\nparallelism_config: {parallelism_config_cp_size: 2, parallelism_config_tp_size: 1}\n"
    )
    found = values(sheet_of(text))
    assert (found["context_parallel"], found["tensor_parallel"], found["divided_by"]) == (2, 1, "accelerate")
    assert "divided_by" not in values(sheet_of("parallelism_config: {parallelism_config_cp_size: 1}\n"))


@pytest.mark.parametrize(("size", "form"), [("cp_size: 2", "ring"), ("sp_size: 4", "ulysses"), ("cp_size: 1", None)])
def test_each_size_of_a_shared_sequence_has_its_way(size, form) -> None:
    found = values(sheet_of(f"parallelism_config: {{parallelism_config_{size}}}\n"))
    assert found.get("sequence_sharing") == form
