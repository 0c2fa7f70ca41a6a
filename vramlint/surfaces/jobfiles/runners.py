"""Labels of continuous-integration runners: `linux.g5.12xlarge.nvidia.gpu`, `[self-hosted, a100]`, `8xH100`."""

from __future__ import annotations

from vramlint.catalog.instances import gpus_of, machine_of
from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.text import Place
from vramlint.values import Unknown, Value

_MACHINE = lazy(r"(?i)\b(?:(?:p|g|gr|trn|dl)\d[\w-]*\.(?:\d*xlarge|metal)|(?:a[234]x?|g[24])-\w+-\d+g?)\b")
_DEVICE = lazy(
    r"(?i)(?<![a-z0-9])(?:gpu)?(?:(?P<first>\d{1,2})x)?(?P<name>(?:a10g?|a30|a40|a100|h100|h200|b200|l4|l40s?|t4|v100|mi\d{3}x?|"
    r"rtx-?\d{4}|rtx-?a\d{4})(?:[-_]\d+gb)?)(?:x(?P<last>\d{1,2}))?(?![a-z0-9])"
)
"""Words that name a GPU and nothing else that people call a runner by."""


def labelled(value: Value, key: str) -> tuple[Fact, ...]:
    """GPU and count that a label names; nothing where it names none."""
    choices = [_label(text, place, key) for text, place in hardware.texts(value) if not isinstance(text, Unknown)]
    return hardware.any_of(choices) if choices and all(choices) else ()


def _label(text: str, place: Place | None, key: str) -> tuple[Fact, ...]:
    shape = _MACHINE.search(text)
    machine = machine_of(shape[0]) if shape else None
    if machine is not None:
        return (
            hardware.written("gpu", [(machine.gpu, place)], key),
            hardware.written("gpus_per_node", [(machine.gpus, place)], key),
        )
    device = _DEVICE.search(text)
    gpus = gpus_of(device["name"]) if device else ()
    if device is None or not gpus:
        return ()
    count = device["first"] or device["last"]
    fact = hardware.written("gpu", ((gpu, place) for gpu in gpus), key)
    return (fact, hardware.written("gpus_per_node", [(int(count), place)], key)) if count else (fact,)
