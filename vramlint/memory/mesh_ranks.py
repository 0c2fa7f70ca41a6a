"""What one rank holds of a model that torchtitan divides over a device mesh.

A rank of tensor parallelism has a thinner model: projections, feed-forwards, embedding and head are divided, norms are
whole and see a part of the sequence (torchtitan 0.2 models/{llama3,qwen3}/infra/parallelize.py).
"""

from __future__ import annotations

from dataclasses import replace

from vramlint.job import ConfigValue, Job, Mesh
from vramlint.memory.ranks import Kind
from vramlint.memory.refusal import NotFollowedError

DIVIDED = ("vocab_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
DENSE = "torchtitan"
"""The model type of torchtitan's dense decoders, the only ones that are followed."""
ON_RANK = "tensor_ranks"
"""The key by which the config of a rank says how many share a matrix."""


def divides(job: Job) -> bool:
    """Whether the job is that of a whole run, of which a rank has yet to be made."""
    return job.parallelism.mesh is not None and ON_RANK not in job.model.config


def kind(job: Job) -> Kind:
    """The one kind of rank that a mesh without stages has.

    Raises:
        NotFollowedError: ranks share more than matrices, or a model that is not followed.
        KeyError: its config lacks a dimension.
    """
    mesh = job.parallelism.mesh or Mesh()
    for degree, name in (
        (mesh.pipeline, "pipeline parallelism of torch's stages"),
        (mesh.context, "context parallelism by torch's ring attention"),
        (mesh.expert, "expert parallelism over torch's meshes"),
    ):
        if degree > 1:
            raise NotFollowedError(name)
    if job.parallelism.strategy != "fsdp" or job.parallelism.world_size == 1:
        raise NotFollowedError("tensor parallelism without FSDP")
    if job.model.model_type != DENSE or job.adapter is not None or job.quantization is not None:
        raise NotFollowedError(f"tensor parallelism of {job.model.model_type or 'this model'} with DTensors")
    if job.model.config.get("tie_word_embeddings"):
        raise NotFollowedError("tensor parallelism of a head that is the embedding, with DTensors")
    if job.objective.loss not in ("causal-lm", "compiled"):
        raise NotFollowedError(f"tensor parallelism with the loss {job.objective.loss}")
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
    ranks = job.parallelism.world_size * mesh.tensor
    rank = replace(job, model=replace(job.model, config=config, parameter_count=None))
    return Kind("every rank", replace(rank, parallelism=replace(job.parallelism, model_shards=1)), ranks)


def _size(config: dict[str, ConfigValue], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise KeyError(key)
    return value
