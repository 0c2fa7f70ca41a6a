"""Devices as people ask for them: with how many, or as a cloud's machine."""

from __future__ import annotations

import re

from msgspec import Struct

from vramlint.catalog.gpus import GpuAmbiguous, find_gpu, nearest_gpus
from vramlint.job import Gpu


class GpuRequest(Struct, frozen=True):
    """What `--gpu` asked for. `count` is None when the text does not say how many."""

    gpu: Gpu
    count: int | None = None


# Patterns stay strings: re compiles and caches them at first use, which keeps them out of start-up.
_COUNT_LAST = r"(?P<name>.+?)\s*[x×*:]\s*(?P<count>[1-9]\d{0,4})"
_COUNT_FIRST = r"(?P<count>[1-9]\d{0,4})\s*[x×*]\s*(?P<name>.+)"


def parse_gpu(text: str) -> GpuRequest | GpuAmbiguous | None:
    """A device and how many of it: `rtx3090`, `h100x8`, `8xh100`, `2 x 24GiB`, or a cloud shape (`p4d.24xlarge`)."""
    text = text.strip()
    whole = find_gpu(text)
    if whole is not None:
        return GpuRequest(whole) if isinstance(whole, Gpu) else whole
    for form in (_COUNT_FIRST, _COUNT_LAST):
        match = re.fullmatch(form, text.lower())
        part = find_gpu(match["name"]) if match else None
        if match and part is not None:
            return GpuRequest(part, int(match["count"])) if isinstance(part, Gpu) else part
    return _instance(text)


def nearest_request(text: str) -> str:
    """What `text` may have meant, with the count that it asks for; empty where no device's name comes near."""
    for form in (_COUNT_FIRST, _COUNT_LAST):
        match = re.fullmatch(form, text.strip().lower())
        close = nearest_gpus(match["name"], 1) if match else ()
        if match and close:
            return f"{close[0]}x{match['count']}"
    return next(iter(nearest_gpus(text, 1)), "")


def _instance(text: str) -> GpuRequest | None:
    """A cloud shape or hosted notebook, with or without the provider in front."""
    from vramlint.catalog.instances import machine_of

    machine = machine_of(text)
    gpu = find_gpu(machine.gpu) if machine else None
    return GpuRequest(gpu, machine.gpus) if machine and isinstance(gpu, Gpu) else None
