"""The stages that one rank of torch's pipelines runs (torch 2.13 torch/distributed/pipelining/{stage,schedules}.py).

What a stage returned is kept until its backward is over (`fwd_cache`). What is received, forward and backward, lies in
buffers that each micro batch has of its own from the first step on (`args_recv_info`, `grad_recv_info`); where the next
stage is the same rank's, what is handed on takes their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.estimate import Work
from vramlint.job import DTYPE_BYTES, Batch, Turn
from vramlint.memory.architectures.family import Outputs
from vramlint.memory.architectures.torchtitan import Transformer
from vramlint.memory.autograd import Engine
from vramlint.memory.forward import Forward
from vramlint.memory.fully_shard import Key
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.split_backward import Halved, discard, nodes_of
from vramlint.memory.staged_shard import StagedShard
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.torch_schedules import INPUT, WEIGHT
from vramlint.memory.torch_turns import BOTH, FRESH, KEPT, NONE, REDUCED, Turns, behind, highest, undominated

GATHERED = "gathered parameters"
"""Of which no forward but the first makes any."""
IN_FLIGHT = "micro batches in flight"


class _Beside(Struct):
    """Micro batches that are under way."""

    halves: list[Halved] = field(default_factory=list)
    waiting: list[Outputs] = field(default_factory=list)
    others: list[tuple[int, int]] = field(default_factory=list)


class Stages:
    """Forwards and backwards of micro batches, which all are alike."""

    def __init__(self, forward: Forward, recorder: Recorder, trainable: Sequence[Parameter]) -> None:
        assert isinstance(forward.network, Transformer)  # noqa: S101  the only model that is cut into stages
        self.forward, self.recorder, self.network = forward, recorder, forward.network
        self.trainable = trainable
        self._begun = False
        """Whether a backward has run: all that follows counts as its phase."""
        self._gradients = [NONE] * len(self.network.chunks)
        """What there is of each chunk's."""
        self._weights: list[tuple[int, int, Mapping[str, int]]] = []
        """Of each chunk the bytes that a micro batch leaves behind its forward and half its backward; of gradients."""
        self._work: dict[int, tuple[Work, ...]] = {}
        """What each chunk computed of the last micro batch whose backward is over."""
        self._passed: list[tuple[int, int]] = []
        """Gradients that backwards of the inputs left."""
        sharded = forward.tape.course.sharded
        self._sharded = sharded if isinstance(sharded, StagedShard) else None

    def hold_received(self, micro: Batch, batches: int) -> None:
        """The buffers of what neighbouring stages send, of all micro batches."""
        inner = 2 * len(self.network.chunks) - self.network.first - self.network.last
        self.recorder.lasting += [("communication buffers", self._sent(micro))] * (inner * batches)

    def _sent(self, micro: Batch) -> int:
        """Bytes of what one stage sends another of a micro batch."""
        rows = micro.micro_batch_size * micro.sequence_length // self.network.ranks
        return rows * self.network.hidden * DTYPE_BYTES[self.network.dtype]

    def chosen(self, batch: Mapping[str, Tensor], turns: Turns, micro: Batch) -> Turns:
        """Those of a rank's backwards that may be its highest.

        Where its parameters are gathered once, what a micro batch leaves is weighed chunk by chunk.
        """
        if len(self.network.chunks) == 1 or (self._sharded is not None and not self._sharded.units.keeps):
            return undominated(turns)
        if self._sharded is not None:
            self._sharded.unshard([key for chunk in range(len(self.network.chunks)) for key in self._keys(chunk)])
        splits = any(turn.action == INPUT for turn in turns)
        if splits:
            self.forward.tape.multiplies_backward()  # weighing is no part of the step, what it makes for good is
        self._weights = [self._weighed(batch, chunk, splits=splits) for chunk in range(len(self.network.chunks))]
        sent = self._sent(micro)

        def alive(turn: Turn) -> int:
            total = turn.passed * sent
            for chunk, (waiting, half, gradients) in enumerate(self._weights):
                total += turn.waiting[chunk] * waiting + turn.halves[chunk] * half + gradients[turn.gradients[chunk]]
            return total

        return highest(turns, alive)

    def _weighed(self, batch: Mapping[str, Tensor], chunk: int, *, splits: bool) -> tuple[int, int, Mapping[str, int]]:
        recorder, tape = self.recorder, self.forward.tape
        start, phase, begun = len(recorder.blocks), recorder.blocks[-1].phase, self._begun
        recorder.repeat(1)
        before, half = recorder.alive(), 0
        outputs = self._forward(batch, chunk)
        waiting = recorder.alive() - before
        if splits and not (self.network.first and not chunk):
            halved = self._halved(outputs, chunk)
            half = recorder.alive() - before
            halved.discard()
        else:
            discard(tape, nodes_of(outputs.loss))
        del outputs
        self._begun = begun
        del recorder.blocks[start:]
        recorder.begin(phase)
        return waiting, half, self._bytes_of_gradients(chunk)

    def _bytes_of_gradients(self, chunk: int) -> Mapping[str, int]:
        own = [p for p in self.trainable if p.layer is not None and p.layer[0] == chunk]
        fresh = sum(p.nbytes * p.multiplicity for p in own)
        if self._sharded is None:
            return {NONE: 0, FRESH: fresh, KEPT: fresh, BOTH: fresh, REDUCED: fresh}
        kept = self._sharded.waiting_bytes(self._keys(chunk))
        reduced = kept // self._sharded.units.world - fresh  # the parameters are let go
        return {NONE: 0, FRESH: fresh, KEPT: kept, BOTH: fresh + kept, REDUCED: reduced}

    def run(self, batch: Mapping[str, Tensor], turn: Turn, micro: Batch) -> None:
        """A backward, with everything that is alive beside it."""
        before, started = self._begun, len(self.recorder.blocks)
        self.recorder.repeat(1)
        self._bring(batch, turn.gradients)
        self._pass(turn.passed, micro)
        with self._sharded.aside() if self._sharded is not None else nullcontext():
            beside = self._in_flight(batch, turn)
            self.forward.tape.meter.reset()
            own = self._halved(self._forward(batch, turn.chunk), turn.chunk) if turn.action == WEIGHT else None
        self._freshen(turn.gradients)
        if before:
            self.recorder.come_down(started)
        if own is not None:
            own.weights(self.trainable, self._take)
        elif turn.action == INPUT:
            self._halved(self._forward(batch, turn.chunk), turn.chunk).discard()
        else:
            self._whole(batch, turn.chunk)
        self._gradients[turn.chunk] = behind(turn.action, turn.gradients[turn.chunk], widens=self._sharded is not None)
        if turn.action != INPUT:
            self._work[turn.chunk] = self.forward.tape.meter.read()
        self._drop(beside)
        if turn.action == INPUT and not self._handed_on(turn.chunk - 1):
            self.network.sent.clear()
            self._pass(turn.passed + 1, micro)

    @property
    def work(self) -> tuple[Work, ...]:
        """What the rank computes of a micro batch, in all its chunks."""
        total: Counter[Work] = Counter()
        for work in self._work.values():
            total.update({replace(one, flops=0): one.flops for one in work})
        return tuple([replace(kind, flops=flops) for kind, flops in total.items()])

    def end(self, batch: Mapping[str, Tensor]) -> None:
        """The last micro batch has run: its gradients are reduced."""
        self.network.sent.clear()
        self._bring(batch, [REDUCED] * len(self._gradients))

    def clear(self) -> None:
        """The next step begins: what the backwards of the inputs left is cleared."""
        for index, count in self._passed:
            self.recorder.free(index, count)
        self._passed.clear()

    # ------------------------------------------------------------------ what is alive beside

    def _pass(self, passed: int, micro: Batch) -> None:
        more = passed - sum(count for _, count in self._passed)
        if more > 0:
            size = self._sent(micro)
            label = Label("gradients of inputs", "activations", "uint8", (size,))
            self._passed.append((self.recorder.allocate_many(size, more, label), more))

    def _in_flight(self, batch: Mapping[str, Tensor], turn: Turn) -> _Beside:
        """One micro batch of each chunk that waits, with half its backward or without, and all others like it."""
        found = _Beside()
        for halved, counts in ((True, turn.halves), (False, turn.waiting)):
            for chunk, count in enumerate(counts):
                left = count - (chunk == turn.chunk and halved == (turn.action == WEIGHT))
                if left < 1:
                    continue
                if self._begun and self._weights:
                    waiting, half, _ = self._weights[chunk]
                    found.others.append(self._alike(half if halved else waiting, left))
                    continue
                before = self.recorder.alive(GATHERED)
                outputs = self._forward(batch, chunk)
                if halved:
                    found.halves.append(self._halved(outputs, chunk))
                else:
                    found.waiting.append(outputs)
                del outputs
                if left > 1:
                    found.others.append(self._alike(self.recorder.alive(GATHERED) - before, left - 1))
        return found

    def _alike(self, size: int, count: int) -> tuple[int, int]:
        """So many micro batches that leave so many bytes each."""
        return self.recorder.allocate_many(size, count, Label(IN_FLIGHT, "activations", "uint8", (size,))), count

    def _drop(self, beside: _Beside) -> None:
        for halved in beside.halves:
            halved.discard()
        for outputs in beside.waiting:
            discard(self.forward.tape, nodes_of(outputs.loss))
        beside.waiting.clear()
        for index, count in beside.others:
            self.recorder.free(index, count)

    # ------------------------------------------------------------------ gradients

    def _bring(self, batch: Mapping[str, Tensor], wanted: Sequence[str]) -> None:
        """Have the gradients that wait: by a backward beside which nothing else is alive, where there are none yet."""
        for chunk, kind in enumerate(wanted):
            now = self._gradients[chunk]
            if now == NONE and kind in {KEPT, BOTH, REDUCED}:
                self._whole(batch, chunk)
                now = KEPT
            if self._sharded is not None:
                if (now == BOTH and kind == KEPT) or (now == FRESH and kind in {KEPT, BOTH}):
                    self._sharded.settle(self._keys(chunk))
                    now = KEPT
                if kind == REDUCED and now != REDUCED:
                    self._sharded.reduce(self._keys(chunk))
                    now = REDUCED
            self._gradients[chunk] = now

    def _freshen(self, wanted: Sequence[str]) -> None:
        """Have those gradients that backwards of the weights left."""
        for chunk, kind in enumerate(wanted):
            if kind in {FRESH, BOTH} and self._sharded is not None and self._gradients[chunk] != kind:
                self._sharded.freshen(self.trainable, self._keys(chunk))
                self._gradients[chunk] = kind

    def _keys(self, chunk: int) -> Sequence[Key]:
        assert self._sharded is not None  # noqa: S101  narrowing
        last = self.network.last and chunk == len(self.network.chunks) - 1
        return self._sharded.keys_of(chunk, first=self.network.first and not chunk, last=last)

    def _take(self, parameter: Parameter, gradient: Tensor) -> None:
        """What a backward of the weights adds to `weight.grad`."""
        parameter.reached = True
        if self._sharded is not None:
            self._sharded.leave(parameter, gradient)
        elif parameter.grad is None:
            parameter.grad = gradient
            self.forward.tape.became_gradient(gradient)

    # ------------------------------------------------------------------ forwards and backwards

    def _forward(self, batch: Mapping[str, Tensor], chunk: int) -> Outputs:
        self.network.chunk = chunk
        if self._sharded is not None:
            self._sharded.stage = self._keys(chunk)
        outputs = self.forward(batch)
        if self._handed_on(chunk) and outputs.loss.storage is not None:
            outputs.loss.storage.release()
        return outputs

    def _handed_on(self, chunk: int) -> bool:
        """Whether a chunk's next stage is the rank's own."""
        return self.network.turns_back and chunk == 0

    def _begin(self, outputs: Outputs, chunk: int) -> tuple[Tensor, Tensor]:
        """What is differentiated, the loss or what the stage sent, and the gradient that the next one has sent back."""
        if not self._begun:
            self.recorder.phase("backward")
        self._begun = True
        tape, out = self.forward.tape, outputs.loss
        tape.course.enter(0)
        gradient = tape.empty(out.shape, out.dtype, "ones") if self.network.ends else Tensor(out.shape, out.dtype, None)
        self.network.sent.clear()
        return out, gradient

    def _whole(self, batch: Mapping[str, Tensor], chunk: int) -> None:
        """A forward, and `stage_backward`."""
        for parameter in self.trainable:
            parameter.pending = 0  # the forwards that wait have backwards of their own
        outputs = self._forward(batch, chunk)
        out, gradient = self._begin(outputs, chunk)
        Engine(self.forward.tape).run(out, [gradient])
        out.node = None
        if self._handed_on(chunk - 1):
            self.network.sent.clear()

    def _halved(self, outputs: Outputs, chunk: int) -> Halved:
        """`stage_backward_input`, behind which the outputs are let go."""
        out, gradient = self._begin(outputs, chunk)
        halved = Halved(self.forward.tape, out, gradient)
        out.node = None
        outputs.tensors.clear()
        self.network.sent.clear()
        return halved
