"""Settings of the process's memory as text: `expandable_segments:True,garbage_collection_threshold:0.8`."""

from __future__ import annotations

import re

from msgspec.structs import replace

from vramlint.facts import FactValue
from vramlint.job import Allocator, Gpu


def allocator_of(text: FactValue) -> Allocator:
    """The settings in a text that follow torch's form; what it does not hold keeps its default.

    torch 2.13 c10/core/AllocatorConfig.cpp: `name:value` separated by commas, blanks ignored.
    """
    if not isinstance(text, str):
        return Allocator()
    said = dict(part.replace(" ", "").partition(":")[::2] for part in text.split(",") if ":" in part)
    return Allocator(
        expandable_segments=said.get("expandable_segments", "").lower() == "true",
        garbage_collection_threshold=_fraction(said.get("garbage_collection_threshold")),
        memory_fraction=_fraction(said.get("per_process_memory_fraction")),
        divisions=_power_of_two(said.get("roundup_power2_divisions")),
    )


def _power_of_two(text: str | None) -> int:
    """One number for requests of all sizes; torch takes powers of two only. A list by sizes is not followed."""
    number = int(text) if text and text.isdecimal() else 0
    return number if number > 1 and number.bit_count() == 1 else 0


def with_workspaces(gpu: Gpu | None, text: FactValue) -> Gpu | None:
    """The device with the cuBLAS workspaces that CUBLAS_WORKSPACE_CONFIG asks for; its own where that says nothing.

    `:SIZE:COUNT` one or more times, sizes in KiB (torch 2.13 aten/src/ATen/cuda/CublasHandlePool.cpp,
    parseChosenWorkspaceSize).
    """
    pairs = re.findall(r":(\d{1,9}):(\d{1,6})", text) if isinstance(text, str) else []
    if gpu is None or not pairs:
        return gpu
    return replace(gpu, cublas_workspace_bytes=sum(1024 * int(size) * int(count) for size, count in pairs))


def _fraction(text: str | None) -> float:
    try:
        number = float(text) if text else 0.0
    except ValueError:
        return 0.0
    return number if 0 < number <= 1 else 0.0
