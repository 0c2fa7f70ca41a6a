"""How the GPUs of a run share its model, as the memory model takes it."""

from __future__ import annotations

import math

from msgspec.structs import replace

from vramlint.job import Megatron, Mesh, NeoX, Parallelism, PreciseAdam, SharedSequence, Zero
from vramlint.resolve.board import Board
from vramlint.resolve.hosting import with_host
from vramlint.resolve.ranks import machines


def parallelism_of(board: Board) -> Parallelism:
    """How the GPUs of one settled world share its run."""
    strategy = str(board.value("parallelism") or "none")
    sharding = str(board.value("fsdp") or "")
    world = board.integer("world_size") or 1
    sharing = _sharing(board, sharding) if strategy == "fsdp" else world
    mesh, sequence = _mesh(board), _sequence(board)
    if mesh is not None:  # the ranks of one place in the model
        world = max(1, world // (mesh.tensor * mesh.pipeline))
        if mesh.form == "plan" and strategy == "ddp" and world == 1:
            strategy = "none"
    elif strategy == "fsdp":  # which shards what is left of the model among those that have the same of it
        world = max(1, world // _model_shards(board))
    return Parallelism(
        world_size=world,
        strategy=strategy,
        zero=with_host(_zero(board), board) if strategy == "deepspeed" else None,
        megatron=_megatron(board) if strategy == "megatron" else None,
        neox=_neox(board) if board.value("divided_by") == GPT_NEOX else None,
        mesh=mesh,
        sequence=sequence,
        fsdp_sharding="grad-op" if "shard_grad_op" in sharding else "none" if "no_shard" in sharding else "full",
        fsdp_offload="offload" in sharding.split(),
        fsdp_version=board.integer("fsdp_version") or 1,
        fsdp_gathers_on_save=strategy == "fsdp" and _gathers(board),
        fsdp_saves_on_device=strategy == "fsdp" and board.value("state_dict_on_host") is False,
        fsdp_prefetches=board.value("fsdp_backward_prefetch") == "backward_pre",
        bucket_view=board.value("gradient_as_bucket_view") is True,
        fsdp_by_layers_alone=board.value("fsdp_layers_alone") is True,
        fsdp_reduce_dtype=str(board.value("fsdp_reduce_dtype") or "") or None,
        model_shards=_model_shards(board),
        sequence_shards=degree(board, "context_parallel")
        if mesh is None and sequence is None and strategy != "megatron"
        else 1,
        optimizer_shards=1 if strategy == "megatron" else _optimizer_shards(board),
        sync_each_batch=board.value("sync_each_batch") is True,
        nodes=machines(board),
        replicas=max(1, world // sharing),
    )


def _gathers(board: Board) -> bool:
    """Whether Accelerate's FSDP saves a full state dict: as it is told, else version 1 does, where the Trainer saves.

    accelerate 1.15 utils/dataclasses.py, set_state_dict_type.
    """
    if board.setting.trainer == "":
        return False
    said = board.value("fsdp_state_dict")
    if said is not None:
        return said == "full_state_dict"
    return (board.integer("fsdp_version") or 1) == 1


def _mesh(board: Board) -> Mesh | None:
    """How DTensors divide the model; None where they do not."""
    if follows_plan(board):
        form = "autotp" if board.value("parallelism") == "deepspeed" else "plan"
        return Mesh(tensor=_model_shards(board), form=form) if _model_shards(board) > 1 else None
    mesh = Mesh(
        tensor=degree(board, "tensor_parallel"),
        context=degree(board, "context_parallel") if board.value("sequence_sharing") is None else 1,
        pipeline=degree(board, "pipeline_parallel"),
        expert=degree(board, "expert_parallel"),
        expert_tensor=degree(board, "expert_tensor_parallel"),
        loss_parallel=board.value("loss_parallel") is not False,
        schedule=str(board.value("pipeline_schedule") or "1F1B"),
        layers_per_stage=board.integer("pipeline_stage_layers"),
        embedding_layers=_or(board.integer("pipeline_embedding_layers"), 1),
        head_layers=_or(board.integer("pipeline_head_layers"), 1),
        parts=tuple(tuple(part.split()) for part in str(board.value("pipeline_layout") or "").split("|") if part),
        micro_batches=_micro_batches(board),
    )
    divided = max(mesh.tensor, mesh.context, mesh.pipeline, mesh.expert) > 1
    return mesh if divided and board.value("divided_by") in {"dtensor", "accelerate"} else None


def follows_plan(board: Board) -> bool:
    """Whether transformers' plan for the model says how GPUs share it, as far as that is followed."""
    divided, strategy = board.value("divided_by"), board.value("parallelism")
    if strategy == "deepspeed":
        return divided is None and degree(board, "tensor_parallel") > 1
    if strategy not in {"none", "ddp", "fsdp"} or max(degree(board, name) for name in _SHARING[1:]) > 1:
        return False
    if strategy == "fsdp" and (board.integer("fsdp_version") or 1) == 1:
        return False  # Accelerate's meshes go with the second version alone
    return divided == "tp_plan" or (divided == "accelerate" and degree(board, "tensor_parallel") > 1)


def _sequence(board: Board) -> SharedSequence | None:
    """How ranks share every sequence around the attention of a model that knows nothing of it."""
    form, ranks = board.value("sequence_sharing"), degree(board, "context_parallel")
    if form is None or ranks == 1:
        return None
    return SharedSequence(ranks, str(form), degree(board, "sequence_head_stride"))


def _micro_batches(board: Board) -> int:
    """How many a rank's batch is cut into; as torchtitan before 0.1, one for every stage where nothing says so."""
    said, rows = board.integer("pipeline_micro_batches"), board.integer("pipeline_micro_batch_size")
    if said:
        return said
    return max(1, (board.integer("micro_batch_size") or 1) // rows) if rows else degree(board, "pipeline_parallel")


GPT_NEOX = "gpt-neox"
"""Of the fact `divided_by`."""
PLANNED = frozenset({"tp_plan", "own_plan", "lightning"})
"""Of the same: what divides matrices among all GPUs of a machine unless their number is given."""


def _neox(board: Board) -> NeoX:
    """How gpt-neox's ranks share the model."""
    plain = NeoX()
    recomputes = board.value("activation_checkpointing") is True
    return NeoX(
        tensor=degree(board, "tensor_parallel"),
        sequence=board.value("sequence_parallel") is True,
        pipeline=degree(board, "pipeline_parallel"),
        engine=board.value("pipeline_engine") is not False,
        method=str(board.value("pipeline_layout") or plain.method),
        interval=degree(board, "checkpointing_every_n_layers") if recomputes else 0,
        partitions_checkpoints=board.value("partition_activations") is True,
        offloads_checkpoints=board.value("checkpointing_offload") is True,
    )


def _megatron(board: Board) -> Megatron:
    recompute, names = str(board.value("recompute") or "none"), board.value("recompute_modules")
    return Megatron(
        tensor=degree(board, "tensor_parallel"),
        sequence=board.value("sequence_parallel") is True,
        context=degree(board, "context_parallel"),
        pipeline=degree(board, "pipeline_parallel"),
        chunks=degree(board, "pipeline_chunks"),
        expert=degree(board, "expert_parallel"),
        expert_tensor=board.integer("expert_tensor_parallel"),
        distributed_optimizer=board.value("distributed_optimizer") is True,
        instances=degree(board, "distributed_optimizer_instances"),
        wide_gradients=board.value("wide_gradients") is not False,
        fused_gradients=board.value("gradient_accumulation_fusion") is not False,
        precise=_precise(board),
        host_fraction=_fraction(board),
        recompute=recompute,
        recompute_modules=names if isinstance(names, tuple) else Megatron().recompute_modules,
        distributes_checkpoints=board.value("distributed_checkpoints") is True,
        recompute_method=str(board.value("recompute_method") or "uniform"),
        recompute_layers=degree(board, "recompute_layers"),
        alternation=board.integer("chunk_alternation"),
        fused_loss=board.value("fused_loss") is True,
        dispatcher=str(board.value("expert_dispatcher") or "alltoall"),
        grouped=board.value("grouped_experts") is not False,
        predictions=board.integer("mtp_layers") or 0,
        deferred=board.integer("deferred_micro_batches"),
        layout=str(board.value("pipeline_layout") or ""),
        first_layers=board.integer("first_stage_layers"),
        last_layers=board.integer("last_stage_layers"),
        counts_embedding=board.value("embedding_as_layer") is True,
        counts_loss=board.value("loss_as_layer") is True,
    )


def _precise(board: Board) -> PreciseAdam | None:
    """Dtypes of the precision-aware optimizer; what the host updates is float32 all the same."""
    if board.value("precise_optimizer") is not True:
        return None
    plain = PreciseAdam()
    master, average, variance = (str(board.value(name) or "float32") for name in PRECISE)
    return replace(plain, master=master, average=average, variance=variance)


PRECISE = ("master_dtype", "average_dtype", "variance_dtype")
"""Facts that say them."""


def _fraction(board: Board) -> float:
    """Part of the weights that the host updates."""
    said = board.value("optimizer_offload_fraction")
    whole = float(said) if isinstance(said, int | float) else 1.0
    return whole if board.value("offload_optimizer") == "cpu" else 0.0


_SHARING = ("tensor_parallel", "pipeline_parallel", "expert_parallel")


def _model_shards(board: Board) -> int:
    """GPUs that share one model; by transformers' plan and Lightning's strategy all, unless their number is given.

    transformers 5.23 integrations/tensor_parallel.py, initialize_tensor_parallelism; lightning 2.5
    pytorch/strategies/model_parallel.py, setup_environment.
    """
    shared = math.prod(degree(board, name) for name in _SHARING)
    return shared if shared > 1 or board.value("divided_by") not in PLANNED else board.integer("world_size") or 1


def degree(board: Board, name: str) -> int:
    """A degree of parallelism; 1 where nothing says it."""
    return max(1, board.integer(name) or 1)


def _optimizer_shards(board: Board) -> int:
    """GPUs over which Megatron's distributed optimizer divides its states: all that hold the same parameters."""
    if board.value("distributed_optimizer") is not True:
        return 1
    sharing = degree(board, "tensor_parallel") * degree(board, "pipeline_parallel")
    return max(1, (board.integer("world_size") or 1) // sharing)


def _sharing(board: Board, sharding: str) -> int:
    """GPUs that share one copy of the model: with a hybrid strategy those of one machine, unless sizes are given.

    FSDP shards over the groups of data and context parallelism together (accelerate 1.15 parallelism_config.py).
    """
    world = board.integer("world_size") or 1
    shard = (board.integer("data_parallel_shard") or 1) * (board.integer("context_parallel") or 1)
    copies = (board.integer("data_parallel_replicate") or 1) * (board.integer("tensor_parallel") or 1)
    copies *= board.integer("pipeline_parallel") or 1
    if shard < 0:  # -1: what the other degrees leave
        return max(1, world // max(1, copies))
    if shard * copies == world:
        return shard
    return -(-world // machines(board)) if "hybrid_shard" in sharding else world


def _zero(board: Board) -> Zero:
    plain = Zero()
    overlap, dtype = board.value("overlap_comm"), board.value("gradient_accumulation_dtype")
    return Zero(
        stage=board.integer("zero_stage") or 0,
        offload_optimizer=str(board.value("offload_optimizer") or "none"),
        offload_parameters=str(board.value("offload_parameters") or "none"),
        reduce_bucket_size=_or(board.integer("reduce_bucket_size"), plain.reduce_bucket_size),
        allgather_bucket_size=_or(board.integer("allgather_bucket_size"), plain.allgather_bucket_size),
        prefetch_bucket_size=_or(board.integer("prefetch_bucket_size"), plain.prefetch_bucket_size),
        parameter_persistence_threshold=_or(
            board.integer("parameter_persistence_threshold"), plain.parameter_persistence_threshold
        ),
        max_live_parameters=_or(board.integer("max_live_parameters"), plain.max_live_parameters),
        max_reuse_distance=_or(board.integer("max_reuse_distance"), plain.max_reuse_distance),
        sub_group_size=_or(board.integer("sub_group_size"), plain.sub_group_size),
        overlap_comm=overlap if isinstance(overlap, bool) else None,
        gradient_accumulation_dtype=dtype if isinstance(dtype, str) else None,
        sequence_reduce_dtype=str(board.value("sequence_reduce_dtype") or plain.sequence_reduce_dtype),
        hpz_partition_size=degree(board, "hpz_partition_size"),
        quantized_weights=board.value("quantized_weight_gathers") is True,
        quantized_frozen_weights=board.value("quantized_frozen_weights") is True,
        quantized_gradients=board.value("quantized_gradients") is True,
        mics_shard_size=board.integer("mics_shard_size"),
    )


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
