"""Another GPU in the words of job files."""

from __future__ import annotations

import pytest

from vramlint.catalog.instances import gpus_of
from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.jobfiles.asking import asks, write_request
from vramlint.surfaces.jobfiles.hardware import VIA
from vramlint.text import Document, Place, apply_edits

A100 = ("a100-sxm4-40gb",)
EITHER = ("a100-40gb", "a100-80gb")
LABEL = "nvidia.com/gpu.product"


def fact(document: Document, key: str, at: str, gpus: tuple[str, ...], via: str = VIA) -> Fact:
    start = document.text.index(at)
    place = Place(document.path, document.span(start, start + len(at)))
    return Fact("gpu", tuple(Candidate(gpu, place) for gpu in gpus), Origin.WRITTEN, key, via)


@pytest.mark.parametrize(
    ("text", "key", "at", "now", "gpu", "count", "said", "expected"),
    [
        (
            "accelerators: A100:8  # p4d\n", "accelerators", "A100:8", A100, "h100-sxm5-80gb", None,
            "accelerators: H100:8", "accelerators: H100:8  # p4d\n",
        ),
        (
            "accelerators: A100\n", "accelerators", "A100", A100, "a100-sxm4-80gb", 1,
            "accelerators: A100-80GB", "accelerators: A100-80GB\n",
        ),
        ("accelerators: A100\n", "accelerators", "A100", A100, "l4", 4, "accelerators: L4:4", "accelerators: L4:4\n"),
        ("f(gpu='A100!:2')\n", "gpu", "'A100!:2'", A100, "h200-sxm-141gb", 4, "gpu: H200:4", "f(gpu='H200:4')\n"),
        (
            "#SBATCH --gres=gpu:a100:4,ssd:1\n", "--gres", "gpu:a100:4,ssd:1", EITHER, "h100-sxm5-80gb", 8,
            "--gres: h100:8", "#SBATCH --gres=gpu:h100:8,ssd:1\n",
        ),
        (
            "#SBATCH --gpus-per-node=A100:4\n", "--gpus-per-node", "A100:4", EITHER, "rtx-3090", None,
            "--gpus-per-node: RTX3090:4", "#SBATCH --gpus-per-node=RTX3090:4\n",
        ),
        (
            f"{LABEL}: NVIDIA-A100-SXM4-40GB\n", LABEL, "NVIDIA-A100-SXM4-40GB", A100, "h100-sxm5-80gb", 4,
            f"{LABEL}: NVIDIA-H100-80GB-HBM3", f"{LABEL}: NVIDIA-H100-80GB-HBM3\n",
        ),
    ],
)  # fmt: skip
def test_the_name_and_the_number_change(
    text: str, key: str, at: str, now: tuple[str, ...], gpu: str, count: int | None, said: str, expected: str
) -> None:
    document = Document.of("job", text)
    found = write_request(fact(document, key, at, now), gpu, count, {"job": document}, now=4)
    assert found is not None
    assert (found[0], apply_edits(document, found[1])) == (said, expected)


def test_what_is_asked_for_already_needs_no_edit() -> None:
    document = Document.of("job", "#SBATCH --gres=gpu:a100:4\n")
    said = fact(document, "--gres", "gpu:a100:4", EITHER)
    assert write_request(said, "a100-sxm4-80gb", 4, {"job": document}) == ("--gres: a100:4", ())


@pytest.mark.parametrize(
    ("text", "key", "at", "gpu", "count"),
    [
        (f"{LABEL}: NVIDIA-A100-SXM4-40GB\n", LABEL, "NVIDIA-A100-SXM4-40GB", "h100-sxm5-80gb", 8),
        ("accelerators: A100:8\n", "accelerators", "A100:8", "rtx-3090", None),
        ("accelerators: $GPU\n", "accelerators", "$GPU", "h100-sxm5-80gb", None),
        ("instance_type: p4d.24xlarge\n", "instance_type", "p4d.24xlarge", "h100-sxm5-80gb", None),
    ],
)
def test_what_a_file_cannot_say_is_left(text: str, key: str, at: str, gpu: str, count: int | None) -> None:
    document = Document.of("job", text)
    assert write_request(fact(document, key, at, A100), gpu, count, {"job": document}, now=4) is None


def test_only_job_files_ask() -> None:
    document = Document.of("job", "gpu=a100\n")
    assert not asks(fact(document, "gpu", "a100", A100, via="comment"))
    assert not asks(None)
    assert write_request(fact(document, "gpu", "a100", A100, via="comment"), "l4", None, {"job": document}) is None


def test_what_was_meant_is_the_only_word_that_changes() -> None:
    document = Document.of("job", "f(gpu='L4')\n")
    assert write_request(fact(document, "gpu", "'L4'", A100), "h100-sxm5-80gb", 1, {"job": document}) is None
    assert gpus_of("L4", "modal") == ("l4",)
