"""What rules read of a job that is not written in it by that name: sizes of its model's config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from vramlint.engine.expression import Term
from vramlint.job import Job

LARGE_VOCABULARY = 100_000
"""Tokens from which embedding and head weigh in models of some billion parameters."""
_VOCABULARY = ("vocab_size",)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")
_LEARNED = frozenset(
    {
        "gpt2", "gpt_bigcode", "gpt_neo", "opt", "biogpt", "openai-gpt", "bert", "roberta", "xlm-roberta", "camembert",
        "distilbert", "electra", "albert", "mpnet", "longformer", "bart", "mbart", "blenderbot",
    }
)  # fmt: skip
"""Model types whose positions are rows of an embedding (transformers 5.23, models/*/modeling_*.py)."""
_PADDED = MappingProxyType({"roberta": 2, "xlm-roberta": 2, "camembert": 2, "longformer": 2, "mpnet": 2})
"""Rows that no token takes: positions start behind padding's (modeling_roberta.py, create_position_ids…)."""


def _first(job: Job, keys: Sequence[str]) -> int | None:
    """The first of some keys of config.json, of the text's part where a model has several."""
    config = job.model.config
    text = config.get("text_config")
    for table in (config, text if isinstance(text, Mapping) else {}):
        for key in keys:
            value = table.get(key)
            if isinstance(value, int):
                return value
    return None


def _learned_positions(job: Job) -> int | None:
    kind, rows = job.model.model_type, _first(job, _POSITIONS)
    return None if kind not in _LEARNED or rows is None else rows - _PADDED.get(kind, 0)


JOB_TERMS: Mapping[str, Callable[[Job], Term]] = MappingProxyType(
    {
        "model.vocabulary": lambda job: _first(job, _VOCABULARY),
        "model.large_vocabulary": lambda job: (_first(job, _VOCABULARY) or 0) >= LARGE_VOCABULARY,
        "model.experts": lambda job: _first(job, _EXPERTS),
        "model.learned_positions": _learned_positions,
    }
)
"""Name to what it reads."""
