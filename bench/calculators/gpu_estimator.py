"""gpu-estimator: from the number of parameters, the batch and the length. Its 20 % of overhead are left out.

gpu-estimator 0.2 estimator.py. Any network is the same to it; "bf16" means mixed precision with float32 states.
"""

from __future__ import annotations

import sys
from importlib import import_module

from bench.calculators.harness import ADAM, Run, serve

PRECISIONS = {"fp32": "fp32", "mixed": "bf16"}
OPTIMIZERS = {**dict.fromkeys(ADAM, "adamw"), "sgd_momentum": "sgd"}
GIB = 1 << 30


def predict(run: Run) -> float:
    """Model, optimizer, gradients and activations."""
    run.only("full fine-tuning", run.lora is None and run.trainable == run.parameters)
    run.only("no accumulation", run.accumulation == 1)
    found = (
        import_module("gpu_estimator.estimator")
        .GPUEstimator()
        .estimate(
            run.parameters,
            batch_size=run.batch,
            sequence_length=run.seq,
            precision=run.look_up("precision", PRECISIONS, run.precision),
            optimizer=run.look_up("optimizer", OPTIMIZERS, run.optimizer),
            gradient_checkpointing=run.checkpointing,
        )
    )
    parts = (found.model_memory_gb, found.optimizer_memory_gb, found.gradient_memory_gb, found.activation_memory_gb)
    return float(sum(parts)) * GIB


if __name__ == "__main__":
    sys.exit(serve(predict))
