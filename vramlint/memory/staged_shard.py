"""FSDP 2 of a pipeline's stages: nothing is reduced or freed before the last backward of all micro batches.

torch 2.13 torch/distributed/pipelining/stage.py: `backward_maybe_with_nosync` switches off the reduction and the
resharding behind a backward, `perform_reduce_grad` calls `post_backward` of every group at the end, in the order in
which the modules lie in the model. Gradients wait in the dtype of the reduction.
"""

from __future__ import annotations

from vramlint.memory.fully_shard import EMBEDDING, ROOT, TAIL, FullyShard, Groups, Key
from vramlint.memory.recorder import Recorder
from vramlint.memory.tensor import Parameter


class StagedShard(FullyShard):
    """The groups of one rank's stages while they run."""

    def __init__(self, units: Groups, recorder: Recorder) -> None:
        super().__init__(units, recorder)
        self._owners: dict[Key, Parameter] = {}
        """Who has the gradients of a group once they are reduced."""

    def _forward(self, key: Key | None) -> None:
        super()._forward(key)
        if key in self._parameters:
            self._running = key

    def _reduce(self, key: Key) -> None:
        """Take a group's gradients of one micro batch: its parameters stay gathered."""
        arrived = self._arrived.pop(key, [])
        if not arrived:
            return
        self._divide(arrived)
        self._owners[key] = arrived[0][0]
        self._unreduced[key] = self._unreduced.pop(key, {}) or self._kept(arrived, self.units.by_key[key])
        self._drop(key, arrived)

    def finish(self) -> None:
        """The backward of a micro batch is over."""
        for key in (ROOT, EMBEDDING, TAIL):
            self._reduce(key)
        self.backward = False
        self._ahead = self._buffer = self._running = None
        self._last = ()

    def reduce_all(self) -> None:
        """The last micro batch has run: reduce every group, layer by layer, and free it."""
        outside = {ROOT, EMBEDDING, TAIL}
        layers = sorted(key for key in self.units.by_key if key not in outside)
        for key in (ROOT, EMBEDDING, *layers, TAIL):
            kept = self._unreduced.pop(key, None)
            if kept is not None:
                self.recorder.repeat(self.units.times.get(key, 1))
                self._scatter(key, self._owners[key], [], kept)
                self._parameters.pop(key, None)
        self.recorder.repeat(1)
        self._reduction = None
        self._parameters.clear()
        self._replicas.clear()
