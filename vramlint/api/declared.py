"""The machine and the facts that people declare: on the command line, in a comment, in a settings file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.api.source import Hardware
from vramlint.catalog.gpu_requests import GpuRequest, nearest_request, parse_gpu
from vramlint.catalog.gpus import GpuAmbiguous
from vramlint.facts import Candidate, Fact, Origin, Remark, Repair
from vramlint.job import Gpu
from vramlint.readers.comments import Directive
from vramlint.settings import Settings
from vramlint.sizes import parse_size
from vramlint.values import COMMENT, Scalar

_FACTS = MappingProxyType(
    {
        "model": "model",
        "micro-batch": "micro_batch_size",
        "micro-batch-size": "micro_batch_size",
        "seq-len": "sequence_length",
        "sequence-length": "sequence_length",
    }
)
"""Key in a comment or settings file to fact name."""


class UnknownGpuError(ValueError):
    """No device, or several, bear the name; the message says which come near."""


class Declared(Struct, frozen=True):
    """What is declared about one file."""

    gpu: Gpu | None = None
    origin: str = ""
    """`--gpu`, `# vramlint: gpu=`, the settings file."""
    world_size: int | None = None
    nodes: int | None = None
    ram: int | None = None
    """Host memory of one machine, bytes."""
    nvme: int | None = None
    facts: tuple[Fact, ...] = ()
    remarks: tuple[Remark, ...] = ()
    """Devices in comments that the catalog lacks."""


def request(name: str) -> GpuRequest:
    """The device called `name`.

    Raises:
        UnknownGpuError: none or several devices bear the name.
    """
    found = parse_gpu(name)
    if isinstance(found, GpuRequest):
        return found
    if isinstance(found, GpuAmbiguous):
        raise UnknownGpuError(f"GPU {name!r} is ambiguous: say {' or '.join(found.choices)}")
    close = nearest_request(name)
    raise UnknownGpuError(f"unknown GPU {name!r}{f', did you mean {close!r}?' if close else ''}")


def declare(hardware: Hardware, directives: Iterable[Directive], settings: Settings) -> Declared:
    """The machine and facts for one file: the command line wins over its comments, those over the settings.

    Raises:
        UnknownGpuError: the command line or the settings name a device that the catalog lacks.
    """
    said = _said(directives)
    gpu, remarks = _gpu_of_comment(said.get("gpu"))
    origin = "# vramlint: gpu=" if gpu else ""
    if hardware.gpu:
        gpu, origin, remarks = request(hardware.gpu), "--gpu", ()
    elif gpu is None and not remarks and settings.gpu:
        gpu, origin = _of_settings(settings.gpu, settings), "the settings file"
    per_node = hardware.gpus_per_node or (gpu.count if gpu else None) or _integer(said.get("gpus-per-node"))
    per_node = per_node or settings.gpus_per_node
    nodes = hardware.nodes or _integer(said.get("nodes")) or settings.nodes
    world_size = (per_node or 1) * (nodes or 1) if per_node or nodes else None
    facts = {**_from_settings(settings), **_from_comments(said)}
    ram = parse_size(hardware.ram or _text(said.get("ram")) or settings.ram or "")
    nvme = parse_size(hardware.nvme or _text(said.get("nvme")) or settings.nvme or "")
    return Declared(gpu.gpu if gpu else None, origin, world_size, nodes, ram, nvme, tuple(facts.values()), remarks)


def _said(directives: Iterable[Directive]) -> dict[str, Scalar]:
    return {
        entry.key: entry.value
        for directive in directives
        if directive.kind == "declare"
        for entry in directive.values
        if isinstance(entry.value, Scalar)
    }


def _gpu_of_comment(name: Scalar | None) -> tuple[GpuRequest | None, tuple[Remark, ...]]:
    if name is None or name.place is None:
        return None, ()
    text = str(name.value)
    try:
        return request(text), ()
    except UnknownGpuError as error:
        close = nearest_request(text) if parse_gpu(text) is None else ""  # which of several is meant, the message asks
        repair = Repair(safe=False, value=Scalar(close, via=COMMENT), cost=_ONE_OF_YOURS) if close else None
        return None, (Remark("unknown-gpu", text, str(error), name.place, close, repair=repair),)


_ONE_OF_YOURS = "if that is the device that runs it"


def _of_settings(name: str, settings: Settings) -> GpuRequest:
    try:
        return request(name)
    except UnknownGpuError as error:
        place = settings.places.get("gpu")
        at = f"{place.path}:{place.span.line}: " if place else ""
        raise UnknownGpuError(f"{at}{error}") from None


def _integer(value: Scalar | None) -> int | None:
    return value.value if value is not None and isinstance(value.value, int) else None


def _text(value: Scalar | None) -> str:
    return str(value.value) if value is not None else ""


def _from_comments(said: Mapping[str, Scalar]) -> dict[str, Fact]:
    return {
        name: Fact(name, (Candidate(said[key].value, said[key].place),), Origin.WRITTEN, f"# vramlint: {key}=", COMMENT)
        for key, name in _FACTS.items()
        if key in said
    }


def _from_settings(settings: Settings) -> dict[str, Fact]:
    values = {
        "model": settings.model,
        "micro_batch_size": settings.micro_batch_size,
        "sequence_length": settings.sequence_length,
    }
    return {
        name: Fact(
            name,
            (Candidate(value),),
            Origin.WRITTEN,
            name.replace("_", "-"),
            "settings",
            reason="declared in the settings",
        )
        for name, value in values.items()
        if value is not None
    }
