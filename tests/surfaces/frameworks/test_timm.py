"""timm's train.py by its command line alone."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import Explained, origin, value, values

LINE = (
    "torchrun --nproc_per_node=2 train.py --data-dir /data/imagenet --model vit_base_patch16_224 -b 64 --opt adamw "
    "--amp --amp-dtype bfloat16 --grad-accum-steps 2 --grad-checkpointing --drop-path 0.1\n"
)


def test_what_a_command_line_says(explained: Explained):
    job = explained.job("run.sh", LINE)
    assert values(job, "objective", "tuning", "optimizer", "precision", "load_dtype", "micro_batch_size") == {
        "objective": "image-cls",
        "tuning": "full",
        "optimizer": "adamw_torch",
        "precision": "bf16-mixed",
        "load_dtype": "float32",
        "micro_batch_size": 64,
    }
    assert values(job, "gradient_accumulation_steps", "activation_checkpointing", "world_size") == {
        "gradient_accumulation_steps": 2,
        "activation_checkpointing": True,
        "world_size": 2,
    }
    assert job["status"] == "unresolved"
    assert "vit_base_patch16_224" in str(job["reason"])


def test_defaults(explained: Explained):
    job = explained.job("run.sh", "python pytorch-image-models/train.py /data --model resnet50\n")
    assert values(job, "micro_batch_size", "optimizer", "max_grad_norm") == {
        "micro_batch_size": 128,
        "optimizer": "sgd",
        "max_grad_norm": 0,
    }
    assert origin(job, "micro_batch_size") == "default"


def test_options_of_a_file(explained: Explained):
    explained.write("args.yaml", "model: convnext_tiny\nbatch_size: 32\nopt: lamb\n")
    job = explained.job("run.sh", "python timm/train.py -c args.yaml --clip-grad 1.0\n")
    assert values(job, "micro_batch_size", "optimizer", "max_grad_norm") == {
        "micro_batch_size": 32,
        "optimizer": "lamb",
        "max_grad_norm": 1.0,
    }


@pytest.mark.parametrize(
    "line",
    [
        "python train.py --model gpt2 --batch-size 8 --lr 1e-4 --epochs 3\n",
        "python train.py --model gpt2 --drop-path 0.1 --block-size 1024\n",
        "python src/train.py --model resnet50 --drop-path 0.1\n",
    ],
)
def test_other_scripts_of_that_name(explained: Explained, line: str):
    assert explained.jobs("run.sh", line) == []


def test_a_misspelt_option(explained: Explained):
    line = LINE.replace("train.py", "pytorch-image-models/train.py").replace("grad-checkpointing", "grad-checkpoiting")
    (found,) = explained.findings("run.sh", line)
    assert "grad_checkpointing" in found


def test_the_projects_own_script_is_read(explained: Explained):
    explained.write("train.py", "print('nothing of the kind')\n")
    assert all(job["kind"] != "training" for job in explained.jobs("run.sh", LINE))
    assert value(explained.job("other.sh", LINE.replace("train.py", "timm/train.py")), "objective") == "image-cls"
