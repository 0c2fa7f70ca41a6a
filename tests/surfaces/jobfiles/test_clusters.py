"""Kubernetes manifests and SkyPilot tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.jobfiles.reading import folder, read, said, stated, text_at

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: finetune
spec:
  nodeSelector:
    cloud.google.com/gke-accelerator: nvidia-tesla-a100
  containers:
  - name: trainer
    image: registry/trainer:1
    env:
    - {name: MODEL, value: gpt2}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}
    command: ["torchrun", "--nproc_per_node=8", "train.py"]
    args: ["--model", "$(MODEL)", "--token", "$(TOKEN)"]
    resources:
      limits:
        nvidia.com/gpu: "8"
"""


def test_a_pod_runs_its_command_on_what_it_requests() -> None:
    (pod,) = read(POD)
    (command,) = pod.commands
    assert said(command) == [
        "torchrun",
        "--nproc_per_node=8",
        "train.py",
        "--model",
        "gpt2",
        "--token",
        {"environment variable TOKEN"},
    ]
    assert stated(pod) == {"gpus_per_node": 8, "gpu": "a100-sxm4-40gb"}
    assert text_at(POD, command.word_places[2]) == '"train.py"'
    gpus = next(fact for fact in pod.facts if fact.name == "gpus_per_node")
    assert text_at(POD, gpus.place) == '"8"'


def test_shell_text_of_a_container_keeps_its_places() -> None:
    text = """\
apiVersion: batch/v1
kind: Job
spec:
  completionMode: Indexed
  parallelism: 4
  template:
    spec:
      containers:
      - command: ["/bin/bash", "-lc"]
        args:
        - |
          cd /workspace
          torchrun --nnodes=4 \\
            train.py --lr 2e-5
        resources: {requests: {nvidia.com/gpu: 8}}
"""
    (job,) = read(text)
    (command,) = job.commands
    assert said(command) == ["torchrun", "--nnodes=4", "train.py", "--lr", "2e-5"]
    assert folder(command) == "/workspace"
    assert text_at(text, command.word_places[2]) == "train.py"
    assert stated(job) == {"gpus_per_node": 8, "nodes": 4}


def test_required_affinity_names_the_gpu_and_preferred_does_not() -> None:
    text = """\
apiVersion: v1
kind: Pod
spec:
  affinity:
    nodeAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 1, preference: {matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [Tesla-T4]}]}}
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions:
          - key: nvidia.com/gpu.product
            operator: In
            values: [NVIDIA-A100-SXM4-80GB, NVIDIA-H100-80GB-HBM3]
  containers:
  - {command: [python, train.py], resources: {limits: {nvidia.com/gpu: 1}}}
"""
    (pod,) = read(text)
    assert stated(pod) == {"gpus_per_node": 1, "gpu": ("a100-sxm4-80gb", "h100-sxm5-80gb")}


def test_instance_type_and_a_slice() -> None:
    text = """\
apiVersion: v1
kind: Pod
spec:
  nodeSelector: {node.kubernetes.io/instance-type: p4de.24xlarge}
  containers:
  - {command: [python, train.py]}
---
apiVersion: v1
kind: Pod
spec:
  nodeSelector: {nvidia.com/gpu.product: NVIDIA-A100-SXM4-40GB}
  containers:
  - {command: [python, train.py], resources: {limits: {nvidia.com/mig-1g.5gb: 1}}}
"""
    whole, part = read(text)
    assert stated(whole) == {"gpu": "a100-sxm4-80gb", "gpus_per_node": 8}
    assert stated(part) == {"gpus_per_node": 1, "gpu": "a100-sxm4-40gb/1g.5gb"}


def test_a_pytorch_job_counts_masters_and_workers_as_machines() -> None:
    text = """\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
spec:
  pytorchReplicaSpecs:
    Master:
      replicas: 1
      template: &pod
        spec:
          containers:
          - name: pytorch
            command: [torchrun, train.py]
            resources: {limits: {nvidia.com/gpu: 8}}
    Worker:
      replicas: 3
      template: *pod
"""
    (job,) = read(text)
    assert stated(job) == {"gpus_per_node": 8, "nodes": 4}


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (
            """\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
spec:
  mpiReplicaSpecs:
    Launcher:
      template: {spec: {containers: [{command: [mpirun, -np, "16", python, train.py]}]}}
    Worker:
      replicas: 2
      template: {spec: {containers: [{resources: {limits: {nvidia.com/gpu: 8}}}]}}
""",
            {"nodes": 2, "gpus_per_node": 8},
        ),
        (
            """\
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
spec:
  trainer:
    numNodes: 2
    command: [torchrun, train.py]
    resourcesPerNode: {requests: {nvidia.com/gpu: 4}}
""",
            {"gpus_per_node": 4, "nodes": 2},
        ),
        (
            """\
apiVersion: ray.io/v1
kind: RayJob
spec:
  entrypoint: python train.py
  rayClusterSpec:
    workerGroupSpecs:
    - replicas: 2
      template: {spec: {containers: [{resources: {limits: {nvidia.com/gpu: 8}}}]}}
""",
            {"gpus_per_node": 8, "nodes": 2},
        ),
        (
            """\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
spec:
  replicatedJobs:
  - name: workers
    replicas: 2
    template:
      spec:
        parallelism: 4
        template:
          spec:
            containers: [{command: [torchrun, train.py], resources: {limits: {nvidia.com/gpu: 8}}}]
""",
            {"gpus_per_node": 8, "nodes": 8},
        ),
        (
            """\
apiVersion: batch.volcano.sh/v1alpha1
kind: Job
spec:
  tasks:
  - name: worker
    replicas: 2
    template: {spec: {containers: [{command: [torchrun, train.py], resources: {limits: {nvidia.com/gpu: 8}}}]}}
""",
            {"gpus_per_node": 8, "nodes": 2},
        ),
    ],
)
def test_operators_that_train_on_several_nodes(text: str, facts: dict[str, object]) -> None:
    (job,) = read(text)
    assert stated(job) == facts


def test_an_experiment_varies_what_its_trial_runs() -> None:
    text = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
spec:
  trialTemplate:
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            containers:
            - command: [python, train.py, "--lr=${trialParameters.lr}"]
"""
    (job,) = read(text)
    assert said(job.commands[0]) == ["python", "train.py", {"parameter lr of the experiment"}]


@pytest.mark.parametrize(
    ("accelerators", "facts"),
    [
        ("A100:8", {"gpu": "a100-sxm4-40gb", "gpus_per_node": 8}),
        ("A100-80GB", {"gpu": "a100-sxm4-80gb", "gpus_per_node": 1}),
        ("{H100: 4}", {"gpu": "h100-sxm5-80gb", "gpus_per_node": 4}),
        ("[A100-80GB:8, H100:8]", {"gpu": ("a100-sxm4-80gb", "h100-sxm5-80gb"), "gpus_per_node": 8}),
        ("{L4:1, T4:2}", {"gpu": ("l4", "t4"), "gpus_per_node": (1, 2)}),
        ("RTXPro6000:2", {"gpu": "rtx-pro-6000-blackwell", "gpus_per_node": 2}),
        ("Q7:2", {"gpu": {"`Q7` is no GPU that the catalog knows"}, "gpus_per_node": 2}),
    ],
)
def test_accelerators_of_skypilot(accelerators: str, facts: dict[str, object]) -> None:
    text = f"resources:\n  accelerators: {accelerators}\nnum_nodes: 2\nrun: |\n  torchrun train.py\n"
    (task,) = read(text)
    assert stated(task) == {**facts, "nodes": 2}


def test_a_sky_task_has_variables_and_alternatives() -> None:
    text = """\
envs:
  MODEL: gpt2
  TOKEN:
resources:
  cloud: aws
  any_of:
  - {instance_type: p4d.24xlarge}
  - {accelerators: H100:8}
setup: pip install -e .
run: |
  torchrun --nproc_per_node $SKYPILOT_NUM_GPUS_PER_NODE train.py --model $MODEL --token $TOKEN
"""
    (task,) = read(text)
    (command,) = task.commands
    assert said(command)[2:] == ["8", "train.py", "--model", "gpt2", "--token", {"environment variable TOKEN"}]
    assert stated(task) == {"gpu": ("a100-sxm4-40gb", "h100-sxm5-80gb"), "gpus_per_node": 8}


@given(st.text(alphabet="ab:- \n[]{}$()|>'\"&*", max_size=80))
def test_never_raises_inside_a_manifest(text: str) -> None:
    read(f"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: {text}\n")
    read(f"resources: {{cloud: aws}}\nrun: {text}\n")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("512Gi", 512 << 30), ("64G", 64 * 10**9), ("65536Mi", 64 << 30), ("137438953472", 128 << 30), ("1.5Ti", 3 << 39),
     ("lots", None)],
)  # fmt: skip
def test_a_limit_of_memory_is_the_hosts_budget(limit: str, expected: int | None) -> None:
    (pod,) = read(POD.replace('nvidia.com/gpu: "8"', f'nvidia.com/gpu: "8"\n        memory: {limit}'))
    assert stated(pod).get("host_memory") == expected


@pytest.mark.parametrize(("memory", "expected"), [("64", 64 << 30), ("64+", None), ("4x", None)])
def test_memory_of_a_sky_task(memory: str, expected: int | None) -> None:
    (task,) = read(f"resources:\n  accelerators: A100:8\n  memory: {memory}\nrun: torchrun train.py\n")
    assert stated(task).get("host_memory") == expected
