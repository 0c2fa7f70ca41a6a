"""Vertex AI, Azure ML and smaller platforms."""

from __future__ import annotations

import pytest

from tests.surfaces.jobfiles.reading import folder, read, said, stated, text_at
from vramlint.readers.yaml import read_yaml
from vramlint.values import Scalar, Table


def test_vertex_pools() -> None:
    text = """\
workerPoolSpecs:
- machineSpec: {machineType: a2-highgpu-4g, acceleratorType: NVIDIA_TESLA_A100, acceleratorCount: 4}
  replicaCount: 1
  containerSpec: {imageUri: x, command: [torchrun], args: [train.py, --lr, "1e-4"]}
- machineSpec: {machineType: a2-highgpu-4g}
  replicaCount: 3
  containerSpec: {imageUri: x, command: [torchrun], args: [train.py, --lr, "1e-4"]}
"""
    (job,) = read(text)
    assert said(job.commands[0]) == ["torchrun", "train.py", "--lr", "1e-4"]
    assert stated(job) == {"gpu": "a100-sxm4-40gb", "gpus_per_node": 4, "nodes": 4}


def test_vertex_python_package() -> None:
    text = """\
worker_pool_specs:
- machine_spec: {machine_type: g2-standard-24}
  replica_count: 1
  python_package_spec: {python_module: trainer.task, args: [--epochs=3]}
"""
    (job,) = read(text)
    assert said(job.commands[0]) == ["python", "-m", "trainer.task", "--epochs=3"]
    assert stated(job) == {"gpu": "l4", "gpus_per_node": 2, "nodes": 1}


def test_azure_command_job() -> None:
    text = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
code: ./src
command: >-
  python train.py
  --lr ${{inputs.lr}}
  --data ${{inputs.data}}
inputs:
  lr: 0.0001
  data: {type: uri_folder, path: azureml:wiki@latest}
resources: {instance_count: 2, instance_type: Standard_ND96asr_v4}
"""
    (job,) = read(text)
    (command,) = job.commands
    assert said(command) == ["python", "train.py", "--lr", "0.0001", "--data", "azureml:wiki@latest"]
    assert folder(command) == "./src"
    assert stated(job) == {"gpu": "a100-sxm4-40gb", "gpus_per_node": 8, "nodes": 2}


@pytest.mark.parametrize(
    ("gpu", "facts"),
    [
        ("H100:8", {"gpu": "h100-sxm5-80gb", "gpus_per_node": 8}),
        ("80GB:2", {"gpu": "80GB", "gpus_per_node": 2}),
        ("A100:80GB:4", {"gpu": "a100-sxm4-80gb", "gpus_per_node": 4}),
        ("24GB..", {"gpu": {"any GPU of 24GB.."}}),
        ("{name: A100, memory: 40GB, count: 2}", {"gpu": "a100-sxm4-40gb", "gpus_per_node": 2}),
    ],
)
def test_dstack(gpu: str, facts: dict[str, object]) -> None:
    text = f"type: task\nnodes: 2\ncommands:\n- cd src\n- torchrun train.py\nresources:\n  gpu: {gpu}\n"
    (job,) = read(text)
    assert [(folder(c), said(c)) for c in job.commands] == [("src", ["torchrun", "train.py"])]
    assert stated(job) == {**facts, "nodes": 2}


def test_experiments_that_count_all_gpus() -> None:
    (experiment,) = read(
        "entrypoint: [python3, -m, determined.launch.torch_distributed, train.py]\n"
        "resources: {slots_per_trial: 16}\nsearcher: {name: single}\n"
    )
    assert said(experiment.commands[0])[-1] == "train.py"
    assert stated(experiment) == {"world_size": 16}
    (run,) = read("command: composer train.py cfg.yaml\ncompute: {gpus: 8, gpu_type: a100_80gb}\n")
    assert stated(run) == {"gpu": "a100-sxm4-80gb", "world_size": 8}


def test_parameters_of_a_run_are_a_file_there() -> None:
    text = "command: composer train.py /mnt/config/parameters.yaml\ncompute: {gpus: 8}\nparameters:\n  seed: 17\n"
    (run,) = read(text)
    (file,) = run.files
    assert isinstance(file.name, Scalar)
    assert file.name.value == "/mnt/config/parameters.yaml"
    assert file.document is not None
    root = read_yaml(file.document).root
    assert isinstance(root, Table)
    assert text_at(text, root.entries[0].key_place) == "seed"


def test_sweeps() -> None:
    text = """\
program: train.py
method: grid
parameters:
  model: {value: gpt2}
  lr: {values: [1, 2]}
  dropout: {min: 0.0, max: 0.5}
"""
    (sweep,) = read(text)
    assert said(sweep.commands[0]) == [
        "python",
        "train.py",
        "--model=gpt2",
        ("--lr=1", "--lr=2"),
        ("--dropout=0.0", "--dropout=0.5"),
    ]
    assert sweep.searched == (("lr", ("lr = 1", "lr = 2")), ("dropout", ("dropout = 0.0", "dropout = 0.5")))
    (hydra,) = read(text + 'command: ["${env}", torchrun, "${program}", "${args_no_hyphens}"]\n')
    assert said(hydra.commands[0])[:3] == ["torchrun", "train.py", "model=gpt2"]


@pytest.mark.parametrize(
    "text",
    ["", "a: 1\n", "- a\n", "model: gpt2\nlearning_rate: 1e-4\n", "kind: Pod\n", "jobs: 3\n", "services: {a: 1}\n"],
)
def test_other_files_are_no_job_files(text: str) -> None:
    assert read(text) == ()


def test_beaker_experiment() -> None:
    text = """\
version: v2
tasks:
- name: sft
  replicas: 4
  image: {beaker: someone/image}
  command: ['/bin/sh', '-c']
  arguments: ['
    unset CUDA_LAUNCH_BLOCKING && accelerate launch
    --num_processes $COUNT
    open_instruct/finetune.py
    --max_seq_length 4096
  ']
  envVars:
  - name: COUNT
    value: 32
  - name: TOKEN
    secret: TOKEN
  resources: {gpuCount: 8}
"""
    (job,) = read(text)
    command = job.commands[-1]
    assert said(command) == [
        "accelerate", "launch", "--num_processes", "32", "open_instruct/finetune.py", "--max_seq_length", "4096",
    ]  # fmt: skip
    assert stated(job) == {"gpus_per_node": 8, "nodes": 4}
