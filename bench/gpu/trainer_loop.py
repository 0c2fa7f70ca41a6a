"""transformers.Trainer itself, with marks where its callbacks and methods stand."""

from __future__ import annotations

import inspect
import tempfile
from importlib import import_module
from typing import Any

from bench.gpu import build
from bench.gpu.loops import STEPS, held_bytes
from bench.gpu.meter import Meter
from bench.gpu.steps import EVALUATION
from bench.gpu.table import Row


def run_trainer(row: Row, model: Any, config: Any, meter: Meter, device: str) -> dict[str, Any]:
    """Train for a few steps and evaluate where the case says so; the bytes that the last step leaves."""
    case = row["case"]
    transformers = import_module("transformers")
    torch = import_module("torch")
    evaluated = case.get("eval")
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(**_known(transformers, _arguments(case, device, folder))),
            train_dataset=_samples(row, config, case["batch"] * case["accum"] * STEPS, torch),
            eval_dataset=_samples(row, config, evaluated["samples"], torch) if evaluated else None,
            compute_metrics=_no_metrics if evaluated and evaluated.get("logits") else None,
        )
        marks = _marks(transformers.TrainerCallback, trainer, meter)
        trainer.add_callback(marks)
        trainer.train()
        meter.end()
    held: dict[str, Any] = marks.held
    return held


def _arguments(case: dict[str, Any], device: str, folder: str) -> dict[str, Any]:
    evaluated = case.get("eval") or {}
    checkpointing = case["checkpointing"]
    return {
        "output_dir": folder,
        "max_steps": STEPS,
        "per_device_train_batch_size": case["batch"],
        "gradient_accumulation_steps": case["accum"],
        "per_device_eval_batch_size": evaluated.get("batch", 8),
        "eval_accumulation_steps": evaluated.get("accumulation_batches"),
        "eval_strategy": "steps" if evaluated else "no",
        "eval_steps": STEPS,
        "optim": case["optimizer"],
        "max_grad_norm": case["max_grad_norm"],
        "label_smoothing_factor": case.get("label_smoothing", 0.0),
        "bf16": case.get("autocast") == "bf16",
        "fp16": case.get("autocast") == "fp16",
        "gradient_checkpointing": checkpointing != "none",
        "gradient_checkpointing_kwargs": {"use_reentrant": checkpointing == "reentrant"},
        "use_cpu": device == "cpu",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": device != "cpu",
    }


def _known(transformers: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that this release has, those of checkpointing under their later name where it has that."""
    names = inspect.signature(transformers.TrainingArguments).parameters
    renamed = {name: name.replace("gradient_checkpointing", "activation_checkpointing") for name in arguments}
    return {renamed[name] if renamed[name] in names else name: value for name, value in arguments.items()}


def _samples(row: Row, config: Any, count: int, torch: Any) -> list[dict[str, Any]]:
    """Samples on the host, of which the Trainer's collator makes batches."""
    batch = build.make_batch(row, config, "cpu", rows=count)
    columns = {name: torch.unbind(values) for name, values in batch.items()}
    return [{name: values[number] for name, values in columns.items()} for number in range(count)]


def _no_metrics(predictions: Any) -> dict[str, float]:
    """Metrics of which only the cost counts: that they are asked for makes the Trainer collect the logits."""
    return {"samples": float(len(predictions.label_ids))}


def _marks(base: Any, trainer: Any, meter: Meter) -> Any:
    """Wrap the methods between which no callback stands, and a callback for the others."""
    computed, backward, evaluate = trainer.compute_loss, trainer.accelerator.backward, trainer.evaluate
    step = 0
    evaluates = False

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        if not evaluates:  # prediction_step takes the loss of its batches by the same method
            meter.begin("forward", step)
        return computed(*args, **kwargs)

    def marked_backward(*args: Any, **kwargs: Any) -> None:
        meter.begin("backward", step)
        backward(*args, **kwargs)
        meter.begin("after backward", step)

    def marked_evaluate(*args: Any, **kwargs: Any) -> Any:
        nonlocal evaluates
        meter.begin(EVALUATION, step)
        evaluates = True
        figures = evaluate(*args, **kwargs)
        evaluates = False
        meter.end()
        return figures

    class Marks(base):  # type: ignore[misc]  # transformers is not there when types are checked
        held: dict[str, Any]

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.begin("optimizer", step)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.begin("between steps", step)
            self.held = held_bytes(kwargs["model"], trainer.optimizer)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal step
            meter.end()
            step += 1

    trainer.compute_loss, trainer.evaluate = compute_loss, marked_evaluate
    trainer.accelerator.backward = marked_backward
    return Marks()
