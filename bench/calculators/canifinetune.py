"""canifinetune: its estimate from config.json and the checkpoint's number of parameters.

canifinetune 0.4 estimator/memory.py. CUDA overhead and safety margin are left out. It has one dtype for weights and
computation and three sets of LoRA targets.
"""

from __future__ import annotations

import sys
from importlib import import_module

from bench.calculators.harness import DECODERS, NotExpressibleError, Run, serve

GIB = 1 << 30
PRECISIONS = {"fp32": "fp32", "bf16": "bf16"}
OPTIMIZERS = {
    "adamw_torch_fused": "adamw_torch_fused",
    "adamw_torch": "adamw_torch",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "sgd": "sgd",
}
SCOPES = ("attention", "all_linear", "conservative")


def predict(run: Run) -> float:
    """All terms but overhead and margin."""
    run.only("causal language models", run.task in DECODERS)
    run.only("full or LoRA", run.lora is not None or run.trainable == run.parameters)
    memory, metadata = (
        import_module("canifinetune.estimator.memory"),
        import_module("canifinetune.estimator.model_metadata"),
    )
    found = metadata._from_hf_config(run.model, run.config, exact_total_params=run.parameters)
    if found is None:
        raise NotExpressibleError("no shape in config.json")
    method = "full" if run.lora is None else "qlora" if run.quantization else "lora"
    request = memory.EstimateRequest(
        model_id=run.model,
        method=method,
        seq_len=run.seq,
        micro_batch_size=run.batch,
        gradient_accumulation_steps=run.accumulation,
        base_dtype=run.look_up("precision", PRECISIONS, run.precision),
        quantization="nf4_double_quant" if run.double_quantization else "nf4",
        optimizer=run.look_up("optimizer", OPTIMIZERS, run.optimizer),
        gradient_checkpointing=run.checkpointing,
        attention_implementation=run.attention,
        gpu_vram_gb=141,
        **({"lora_rank": run.lora["r"], "lora_target_scope": _scope(run, found.family)} if run.lora else {}),
    )
    parts = memory._compute_breakdown(request, found)
    return float(parts.total_estimated_gb - parts.cuda_overhead_gb - parts.safety_margin_gb) * GIB


def _scope(run: Run, family: str) -> str:
    """Its name of the run's LoRA targets.

    Raises:
        NotExpressibleError: none of its sets is the run's.
    """
    targets = run.lora["targets"] if run.lora else []
    if targets == "all-linear":
        return "all_linear"
    formulas = import_module("canifinetune.estimator.formulas")
    for scope in SCOPES:
        if set(formulas.default_target_modules(family, scope=scope, strict=True)) == set(targets or ()):
            return scope
    raise NotExpressibleError(f"no targets {targets}")


if __name__ == "__main__":
    sys.exit(serve(predict))
