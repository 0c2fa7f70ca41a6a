"""catalog/gpu_requests.py: devices with how many, and machines of clouds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.catalog import GpuAmbiguous, GpuRequest, parse_gpu
from vramlint.catalog.gpu_requests import nearest_request


@pytest.mark.parametrize(
    "text",
    ["", " ", "0GB", "GB", "nope", "x", "8x", "x8", "24", "a100-80gb/9g.1gb", "nope/1g.5gb", "a100/1g.5gb", "-5GB"],
)
def test_what_is_no_device(text):
    assert parse_gpu(text) is None


@pytest.mark.parametrize(
    ("text", "expected", "count"),
    [
        ("rtx3090", "rtx-3090", None),
        ("h100x8", "h100-sxm5-80gb", 8),
        ("8xh100", "h100-sxm5-80gb", 8),
        ("H100:4", "h100-sxm5-80gb", 4),
        ("2 x A100-80GB", "a100-sxm4-80gb", 2),
        ("4090x2", "rtx-4090", 2),
        ("mi300xx8", "mi300x", 8),
        ("2x24GiB", "24GiB", 2),
        ("p4d.24xlarge", "a100-sxm4-40gb", 8),
        ("AWS g5.12xlarge", "a10g", 4),
        ("colab free", "t4", 1),
        ("a100-80gb/1g.10gb", "a100-sxm4-80gb/1g.10gb", None),
    ],
)
def test_counts_and_shapes(text, expected, count):
    request = parse_gpu(text)
    assert isinstance(request, GpuRequest)
    assert (request.gpu.id, request.count) == (expected, count)


def test_a_count_of_an_ambiguous_device_is_ambiguous():
    assert parse_gpu("8xa100") == GpuAmbiguous("a100", ("a100-40gb", "a100-80gb"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rtx3099", "rtx-3090"),
        ("rtx3099x8", "rtx-3090x8"),
        ("4 x rtx3099", "rtx-3090x4"),
        ("nothing like it", ""),
        ("8x", ""),
    ],
)
def test_the_nearest_keeps_the_count(text, meant):
    assert nearest_request(text) == meant


@given(st.text(max_size=40))
def test_any_text_is_a_request_or_refused(text):
    found = parse_gpu(text)

    assert found is None or isinstance(found, GpuAmbiguous | GpuRequest)
    assert not isinstance(found, GpuRequest) or found.count is None or found.count >= 1
