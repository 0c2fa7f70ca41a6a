"""Device memory that no tensor of the run accounts for."""

from __future__ import annotations

from vramlint.estimate import Amount
from vramlint.job import Job
from vramlint.memory.communicators import communicators

ENGINE_WORKSPACES: tuple[tuple[tuple[int, int], int], ...] = (((9, 0), 32 << 20), ((0, 0), 4 << 20))
"""Compute capability from which on, and bytes of Transformer Engine's own workspace for cuBLASLt (2.8
pytorch/module/base.py, get_cublas_workspace_size_bytes)."""
GROUPED_STREAMS = 4
"""Streams of its grouped products, each with such a workspace (common/util/multi_stream.cpp; the same file of Python,
get_multi_stream_cublas_workspace)."""
LAZY_LOADING_FROM = (2, 0)
"""Since then torch loads kernels when they are first called, with CUDA 11.7 and newer (pytorch pull request 86509);
before, a context held all of them."""
EAGER_CONTEXTS: tuple[tuple[tuple[int, int], int], ...] = (
    ((8, 0), 1644 << 20),
    ((7, 5), 1035 << 20),
    ((7, 0), 1343 << 20),
    ((0, 0), 721 * 10**6),
)
"""Compute capability from which on, and bytes of a context with all kernels: RTX 3090 and 2080 Ti (pytorch issue
49877), V100 with CUDA 11.2 (transformers docs, perf_train_gpu_one), GTX 1080 (pytorch issue 55277)."""


def engine_workspace_bytes(job: Job) -> int:
    """Transformer Engine's workspaces, which torch counts as allocated."""
    engine = job.model.model_type == "megatron" and job.model.config.get("implementation") == "transformer_engine"
    if job.gpu is None or not engine:
        return 0
    capability = job.gpu.compute_capability or (0, 0)
    each = next(size for since, size in ENGINE_WORKSPACES if capability >= since)
    return each * (1 + (GROUPED_STREAMS if job.model.config.get("grouped_experts") else 0))


def context_bytes(job: Job) -> int:
    """The CUDA context: the card's, or that of a torch which loads every kernel at the start."""
    if job.gpu is None:
        return 0
    capability = job.gpu.compute_capability
    if job.libraries.torch >= LAZY_LOADING_FROM or capability is None:
        return job.gpu.context_bytes
    return next(size for since, size in EAGER_CONTEXTS if capability >= since)


def outside(job: Job) -> tuple[Amount, ...]:
    """Device memory outside torch's allocator, by what holds it: the context, and every communicator of NCCL."""
    if job.gpu is None:
        return ()
    groups = (Amount(f"NCCL, {group.name} ({group.ranks} ranks)", group.nbytes) for group in communicators(job))
    return (Amount("CUDA context", context_bytes(job)), *groups)
