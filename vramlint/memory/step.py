"""One training step in the order in which the Trainer does it (transformers 5.23 trainer.py, accelerate 1.15).

Simulated in the steady state: optimizer states exist. With gradient accumulation the second micro batch
stands for all later ones: it runs with the gradients of the first alive. Where the last one alone reduces them, it is
followed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from vramlint.estimate import Work
from vramlint.job import Job, Mesh
from vramlint.memory import optimizers
from vramlint.memory.architectures.family import Network, Outputs
from vramlint.memory.autograd import Engine
from vramlint.memory.data_parallel import gradients_of, is_replica, is_spread
from vramlint.memory.evaluation import evaluate
from vramlint.memory.forward import Forward
from vramlint.memory.fully_shard import FullyShard, Groups
from vramlint.memory.fully_sharded import FullySharded, Units
from vramlint.memory.holdings import Tensors
from vramlint.memory.inventory import Inventory
from vramlint.memory.rank import Sharding
from vramlint.memory.recorder import BEFORE, Label, Recorder
from vramlint.memory.reductions import Multiprocessors
from vramlint.memory.repetition import Layout
from vramlint.memory.retraced import Retracing, Tracing
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.updates.backward import GradientHooks
from vramlint.memory.updates.clipping import clip_by_norm, unscale
from vramlint.memory.updates.memory import Memory, by_layer
from vramlint.memory.workspaces import Workspaces
from vramlint.memory.zero_buckets import Buckets, ZeroBuckets

MORE = ""
"""A phase begins, or the gradients are used."""


class Step:
    """Runs one step and records it."""

    def __init__(
        self,
        job: Job,
        network: Network,
        inventory: Inventory,
        sharding: Sharding,
        recorder: Recorder,
        *,
        observed: bool = False,
    ) -> None:
        self.job = job
        self.sharding = sharding
        self.recorder = recorder
        self.tape = Tape(recorder, Layout.of(job), Workspaces(job, recorder))
        self.tape.lifetimes.outlived = job.objective.loop == "script"
        self.tape.compiled = job.compiled
        self.tape.card = Multiprocessors.of(job)
        self.tape.observed = observed
        self.tape.positions_by_row = job.parallelism.sequence is not None
        zero, units = job.parallelism.zero, sharding.units
        self.tape.stored_adapters = "float32" if isinstance(units, Units) and units.separate and units.widens else None
        self.tape.keeps_linear_inputs = zero is not None and zero.stage == 3
        self.tape.course.gathered = sharding.gathered
        self.tape.course.sharded = _sharded(sharding.units, recorder)
        self.tape.consumes_gradients = sharding.consumes_gradients
        self.forward = Forward(job, network, self.tape)
        self.outputs: Outputs | None = None
        """What a hand-written loop still refers to."""
        self.work: tuple[Work, ...] = ()
        """What the last micro batch computed."""
        self.reduced: list[tuple[int, int]] = []
        """Reduced gradients of this rank, until the optimizer has used them."""
        self.trainable = [
            parameter for parameter in inventory.parameters if parameter.requires_grad and parameter.stepped
        ]
        self.spread, self.replica = is_spread(job), is_replica(job)
        """Whether DataParallel runs; whether this is a GPU without the model itself."""
        self.update = optimizers.update_of(job)
        self.groups = self.update.groups(self.trainable, inventory.no_decay) if self.update else ()
        self.memory = self._memory()
        if self.update is not None and sharding.hooked:
            self.tape.hooks = GradientHooks(self.update, self._memory(repeats=False))

    def run(self, tracing: Tracing | None = None) -> None:
        """Record the whole step, with the passes that are traced elsewhere, if they are."""
        mesh = self.job.parallelism.mesh
        if mesh is not None and mesh.turns:
            self._staged(mesh)
        elif self.job.parallelism.megatron is not None:
            self._pipelined(self.job.parallelism.megatron.in_flight)
        elif self.job.parallelism.neox is not None and self.job.parallelism.neox.engine:
            self._by_turns(self.job.parallelism.neox.in_flight)
        else:
            self._follow(self.passes() if tracing is None else self._retraced(tracing))
        self.recorder.phase("end")

    def passes(self) -> Iterator[str]:
        """Record everything but the optimizer's steps, bit by bit.

        Where one of these is due, its phase is given; once it has used the gradients, the next bit is to be asked for.

        A hand-written loop keeps `outputs` bound until the next forward and the gradients until its own
        zero_grad, so its steady state needs the step before.
        """
        if self.job.objective.loop != "script":
            yield from self._trainer()
            return
        for prefix in (BEFORE, ""):
            self._stands_for(prefix)
            yield from self._script(prefix)

    def _retraced(self, tracing: Tracing) -> Iterator[str]:
        """The same as it was traced for another job."""
        retracing = Retracing(self.recorder)
        for part in tracing:
            retracing.add(part)
            if part.due:
                self.reduced, self.work = retracing.placed(part.reduced, part.start), part.work
                if self.job.objective.loop == "script":
                    self._stands_for(BEFORE if part.due.startswith(BEFORE) else "")
            yield part.due

    def _follow(self, passes: Iterator[str]) -> None:
        """Record `passes`, and the optimizer's steps where they are due."""
        for due in passes:
            if due:
                self._optimize(due, partial(next, passes))

    def _trainer(self) -> Iterator[str]:
        """Trainer.training_step: `outputs` is dropped when compute_loss returns."""
        self.recorder.phase("batch")
        batches = [self.forward.inputs(self.job.batch) for _ in range(self.job.batch.gradient_accumulation_steps)]
        for number, batch in enumerate(batches[: self._followed], 1):
            self.recorder.phase("forward")
            yield MORE
            # DDP leaves gradients alone until the last micro batch reduces them (no_sync)
            last = number == len(batches[: self._followed]) or self.job.parallelism.sync_each_batch
            self.tape.consumes_gradients = self.sharding.consumes_gradients and last
            self.tape.meter.reset()
            outputs = self.forward(batch)
            loss = outputs.loss
            self.tape.lifetimes.drop(outputs.cache)
            del outputs
            self.recorder.phase("backward")
            yield MORE
            self._backward(loss)
            del loss
        self.work = self.tape.meter.read()
        yield "optimizer"
        self._gradients_used()
        yield MORE
        self._zero_gradients()
        del batches, batch
        if self.job.evaluation is not None:
            evaluate(self.forward, self.job.evaluation, self.job)

    def _pipelined(self, in_flight: Sequence[int]) -> None:
        """A stage's steady state: so many forwards of each model chunk, the backward of one, the optimizer's step.

        The forwards of a chunk keep alike, so one of them is followed.
        """
        self.recorder.phase("batch")
        batch = self.forward.inputs(self.job.batch)
        self.recorder.phase("forward")
        others: list[tuple[int, int]] = []
        kept: list[Tensor] = []
        for chunk, count in enumerate(in_flight):
            self.forward.network.chunk = chunk
            waiting = count - (chunk == len(in_flight) - 1)
            before = self.recorder.alive()
            kept += [self.forward(batch).loss] if waiting > 0 else []
            if waiting > 1:
                size = self.recorder.alive() - before
                label = Label("micro batches in flight", "activations", "uint8", (size,))
                others.append((self.recorder.allocate_many(size, waiting - 1, label), waiting - 1))
        self.tape.meter.reset()
        loss = self.forward(batch).loss
        self.recorder.phase("backward")
        self._backward(loss)
        del loss, kept
        self._release(others)
        self.work = self.tape.meter.read()
        self._optimize("optimizer")

    def _staged(self, mesh: Mesh) -> None:
        """A rank of torch's pipelines: those of its backwards that hold the most, then the reduction of them all."""
        self.recorder.phase("batch")
        whole = replace(self.job.batch, micro_batch_size=self.job.batch.micro_batch_size * mesh.micro_batches)
        held = self.forward.inputs(whole)
        batch = {
            name: Tensor((self.job.batch.micro_batch_size, *x.shape[1:]), x.dtype, None) for name, x in held.items()
        }
        from vramlint.memory.stages import Stages

        stages: Stages | None = None
        for number in range(min(2, self.job.batch.gradient_accumulation_steps)):
            self.recorder.phase("forward")
            if stages is not None:
                stages.clear()
            stages = Stages(self.forward, self.recorder, self.trainable)
            if not number:
                stages.hold_received(self.job.batch, mesh.micro_batches)
            for turn in stages.chosen(batch, mesh.turns, self.job.batch):
                stages.run(batch, turn, self.job.batch)
            self.work = stages.work
            stages.end(batch)
        del held
        self._optimize("optimizer")
        self._zero_gradients()
        if stages is not None:
            stages.clear()

    def _by_turns(self, in_flight: int) -> None:
        """A stage of DeepSpeed's pipeline: so many forwards, then a backward and a forward by turns.

        The second backward finds the gradients of the first. The other forwards keep alike.
        """
        self.recorder.phase("batch")
        batch = self.forward.inputs(self.job.batch)
        self.recorder.phase("forward")
        others: list[tuple[int, int]] = []
        if in_flight > 1:
            before = self.recorder.alive()
            loss = self.forward(batch).loss
            size = self.recorder.alive() - before
            del loss
            for parameter in self.trainable:
                parameter.pending = 0  # nobody differentiates this forward
            label = Label("micro batches in flight", "activations", "uint8", (size,))
            others.append((self.recorder.allocate_many(size, in_flight - 1, label), in_flight - 1))
        for _ in range(min(2, self.job.batch.gradient_accumulation_steps)):
            self.recorder.phase("forward")
            self.tape.meter.reset()
            outputs = self.forward(batch)
            if self.sharding.clears:
                self._zero_gradients()
            self.recorder.phase("backward")
            self._backward(outputs.loss)  # the engine keeps the logits until it is over
            del outputs
        self._release(others)
        if isinstance(self.tape.course.sharded, ZeroBuckets):
            self.tape.course.sharded.reduce()
        self.work = self.tape.meter.read()
        self._optimize("optimizer")
        self._zero_gradients()

    def _script(self, prefix: str) -> Iterator[str]:
        self.recorder.phase(f"{prefix}batch")
        batches = [self.forward.inputs(self.job.batch) for _ in range(self.job.batch.gradient_accumulation_steps)]
        for number, batch in enumerate(batches[:2]):
            self.recorder.phase(f"{prefix}forward")
            yield MORE
            self.tape.meter.reset()
            if number == 0:
                self._zero_gradients()
            outputs = self.forward(batch)
            if self.outputs is not None:
                self.tape.lifetimes.drop(self.outputs.cache)
            self.outputs = outputs
            del outputs
            self.recorder.phase(f"{prefix}backward")
            yield MORE
            self._backward(self.outputs.loss)
        self.work = self.tape.meter.read()
        yield f"{prefix}optimizer"
        self._gradients_used()
        yield MORE

    # ------------------------------------------------------------------ pieces

    @property
    def _followed(self) -> int:
        """Micro batches that differ."""
        units = self.sharding.units
        return max(2, units.synchronises_every) if isinstance(units, Units) else 2

    def _memory(self, *, first: bool = True, later: bool = True, repeats: bool = True) -> Memory:
        card = None if self.tape.observed else self.tape.card
        name = self.job.optimizer.name
        return Memory(self.recorder, name, first=first, later=later, repeats=repeats, card=card)

    def _stands_for(self, prefix: str) -> None:
        """What is recorded from here on is the step before, which is the first, or a later one."""
        first, later = prefix == BEFORE, prefix != BEFORE
        self.memory = self._memory(first=first, later=later)
        if self.tape.hooks is not None:
            self.tape.hooks.memory = self._memory(first=first, later=later, repeats=False)

    def _backward(self, loss: Tensor) -> None:
        buffers = self._hold(self.sharding.backward)
        reduced = self._hold(self.sharding.gradients) if not self.reduced else []
        before = self._set_aside() if self.spread else []
        self.reduced = [*self.reduced, *reduced]
        self.recorder.component = "temporaries"
        self.tape.course.enter(0)
        if self.job.precision.grad_scaler:
            loss = self.tape.to(loss, loss.dtype)
        Engine(self.tape).run(loss, [self.tape.empty(loss.shape if len(loss.shape) > 1 else (1,), loss.dtype, "ones")])
        self.recorder.component = "activations"
        if self.tape.hooks is not None:
            self.tape.hooks.memory.first = False
        loss.node = None
        self._release(buffers)
        if self.spread:
            self._summed()
            self._release(before)

    def _set_aside(self) -> list[tuple[int, int]]:
        """The gradients of earlier micro batches, beside which the replica of the first GPU has its own."""
        found = [p for p in self.trainable if p.grad is not None]
        self._zero_gradients()
        return self._hold(gradients_of(found))

    def _summed(self) -> None:
        """The sum over all GPUs is made while their gradients are there; it becomes the parameters' own."""
        if self.replica:
            self._zero_gradients()
        else:
            self._release(self._hold(gradients_of(self.trainable)))

    def _optimize(self, phase: str, used: Callable[[], object] | None = None) -> None:
        """Record an optimizer's step; `used` is called when it has used the gradients."""
        recorder, memory = self.recorder, self.memory
        recorder.phase(phase)
        if self.replica:
            return
        unscaled = unscale(memory) if self.job.precision.grad_scaler else None
        clips = self.job.objective.max_grad_norm and not self.sharding.hooked
        partial = self.sharding.whole and not self.tape.observed
        norm = clip_by_norm(memory, self.trainable, partial=partial) if clips else None
        if self.sharding.whole and self.update is not None:
            if not self.sharding.hooked:
                held = self._hold(self.sharding.optimizer)
                self.update.run(memory, self.groups)
                self._release(held)
        else:
            for tensors in self.sharding.states if memory.first else ():
                label = Label("optimizer state", tensors.component, "uint8", (tensors.nbytes,))
                for _ in range(tensors.count):
                    recorder.allocate_once(tensors.nbytes, label)
            self._release(self._hold(self.sharding.optimizer))
        (used or self._gradients_used)()
        del norm, unscaled
        self._release(self.reduced)
        self.reduced = []

    def _gradients_used(self) -> None:
        """The optimizer has used the gradients."""
        if self.tape.course.sharded is not None:
            self.tape.course.sharded.stepped()

    def _zero_gradients(self) -> None:
        """`zero_grad(set_to_none=True)`, in the model's order."""
        for times, parameters in by_layer(self.trainable):
            self.recorder.repeat(times)
            for parameter in parameters:
                parameter.drop_gradient()
        self.recorder.repeat(1)

    def _hold(self, tensors: Sequence[Tensors]) -> list[tuple[int, int]]:
        """Allocate; returns what `_release` takes."""
        return [
            (
                self.recorder.allocate_many(t.nbytes, t.count, Label(t.component, t.component, "uint8", (t.nbytes,))),
                t.count,
            )
            for t in tensors
            if t.nbytes
        ]

    def _release(self, held: Sequence[tuple[int, int]]) -> None:
        for index, count in held:
            self.recorder.free(index, count)


def _sharded(
    units: Units | Groups | Buckets | None, recorder: Recorder
) -> FullySharded | FullyShard | ZeroBuckets | None:
    """What shards at run time."""
    if units is None:
        return None
    if isinstance(units, Buckets):
        return ZeroBuckets(units, recorder)
    if isinstance(units, Groups):
        if units.staged:
            from vramlint.memory.staged_shard import StagedShard

            return StagedShard(units, recorder)
        if units.prefetches:
            from vramlint.memory.expert_shard import ExpertShard

            return ExpertShard(units, recorder)
        return FullyShard(units, recorder)
    return FullySharded(units, recorder)
