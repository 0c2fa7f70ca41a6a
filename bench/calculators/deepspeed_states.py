"""DeepSpeed's estimate_zero2_model_states_mem_needs on one GPU without offload: weights, gradients and Adam's states.

deepspeed 0.19 runtime/zero/stage_1_and_2.py. Mixed precision only; activations are none of its business.
"""

from __future__ import annotations

import sys
from importlib import import_module

from bench.calculators.harness import ADAM, Run, serve


def predict(run: Run) -> float:
    """Bytes of GPU memory."""
    run.only("Adam", run.optimizer in ADAM)
    run.only("full fine-tuning", run.lora is None and run.trainable == run.parameters)
    run.only("mixed precision", run.precision == "mixed")
    run.only("no accumulation", run.accumulation == 1)
    needs = import_module("deepspeed.runtime.zero.stage_1_and_2").estimate_zero2_model_states_mem_needs
    _, gpu = needs(total_params=run.parameters, num_gpus_per_node=1, num_nodes=1, cpu_offload=False)[:2]
    return float(gpu)


if __name__ == "__main__":
    sys.exit(serve(predict))
