"""How a run shares its model, where the files do not say it."""

from __future__ import annotations

import pytest

from tests.api.test_launching import TRAIN, check, facts

LLAMA = TRAIN.replace("openai-community/gpt2", "meta-llama/Llama-2-70b-hf")
ACCELERATED = """\
from accelerate import Accelerator
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM
accelerator = Accelerator()
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-70b-hf", torch_dtype="bfloat16")
optimizer = AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, batch_size=1))
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
"""


def found(files: dict[str, str], *given: str) -> list[str]:
    return [finding.code for finding in check(files, *given, gpu="a100-80gb").findings]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("deepspeed train.py --deepspeed $1", "positional argument 1 of run.sh (line 1)"),
        ("deepspeed train.py --deepspeed /data/ds.json", "/data/ds.json is a file of the machine that the run is made"),
        ("python gen.py --out ds.json\ndeepspeed train.py --deepspeed ds.json", "ds.json is written at run time"),
        ("sed s/A/1/ t.json > c/ds.json\ndeepspeed train.py --deepspeed c/ds.json", "c/ds.json is written at run time"),
        ("cat a.json | jq . | tee ds.json\ndeepspeed train.py --deepspeed ds.json", "ds.json is written at run time"),
    ],
)
def test_a_configuration_that_only_run_time_knows(command: str, reason: str) -> None:
    files = {"run.sh": f"{command}\n", "train.py": LLAMA}
    assert found(files, "run.sh") == ["VRAM910"]
    (job,) = check(files, "run.sh", gpu="a100-80gb").jobs
    assert job.status == "unresolved"
    assert job.reason.startswith(f"deepspeed config is not known ({reason}")


def test_a_configuration_that_should_be_there() -> None:
    files = {"run.sh": "deepspeed train.py --deepspeed ds.json\n", "train.py": LLAMA}
    assert found(files, "run.sh") == ["VRAM807"]
    again = {**files, "run.sh": "deepspeed train.py --deepspeed ds.json\n" * 2}
    assert set(found(again, "run.sh")) == {"VRAM807"}


@pytest.mark.parametrize(
    ("option", "codes"),
    [
        ("--config_file $CONFIG", ["VRAM910"]),
        ("--config_file gone.yaml", ["VRAM807"]),
        ("--num_processes 1", ["VRAM101"]),
    ],
)
def test_accelerates_configuration(option: str, codes: list[str]) -> None:
    files = {"run.sh": f"accelerate launch {option} train.py\n", "train.py": ACCELERATED}
    assert found(files, "run.sh") == codes


def test_an_absolute_path_of_a_container() -> None:
    files = {
        "jobs/run.sh": "accelerate launch --config_file /workspace/jobs/zero3.yaml /workspace/train.py\n",
        "jobs/zero3.yaml": "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\nnum_processes: 16\n",
        "train.py": ACCELERATED,
    }
    (job,) = check(files, "jobs/run.sh").jobs
    assert (facts(job)["zero_stage"], facts(job)["world_size"]) == (3, 16)


@pytest.mark.parametrize("program", ["$HOME/.local/bin/accelerate launch", "${CONDA_PREFIX}/bin/python"])
def test_a_program_in_a_folder_that_only_run_time_knows(program: str) -> None:
    files = {"run.sh": f"{program} train.py --per_device_train_batch_size 3\n", "train.py": TRAIN}
    (job,) = check(files, "run.sh").jobs
    assert facts(job)["micro_batch_size"] == 3


def test_an_option_whose_variable_is_empty() -> None:
    files = {
        "run.sh": 'HOST=""\naccelerate launch --main_process_ip $HOST --main_process_port 12345 train.py\n',
        "train.py": TRAIN,
    }
    (job,) = check(files, "run.sh").jobs
    assert job.name == "run.sh runs train.py"


def test_deepspeed_counts_accumulation_by_itself() -> None:
    engine = """\
import deepspeed
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
config = {"train_batch_size": 32, "train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 1}}
engine, _, loader, _ = deepspeed.initialize(model=model, config=config, training_data=data)
for step, batch in enumerate(loader):
    engine.backward(engine(**batch).loss)
    engine.step()
    if (step + 1) % 40 == 0 and engine.is_gradient_accumulation_boundary():
        report(step)
"""
    report = check({"run.sh": "deepspeed --num_gpus 4 train.py\n", "train.py": engine}, "run.sh")
    assert facts(report.jobs[0])["gradient_accumulation_steps"] == 4
    assert [finding.code for finding in report.findings] == ["VRAM906"]
