import pytest

from vramlint.catalog import (
    GpuAmbiguous,
    all_gpus,
    find_gpu,
    gpu_row,
    nearest_gpus,
    smallest_gpus,
)
from vramlint.job import Gpu

GIB = 2**30
MIB = 2**20


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rtx3090", "rtx-3090"),
        ("RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("GeForce_RTX_3090", "rtx-3090"),
        ("3090", "rtx-3090"),
        ("3090-24GB", "rtx-3090"),
        ("RTX 4060 Ti 16GB", "rtx-4060-ti-16gb"),
        ("a100-80gb", "a100-sxm4-80gb"),
        ("a100-80", "a100-sxm4-80gb"),
        ("A100 40G", "a100-sxm4-40gb"),
        ("A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("h100", "h100-sxm5-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("a10", "a10"),
        ("a10g", "a10g"),
        ("Tesla T4", "t4"),
        ("t4-16gb", "t4"),
        ("l4", "l4"),
        ("gtx1080", "gtx-1080"),
        ("MI300X", "mi300x"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("v100-32gb", "v100-sxm2-32gb"),
    ],
)
def test_forgiving_spellings(name, expected):
    gpu = find_gpu(name)
    assert isinstance(gpu, Gpu)
    assert gpu.id == expected


@pytest.mark.parametrize(
    ("name", "choices"), [("a100", ("a100-40gb", "a100-80gb")), ("Tesla V100", ("v100-16gb", "v100-32gb"))]
)
def test_a_name_of_two_devices_is_ambiguous(name, choices):
    assert find_gpu(name) == GpuAmbiguous(name, choices)
    assert all(isinstance(find_gpu(choice), Gpu) for choice in choices)


def test_only_the_intended_names_are_ambiguous():
    ambiguous = {
        alias
        for row in all_gpus()
        for alias in (row.id, row.name, *row.aliases)
        if isinstance(find_gpu(alias), GpuAmbiguous)
    }
    assert ambiguous == {"A100", "V100", "NVIDIA Tesla V100"}


def test_a_row_becomes_a_device():
    gpu = find_gpu("rtx3090")
    assert gpu.memory_bytes == 24576 * MIB
    assert gpu.usable_bytes == int(23.69 * GIB)
    assert gpu.compute_capability == (8, 6)
    assert gpu.bf16
    assert gpu.context_bytes == 300 * MIB
    assert find_gpu("h200").context_bytes == 767 * MIB
    assert gpu.cublas_workspace_bytes == int(8.125 * MIB)


@pytest.mark.parametrize(
    ("name", "mib"), [("h100", 32), ("b200", 32), ("a100-80gb", 8.125), ("mi300x", 128), ("mi250", 32)]
)
def test_cublas_workspaces(name, mib):
    assert find_gpu(name).cublas_workspace_bytes == int(mib * MIB)


def test_emulated_bfloat16_is_no_bfloat16():
    assert gpu_row("t4").bf16 == "emulated"
    assert not find_gpu("t4").bf16
    assert not find_gpu("p100").bf16


def test_the_ceiling_is_estimated_where_torch_was_not_seen():
    row = gpu_row("rtx-4070")
    assert row.torch_total_gib is None
    assert find_gpu("rtx-4070").usable_bytes == row.memory_mib * MIB * 985 // 1000
    assert find_gpu("mps-16").usable_bytes == 10922 * MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * GIB), ("24GB", 24 * GIB), ("24 gb", 24 * GIB), ("1.5TiB", 1536 * GIB), ("8192MiB", 8 * GIB)],
)
def test_a_size_makes_a_device(text, size):
    gpu = find_gpu(text)
    assert gpu.memory_bytes == size
    assert gpu.usable_bytes == size * 985 // 1000
    assert gpu.compute_capability is None


def test_a_mig_slice_is_a_smaller_device():
    part = find_gpu("h100/2g.20gb")
    assert part.memory_bytes == part.usable_bytes == 20096 * MIB
    assert part.compute_capability == (9, 0)


def test_nearest_gpus():
    assert nearest_gpus("rtx309")[0] == "rtx-3090"
    assert "h100-sxm5-80gb" in nearest_gpus("h1000")
    assert nearest_gpus("qqqqqq") == ()


def test_the_smallest_devices_that_suffice():
    assert [gpu.id for gpu in smallest_gpus(20 * GIB)] == ["l4", "a10g", "rtx-4090"]
    assert [gpu.id for gpu in smallest_gpus(150 * GIB)] == ["b200-180gb", "mi300x"]
    assert smallest_gpus(10**15) == ()
    assert [gpu.id for gpu in smallest_gpus(10 * GIB, 1)] == ["t4"]
    assert [gpu.id for gpu in smallest_gpus(10 * GIB, 1, bf16=True)] == ["l4"]
    assert sum(row.common for row in all_gpus()) == 17
