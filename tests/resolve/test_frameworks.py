"""Configurations of frameworks under their command lines, and those that nobody can read."""

from __future__ import annotations

import pytest

from tests.api.test_launching import check
from vramlint.facts import Origin

AXOLOTL = "base_model: Qwen/Qwen2.5-0.5B\nmicro_batch_size: 4\nsequence_len: 1024\nadapter: lora\nlora_r: 8\n"

DECIDING = ("load_dtype", "optimizer", "precision", "sequence_length", "activation_checkpointing", "tuning", "packing")


def launched(command, files=None):
    (job,) = check({"run.sh": f"{command}\n", **(files or {})}, "run.sh").jobs
    return {fact.name: fact for fact in job.facts}


@pytest.mark.parametrize(
    "command",
    [
        "axolotl train absent.yaml",
        'axolotl train "$CONFIG"',
        "accelerate launch -m axolotl.cli.train $1",
        "llamafactory-cli train absent.yaml",
        "torchrun --nproc_per_node 8 -m torchtitan.train --job.config_file ${CONFIG_FILE}",
    ],
)
def test_defaults_are_not_those_of_a_configuration_that_nobody_can_read(command):
    facts = launched(command)
    assert facts["run_kind"].value == "training"
    assert not [name for name in DECIDING if name in facts and facts[name].origin is Origin.DEFAULT]
    assert "model" not in facts or not facts["model"].candidates
    assert facts["micro_batch_size"].origin is Origin.ASSUMED


def test_the_option_that_names_a_file_is_no_unknown_key():
    report = check({"run.sh": "litgpt finetune_lora --config absent.yaml --train.micro_batch_size 2\n"}, "run.sh")
    assert not [finding for finding in report.findings if "key config" in finding.message]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("axolotl train absent.yaml", True),
        ("python make.py --out absent.yaml\naxolotl train absent.yaml", False),
        ("tune run lora_finetune_single_device --config absent.yaml", True),
        ("tune run lora_finetune_single_device --config llama9/8B_lora", False),
    ],
)
def test_a_file_that_is_not_there_is_told_unless_a_release_may_ship_it(command, told):
    report = check({"run.sh": f"{command}\n"}, "run.sh")
    assert any("not found" in finding.message for finding in report.findings) == told


def test_a_configuration_beside_it_has_its_framework_s_defaults():
    facts = launched("axolotl train mine.yaml", {"mine.yaml": AXOLOTL})
    assert (facts["micro_batch_size"].value, facts["lora_r"].value) == (4, 8)
    assert facts["optimizer"].origin is Origin.DEFAULT


def test_words_behind_the_options_are_no_configuration():
    facts = launched('llamafactory-cli train --stage sft --model_name_or_path Qwen/Qwen2.5-0.5B "$@"')
    assert facts["model"].value == "Qwen/Qwen2.5-0.5B"
    assert facts["sequence_length"].known
