"""What tools and scripts of libraries say by their command line."""

from __future__ import annotations

import pytest

from tests.surfaces.launch.making import PATH, launch_of
from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.surfaces.launch import launched, sheet_of_command

TRL = (
    "--model_name_or_path gpt2 --per_device_train_batch_size 4 --use_peft --lora_target_modules q v --deepspeed ds.json"
)


def values(sheet: Sheet | None) -> dict[str, object]:
    assert sheet is not None
    return {fact.name: fact.value for fact in sheet.facts if fact.known}


@pytest.mark.parametrize(
    ("line", "objective"),
    [
        ("trl sft", "sft"),
        ("trl dpo", "dpo"),
        ("trl online-dpo", "online-dpo"),
        ("torchrun --nproc_per_node 2 -m trl.scripts.grpo", "grpo"),
        ("accelerate launch --num_processes 2 trl/scripts/sft.py", "sft"),
        ("python examples/scripts/reward_modeling.py", "reward"),
        ("accelerate launch --num_processes 2 /opt/trl/examples/scripts/dpo.py", "dpo"),
    ],
)
def test_trl_in_every_way_to_start_it(line, objective):
    sheet = sheet_of_command(launch_of(f"{line} {TRL}"))
    said = values(sheet)
    assert (sheet.kind, sheet.path, said["objective"], said["run_kind"]) == (
        "training-args-cli",
        PATH,
        objective,
        "training",
    )
    assert (said["model"], said["micro_batch_size"], said["tuning"]) == ("gpt2", 4, "lora")
    assert said["lora_target_modules"] == ("q", "v")
    assert ("deepspeed", "ds.json") in [(link.kind, link.target) for link in sheet.links]


def test_facts_come_by_the_command_line():
    fact = sheet_of_command(launch_of("trl sft --lora_r=16")).get("lora_r")
    assert (fact.origin, fact.via, fact.key) == (Origin.WRITTEN, "cli", "lora_r")


def test_launcher_and_recipe_are_part_of_it():
    sheet = sheet_of_command(launch_of("trl sft --config a.yaml --accelerate_config zero2 --num_processes 4"))
    assert values(sheet)["world_size"] == 4
    assert [(link.kind, link.target) for link in sheet.links] == [("training-args", "a.yaml")]
    assert [name for name, _ in sheet.tables] == ["SFTConfig", "accelerate", "accelerate"]


def test_causal_language_model_of_transformers():
    line = "torchrun --nproc_per_node 2 examples/pytorch/language-modeling/run_clm.py --model_name_or_path gpt2"
    sheet = sheet_of_command(
        launch_of(f"{line} --dataset_name x --bf16 --block_size 512 --fsdp full_shard --fsdp_config f.json")
    )
    said = values(sheet)
    assert (said["model"], said["sequence_length"], said["bf16"], said["loop"]) == ("gpt2", 512, True, "trainer")
    assert said["world_size"] == 2
    assert [(link.kind, link.target) for link in sheet.links] == [("fsdp", "f.json")]
    ((_, table),) = sheet.tables
    assert "dataset_name" not in {entry.key for entry in table}


def test_defaults_of_an_example():
    sheet = sheet_of_command(launch_of("python run_glue.py --model_name_or_path bert-base-cased"))
    fact = sheet.get("sequence_length")
    assert (fact.value, fact.origin) == (128, Origin.DEFAULT)
    fresh = values(sheet_of_command(launch_of("python run_clm.py --config_name gpt2")))
    assert (fresh["objective"], fresh["model"]) == ("pretrain", "gpt2")


def test_an_image_classifier_of_transformers():
    said = values(
        sheet_of_command(launch_of("python run_image_classification.py --model_name_or_path google/vit-base"))
    )
    assert (said["objective"], said["loop"]) == ("image-cls", "trainer")
    assert "sequence_length" not in said


def test_an_example_with_a_loop_of_its_own():
    line = "accelerate launch --num_processes 1 run_glue_no_trainer.py --model_name_or_path bert-base-cased"
    sheet = sheet_of_command(launch_of(f"{line} --max_length 256 --optim adafactor"))
    said = values(sheet)
    assert (said["objective"], said["loop"], said["optimizer"]) == ("seq-cls", "accelerate", "adamw_torch")
    assert (said["sequence_length"], said["micro_batch_size"], said["max_grad_norm"]) == (256, 8, 0)
    assert "training-arguments" not in {name for name, _ in sheet.tables}


@pytest.mark.parametrize("line", ["python train.py --bf16", "oumi train -c a.yaml", "python -m pkg.train"])
def test_others_say_nothing(line):
    assert sheet_of_command(launch_of(line)) is None


def test_launcher_wins_over_the_script_where_it_knows():
    own = Sheet("train.py", "python-script", (Fact("world_size", (Candidate(2),), Origin.WRITTEN),))
    assert values(launched(own, launch_of("torchrun --nproc_per_node 4 train.py")))["world_size"] == 4
    assert values(launched(own, launch_of("deepspeed train.py")))["world_size"] == 2
    script = Sheet("train.py", "python-script", (Fact("allocator_settings", (Candidate("a:1"),), Origin.WRITTEN),))
    launch = launch_of("python train.py", {"PYTORCH_CUDA_ALLOC_CONF": "b:2"})
    assert values(launched(script, launch))["allocator_settings"] == "a:1"
    assert values(launched(own, launch))["allocator_settings"] == "b:2"
