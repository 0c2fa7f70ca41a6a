"""Device memory that no tensor of the run accounts for."""

from __future__ import annotations

from vramlint.job import Job

CUBLAS_HANDLES = 2
"""The forward and the backward thread have a cuBLAS handle, and a workspace, each (torch 2.13
aten/src/ATen/cuda/CublasHandlePool.cpp)."""
COMMUNICATOR_BYTES = 544 * 10**6
"""Buffers of one NCCL communicator: 544 MB per rank on two A100 (NVIDIA/nccl issue 964)."""


def workspace_bytes(job: Job) -> int:
    """CuBLAS workspaces, which torch counts as allocated."""
    return CUBLAS_HANDLES * job.gpu.cublas_workspace_bytes if job.gpu else 0


def context_bytes(job: Job) -> int:
    """The CUDA context."""
    return job.gpu.context_bytes if job.gpu else 0


def communication_bytes(job: Job) -> int:
    """NCCL buffers outside torch's allocator."""
    parallelism = job.parallelism
    spread = parallelism.world_size > 1 and parallelism.strategy not in {"none", "device_map", "dataparallel"}
    return COMMUNICATOR_BYTES if spread and job.gpu else 0
