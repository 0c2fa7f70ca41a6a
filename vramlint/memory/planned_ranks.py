"""What a rank holds of a model of transformers whose matrices ranks share by its own plan (`tp_plan="auto"`).

Every rank has a thinner model: some heads, a part of the MLP, of the head and, since transformers 5.21, of the
embedding; norms, and all that lies between the matrices, are whole (transformers 5.23 distributed/tensor_parallel.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.catalog.tensor_plans import plan_of
from vramlint.job import ConfigValue, Job, Mesh
from vramlint.memory.architectures import find_family
from vramlint.memory.architectures.causal_lm import WITHOUT_LOGITS
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.plans import AUTOTP, EMBEDDING, GATHERED, HEAD, HEADS_DIVIDED_FROM, ON_RANK
from vramlint.memory.ranks import Kind, share_of
from vramlint.memory.refusal import NotFollowedError

DTENSORS_FROM = (5, 16)
"""Since then ranks have DTensors again, and accelerate 1.15 asks for a ReplicateParallel that is not there any more
(accelerator.py, _prepare_tp)."""
AUTOTP_FROM, MOST_WITH_AUTOTP = (0, 19, 8), 2
"""The release and the stage of ZeRO with which AutoTP is followed: it takes the plan for the model (runtime/engine.py,
_apply_autotp_partitioning)."""
PLANS = "plan"
"""Of `Mesh.form`."""
DIVIDED_EMBEDDINGS_FROM = (5, 21)
"""Since then the embedding is divided by its rows (distributed/mixin.py, init_parallel_plans)."""
FOLLOWED = frozenset({"colwise", "rowwise", "replicated_with_grad_allreduce", "colwise_gather_output", "colwise_rep"})


def divides(job: Job) -> bool:
    """Whether the job is that of a whole run, of which a rank has yet to be made."""
    mesh = job.parallelism.mesh
    return mesh is not None and mesh.form in {PLANS, AUTOTP} and ON_RANK not in job.model.config


def kinds(job: Job) -> Iterator[Kind]:
    """All ranks are alike.

    Raises:
        NotFollowedError: a model without a plan, or with one that is not followed; a strategy that does not go with it.
        KeyError: its config lacks a dimension.
    """
    mesh, model_type = job.parallelism.mesh or Mesh(), job.model.model_type
    named = f"tensor parallelism of {model_type or 'this model'}"
    plan, family = plan_of(model_type), find_family(model_type, job.model.task)
    if plan is None:
        raise NotFollowedError(f"{named}, for which transformers has no plan,")
    other = next((style for name, style in plan.items() if style not in _allowed(name)), None)
    if other is not None or family is None or not issubclass(family, Llama):
        raise NotFollowedError(named if other is None else f"{named} by {other}")
    spread = job.parallelism
    _check_strategy(job, mesh, named)
    if job.objective.loss in WITHOUT_LOGITS:
        raise NotFollowedError(f"{named} with the loss {job.objective.loss}")
    if job.adapter is not None or job.quantization is not None:
        raise NotFollowedError(f"{named} with adapters or quantized weights")
    rank = replace(job, model=replace(job.model, config=_thinner(job, mesh.tensor), parameter_count=None))
    ranks = mesh.tensor * spread.world_size
    yield Kind("every rank", replace(rank, parallelism=replace(spread, model_shards=1)), ranks)


def _check_strategy(job: Job, mesh: Mesh, named: str) -> None:
    """Refuse what does not go with the plan, or is not followed beside it."""
    spread, zero = job.parallelism, job.parallelism.zero
    if mesh.form == AUTOTP:
        if zero is None or zero.stage > MOST_WITH_AUTOTP or job.libraries.deepspeed < AUTOTP_FROM:
            raise NotFollowedError(f"{named} by AutoTP with ZeRO 3, or before deepspeed 0.19.8,")
        return
    sharded = spread.strategy == "fsdp" and spread.fsdp_version == 2
    if sharded and job.libraries.transformers >= DTENSORS_FROM:
        raise NotFollowedError(f"{named} over FSDP, whose preparation fails with transformers since 5.16,")
    if not sharded and (spread.strategy != "none" or spread.world_size > 1):
        raise NotFollowedError(f"{named} beside {spread.strategy}{'' if spread.strategy != 'fsdp' else ' 1'}")


def _allowed(name: str) -> frozenset[str]:
    return FOLLOWED if name == HEAD else FOLLOWED - GATHERED


def _thinner(job: Job, ranks: int) -> dict[str, ConfigValue]:
    config = dict(job.model.config)
    heads = share_of(config, "num_attention_heads", 1)
    config.setdefault("num_key_value_heads", heads)
    config["head_dim"] = config.get("head_dim") or share_of(config, "hidden_size", heads)
    for key in ("num_attention_heads", "num_key_value_heads"):
        config[key] = share_of(config, key, ranks)
    config["intermediate_size"] = -(-share_of(config, "intermediate_size", 1) // ranks)
    version = job.libraries.transformers
    mesh = job.parallelism.mesh
    divided = version >= DIVIDED_EMBEDDINGS_FROM and (mesh is None or mesh.form != AUTOTP)
    if config.get("tie_word_embeddings") and version >= HEADS_DIVIDED_FROM and not divided:
        raise NotFollowedError("tensor parallelism of a head that is the embedding")
    return {**config, ON_RANK: ranks, EMBEDDING: divided}
