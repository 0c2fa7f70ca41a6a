"""What a rank holds of a run whose ranks share every sequence.

Every rank has the whole model, or its share of it as the strategy has it for all ranks: ZeRO and FSDP shard over those
that share a sequence, too (accelerate 1.15 parallelism_config.py, dp_shard_cp; deepspeed 0.19.8
runtime/sequence_parallel/parallel_state_sp.py, the sequence data parallel group).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.job import Job
from vramlint.memory.architectures import find_family
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops.shared_sequences import RING, XTUNER
from vramlint.memory.ranks import Kind
from vramlint.memory.refusal import NotFollowedError

RECURRENT = frozenset({"qwen3_next"})
"""Models some of whose layers carry a state along the sequence, which accelerate refuses (big_modeling.py)."""

_BY_XTUNER = frozenset({"llama", "qwen2", "qwen2_moe", "mistral", "mixtral"})
"""Models whose attention xtuner replaces by one that repeats keys, then shares (xtuner 0.2 model/modules/dispatch)."""


TORCHTUNE = "torchtune"


def divides(job: Job) -> bool:
    """Whether the job is that of a whole run, of which a rank has yet to be made."""
    sequence = job.parallelism.sequence
    return sequence is not None and not sequence.of_rank


def kinds(job: Job) -> Iterator[Kind]:
    """All ranks are alike: each has one part of every row.

    Raises:
        NotFollowedError: a model whose attention is not followed, or one that the libraries refuse.
    """
    sequence = job.parallelism.sequence
    if sequence is None:
        return
    model_type = job.model.model_type
    family = find_family(model_type, job.model.task)
    own = model_type == TORCHTUNE
    if own:
        _check_torchtune(job, sequence.form)
    apart = model_type in RECURRENT or (sequence.form == XTUNER and model_type not in _BY_XTUNER)
    if apart or not (own or (family is not None and issubclass(family, Llama))):
        raise NotFollowedError(f"a shared sequence in {model_type or 'this model'}")
    part = -(-job.batch.sequence_length // sequence.ranks)
    rank = replace(
        job,
        batch=replace(job.batch, sequence_length=part),
        parallelism=replace(job.parallelism, sequence=replace(sequence, of_rank=True)),
    )
    yield Kind("every rank", rank, job.parallelism.world_size)


def _check_torchtune(job: Job, form: str) -> None:
    """Decoders of torchtune under torch's `context_parallel` (torchtune 0.7 training/_distributed.py).

    Raises:
        NotFollowedError: what hides attention from the context's dispatch, or is not that of torch's operator.
    """
    softcaps = job.model.config.get("component") == "gemma2"
    if form != RING or softcaps or job.compiled or job.attention.implementation != "sdpa":
        what = "compiled layers" if job.compiled else "attention that is not torch's operator"
        raise NotFollowedError(f"a shared sequence in torchtune's model with {what}")
