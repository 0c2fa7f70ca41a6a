"""The stages that one rank of torch's pipelines runs (torch 2.13 torch/distributed/pipelining/{stage,schedules}.py).

What a stage returned is kept until its backward is over (`fwd_cache`). What is received, forward and backward, lies in
buffers that each micro batch has of its own from the first step on (`args_recv_info`, `grad_recv_info`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vramlint.job import DTYPE_BYTES, Batch
from vramlint.memory.architectures.family import Outputs
from vramlint.memory.architectures.torchtitan import Transformer
from vramlint.memory.autograd import Engine
from vramlint.memory.forward import Forward
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.staged_shard import StagedShard
from vramlint.memory.tensor import Parameter, Tensor

GATHERED = "gathered parameters"
"""Of which no forward but the first makes any."""


class Stages:
    """Forwards and backwards of micro batches, which all are alike."""

    def __init__(self, forward: Forward, recorder: Recorder, trainable: Sequence[Parameter]) -> None:
        assert isinstance(forward.network, Transformer)  # noqa: S101  the only model that is cut into stages
        self.forward, self.recorder, self.network = forward, recorder, forward.network
        self.trainable = trainable
        self._begun = False
        """Whether a backward has run: all that follows counts as its phase."""
        self._graded: set[int] = set()
        """Chunks whose gradients are there."""

    def hold_received(self, micro: Batch, batches: int) -> None:
        """The buffers of what neighbouring stages send, of all micro batches."""
        network = self.network
        rows = micro.micro_batch_size * micro.sequence_length // network.ranks
        inner = 2 * len(network.chunks) - network.first - network.last
        size = rows * network.hidden * DTYPE_BYTES[network.dtype]
        self.recorder.lasting += [("communication buffers", size)] * (inner * batches)

    def run(self, batch: Mapping[str, Tensor], chunk: int, waiting: Sequence[int]) -> None:
        """The backward of a chunk while so many forwards of each wait for theirs."""
        beside = [other for other in range(len(waiting)) if self._begun and waiting[other] and other != chunk]
        for other in beside:
            if other not in self._graded and other > chunk:
                self._backward(self._forward(batch, other), other)
        others: list[tuple[int, int]] = []
        kept: list[Outputs] = []
        for other, count in enumerate(waiting):
            left = count - (other == chunk)
            before = self.recorder.alive(GATHERED)
            kept += [self._forward(batch, other)] if left > 0 else []
            if left > 1:
                size = self.recorder.alive(GATHERED) - before
                label = Label("micro batches in flight", "activations", "uint8", (size,))
                others.append((self.recorder.allocate_many(size, left - 1, label), left - 1))
        for parameter in self.trainable:
            parameter.pending = 0  # the forwards that wait have backwards of their own
        self.forward.tape.meter.reset()
        self._backward(self._forward(batch, chunk), chunk)
        kept.clear()
        for index, count in others:
            self.recorder.free(index, count)

    def _forward(self, batch: Mapping[str, Tensor], chunk: int) -> Outputs:
        self.network.chunk = chunk
        return self.forward(batch)

    def _backward(self, outputs: Outputs, chunk: int) -> None:
        """`stage_backward`: of the loss, or of what the stage sent, by the gradient that the next one has sent back."""
        if not self._begun:
            self.recorder.phase("backward")
        self._begun = True
        self._graded.add(chunk)
        self.network.chunk = chunk
        tape, out = self.forward.tape, outputs.loss
        tape.course.enter(0)
        gradient = tape.empty(out.shape, out.dtype, "ones") if self.network.ends else Tensor(out.shape, out.dtype, None)
        self.network.sent.clear()
        Engine(tape).run(out, gradient)
        out.node = None

    def end(self) -> None:
        """The last micro batch has run: its gradients are reduced."""
        self.network.sent.clear()
        sharded = self.forward.tape.course.sharded
        if isinstance(sharded, StagedShard):
            sharded.reduce_all()
