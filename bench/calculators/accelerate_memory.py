"""`accelerate estimate-memory`, by its functions, for the command needs the Hub: "Training using Adam".

accelerate 1.15 commands/estimate.py, gather_data: the base model on the meta device, without its head; the largest of
model, gradients, optimizer and step. It has float32, and float16 for mixed precision; batch and length do not matter.
"""

from __future__ import annotations

import sys
from importlib import import_module

from bench.calculators.harness import ADAM, Run, serve

DTYPES = {"fp32": "float32", "mixed": "float16"}


def predict(run: Run) -> float:
    """The column "Training using Adam"."""
    run.only("Adam", run.optimizer in ADAM)
    run.only("full fine-tuning", run.lora is None and run.trainable == run.parameters)
    run.only("no accumulation", run.accumulation == 1)
    dtype = run.look_up("precision", DTYPES, run.precision)
    transformers = import_module("transformers")
    keys = {name: value for name, value in run.config.items() if name != "architectures"}
    config = transformers.AutoConfig.for_model(keys.pop("model_type"), **keys)
    with import_module("accelerate").init_empty_weights():
        model = transformers.AutoModel.from_config(config, dtype=import_module("torch").float32)
    total, _ = import_module("accelerate.utils").calculate_maximum_sizes(model)
    usage = import_module("accelerate.commands.estimate").estimate_training_usage(total, dtype)
    return float(max(usage.values()))


if __name__ == "__main__":
    sys.exit(serve(predict))
