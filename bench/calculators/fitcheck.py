"""fitcheck-llm: its estimate of a causal language model from config.json and the checkpoint's number of parameters.

fitcheck-llm 0.3 config_parser.py and estimator.py, with what it says of models that it refuses. Its overhead is left
out. Full fine-tuning in 16 bits without a float32 copy of the weights is not expressible.
"""

from __future__ import annotations

import dataclasses
import sys
from importlib import import_module

from bench.calculators.harness import DECODERS, Run, serve

MIB = 1 << 20
FULL_PRECISIONS = {"fp32": "fp32", "mixed": "bf16"}
"""Full fine-tuning in bf16 has a float32 master copy there, as many bytes as torch's float32 weights under autocast."""
LORA_PRECISIONS = {"fp32": "fp32", "bf16": "bf16"}
OPTIMIZERS = {
    "adamw_torch_fused": "adamw",
    "adamw_torch": "adamw",
    "adamw_torch_forloop": "adamw",
    "adamw_bnb_8bit": "adam8bit",
    "sgd": "sgd",
    "sgd_momentum": "sgd-momentum",
}
FULL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def predict(run: Run) -> float:
    """All terms but the overhead."""
    run.only("causal language models", run.task in DECODERS)
    run.only("full or LoRA", run.lora is not None or run.trainable == run.parameters)
    estimator, parser = import_module("fitcheck.estimator"), import_module("fitcheck.config_parser")
    parser._reject_unsupported(run.config, run.model)
    fields = parser._parse_fields(run.config)
    counted = parser._reconcile_param_count(run.model, run.parameters, parser._count_params(fields))
    model = parser.ModelConfig(name=run.model, num_params=counted, **dataclasses.asdict(fields))
    training = estimator.TrainingConfig(
        precision=run.look_up("precision", LORA_PRECISIONS if run.lora else FULL_PRECISIONS, run.precision),
        quantization=run.quantization or "none",
        double_quant=run.double_quantization,
        optimizer=run.look_up("optimizer", OPTIMIZERS, run.optimizer),
        batch_size=run.batch,
        seq_len=run.seq,
        grad_checkpoint=run.checkpointing,
        flash_attn=run.attention != "eager",
        grad_accum_steps=run.accumulation,
        lora_rank=run.lora["r"] if run.lora else None,
        **({"lora_targets": _targets(run.lora["targets"])} if run.lora else {}),
    )
    report = estimator.estimate(model, training, import_module("fitcheck").get_gpu("h200"))
    return float((report.total_mib - report.overhead_mib) * MIB)


def _targets(targets: str | list[str]) -> list[str]:
    return list(FULL) if targets == "all-linear" else list(targets)


if __name__ == "__main__":
    sys.exit(serve(predict))
