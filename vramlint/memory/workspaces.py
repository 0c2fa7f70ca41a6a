"""CuBLAS workspaces: what torch allocates when a thread first multiplies matrices, and never gives back.

The thread that runs the forward and the one that runs the backward have a handle each, and with it a workspace (torch
2.13 aten/src/ATen/cuda/CublasHandlePool.cpp). cuBLASLt, which adds a bias inside the product, had one of its own:
the setting that unifies them counted as set where its size was chosen, and as unset where it was looked up.
"""

from __future__ import annotations

from vramlint.job import Job
from vramlint.memory.recorder import Label, Recorder

COMPONENT = "cuBLAS workspaces"
LT_BYTES = 1 << 20
LT_FROM, LT_UNTIL = (2, 7), (2, 13)
"""Versions of torch that keep cuBLASLt's workspace, seen in 2.11; older ones allocate it for every product anew, newer
ones say that they reuse the other (torch 2.13 backends/cuda/__init__.py, blas_workspace_size)."""


class Workspaces:
    """Those of one process, in the order in which they come."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self._recorder = recorder
        self._size = job.gpu.cublas_workspace_bytes if job.gpu else 0
        self._lt = LT_BYTES if self._size and LT_FROM <= job.libraries.torch < LT_UNTIL else 0
        self._multiplied_backward = not self._size
        self._threads_with_bias: set[str] = set()
        if self._size:
            recorder.lasting.append((COMPONENT, self._size))

    def multiplies_backward(self) -> None:
        """The backward thread multiplies, or comes to the first layer, which may stand for several."""
        if not self._multiplied_backward:
            self._multiplied_backward = True
            self._recorder.allocate_once(self._size, Label(COMPONENT, COMPONENT, "uint8", (self._size,)))

    def adds_bias(self, *, backward: bool) -> None:
        """A product adds a bias; in backward where a layer runs again."""
        thread = "backward" if backward else "forward"
        if self._lt and thread not in self._threads_with_bias:
            self._threads_with_bias.add(thread)
            self._recorder.lasting.append((COMPONENT, self._lt))
