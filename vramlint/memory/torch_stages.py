"""Which part of a model each stage of torchtitan's pipelines has (torchtitan 0.2 distributed/pipeline_parallel.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.job import Mesh
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.torch_schedules import SINGLE, V_SHAPED

EMBEDDING, HEAD, LAYER = "tok_embeddings", "output", "layers."
_CHUNKS = 2
"""Stages of a rank under a schedule of several, where nothing says their size."""


class Part(Struct, frozen=True):
    """What one stage has."""

    layers: tuple[int, ...]
    """Numbers of its layers in the model."""
    embedding: bool
    head: bool
    """The last norm and the head."""


def chunks_of(mesh: Mesh, layers: int) -> Sequence[tuple[Part, ...]]:
    """The model chunks of every rank of the pipeline, in the order of their stages (pipeline_module_split).

    Raises:
        NotFollowedError: torchtitan does not cut the model like that.
    """
    parts = [_named(names) for names in mesh.parts] if mesh.parts else _even(mesh, layers)
    ranks = mesh.pipeline
    if len(parts) % ranks:
        raise NotFollowedError(f"{len(parts)} stages over {ranks} ranks, which torchtitan refuses,")
    if mesh.schedule.lower() in SINGLE and len(parts) != ranks:
        raise NotFollowedError(f"{mesh.schedule} of {len(parts) // ranks} stages a rank, which torchtitan refuses,")
    if mesh.schedule.lower() in V_SHAPED:
        if len(parts) != 2 * ranks:
            raise NotFollowedError(f"{mesh.schedule} of {len(parts) // ranks} stages a rank, which torchtitan refuses,")
        return [(parts[rank], parts[-1 - rank]) for rank in range(ranks)]
    return [tuple(parts[rank::ranks]) for rank in range(ranks)]


def _named(names: Sequence[str]) -> Part:
    layers = tuple(int(name[len(LAYER) :]) for name in names if name.startswith(LAYER))
    return Part(layers, EMBEDDING in names, HEAD in names)


def _even(mesh: Mesh, layers: int) -> list[Part]:
    """generate_llm_fqn_per_model_part: embedding and head count as layers, the first stages have one more."""
    whole = layers + mesh.embedding_layers + mesh.head_layers
    if mesh.layers_per_stage:
        stages = -(-whole // mesh.layers_per_stage)
    else:
        stages = mesh.pipeline * (1 if mesh.schedule.lower() in SINGLE else _CHUNKS)
    each, more = divmod(whole, stages)
    if not each or mesh.embedding_layers > each or mesh.head_layers > each:
        raise NotFollowedError(f"{layers} layers over {stages} stages, which torchtitan refuses,")
    found, begin = [], 0
    for stage in range(stages):
        first, last = stage == 0, stage == stages - 1
        size = each + (stage < more) - (mesh.embedding_layers if first else mesh.head_layers if last else 0)
        found.append(Part(tuple(range(begin, min(layers, begin + size))), first, last))
        begin += size
    return found
