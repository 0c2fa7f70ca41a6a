"""Hand-written training loops, each in the order of the loop that it stands for, with a mark at every phase.

trainer: what transformers.Trainer does, with Accelerate around the model. plain: autocast around the call. script: the
same, with gradients dropped before the forward and `outputs` bound until the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from bench.gpu import build
from bench.gpu.meter import Meter
from bench.gpu.optimizers import make_optimizer
from bench.gpu.table import Row

STEPS = 3
"""In the second the optimizer's states exist, in the third the allocator has seen a whole steady step."""
LOSS_SCALE = 1024.0
"""Where a GradScaler begins: from its own 65536 gradients of untrained weights overflow, and a first step that is
skipped makes no optimizer states."""
MIXED = {None: "no", "bf16": "bf16", "fp16": "fp16"}


class Accelerated:
    """Accelerate's wrapped forward, backward and clipping."""

    def __init__(self, case: dict[str, Any], model: Any, optimizer: Any, device: str) -> None:
        accelerate = import_module("accelerate")
        self.accelerator = accelerate.Accelerator(
            mixed_precision=MIXED[case.get("autocast")],
            cpu=device == "cpu",
            kwargs_handlers=[accelerate.utils.GradScalerKwargs(init_scale=LOSS_SCALE)],
        )
        self.model = self.accelerator.prepare_model(model)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """`model(**batch)`."""
        return self.model(**batch)

    def backward(self, loss: Any) -> None:
        """Scaled where a GradScaler is in use."""
        self.accelerator.backward(loss)

    def clip(self, norm: float) -> None:
        """Unscale and clip."""
        self.accelerator.clip_grad_norm_(self.model.parameters(), norm)

    def step(self) -> None:
        """Step the optimizer through the scaler."""
        self.optimizer.step()


class Plain:
    """torch.autocast around the call and torch's GradScaler."""

    def __init__(self, case: dict[str, Any], model: Any, optimizer: Any, device: str) -> None:
        self.torch = import_module("torch")
        self.device = device
        self.autocast = case.get("autocast")
        self.model, self.optimizer = model, optimizer
        self.scaler = self.torch.amp.GradScaler(device, init_scale=LOSS_SCALE, enabled=self.autocast == "fp16")

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """`model(**batch)`, under autocast where the case has it."""
        if self.autocast is None:
            return self.model(**batch)
        with self.torch.autocast(self.device, dtype=build.dtype_of(self.autocast)):
            return self.model(**batch)

    def backward(self, loss: Any) -> None:
        """Scaled where the scaler is enabled."""
        self.scaler.scale(loss).backward()

    def clip(self, norm: float) -> None:
        """Unscale and clip."""
        self.scaler.unscale_(self.optimizer)
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), norm)

    def step(self) -> None:
        """Step the optimizer through the scaler."""
        self.scaler.step(self.optimizer)
        self.scaler.update()


def run_loop(row: Row, model: Any, config: Any, meter: Meter, device: str) -> dict[str, Any]:
    """Run the steps; the bytes of gradients and states that the last one leaves."""
    case = row["case"]
    build.checkpointed(case, model)
    model.train()
    make: Callable[..., Accelerated | Plain] = Accelerated if case["loop"] == "trainer" else Plain
    loop = make(case, model, make_optimizer(case["optimizer"], model), device)
    script = case["loop"] == "script"
    accumulated = case["accum"]
    further = {"return_loss": True} if row["task"] == "contrastive" else {}
    held: dict[str, Any] = {}
    outputs = None
    for step in range(STEPS):
        batches = [build.make_batch(row, config, device) for _ in range(accumulated)]
        for number, batch in enumerate(batches):
            meter.begin("forward", step)
            if script and number == 0:
                loop.optimizer.zero_grad()
            outputs = loop.forward({**batch, **further})
            loss = outputs["loss"] if accumulated == 1 else outputs["loss"] / accumulated
            meter.begin("outputs", step)
            if not script:
                outputs = None
            meter.begin("backward", step)
            loop.backward(loss)
            loss = loss.detach()
            meter.begin("after backward", step)
        if case["max_grad_norm"]:
            meter.begin("clip", step)
            loop.clip(case["max_grad_norm"])
        meter.begin("optimizer", step)
        loop.step()
        meter.begin("between steps", step)
        if step == STEPS - 1:
            held = held_bytes(model, loop.optimizer)
        if not script:
            loop.optimizer.zero_grad()
    meter.end()
    return held


def held_bytes(model: Any, optimizer: Any) -> dict[str, Any]:
    """Gradients and optimizer states by dtype, and what of the states lies on the host."""
    from bench.gpu.optimizers import state_tensors

    device = next(model.parameters()).device.type
    states = state_tensors(optimizer)
    return {
        "grad_bytes": build.bytes_by_dtype(p.grad for p in model.parameters() if p.grad is not None),
        "optimizer_state_bytes": build.bytes_by_dtype(t for t in states if t.device.type == device),
        "optimizer_state_bytes_host": build.bytes_by_dtype(t for t in states if t.device.type != device),
    }
