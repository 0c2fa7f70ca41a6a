from __future__ import annotations

import pytest

from vramlint.catalog.gpus import find_gpu
from vramlint.catalog.instances import Machine, gpus_of, machine_of, spelling_of
from vramlint.catalog.lines import lines
from vramlint.job import Gpu


@pytest.mark.parametrize(
    ("name", "gpu", "count"),
    [
        ("ml.p4d.24xlarge", "a100-sxm4-40gb", 8),
        ("p4de.24xlarge", "a100-sxm4-80gb", 8),
        ("aws g5.12xlarge", "a10g", 4),
        ("Standard_ND96asr_v4", "a100-sxm4-40gb", 8),
        ("Standard_NC6s_v3", "v100-pcie-16gb", 1),
        ("a2-ultragpu-2g", "a100-sxm4-80gb", 2),
        ("gpu_8x_a100_80gb_sxm4", "a100-sxm4-80gb", 8),
        ("BM.GPU.H100.8", "h100-sxm5-80gb", 8),
        ("a100-large", "a100-sxm4-80gb", 1),
    ],
)
def test_machines(name: str, gpu: str, count: int) -> None:
    assert machine_of(name) == Machine(gpu, count)


def test_machines_without_gpus_are_unknown() -> None:
    assert machine_of("m5.xlarge") is None
    assert machine_of("") is None


@pytest.mark.parametrize(
    ("name", "vocabulary", "gpus"),
    [
        ("A100", "", ("a100-40gb", "a100-80gb")),
        ("A100", "sky", ("a100-sxm4-40gb",)),
        ("nvidia-tesla-a100", "gcp", ("a100-sxm4-40gb",)),
        ("nvidia-a100-80gb", "gcp", ("a100-sxm4-80gb",)),
        ("NVIDIA_TESLA_V100", "gcp", ("v100-sxm2-16gb",)),
        ("NVIDIA-A100-SXM4-80GB", "label", ("a100-sxm4-80gb",)),
        ("NVIDIA-H100-80GB-HBM3-SHARED", "label", ("h100-sxm5-80gb",)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "label", ("a100-sxm4-40gb/1g.5gb",)),
        ("a100_3g.40gb", "", ("a100-sxm4-80gb/3g.40gb",)),
        ("rtx_a6000", "", ("rtx-a6000",)),
        ("gpu", "", ()),
        ("", "", ()),
    ],
)
def test_names_of_devices(name: str, vocabulary: str, gpus: tuple[str, ...]) -> None:
    assert gpus_of(name, vocabulary) == gpus


def test_every_line_names_a_device_of_the_catalog() -> None:
    named = [gpu for _, gpu, _, _ in lines("instances.tsv")] + [gpu for _, _, gpu, _ in lines("accelerators.tsv")]
    assert all(isinstance(find_gpu(gpu), Gpu) for gpu in named)


def test_candidates_are_names_that_single_devices_bear() -> None:
    assert all(isinstance(find_gpu(name), Gpu) for name in (*gpus_of("A100"), *gpus_of("V100")))


def test_what_is_written_is_read_as_the_same_device() -> None:
    for vocabulary, gpu, name, _ in lines("gpu_spellings.tsv"):
        assert gpus_of(name, vocabulary) == (gpu,)
        assert spelling_of(gpu, vocabulary) == name


@pytest.mark.parametrize(
    ("gpu", "vocabulary", "name"),
    [
        ("a100-sxm4-80gb", "slurm", "a100"),
        ("rtx-a6000", "slurm", "rtxa6000"),
        ("h100-sxm5-80gb", "label", "NVIDIA-H100-80GB-HBM3"),
        ("rtx-3090", "modal", None),
        ("24GiB", "slurm", None),
    ],
)
def test_names_of_devices_in_job_files(gpu: str, vocabulary: str, name: str | None) -> None:
    assert spelling_of(gpu, vocabulary) == name
