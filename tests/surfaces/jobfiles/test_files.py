"""Makefiles, Dockerfiles and Python programs that start jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.jobfiles.reading import folder, said, stated, text_at
from vramlint.readers.python import read_program
from vramlint.readers.shell import read_shell
from vramlint.surfaces.jobfiles import (
    machine_of_program,
    workloads_of_dockerfile,
    workloads_of_file,
    workloads_of_makefile,
    workloads_of_program,
)
from vramlint.surfaces.launch import Workload
from vramlint.text import Document
from vramlint.values import Program, Unknown


def program(text: str) -> Program:
    found, _ = read_program(Document.of("launch.py", text), {})
    assert found is not None
    return found


def started(text: str) -> tuple[Workload, ...]:
    return workloads_of_program(Document.of("launch.py", text), program(text), read_shell)


def test_targets_of_a_makefile() -> None:
    text = "GPUS ?= 4\ntrain:\n\ttorchrun --nproc_per_node=$(GPUS) train.py --model $(MODEL)\ntest:\n\tpytest\n"
    train, test = workloads_of_makefile(Document.of("Makefile", text), read_shell)
    assert (train.name, test.name) == ("train", "test")
    (command,) = train.commands
    assert said(command) == ["torchrun", "--nproc_per_node=4", "train.py", "--model", {"variable MODEL of make"}]
    assert text_at(text, command.word_places[1]) == "--nproc_per_node=$(GPUS)"
    assert text_at(text, command.words[1].place) == "4"


@pytest.mark.parametrize(
    ("lines", "words", "where"),
    [
        ('WORKDIR /app\nCOPY . .\nCMD ["python", "train.py"]', ["python", "train.py"], None),
        ("WORKDIR /app\nCOPY . /app\nCMD python train.py", ["python", "train.py"], None),
        ("COPY . /app\nWORKDIR /app/src\nCMD python train.py", ["python", "train.py"], "src"),
        ("WORKDIR /app\nCOPY scripts/ /app/\nCMD python train.py", ["python", "train.py"], "scripts"),
        ('ENTRYPOINT ["python"]\nCMD ["train.py"]', ["python", "train.py"], None),
        ('ENV M=gpt2\nCMD ["bash", "-c", "python train.py $M"]', ["python", "train.py", "gpt2"], None),
        ("WORKDIR /somewhere\nENTRYPOINT python train.py", ["python", "train.py"], "/somewhere"),
    ],
)
def test_what_a_container_starts(lines: str, words: list[object], where: str | None) -> None:
    document = Document.of("Dockerfile", f"FROM x\nRUN python setup.py\n{lines}\n")
    (workload,) = workloads_of_dockerfile(document, read_shell)
    (command,) = workload.commands
    assert said(command) == words
    assert folder(command) == where


def test_an_image_that_starts_nothing() -> None:
    assert workloads_of_dockerfile(Document.of("Dockerfile", "FROM x\nRUN python train.py\n"), read_shell) == ()


MODAL = """\
import os
import subprocess

import modal

app = modal.App("train")


@app.function(gpu={gpu}, timeout=3600)
def train(model: str = "gpt2"):
    subprocess.run(["torchrun", "train.py", "--model", model], check=True, cwd="src")
    os.system(f"python eval.py --model {{model}}")
"""


@pytest.mark.parametrize(
    ("gpu", "facts"),
    [
        ('"A100-80GB:4"', {"gpu": "a100-sxm4-80gb", "gpus_per_node": 4}),
        ('"H100!"', {"gpu": "h100-sxm5-80gb", "gpus_per_node": 1}),
        ('modal.gpu.A100(count=2, size="80GB")', {"gpu": "a100-sxm4-80gb", "gpus_per_node": 2}),
        ("modal.gpu.A100()", {"gpu": "a100-sxm4-40gb", "gpus_per_node": 1}),
        ('["H100", "A100-80GB:2"]', {"gpu": ("h100-sxm5-80gb", "a100-sxm4-80gb"), "gpus_per_node": (1, 2)}),
        ('"any"', {"gpu": {"any GPU that is free"}}),
    ],
)
def test_functions_on_modal(gpu: str, facts: dict[str, object]) -> None:
    text = MODAL.format(gpu=gpu)
    (workload,) = started(text)
    assert [said(command) for command in workload.commands] == [
        ["torchrun", "train.py", "--model", "gpt2"],
        ["python", "eval.py", "--model", "gpt2"],
    ]
    assert folder(workload.commands[0]) == "src"
    assert stated(workload) == facts
    assert text_at(text, workload.commands[0].word_places[1]) == '"train.py"'
    assert machine_of_program(program(text)) == workload.facts


def test_texts_for_a_shell() -> None:
    text = """\
import subprocess
subprocess.run(["python a.py --lr 1"], shell=True)
if FAST:
    name = "python b.py"
else:
    name = "python c.py"
subprocess.call(name, shell=True)
"""
    (workload,) = started(text)
    assert [said(command) for command in workload.commands] == [
        ["python", "a.py", "--lr", "1"],
        ["python", "b.py"],
        ["python", "c.py"],
    ]
    assert [bool(command.conditions) for command in workload.commands] == [False, True, True]


def test_reasons_name_variables_as_people_know_them() -> None:
    text = 'train:\n\tif [ "$(FAST)" = 1 ]; then python train.py --out=$(OUT)/x; fi\n'
    (workload,) = workloads_of_makefile(Document.of("Makefile", text), read_shell)
    (command,) = workload.commands
    assert command.conditions == ('[ "FAST" = 1 ]',)
    (unknown,) = [word for word in command.words if isinstance(word, Unknown)]
    assert "variable OUT of make" in unknown.reason
    assert "__" not in unknown.reason + unknown.prefix


def test_estimators_of_sagemaker() -> None:
    text = """\
from sagemaker.huggingface import HuggingFace

parameters = {"epochs": 3, "lr": 1e-4, "fp16": True, "fsdp": '"full_shard auto_wrap"', "dataset": DATASET}
estimator = HuggingFace(
    entry_point="train.py",
    source_dir="./scripts",
    instance_type="ml.p4d.24xlarge",
    instance_count=2,
    hyperparameters=parameters,
    distribution={"torch_distributed": {"enabled": True}},
)
estimator.set_hyperparameters(epochs=5)
estimator.fit()
"""
    (workload,) = started(text)
    (command,) = workload.commands
    words = said(command)
    assert words[:-1] == [
        "torchrun",
        "--nnodes",
        "2",
        "--nproc_per_node",
        "8",
        "train.py",
        "--epochs",
        "5",
        "--lr",
        "0.0001",
        "--fp16",
        "True",
        "--fsdp",
        "full_shard auto_wrap",
        "--dataset",
    ]
    assert isinstance(words[-1], set)
    assert folder(command) == "./scripts"
    assert stated(workload) == {"gpu": "a100-sxm4-40gb", "gpus_per_node": 8, "nodes": 2}


def test_a_model_trainer_of_sagemaker() -> None:
    text = """\
from sagemaker.modules.configs import Compute, SourceCode
from sagemaker.modules.train import ModelTrainer

trainer = ModelTrainer(
    source_code=SourceCode(source_dir="src", entry_script="train.py"),
    compute=Compute(instance_type="ml.g5.12xlarge", instance_count=1),
    hyperparameters={"lr": 0.1},
)
"""
    (workload,) = started(text)
    assert said(workload.commands[0]) == ["python", "train.py", "--lr", "0.1"]
    assert stated(workload) == {"gpu": "a10g", "gpus_per_node": 4, "nodes": 1}


@pytest.mark.parametrize(
    ("text", "words", "facts"),
    [
        (
            "import sky\ntask = sky.Task(run='python train.py', num_nodes=2)\n"
            "task.set_resources(sky.Resources(accelerators='A100:8'))\n",
            ["python", "train.py"],
            {"gpu": "a100-sxm4-40gb", "gpus_per_node": 8, "nodes": 2},
        ),
        (
            "from google.cloud import aiplatform\n"
            "aiplatform.CustomJob(worker_pool_specs=[{'machine_spec': {'machine_type': 'a2-highgpu-1g'},\n"
            "  'replica_count': 1, 'container_spec': {'command': ['python', 'train.py'], 'args': []}}])\n",
            ["python", "train.py"],
            {"gpu": "a100-sxm4-40gb", "gpus_per_node": 1, "nodes": 1},
        ),
        (
            "from huggingface_hub import run_uv_job\n"
            "run_uv_job('train.py', script_args=['--lr', '1'], flavor='a10g-large')\n",
            ["python", "train.py", "--lr", "1"],
            {"gpu": "a10g", "gpus_per_node": 1},
        ),
        (
            "from azure.ai.ml import command\ncommand(code='./src', instance_count=2, inputs={'lr': 0.1},\n"
            "  command='python train.py --lr ${{inputs.lr}}')\n",
            ["python", "train.py", "--lr", "0.1"],
            {"nodes": 2},
        ),
    ],
)
def test_jobs_handed_to_a_service(text: str, words: list[object], facts: dict[str, object]) -> None:
    (workload,) = started(text)
    assert said(workload.commands[0]) == words
    assert stated(workload) == facts


@pytest.mark.parametrize(
    ("form", "text", "facts"),
    [
        ("shell", "#SBATCH --gres=gpu:h100:4\npython train.py\n", {"gpus_per_node": 4, "gpu": "h100-sxm5-80gb"}),
        ("make", "train:\n\tpython train.py\n", {}),
        ("docker", "FROM x\nCMD python train.py\n", {}),
        (
            "yaml",
            "resources: {accelerators: H100:4}\nrun: python train.py\n",
            {"gpu": "h100-sxm5-80gb", "gpus_per_node": 4},
        ),
        (
            "json",
            '{"workerPoolSpecs": [{"replicaCount": 1, "machineSpec": {"machineType": "a3-highgpu-8g"},'
            ' "containerSpec": {"command": ["python", "train.py"]}}]}',
            {"gpu": "h100-sxm5-80gb", "gpus_per_node": 8, "nodes": 1},
        ),
    ],
)
def test_every_form_of_file(form: str, text: str, facts: dict[str, object]) -> None:
    (workload,) = workloads_of_file(Document.of("file", text), form, read_shell)
    assert said(workload.commands[0]) == ["python", "train.py"]
    assert stated(workload) == facts


@pytest.mark.parametrize(
    ("text", "words", "facts"),
    [
        (
            "hf jobs uv run --flavor a100-large --secrets HF_TOKEN --with trl train.py --lr 1e-4\n",
            ["python", "train.py", "--lr", "1e-4"],
            {"gpu": "a100-sxm4-80gb", "gpus_per_node": 1},
        ),
        (
            "hf jobs run --flavor=l4x4 python:3.12 torchrun train.py\n",
            ["torchrun", "train.py"],
            {"gpu": "l4", "gpus_per_node": 4},
        ),
        (
            "gcloud ai custom-jobs create --region=us-central1 --args=--lr=1,--epochs=2 \\\n"
            "  --worker-pool-spec=machine-type=a2-highgpu-2g,replica-count=1,accelerator-type=NVIDIA_TESLA_A100,"
            "accelerator-count=2,executor-image-uri=x,local-package-path=src,script=train.py\n",
            ["python", "train.py", "--lr=1", "--epochs=2"],
            {"gpu": "a100-sxm4-40gb", "gpus_per_node": 2, "nodes": 1},
        ),
    ],
)
def test_commands_that_send_jobs(text: str, words: list[object], facts: dict[str, object]) -> None:
    _, sent = workloads_of_file(Document.of("run.sh", text), "shell", read_shell)
    assert said(sent.commands[0]) == words
    assert stated(sent) == facts


def test_workers_of_ray() -> None:
    text = "from ray.train import ScalingConfig\nScalingConfig(num_workers=8, use_gpu=True, accelerator_type='H100')\n"
    assert {fact.name: fact.value for fact in machine_of_program(program(text))} == {
        "world_size": 8,
        "gpu": "h100-sxm5-80gb",
    }


@given(st.text(alphabet="ab:= \t\n$(){}\\#", max_size=80))
def test_any_makefile_and_dockerfile_is_read(text: str) -> None:
    workloads_of_makefile(Document.of("Makefile", "a:\n\t" + text), read_shell)
    workloads_of_dockerfile(Document.of("Dockerfile", "FROM a\nCMD " + text), read_shell)
