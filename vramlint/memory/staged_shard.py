"""FSDP 2 of a pipeline's stages: nothing is reduced or freed before the last backward of all micro batches.

torch 2.13 torch/distributed/pipelining/stage.py: `backward_maybe_with_nosync` switches off the reduction and the
resharding behind a backward, `perform_reduce_grad` calls `post_backward` of every group of a stage at its end, in the
order in which the modules lie in the model. Gradients wait in the dtype of the reduction. Those that a backward of the
weights leaves wait as they came, until the next backward goes through their layer
(distributed/fsdp/_fully_shard/_fsdp_param.py, accumulate_unsharded_grad_if_needed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vramlint.job import DTYPE_BYTES
from vramlint.memory.fully_shard import EMBEDDING, ROOT, TAIL, FullyShard, Groups, Key, name_of
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.tensor import Gradients, LayerId, Parameter, Storage, Tensor


class StagedShard(FullyShard):
    """The groups of one rank's stages while they run."""

    def __init__(self, units: Groups, recorder: Recorder) -> None:
        super().__init__(units, recorder)
        self._owners: dict[Key, Parameter] = {}
        """Who has the gradients of a group once they are reduced."""
        self._fresh: dict[Key, dict[str, Storage]] = {}
        """Gradients that no backward through their layer has cast yet."""
        self._entered: Sequence[LayerId | None] = ()
        self.stage: Sequence[Key] = ()
        """The groups of the model chunk that runs."""

    def enter(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        """Gather the group that runs now; remember it."""
        super().enter(layers, before)
        self._entered = layers

    def leaves(self) -> None:
        """The unit that ran is over; in backward its gradients are cast."""
        keys: list[Key | None] = [TAIL if layer is None else layer for layer in self._entered]
        for key in (*keys, self._experts_of(self._entered)) if self.backward else ():
            if key is not None and key in self.stage:
                self.cast(key)

    def enter_experts(self, *, backward: bool = False) -> None:
        """Gather the running layer's experts."""
        running = self._running
        self._forward(None if backward else self._experts_of(self._entered))
        self._running = running

    def leave_experts(self, *, backward: bool = False) -> None:
        """Their gradients wait with the others."""
        key = self._experts_of(self._entered)
        if backward and key is not None:
            self._reduce(key)

    def _forward(self, key: Key | None) -> None:
        if key not in self.stage:
            return
        super()._forward(key)
        if key in self._parameters:
            self._running = key

    def unshard(self, keys: Sequence[Key]) -> None:
        """Gather groups before anything runs (schedules.py, UNSHARD)."""
        for key in keys:
            if key in self.units.by_key and key not in self._parameters:
                self.recorder.repeat(self.units.times.get(key, 1))
                buffer = self._gather(key)
                self._parameters[key] = self._new(self.units.by_key[key].gathered, "all-gather copy")
                del buffer
        self.recorder.repeat(1)

    # ------------------------------------------------------------------ gradients

    def take(self, parameter: Parameter, gradients: Gradients) -> bool:
        """A gradient of a whole backward; it is added to a fresh one in place."""
        fresh = self._fresh.get(self.units.of[name_of(parameter)], {})
        gradient = gradients[0]
        if gradient is not None and name_of(parameter) in fresh:
            gradients[0] = Tensor(gradient.shape, gradient.dtype, None)
        del gradient
        return super().take(parameter, gradients)

    def leave(self, parameter: Parameter, gradient: Tensor) -> None:
        """A gradient of a backward of the weights: the first is kept as it is, others are added in place."""
        key = self.units.of[name_of(parameter)]
        self._owners[key] = parameter
        fresh = self._fresh.setdefault(key, {})
        if gradient.storage is not None and name_of(parameter) not in fresh:
            self.recorder.labels[gradient.storage.index].component = "gradients"
            fresh[name_of(parameter)] = gradient.storage

    def cast(self, key: Key) -> None:
        """Add a group's fresh gradients to those that wait, the first in a copy of the dtype of the reduction."""
        fresh = self._fresh.pop(key, None)
        if fresh is None:
            return
        waiting = self._unreduced.get(key)
        if waiting is None:
            waiting = self._unreduced[key] = {}
            for name in list(fresh):
                waiting[name] = self._widened(fresh.pop(name), self.units.by_key[key].width)
        fresh.clear()

    def _widened(self, gradient: Storage, width: int) -> Storage:
        """A gradient in a dtype of so many bytes; itself, where it has it."""
        came = DTYPE_BYTES[self.recorder.labels[gradient.index].dtype]
        size = self.recorder.sizes[gradient.index] // came * width
        return gradient if came == width else self._new(size, "gradient to reduce", "gradients")

    def _reduce(self, key: Key) -> None:
        """Take a group's gradients of one micro batch: its parameters stay gathered."""
        arrived = self._arrived.pop(key, [])
        if not arrived:
            return
        self._divide([one for one in arrived if one[1].storage is not None])
        self._owners[key] = arrived[0][0]
        if key not in self._fresh:
            self._unreduced[key] = self._unreduced.pop(key, {}) or self._kept(arrived, self.units.by_key[key])
        self._drop(key, arrived)
        self.cast(key)

    def finish(self) -> None:
        """The backward of a micro batch is over."""
        for key in (ROOT, EMBEDDING, TAIL):
            self._reduce(key)
            if key in self.stage:
                self.cast(key)
        self.backward = False
        self._ahead = self._buffer = self._running = None
        self._last = ()

    def keys_of(self, chunk: int, *, first: bool, last: bool) -> Sequence[Key]:
        """The groups of a model chunk, in the order of its modules: of the model's first, and its last."""
        layers = sorted(key for key in self.units.by_key if isinstance(key, tuple) and key[0] == chunk)
        ends: list[Key] = [TAIL] if last or (first and self._tied) else []
        return [*([ROOT, EMBEDDING] if first else []), *layers, *ends]

    def waiting_bytes(self, keys: Sequence[Key]) -> int:
        """Bytes of the gradients of these groups while they wait for their reduction."""
        units = self.units
        return sum(units.by_key[key].reduced * units.times.get(key, 1) for key in keys if key in units.by_key)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave fresh gradients alone, whatever backward goes through their layers."""
        fresh, self._fresh = self._fresh, {}
        try:
            yield
        finally:
            self._fresh = fresh

    def freshen(self, parameters: Sequence[Parameter], keys: Sequence[Key]) -> None:
        """Have fresh gradients of the parameters of these groups."""
        for parameter in parameters:
            key = self.units.of[name_of(parameter)]
            if key in keys:
                self.recorder.repeat(self.units.times.get(key, 1))
                label = Label("gradient", "gradients", parameter.dtype, parameter.shape)
                gradient = Tensor(parameter.shape, parameter.dtype, Storage(self.recorder, parameter.nbytes, label))
                self.leave(parameter, gradient)
        self.recorder.repeat(1)

    def settle(self, keys: Sequence[Key]) -> None:
        """Cast what is fresh, wherever the run is."""
        for key in keys:
            self.recorder.repeat(self.units.times.get(key, 1))
            self.cast(key)
        self.recorder.repeat(1)

    def reduce(self, keys: Sequence[Key]) -> None:
        """The last micro batch of a chunk has run: reduce its groups one by one, and free them."""
        for key in keys:
            self.recorder.repeat(self.units.times.get(key, 1))
            self.cast(key)
            kept = self._unreduced.pop(key, None)
            if kept is not None:
                self._scatter(key, self._owners[key], [], kept)
            self._parameters.pop(key, None)
        self.recorder.repeat(1)
        self._reduction = None
        self._replicas.clear()
