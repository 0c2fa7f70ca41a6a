"""One rank's steps: forward, backward, clipping and optimizer in the order of transformers.Trainer (5.23)."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch

from bench.gpu import build
from bench.gpu.meter import Meter
from bench.gpu.optimizers import make_optimizer, state_tensors
from bench.gpu.table import Row
from bench.sharding.counting import Storages

STEPS = 3


@dataclass
class Engine:
    """A wrapped model with what the loop calls; the defaults are those of a model that steps itself."""

    model: Any
    optimizer: Any
    backward: Callable[[Any], None]
    clip: Callable[[float], Any]
    step: Callable[[], None]
    zero_grad: Callable[[], None]
    no_sync: Callable[[], Any] = contextlib.nullcontext
    """A context for the micro batches before the last."""
    every_batch: Callable[[], None] = lambda: None
    """What is called behind each backward."""
    around: Callable[[dict[str, Any]], Any] = contextlib.nullcontext
    """A context for a micro batch, forward and backward; it gives what the model is called with."""
    loss_of: Callable[[Any, dict[str, Any]], Any] = lambda model, batch: model(**batch)["loss"]
    """The loss of a forward."""
    held: Callable[[], dict[str, Any]] | None = None
    """Bytes of weights, gradients and states, where they are not the model's and the optimizer's own."""


def autocast(case: dict[str, Any], model: Any, device: str) -> None:
    """What Accelerator.prepare_model does to the forward under mixed precision."""
    if not case.get("autocast"):
        return
    from accelerate.utils import convert_outputs_to_fp32

    context = torch.autocast(device, dtype=build.dtype_of(case["autocast"]))
    model.forward = MethodType(context(model.forward.__func__), model)
    model.forward = MethodType(convert_outputs_to_fp32(model.forward.__func__), model)


def plain_engine(case: dict[str, Any], model: Any, no_sync: Callable[[], Any]) -> Engine:
    """A wrapped model whose parameters torch's optimizer steps."""
    optimizer = make_optimizer(case["optimizer"], model)
    scaler = torch.amp.GradScaler("cuda", enabled=case.get("autocast") == "fp16")
    clip = getattr(model, "clip_grad_norm_", None) or (
        lambda norm: torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
    )

    def unscaled(norm: float) -> Any:
        scaler.unscale_(optimizer)
        return clip(norm)

    def step() -> None:
        scaler.step(optimizer)
        scaler.update()

    return Engine(
        model, optimizer, lambda loss: scaler.scale(loss).backward(), unscaled, step, optimizer.zero_grad, no_sync
    )


def run(row: Row, config: Any, engine: Engine, meter: Meter, storages: Storages) -> dict[str, Any]:
    """The steps; returns what the row says besides the figures of its steps."""
    case = row["case"]
    accumulated = case["accum"]
    held: dict[str, Any] = {}
    for step in range(STEPS):
        batches = [build.make_batch(row, config, storages.device) for _ in range(accumulated)]
        for number, batch in enumerate(batches):
            context = engine.no_sync() if number < accumulated - 1 else contextlib.nullcontext()
            meter.begin("forward", step)
            with context, engine.around(batch) as given:
                loss = engine.loss_of(engine.model, given)
                meter.begin("outputs", step)
                if accumulated > 1:
                    loss = loss / accumulated
                meter.begin("backward", step)
                engine.backward(loss)
                loss = loss.detach()
                meter.begin("after backward" if number == accumulated - 1 else "between batches", step)
            engine.every_batch()
        if case["max_grad_norm"]:
            meter.begin("clip", step)
            norm = engine.clip(case["max_grad_norm"])
        meter.begin("optimizer", step)
        engine.step()
        norm = None  # noqa: F841
        meter.begin("between steps", step)
        if step == 0:
            held = engine.held() if engine.held else _held(engine, storages.device)
        engine.zero_grad()
    meter.end()
    return held


def _local(tensor: Any) -> Any:
    return getattr(tensor, "_local_tensor", tensor)


def by_dtype(tensors: Any, device: str | None = None) -> dict[str, int]:
    """Bytes of the storages behind tensors, each once; with `device` of those that are there."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    for tensor in map(_local, tensors):
        if device is not None and tensor.device.type != device:
            continue
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            name = str(tensor.dtype).removeprefix("torch.")
            found[name] = found.get(name, 0) + storage.nbytes()
    return {name: size for name, size in found.items() if size}


def _held(engine: Engine, device: str) -> dict[str, Any]:
    parameters = list(engine.model.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    return states_of(parameters, (), state_tensors(engine.optimizer), gradients, device)


def states_of(parameters: Any, masters: Any, states: Any, gradients: Any = (), device: str = "cuda") -> dict[str, Any]:
    """Bytes on the device by dtype, and of all that are on the host, which real tensors on the CPU are not."""
    parts = {
        "parameter_bytes": list(parameters),
        "master_bytes": list(masters),
        "optimizer_state_bytes": list(states),
        "grad_bytes": list(gradients),
    }
    hosted = {name: sum(by_dtype(tensors, "cpu").values()) * (device != "cpu") for name, tensors in parts.items()}
    return {**{name: by_dtype(tensors, device) for name, tensors in parts.items()}, "hosted_bytes": hosted}


def collected() -> None:
    """Cycles are freed now, not in the middle of a step."""
    gc.collect()
    gc.disable()
