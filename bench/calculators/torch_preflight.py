"""torch-preflight's cost model, given the run in its own terms, so without its reading of scripts.

torch-preflight 0.5 vram/costmodel.py. The model is that of its own snapshot where it knows the name, else made from
config.json as its look-up on the Hub does it, with the checkpoint's number of parameters. CUDA context and
fragmentation are left out of the sum. A LoRA run is one with a frozen fraction.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from bench.calculators.harness import TEXT, NotExpressibleError, Run, serve

PRECISIONS = {"fp32": "FP32", "mixed": "AMP", "bf16": "PURE_BF16"}
OPTIMIZERS = {
    "adamw_torch_fused": "ADAMW",
    "adamw_torch": "ADAMW",
    "adamw_torch_forloop": "ADAMW",
    "adamw_bnb_8bit": "ADAM_8BIT",
    "adafactor": "ADAFACTOR",
    "lion_8bit": "LION_8BIT",
    "lion_32bit": "LION",
    "rmsprop": "RMSPROP",
    "adagrad": "ADAGRAD",
    "sgd": "SGD",
    "sgd_momentum": "SGD_MOMENTUM",
}


def predict(run: Run) -> float:
    """The terms that are tensors."""
    run.only("unquantized", run.quantization is None)
    run.only("one length", run.target in {None, run.seq})
    vram = import_module("torch_preflight.vram")
    config = vram.RunConfig(
        batch_size=run.batch,
        seq_len=run.seq,
        precision=getattr(vram.PrecisionMode, PRECISIONS[run.precision]),
        optimizer=getattr(vram.OptimizerKind, run.look_up("optimizer", OPTIMIZERS, run.optimizer)),
        gradient_checkpointing=run.checkpointing,
        flash_attention=run.attention != "eager",
        accumulation_steps=run.accumulation,
        frozen_fraction=max(0.0, 1 - run.trainable / run.parameters),
    )
    parts = vram.estimate_config(_profile(run, vram), config, with_remediations=False).breakdown
    return float(parts.total - parts.cuda_context - parts.fragmentation)


def _profile(run: Run, vram: Any) -> Any:
    known = vram.archdb.resolve(run.model)
    if known is not None:
        return known
    run.only("text", run.task in TEXT)
    shape = import_module("torch_preflight.vram.providers.hub").shape_from_config(run.config)
    if shape is None:
        raise NotExpressibleError("no shape in config.json")
    return vram.ModelProfile(
        name=run.model,
        param_count=run.parameters,
        trainable_params=run.parameters,
        source="hub",
        confidence=vram.Confidence.MEDIUM,
        kind=import_module("torch_preflight.vram.types").ModelKind.TRANSFORMER,
        shape=shape,
    )


if __name__ == "__main__":
    sys.exit(serve(predict))
