"""TrainingArguments in JSON and YAML, alignment-handbook recipes, and telling vocabularies apart."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import sheet
from vramlint.facts import Fact, Origin, Sheet
from vramlint.readers.json import read_json
from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.keys import find_row, keys_saying
from vramlint.surfaces.kinds import kind_of_table
from vramlint.surfaces.training_arguments import training_arguments_sheet
from vramlint.text import Document
from vramlint.values import Table

RECIPE = """\
model_name_or_path: mistralai/Mistral-7B-v0.1
torch_dtype: bfloat16
attn_implementation: flash_attention_2
load_in_4bit: true
use_peft: true
lora_r: 16
lora_target_modules:
- q_proj
- v_proj
bf16: true
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
max_seq_length: 2048
per_device_train_batch_size: "4"
output_dir: out
deepspeed: ds.json
"""


def table_of(path: str, text: str) -> Table:
    document = Document.of(path, text)
    root = (read_json(document) if path.endswith(".json") else read_yaml(document)).root
    assert isinstance(root, Table)
    return root


def sheet_of(path: str, text: str) -> Sheet:
    table = table_of(path, text)
    kind = kind_of_table(path, table)
    assert kind is not None
    return training_arguments_sheet(path, table, kind)


def test_recipe() -> None:
    sheet = sheet_of("config.yaml", RECIPE)
    found = {fact.name: fact.value for fact in sheet.facts}
    assert found == {
        "model": "mistralai/Mistral-7B-v0.1",
        "load_dtype": "bfloat16",
        "attention_implementation": "flash_attention_2",
        "quantization_bits": 4,
        "tuning": "lora",
        "lora_r": 16,
        "lora_target_modules": ("q_proj", "v_proj"),
        "bf16": True,
        "activation_checkpointing": True,
        "checkpointing_reentrant": False,
        "sequence_length": 2048,
        "micro_batch_size": 4,
        "run_kind": "training",
        "objective": "sft",
    }
    assert [(link.kind, link.target) for link in sheet.links] == [("deepspeed", "ds.json")]
    place = next(fact.place for fact in sheet.facts if fact.name == "lora_r")
    assert place is not None
    assert place.span.line == 6
    targets = sheet.get("lora_target_modules")
    assert targets is not None
    assert [said.span.line for said in targets.also] == [7]  # the key above its list


def test_keys_that_tell_the_objective() -> None:
    lines = ("model_name_or_path: gpt2", "per_device_train_batch_size: 1", "beta: 0.1", "max_prompt_length: 64")
    sheet = sheet_of("config.yaml", "\n".join((*lines, "output_dir: out\n")))
    objective = sheet.get("objective")
    assert objective is not None
    assert (objective.value, [said.span.line for said in objective.decided]) == ("dpo", [3, 4])


def test_wrong_type_in_json() -> None:
    sheet = sheet_of("args.json", '{"per_device_train_batch_size": "eight", "output_dir": "x"}')
    (remark,) = sheet.remarks
    assert (remark.kind, remark.subject) == ("wrong-type", "per_device_train_batch_size")
    assert sheet.get("micro_batch_size") is None


def test_inline_deepspeed() -> None:
    sheet = sheet_of("a.json", '{"per_device_train_batch_size": 1, "deepspeed": {"zero_optimization": {"stage": 2}}}')
    assert "deepspeed" in [name for name, _ in sheet.tables]


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("ds.json", '{"zero_optimization": {"stage": 2}}', "deepspeed-json"),
        (
            "ds.json",
            '{"zero_optimisation": {"stage": 2}, "fp16": {"enabled": true}, "optimizer": {}}',
            "deepspeed-json",
        ),
        ("ds.json", '{"train_micro_batch_size_per_gpu": 1, "autotuning": {}}', "deepspeed-json"),
        ("neox.json", '{"zero_optimization": {"stage": 1}, "num_layers": 12}', None),
        ("neox.json", '{"train_micro_batch_size_per_gpu": 1, "num-layers": 12}', None),
        ("config.json", '{"model_type": "llama", "hidden_size": 64}', "model-config"),
        ("args.json", '{"per_device_train_batch_size": 1}', "training-args-json"),
        ("args.yml", "per_device_train_batch_size: 1", "training-args-yaml"),
        ("factory.yaml", "finetuning_type: lora\nper_device_train_batch_size: 1", None),
        ("axolotl.yml", "base_model: x\nmicro_batch_size: 1", None),
        ("package.json", '{"name": "x", "version": "1"}', None),
        ("tokenizer_config.json", '{"model_max_length": 512}', None),
    ],
)
def test_kinds(path: str, text: str, kind: str | None) -> None:
    assert kind_of_table(path, table_of(path, text)) == kind


def test_key_table_both_ways() -> None:
    row = find_row("training-arguments", "per_device_train_batch_size")
    assert row is not None
    assert row.fact == "micro_batch_size"
    assert keys_saying("micro_batch_size", "deepspeed") == ("train_micro_batch_size_per_gpu",)
    assert find_row("training-arguments", "learning_rate") is None


@pytest.mark.parametrize(
    ("path", "more", "objective", "origin"),
    [
        ("run.yaml", "packing: false\n", "sft", Origin.ASSUMED),
        ("recipes/x/orpo/full.yaml", "beta: 0.05\nmax_prompt_length: 64\n", "orpo", Origin.ASSUMED),
        ("recipes/x/sft/full.yaml", "beta: 0.05\nmax_prompt_length: 64\n", "dpo", Origin.DERIVED),
        ("run.yaml", "beta: 0.05\ndesirable_weight: 1.0\n", "kto", Origin.DERIVED),
        ("run.yaml", "num_generations: 8\nbeta: 0.001\n", "grpo", Origin.DERIVED),
        ("rloo.yaml", "num_generations: 4\n", "rloo", Origin.ASSUMED),
        ("grpo/run.yaml", "max_length: 512\n", "grpo", Origin.ASSUMED),
        ("run.yaml", "max_length: 512\n", "sft", Origin.ASSUMED),
    ],
)
def test_the_program_decides_what_keys_of_several_objectives_leave_open(
    path: str, more: str, objective: str, origin: Origin
) -> None:
    text = "model_name_or_path: gpt2\noutput_dir: out\nper_device_train_batch_size: 1\n" + more
    sheet = training_arguments_sheet(path, table_of(path, text), "training-args-yaml", project="trl")
    found = sheet.get("objective")
    assert found is not None
    assert (found.value, found.origin) == (objective, origin)


def test_generation_and_distance_of_a_recipe() -> None:
    text = "model_name_or_path: gpt2\noutput_dir: out\nnum_generations: 8\nbeta: 0.001\nuse_vllm: true\n"
    sheet = sheet_of("g.yaml", text + "per_device_train_batch_size: 8\nvllm_gpu_memory_utilization: 0.5\n")
    found = {fact.name: fact.value for fact in sheet.facts}
    assert found["kl_coefficient"] == 0.001
    assert found["inference_engine"] == "vllm"
    assert found["inference_memory_fraction"] == 0.5


def test_the_handbook_loads_the_model_twice_for_dpo() -> None:
    text = "model_name_or_path: gpt2\noutput_dir: out\nbeta: 0.1\nuse_peft: true\n"
    table = table_of("d.yaml", text)
    sheet = training_arguments_sheet("d.yaml", table, "training-args-yaml", project="alignment-handbook")
    reference = sheet.get("reference_model")
    assert reference is not None
    assert (reference.value, reference.origin) == ("gpt2", Origin.DERIVED)
    plain = training_arguments_sheet("d.yaml", table, "training-args-yaml", project="trl")
    assert plain.get("reference_model") is None


def test_a_reference_whose_probabilities_are_computed_before() -> None:
    text = "model_name_or_path: gpt2\noutput_dir: out\nbeta: 0.1\nprecompute_ref_log_probs: true\n"
    sheet = training_arguments_sheet("d.yaml", table_of("d.yaml", text), "training-args-yaml", project="trl")
    reference = sheet.get("reference_model")
    assert reference is not None
    assert (reference.value, reference.key) == ("none", "precompute_ref_log_probs")


def test_a_script_with_a_switch_of_its_own_for_adapters():
    text = "model_name_or_path: a/b\nlora_r: 16\nlora_alpha: 32\ntarget_modules: all-linear\npeft_enabled: "
    on, off, none = (_facts(end) for end in (f"{text}true\n", f"{text}false\n", text.rpartition("peft")[0]))

    assert (on["tuning"].value, on["lora_target_modules"].value) == ("lora", "all-linear")
    assert on["tuning"].place is not None
    assert on["tuning"].place.span.line == 5
    assert off["tuning"].value == "full"
    assert "tuning" not in none


def _facts(text: str) -> dict[str, Fact]:
    root = read_yaml(Document.of("recipe.yaml", text)).root
    assert isinstance(root, Table)
    return {fact.name: fact for fact in training_arguments_sheet("recipe.yaml", root, "training-args-yaml").facts}


@pytest.mark.parametrize(("more", "length"), [("block_size: 1024", 1024), ("max_length: 9\nblock_size: 1024", 9)])
def test_a_bound_that_the_script_names_itself(more: str, length: int) -> None:
    found = sheet_of("recipe.yaml", f"model_name_or_path: gpt2\nper_device_train_batch_size: 1\n{more}\n")
    fact = found.get("sequence_length")
    assert fact is not None
    assert fact.value == length


@pytest.mark.parametrize(
    ("made", "said"),
    [("HfArgumentParser(SFTConfig).parse_args_into_dataclasses()[0]", "SFTConfig"), ("SFTConfig('out')", None)],
)
def test_whose_fields_are_options_of_the_command_line(made: str, said: str | None) -> None:
    found = sheet(
        f"""\
        from transformers import HfArgumentParser
        from trl import SFTConfig, SFTTrainer
        args = {made}
        SFTTrainer("gpt2", args=args).train()
        """
    )
    fact = found.get("argument_parser")
    assert (None if fact is None else fact.value) == said
