"""What torch's reduction kernel takes from the allocator while it sums over rows.

Blocks that share the rows of an output leave their partial sums in a buffer, which counts every lane of a block for
every output, so that it is larger than it looks: 8 bytes for each element of a [8192, 768] gradient that becomes a
bias's. Follows torch 2.13 aten/src/ATen/native/cuda/Reduce.cuh, setReduceConfig and global_memory_size. No dispatch
mode sees it.
"""

from __future__ import annotations

from math import prod

from msgspec import Struct

from vramlint.job import Job
from vramlint.memory.kernels import AMPERE, Capability
from vramlint.memory.tensor import Shape

ACCUMULATOR = 4
"""Bytes of a partial sum: 16-bit and 32-bit floats are summed in float32."""
WARP = 32
THREADS = 512
LEAST_VALUES, MOST_VALUES = 16, 256
"""Values that a thread sums: at least, where rows are shared among blocks, and at most before they are."""
VECTOR = 4
RESIDENT_THREADS: tuple[tuple[Capability, int], ...] = (
    ((12, 0), 1536),
    ((9, 0), 2048),
    ((8, 6), 1536),
    ((8, 0), 2048),
    ((7, 5), 1024),
    ((0, 0), 2048),
)
"""Compute capability from which on, and threads of one multiprocessor (CUDA C++ programming guide, table of technical
specifications per compute capability)."""
MULTIPROCESSORS = 108
"""Those of an A100, where no GPU is known."""


class Multiprocessors(Struct, frozen=True):
    """The multiprocessors of a card."""

    count: int = MULTIPROCESSORS
    threads: int = 2048
    """Threads that one of them holds at once."""

    @classmethod
    def of(cls, job: Job) -> Multiprocessors:
        """Those of a job's GPU; where it is not known, those of an A100."""
        gpu = job.gpu
        capability = (gpu.compute_capability if gpu else None) or AMPERE
        threads = next(threads for since, threads in RESIDENT_THREADS if capability >= since)
        return cls((gpu.multiprocessors if gpu else None) or MULTIPROCESSORS, threads)


def partial_sums(card: Multiprocessors, whole: Shape, reduced: Shape) -> int:
    """Bytes of the buffer for `tensor.sum(dims, keepdim=True)` of `whole` to `reduced`, which may lack leading ones.

    0 where every output is summed by one block, and where the last dimension goes: then a block's lanes share one
    output, and the buffer is small.
    """
    if not reduced or not whole or reduced[-1] != whole[-1]:
        return 0
    outputs = prod(reduced)
    rows = prod(whole) // outputs
    vector = VECTOR
    while reduced[-1] % vector:
        vector //= 2
    width, height = _block(outputs // vector, rows, THREADS // vector)
    if rows < min(height * LEAST_VALUES, MOST_VALUES):
        return 0
    values = -(-rows // height)
    grid = -(-(outputs // vector) // width)
    target = card.count * (card.threads // (width * height))
    if values < MOST_VALUES or grid > target:
        return 0
    blocks = max(min(-(-target // grid), -(-values // LEAST_VALUES)), -(-values // MOST_VALUES))
    return ACCUMULATOR * outputs * blocks * width * vector if blocks > 1 else 0


def _block(columns: int, rows: int, threads: int) -> tuple[int, int]:
    """(width, height) of a block of threads over `columns` vectors of outputs and `rows`."""
    across, down = (threads if size >= threads else 1 << (size.bit_length() - 1) for size in (columns, rows))
    width = min(across, WARP)
    height = min(down, threads // width)
    return min(across, threads // height), height
