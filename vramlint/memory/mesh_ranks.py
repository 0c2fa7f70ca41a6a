"""What the ranks hold of a model that torchtitan divides over a device mesh.

A rank of tensor parallelism has a thinner model: projections, feed-forwards, embedding and head are divided, norms are
whole and see a part of the sequence (torchtitan 0.2 models/{llama3,llama4,qwen3}/infra/parallelize.py). A rank of a
pipeline has some of the layers, and cuts its batch. A rank of expert parallelism has some of the experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from vramlint.job import ConfigValue, Job, Mesh
from vramlint.memory.architectures.torchtitan_moe import has_experts
from vramlint.memory.ranks import Kind
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.torch_schedules import SPLIT, V_SHAPED, plan
from vramlint.memory.torch_stages import Part, chunks_of
from vramlint.memory.torch_turns import turns

DIVIDED = ("vocab_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
LATENT = "torchtitan_latent"
MIXTURES = frozenset({"torchtitan_moe", LATENT})
FOLLOWED = MIXTURES | {"torchtitan"}
"""The model types of torchtitan's own decoders, the only ones that are followed."""
ON_RANK = "tensor_ranks"
"""The key by which the config of a rank says how many share a matrix."""


def is_divided(mesh: Mesh) -> bool:
    """Whether ranks share anything beside the data."""
    return max(mesh.tensor, mesh.context, mesh.pipeline, mesh.expert) > 1


def divides(job: Job) -> bool:
    """Whether the job is that of a whole run, of which a rank has yet to be made."""
    mesh = job.parallelism.mesh
    return mesh is not None and mesh.form == "titan" and ON_RANK not in job.model.config


def kinds(job: Job) -> Iterator[Kind]:
    """The kinds of ranks that a mesh has: those of each place in the pipeline.

    Raises:
        NotFollowedError: ranks share more than matrices and layers, or a model that is not followed.
        KeyError: its config lacks a dimension.
    """
    mesh = job.parallelism.mesh or Mesh()
    rank = _thinner(job, mesh)
    if mesh.pipeline == 1:
        yield Kind("every rank", rank, job.parallelism.world_size * mesh.tensor)
        return
    each = job.parallelism.world_size * mesh.tensor
    for number, parts in enumerate(chunks_of(mesh, _size(rank.model.config, "num_hidden_layers"))):
        yield Kind(f"stage {number} of {mesh.pipeline}", _staged(rank, mesh, number, parts), each)


def _thinner(job: Job, mesh: Mesh) -> Job:
    """A rank's job, all layers of which it has.

    Without FSDP nothing computes in 16 bits (torchtitan 0.2 distributed/utils.py, maybe_enable_amp), and replicas
    cannot be (models/llama3/infra/parallelize.py).
    """
    kind = _named(mesh)
    if job.parallelism.strategy not in {"fsdp", "none"}:
        raise NotFollowedError(f"{kind} with {job.parallelism.strategy}")
    if job.parallelism.world_size == 1:
        precision = replace(job.precision, autocast=None)
        job = replace(job, precision=precision, parallelism=replace(job.parallelism, strategy="none"))
    if job.model.model_type not in FOLLOWED:
        raise NotFollowedError(f"{kind} of {job.model.model_type or 'this model'}, over torch's meshes,")
    if job.model.model_type == LATENT and max(mesh.tensor, mesh.context) > 1:
        raise NotFollowedError(f"{kind} of latent attention, over torch's meshes,")
    if job.adapter is not None or job.quantization is not None:
        raise NotFollowedError(f"{kind} of adapters or quantized weights, over torch's meshes,")
    tied = bool(job.model.config.get("tie_word_embeddings")) and max(mesh.tensor, mesh.pipeline) > 1
    if tied and mesh.pipeline > 1:
        raise NotFollowedError(f"{kind} of a head that is the embedding, which torchtitan refuses,")
    if tied and job.parallelism.strategy != "fsdp":
        raise NotFollowedError(f"{kind} of a head that is the embedding, without FSDP,")
    if job.objective.loss not in ("causal-lm", "compiled"):
        raise NotFollowedError(f"{kind} with the loss {job.objective.loss}")
    config = dict(job.model.config)
    config["head_dim"] = config.get("head_dim") or _size(config, "hidden_size") // _size(config, "num_attention_heads")
    for key in DIVIDED:
        size = _size(config, key)
        if size % mesh.tensor:
            raise NotFollowedError(f"{key} {size} over {mesh.tensor} ranks")
        config[key] = size // mesh.tensor
    if job.batch.sequence_length % mesh.tensor:
        raise NotFollowedError(f"rows of {job.batch.sequence_length} tokens over {mesh.tensor} ranks")
    config |= {ON_RANK: mesh.tensor, "loss_parallel": mesh.loss_parallel}
    if tied:  # two DTensors, one of which is put in the other's place (qwen3/model/model.py, init_weights)
        config |= {"tie_word_embeddings": False, "twin_embedding": True}
    config |= _experts_of(job, mesh)
    if mesh.context > 1:
        job = _shorter(job, mesh)
        config["context_ranks"] = mesh.context
    model = replace(job.model, config=config, parameter_count=None)
    return replace(job, model=model, parallelism=replace(job.parallelism, model_shards=1))


def _experts_of(job: Job, mesh: Mesh) -> Mapping[str, ConfigValue]:
    """What a rank has of the experts (torchtitan 0.2 distributed/parallel_dims.py, models/llama4/infra/parallelize.py).

    Ranks that share experts are taken from those that share data and matrices. What is left of them shards the rank's
    experts, by their rows where there are more of them than experts.
    """
    if job.model.model_type not in MIXTURES:
        if mesh.expert > 1:
            raise NotFollowedError(f"{_named(mesh)} of a model without experts")
        return {}
    config, inner = job.model.config, mesh.tensor
    if mesh.expert > 1:
        inner = mesh.expert_tensor
        if inner not in (1, mesh.tensor):
            raise NotFollowedError(f"experts over {inner} of {mesh.tensor} tensor ranks, which torchtitan refuses,")
        if job.parallelism.strategy != "fsdp":
            raise NotFollowedError("expert parallelism without FSDP")
        if mesh.schedule.lower() == "dualpipev" and mesh.pipeline > 1:
            raise NotFollowedError("expert parallelism that overlaps the forwards of DualPipeV")
    experts, shared = _size(config, "num_experts"), config.get("shared_expert_intermediate_size") or 0
    for name, size, ranks in (
        ("experts", experts, mesh.expert),
        ("moe_intermediate_size", _size(config, "moe_intermediate_size"), inner),
        ("shared_expert_intermediate_size", shared, mesh.tensor),
    ):
        if not isinstance(size, int) or size % ranks:
            raise NotFollowedError(f"{name} {size} over {ranks} ranks")
    found: dict[str, ConfigValue] = {
        "expert_ranks": mesh.expert,
        "moe_intermediate_size": _size(config, "moe_intermediate_size") // inner,
        "shared_expert_intermediate_size": shared // mesh.tensor if isinstance(shared, int) else 0,
        "divides_tokens": mesh.expert > 1 and mesh.tensor > inner,
    }
    if mesh.expert > 1:
        shards, rest = divmod(job.parallelism.sharing * mesh.tensor, inner * mesh.expert)
        if rest or not shards:
            raise NotFollowedError(f"{mesh.expert} expert ranks of {job.parallelism.sharing} that share the rest")
        found |= {"expert_shards": shards, "expert_shard_dim": int(shards * mesh.expert > experts)}
    return found


def _named(mesh: Mesh) -> str:
    """What ranks share: `tensor and pipeline parallelism`."""
    degrees = (("tensor", mesh.tensor), ("context", mesh.context), ("pipeline", mesh.pipeline), ("expert", mesh.expert))
    return f"{' and '.join(name for name, degree in degrees if degree > 1)} parallelism"


def _shorter(job: Job, mesh: Mesh) -> Job:
    """The job of ranks that share a sequence: each has one of its first pieces and one of its last."""
    if job.attention.implementation != "sdpa":
        raise NotFollowedError(f"context parallelism with {job.attention.implementation}")
    length = job.batch.sequence_length
    if length % (2 * mesh.context * mesh.tensor):
        raise NotFollowedError(
            f"rows of {length} tokens over {mesh.context} pairs of pieces, which torchtitan refuses,"
        )
    return replace(job, batch=replace(job.batch, sequence_length=length // mesh.context))


def _staged(rank: Job, mesh: Mesh, number: int, parts: Sequence[Part]) -> Job:
    """The job of a rank of the pipeline."""
    size, batches = rank.batch.micro_batch_size, mesh.micro_batches
    if size % batches:
        raise NotFollowedError(f"{size} rows in micro batches, {batches} of them, which torchtitan refuses,")
    chunks = tuple(len(part.layers) for part in parts)
    if not all(chunks):
        raise NotFollowedError("a stage without layers")
    if mesh.schedule.lower() in SPLIT:
        _check_split(rank, mesh.schedule)
    turns_back = mesh.schedule.lower() in V_SHAPED and number == mesh.pipeline - 1
    held = turns(
        plan(mesh.schedule, number, mesh.pipeline, len(chunks), batches),
        first=not number,
        last=turns_back,
        sharded=rank.parallelism.strategy == "fsdp",
        widens=_waits_widened(rank),
    )
    config = rank.model.config
    sizes: dict[str, ConfigValue] = {
        "sparse_layers": tuple(tuple(has_experts(config, layer) for layer in part.layers) for part in parts),
        "num_hidden_layers": sum(chunks),
        "chunks": chunks,
        "first": any(part.embedding for part in parts),
        "last": any(part.head for part in parts),
        "turns_back": turns_back,
    }
    return replace(
        rank,
        model=replace(rank.model, config={**rank.model.config, **sizes}),
        batch=replace(rank.batch, micro_batch_size=size // batches),
        parallelism=replace(rank.parallelism, mesh=replace(mesh, turns=held)),
    )


def _check_split(rank: Job, schedule: str) -> None:
    """What backwards in two halves do not go with (torch 2.13 utils/checkpoint.py; _pipelining checks compilation).

    Raises:
        NotFollowedError: there is such a thing.
    """
    if rank.checkpointing.selective:
        raise NotFollowedError(f"selective checkpoints by operators under {schedule}, which torch refuses,")
    if rank.compiled:
        raise NotFollowedError(f"compiled layers under {schedule}, which torch refuses,")
    if rank.parallelism.strategy == "fsdp" and rank.parallelism.fsdp_sharding != "grad-op":
        raise NotFollowedError(f"parameters that are sharded again behind forward under {schedule}")


def _waits_widened(rank: Job) -> bool:
    """Whether gradients wait for their reduction in a wider dtype than they come in."""
    reduced, computed = rank.parallelism.fsdp_reduce_dtype, rank.precision.autocast or rank.precision.weights
    return rank.parallelism.strategy == "fsdp" and reduced not in (None, computed)


def _size(config: Mapping[str, ConfigValue], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise KeyError(key)
    return value
