"""What a script's own usage says of how it is started."""

from __future__ import annotations

import pytest

from tests.api.test_launching import TRAIN, check, facts

ZERO3 = "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\nnum_processes: 8\n"
COMMAND = "accelerate launch --config_file configs/zero3.yaml \\\n    scripts/train.py --model_name_or_path x"


@pytest.mark.parametrize(
    "head",
    [
        f'"""Trains.\n\n{COMMAND}\n"""\n',
        f'# Usage:\n#   {COMMAND}\n'.replace("\n    scripts", "\n#       scripts"),
        f'"""Trains a model (see `python prepare.py`).\n\n    $ {COMMAND}\n"""\n',
    ],
)  # fmt: skip
def test_the_launcher_in_front_of_the_usage_holds(head: str) -> None:
    files = {"scripts/train.py": head + TRAIN, "configs/zero3.yaml": ZERO3}
    (job,) = check(files, "scripts/train.py").jobs
    found = facts(job)
    assert (found["zero_stage"], found["world_size"]) == (3, 8)
    assert found["model"] == "openai-community/gpt2"


def test_gpus_that_the_user_declares_win_over_those_of_the_usage() -> None:
    files = {"train.py": '"""Trains.\n\ntorchrun --nproc_per_node 2 train.py\n"""\n' + TRAIN}
    for gpu, world in (("h100", 2), ("h100x4", 4)):
        (job,) = check(files, "train.py", gpu=gpu).jobs
        assert (facts(job)["world_size"], facts(job)["launcher"]) == (world, "torchrun")


@pytest.mark.parametrize(
    "head",
    [
        f'"""Trains.\n\npython scripts/train.py --bf16\n\n{COMMAND}\n"""\n',
        '"""Trains.\n\npython scripts/train.py --bf16 \'\n"""\n',
        '"""Trains; see accelerate launch other.py."""\n',
        "import os\n# accelerate launch --config_file configs/zero3.yaml scripts/train.py\n",
    ],
)
def test_nothing_is_taken_from_other_commands(head: str) -> None:
    files = {"scripts/train.py": head + TRAIN, "configs/zero3.yaml": ZERO3}
    report = check(files, "scripts/train.py")
    assert facts(report.jobs[0])["world_size"] == 1
    assert [finding.code for finding in report.findings] == []
