"""Continuous integration and Compose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.jobfiles.reading import folder, read, said, stated, text_at
from vramlint.readers.json import read_json
from vramlint.values import Scalar, Table

WORKFLOW = """\
name: train
on:
  workflow_dispatch:
    inputs:
      steps: {default: "100"}
env:
  SIZE: small
jobs:
  finetune:
    runs-on: [self-hosted, linux, a10g]
    strategy:
      matrix:
        model: [gpt2, gpt2-xl]
        gpus: [2]
    steps:
    - uses: actions/checkout@v4
    - name: Train
      working-directory: examples
      env: {LR: "1e-4"}
      run: |
        torchrun --nproc_per_node=${{ matrix.gpus }} train.py --model ${{ matrix.model }} \\
          --size ${{ env.SIZE }} --token ${{ secrets.HF_TOKEN }} --lr $LR --name 'x ${{ inputs.steps }}'
    - shell: python
      run: print("no shell")
"""


def test_steps_of_a_workflow() -> None:
    (job,) = read(WORKFLOW, ".github/workflows/train.yml")
    assert job.name == "finetune"
    (command,) = job.commands
    assert said(command) == [
        "torchrun",
        "--nproc_per_node=2",
        "train.py",
        "--model",
        ("gpt2", "gpt2-xl"),
        "--size",
        "small",
        "--token",
        {"`secrets.HF_TOKEN` of the workflow"},
        "--lr",
        "1e-4",
        "--name",
        "x 100",
    ]
    assert folder(command) == "examples"
    assert stated(job) == {"gpu": "a10g"}
    assert text_at(WORKFLOW, command.word_places[6]) == "${{ env.SIZE }}"
    assert text_at(WORKFLOW, command.words[6].place) == "small"


def test_files_that_a_step_writes_have_their_own_text_at_its_place() -> None:
    text = """\
jobs:
  a:
    runs-on: x
    steps:
    - run: |
        cat > ds.json <<EOF
        {"zero_optimization": {"stage": 2}}
        EOF
        deepspeed train.py --deepspeed ds.json
"""
    (job,) = read(text)
    (file,) = job.files
    assert isinstance(file.name, Scalar)
    assert file.name.value == "ds.json"
    assert file.document is not None
    root = read_json(file.document).root
    assert isinstance(root, Table)
    assert text_at(text, root.entries[0].key_place) == '"zero_optimization"'
    assert said(job.commands[-1]) == ["deepspeed", "train.py", "--deepspeed", "ds.json"]


@pytest.mark.parametrize(
    ("label", "facts"),
    [
        ("linux.g5.12xlarge.nvidia.gpu", {"gpu": "a10g", "gpus_per_node": 4}),
        ("8xH100", {"gpu": "h100-sxm5-80gb", "gpus_per_node": 8}),
        ("gpu-a100-runner", {"gpu": ("a100-40gb", "a100-80gb")}),
        ("ubuntu-latest", {}),
        ("L20-runner-x8", {}),
    ],
)
def test_labels_of_runners(label: str, facts: dict[str, object]) -> None:
    text = f"jobs:\n  a:\n    runs-on: {label}\n    steps:\n    - run: python train.py\n"
    (job,) = read(text)
    assert stated(job) == facts


def test_composite_actions_and_reusable_workflows() -> None:
    action = "inputs:\n  n: {default: 2}\nruns:\n  steps:\n  - run: torchrun train.py --n ${{ inputs.n }}\n"
    (workload,) = read(action, "action.yml")
    assert said(workload.commands[0]) == ["torchrun", "train.py", "--n", "2"]
    workflow = "jobs:\n  a:\n    uses: x/y@main\n    with: {runner: linux.g5.48xlarge, script: torchrun train.py}\n"
    (workload,) = read(workflow, ".github/workflows/a.yml")
    assert said(workload.commands[0]) == ["torchrun", "train.py"]
    assert stated(workload) == {"gpu": "a10g", "gpus_per_node": 8}


def test_gitlab_jobs() -> None:
    text = """\
variables: {MODEL: gpt2}
stages: [train]
train:
  tags: [gpu, h100]
  before_script: [cd src]
  script:
  - accelerate launch train.py --model $MODEL
"""
    (job,) = read(text, ".gitlab-ci.yml")
    (command,) = job.commands
    assert said(command) == ["accelerate", "launch", "train.py", "--model", "gpt2"]
    assert folder(command) == "src"
    assert stated(job) == {"gpu": "h100-sxm5-80gb"}


def test_compose_services() -> None:
    text = """\
services:
  train:
    image: trainer
    environment: [MODEL=gpt2, HF_TOKEN]
    command: torchrun --nproc_per_node ${GPUS:-2} train.py --model $$MODEL --out ${OUT}
    deploy:
      resources:
        reservations:
          devices:
          - {driver: nvidia, count: 2, capabilities: [gpu]}
  eval:
    entrypoint: [python]
    command: [eval.py, --n, "8"]
    gpus: all
"""
    train, evaluate = read(text, "docker-compose.yml")
    assert said(train.commands[0]) == [
        "torchrun",
        "--nproc_per_node",
        "2",
        "train.py",
        "--model",
        "gpt2",
        "--out",
        {"environment variable OUT"},
    ]
    assert stated(train) == {"gpus_per_node": 2}
    assert said(evaluate.commands[0]) == ["python", "eval.py", "--n", "8"]
    assert stated(evaluate) == {"gpus_per_node": {"all GPUs of the machine"}}


@given(st.text(alphabet="ab:- \n[]{}$()|>'\"", max_size=80))
def test_never_raises_inside_a_workflow(text: str) -> None:
    read(f"jobs:\n  a:\n    runs-on: {text}\n    steps:\n    - run: {text}\n")
    read(f"services:\n  a:\n    command: {text}\n    gpus: {text}\n")
