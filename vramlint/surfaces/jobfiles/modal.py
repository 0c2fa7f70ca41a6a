"""Modal: the GPU of a function or class, and Ray Train's scaling of workers."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.values import Alternatives, Call, Items, Program, Scalar, Table, Unknown, Value

_APPS = frozenset(("modal.App", "modal.Stub"))
_DECORATORS = frozenset((".function", ".cls"))
_SIZED = {"modal.gpu.A100": "40GB"}
"""What Modal takes when a size isn't given."""


def facts_of(program: Program) -> tuple[Fact, ...]:
    """The machine that a program asks for in its own code, for the code that runs there."""
    choices = [facts for call in program.calls if (facts := tuple(_asked(call)))]
    nodes = [fact for call in program.calls for fact in _clustered(call)]
    return hardware.one_of_each((*(hardware.any_of(choices) if choices else ()), *nodes))


def _asked(call: Call) -> Iterator[Fact]:
    if call.callee in _DECORATORS and isinstance(call.receiver, Call) and call.receiver.callee in _APPS:
        yield from _gpu(call.argument("gpu"))
    elif call.callee.endswith(".ScalingConfig") and call.callee.startswith("ray."):
        yield from _scaling(call)


def _clustered(call: Call) -> tuple[Fact, ...]:
    if call.callee == "modal.experimental.clustered":
        return hardware.count("nodes", call.argument("size", 0), "size")
    return ()


def _gpu(value: Value | None) -> tuple[Fact, ...]:
    """`"H100:8"`, `modal.gpu.H100(count=8)`, or a list of choices."""
    match value:
        case Scalar(value=str(text)):
            if text.lower() == "any":
                return (hardware.unknown("gpu", "any GPU that is free", "gpu"),)
            name, _, number = text.partition(":")
            word = f"{name.rstrip('!+')}:{number or 1}"
            return hardware.named(word, value.place, "gpu", "modal")
        case Items(values=values) if values:
            return hardware.any_of([_gpu(item) for item in values])
        case Alternatives(options=options):
            return hardware.any_of([_gpu(option.value) for option in options])
        case Call(callee=callee) if callee.startswith("modal.gpu."):
            return _object(value)
        case Unknown(reason=reason):
            return (hardware.unknown("gpu", reason, "gpu"),)
        case _:
            return ()


def _object(call: Call) -> tuple[Fact, ...]:
    name = call.callee.rsplit(".", 1)[1]
    if name == "Any":
        return _gpu(Scalar("any", call.place))
    size = call.argument("size") or call.argument("memory")
    text = f"{size.value}".upper().removesuffix("GB") if isinstance(size, Scalar) else ""
    suffix = f"-{text}GB" if text else "-" + _SIZED[call.callee] if call.callee in _SIZED else ""
    gpu = hardware.gpu(Scalar(name + suffix, call.place), "gpu", "modal")
    count = call.argument("count") or Scalar(1, call.place)
    return (*gpu, *hardware.count("gpus_per_node", count, "count"))


def _scaling(call: Call) -> Iterator[Fact]:
    used = call.argument("use_gpu")
    if isinstance(used, Scalar) and used.value:
        per_worker = call.argument("resources_per_worker")
        several = per_worker.get("GPU") if isinstance(per_worker, Table) else None
        if several is None or (isinstance(several, Scalar) and several.value == 1):
            yield from hardware.count("world_size", call.argument("num_workers"), "num_workers")
        yield from hardware.gpu(call.argument("accelerator_type"), "accelerator_type")
