"""Requests of batch scripts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.jobfiles.reading import stated
from vramlint.facts import Origin
from vramlint.surfaces.jobfiles import request_facts, slurm_environment, slurm_facts, workload_of_script
from vramlint.surfaces.launch import Workload
from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Problem, Scalar, Shell, Unknown

PLACE = Place("run.sh", Span(2, 9, 2, 20))


def headers(*lines: str) -> tuple[Entry, ...]:
    found = []
    for line in lines:
        key, _, value = line.replace("=", " ", 1).partition(" ") if line.startswith("--") else line.partition(" ")
        found.append(Entry(key, PLACE, Scalar(value, PLACE)))
    return tuple(found)


def facts(*lines: str) -> dict[str, object]:
    return stated(Workload("run.sh", "", (), slurm_facts(Shell("run.sh", (), (), headers(*lines)))))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["--gres=gpu:h100:4", "--nodes=2"], {"gpus_per_node": 4, "gpu": "h100-sxm5-80gb", "nodes": 2}),
        (["--gres=gpu:8,nvme:1", "-N 4"], {"gpus_per_node": 8, "nodes": 4}),
        (["--gres=gpu"], {"gpus_per_node": 1}),
        (["--gres=gpu:a100:2"], {"gpus_per_node": 2, "gpu": ("a100-40gb", "a100-80gb")}),
        (["--gres=gpu:a100:2", "--constraint=gpu80"], {"gpus_per_node": 2, "gpu": "a100-80gb"}),
        (["--gres=gpu:2", "-C a100-80gb"], {"gpus_per_node": 2, "gpu": "a100-sxm4-80gb"}),
        (["--gpus-per-node=a100_80gb:8"], {"gpus_per_node": 8, "gpu": "a100-sxm4-80gb"}),
        (["--gpus=16"], {"world_size": 16}),
        (["-G v100-32g:4"], {"world_size": 4, "gpu": "v100-sxm2-32gb"}),
        (["--ntasks-per-node=4", "--gpus-per-task=1", "--nodes=2"], {"gpus_per_node": 4, "nodes": 2}),
        (["--ntasks=8", "--gpus-per-task=1"], {"world_size": 8}),
        (["--gres=gpu:a100_3g.40gb:1"], {"gpus_per_node": 1, "gpu": "a100-sxm4-80gb/3g.40gb"}),
        (["--gres=gpu:quark:1"], {"gpus_per_node": 1, "gpu": {"`quark` is no GPU that the catalog knows"}}),
        (
            ["--gres=gpu:HOW_MANY"],
            {"gpus_per_node": {"`HOW_MANY` is no number"}, "gpu": {"`HOW_MANY` is no GPU that the catalog knows"}},
        ),
        (["--nodes=2-4"], {"nodes": {"`2-4` is no number"}}),
        (
            ["-l select=2:ncpus=8:ngpus=4:gpu_model=a100_80gb"],
            {"nodes": 2, "gpus_per_node": 4, "gpu": "a100-sxm4-80gb"},
        ),
        (["-N train", "-l nodes=1:ppn=8:gpus=2"], {"nodes": 1, "gpus_per_node": 2}),
        (["-l gpu=2", "-l gpu_type=V100S"], {"gpus_per_node": 2, "gpu": "v100s-pcie-32gb"}),
        (
            ["-l select=1:ngpus=1:gpu_type=A30|L40S"],
            {"nodes": 1, "gpus_per_node": 1, "gpu": ("a30", "l40s")},
        ),
        (
            ['-gpu "mode=exclusive_process:num=2:gmodel=NVIDIAA100_SXM4_80GB"'],
            {"gpus_per_node": 2, "gpu": "a100-sxm4-80gb"},
        ),
        (["-q gpua100", "-n 8"], {"gpu": ("a100-40gb", "a100-80gb")}),
        (['-gpu "num=4:mode=exclusive_process"', "-R rusage[mem=4]"], {"gpus_per_node": 4}),
        (["--mem=4G", "--time=1:00:00", "--partition=batch"], {"host_memory": 4 << 30}),
    ],
)
def test_what_headers_ask_for(lines: Sequence[str], expected: dict[str, object]) -> None:
    assert facts(*lines) == expected


def test_a_partition_is_a_hint() -> None:
    (gpu,) = request_facts(headers("--partition=h100"))
    assert (gpu.value, gpu.origin, gpu.reason) == (
        "h100-sxm5-80gb",
        Origin.ASSUMED,
        "the partition is called `h100`",
    )
    asked = {fact.name: fact.value for fact in request_facts(headers("--partition=h100", "--gres=gpu:l40s:1"))}
    assert asked == {"gpus_per_node": 1, "gpu": "l40s"}


def test_the_last_header_wins_and_what_is_unknown_says_why() -> None:
    assert facts("--gres=gpu:1", "--gres=gpu:2") == {"gpus_per_node": 2}
    unknown = (Entry("--gres", PLACE, Unknown("environment variable GRES", PLACE)),)
    assert stated(Workload("", "", (), request_facts(unknown))) == {"gpus_per_node": {"environment variable GRES"}}


def test_variables_that_slurm_sets() -> None:
    shell = Shell("run.sh", (), (), headers("--nodes=2", "--ntasks-per-node=4", "--gres=gpu:4"))
    known = {entry.key: entry.value for entry in slurm_environment(shell)}
    assert {key: value.value for key, value in known.items() if isinstance(value, Scalar)} == {
        "SLURM_NNODES": "2",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_TASKS_PER_NODE": "4",
        "SLURM_NTASKS": "8",
        "SLURM_NPROCS": "8",
    }


def test_a_script_is_read_again_with_those_variables() -> None:
    seen = []

    def read(
        document: Document, environment: Sequence[Entry] = (), name: str = ""
    ) -> tuple[Shell, tuple[Problem, ...]]:
        seen.append([entry.key for entry in environment])
        return Shell(document.path, (), (), headers("--nodes=2")), ()

    workload = workload_of_script(Document.of("run.sh", "x"), read)
    assert stated(workload) == {"nodes": 2}
    assert seen == [[], ["SLURM_NNODES", "SLURM_JOB_NUM_NODES"]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["--gres", "-l", "--nodes", "-N", "--gpus", "--gpus-per-task", "-C", "-p", "-gpu", "-R"]),
            st.text(alphabet="gpu:a10=,-()[]|&4 ", max_size=15),
        ),
        max_size=4,
    )
)
def test_never_raises(pairs: list[tuple[str, str]]) -> None:
    entries = tuple(Entry(key, PLACE, Scalar(value, PLACE)) for key, value in pairs)
    slurm_environment(Shell("run.sh", (), (), entries))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("--mem=64G",), 64 << 30),
        (("--mem=200000",), 200000 << 20),
        (("--mem=1T", "--mem-per-cpu=4G"), 1 << 40),
        (("--mem=0",), None),
        (("--mem-per-cpu=4G", "--cpus-per-task=8", "--ntasks-per-node=4"), 128 << 30),
        (("--mem-per-cpu=4G", "-c 16"), 64 << 30),
        (("--mem-per-cpu=4G", "--ntasks=16"), None),
        (("--mem-per-gpu=80G", "--gres=gpu:a100:4"), 320 << 30),
        (("--mem-per-gpu=80G", "--gpus=8", "--nodes=2"), 320 << 30),
        (("--mem-per-gpu=80G",), None),
        (("--mem=$SIZE",), None),
    ],
)
def test_memory_of_the_host_that_a_header_asks_for(lines: Sequence[str], expected: int | None) -> None:
    assert facts(*lines).get("host_memory") == expected
