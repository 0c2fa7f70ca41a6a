"""llm-analysis: weights, gradients, optimizer states and activations of a decoder under Megatron's mixed precision.

llm-analysis 0.2 analysis.py: 16-bit weights, float32 master copy, gradients and states, which is as much as the
float32 weights of mixed precision in torch and a 16-bit copy. The GPU is given 10 TB, for the analysis stops where a
run does not fit.
"""

from __future__ import annotations

import sys
from importlib import import_module

from bench.calculators.harness import ADAM, DECODERS, Run, serve

GATED = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "mixtral", "olmo2"})
FULL_RECOMPUTATION = 2


def predict(run: Run) -> float:
    """(weight + optimizer state + gradient + activation) memory."""
    run.only("causal language models", run.task in DECODERS)
    run.only("Adam", run.optimizer in ADAM)
    run.only("full fine-tuning", run.lora is None and run.trainable == run.parameters)
    run.only("mixed precision", run.precision == "mixed")
    library, configs = import_module("llm_analysis.analysis"), import_module("llm_analysis.config")
    analysis = library.LLMAnalysis(
        _model(run, configs), configs.GPUConfig("large", 10_000, 2000, 300, 8e-6, 300), configs.DtypeConfig()
    )
    recomputation = library.ActivationRecomputation(FULL_RECOMPUTATION if run.checkpointing else 0)
    summary = analysis.training(
        batch_size_per_gpu=run.batch,
        gradient_accumulation_steps=run.accumulation,
        seq_len=run.seq,
        activation_recomputation=recomputation,
        flash_attn=run.attention != "eager",
        mlp_gated_linear_units=run.config["model_type"] in GATED,
    )
    return float(summary["(weight+op_state+grad+act)_memory_per_gpu"])


def _model(run: Run, configs: object) -> object:
    """Its description of the model, as its reader of config.json makes it, with the width of the MLP."""
    config = run.config

    def either(*names: str) -> int | None:
        return next((config[name] for name in names if config.get(name) is not None), None)

    hidden, inner = either("hidden_size", "n_embd"), either("intermediate_size", "ffn_dim", "n_inner")
    return configs.ModelConfig(  # type: ignore[attr-defined]  # a module of a package that is not there
        name=run.model,
        num_layers=either("num_hidden_layers", "n_layer"),
        n_head=either("num_attention_heads", "n_head"),
        hidden_dim=hidden,
        vocab_size=either("vocab_size"),
        max_seq_len=either("max_position_embeddings", "n_positions") or run.seq,
        num_key_value_heads=either("num_key_value_heads"),
        ffn_embed_dim=inner,
        expansion_ratio=inner / hidden if inner and hidden else None,  # given both, it asks for no whole ratio
        model_type=config["model_type"],
    )


if __name__ == "__main__":
    sys.exit(serve(predict))
