"""Megatron-LM's own report of theoretical memory beside the simulation of the same runs' most loaded rank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vramlint.estimate import Estimate
from vramlint.job import Attention, Batch, ConfigValue, Job, Megatron, Model, Optimizer, Parallelism, Precision
from vramlint.memory import simulate

REPORTS = Path(__file__).resolve().parent / "data" / "megatron_reports.jsonl"
STATES = frozenset({"weights", "gradients", "master weights", "optimizer states"})
ACTIVATIONS = frozenset({"activations", "logits and loss"})
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reported:
    """Bytes of one run: of the simulation and of Megatron's report."""

    id: str
    states: int
    reported_states: int
    activations: int
    reported_activations: int

    @property
    def states_error(self) -> float:
        """Of the report's weights, gradients and optimizer states against those simulated."""
        return (self.reported_states - self.states) / self.states

    @property
    def activations_error(self) -> float:
        """Of the report's activations against those that are simulated as alive at the peak."""
        return (self.reported_activations - self.activations) / self.activations


def job_of(wanted: Row) -> Job:
    """The run of Megatron's arguments. Gradients come as tensors of their own, as the report has it."""
    sizes: dict[str, ConfigValue] = {
        "vocab_size": wanted["padded_vocab_size"],
        "hidden_size": wanted["hidden_size"],
        "num_hidden_layers": wanted["num_layers"],
        "num_attention_heads": wanted["num_attention_heads"],
        "num_key_value_heads": wanted["num_query_groups"],
        "head_dim": wanted["kv_channels"],
        "intermediate_size": wanted["ffn_hidden_size"],
        "max_position_embeddings": wanted["seq_length"],
        "gated": wanted["swiglu"],
        "normalization": wanted["normalization"],
        "bias": wanted["add_bias_linear"],
        "tie_word_embeddings": not wanted["untie_embeddings_and_output_weights"],
        "implementation": "transformer_engine",
        "learned_positions": False,
        "rotary": True,
    }
    if "num_experts" in wanted:
        sizes |= {
            "experts": wanted["num_experts"],
            "expert_intermediate_size": wanted["moe_ffn_hidden_size"],
            "experts_per_token": wanted["moe_router_topk"],
            "dispatcher": "alltoall",
            "grouped_experts": True,
        }
    engine = Megatron(
        tensor=wanted["tensor_model_parallel_size"],
        sequence=wanted["sequence_parallel"],
        pipeline=wanted["pipeline_model_parallel_size"],
        expert=wanted["expert_model_parallel_size"],
        expert_tensor=wanted.get("expert_tensor_parallel_size"),
        distributed_optimizer=wanted["use_distributed_optimizer"],
        fused_gradients=False,
    )
    return Job(
        model=Model("gpt", "gpt2", config={"megatron": sizes}),
        precision=Precision("float32", "bfloat16"),
        optimizer=Optimizer("adamw_apex_fused"),
        batch=Batch(wanted["micro_batch_size"], wanted["seq_length"], wanted["num_microbatches"]),
        attention=Attention("flash_attention_2"),
        parallelism=Parallelism(wanted["world_size"], "megatron", megatron=engine),
    )


def reported(row: Row) -> Reported:
    """A report beside the simulation."""
    estimate = simulate(job_of(row["args"]), reserved=False)
    result = row["result"]
    return Reported(
        row["id"],
        _of(estimate, STATES),
        result["weights_and_optimizer"],
        _of(estimate, ACTIVATIONS),
        result["activations"],
    )


def _of(estimate: Estimate, names: frozenset[str]) -> int:
    return sum(part.bytes for part in estimate.components if part.name in names)
