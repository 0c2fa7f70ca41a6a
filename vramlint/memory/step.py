"""One training step in the order in which the Trainer does it (transformers 5.23 trainer.py, accelerate 1.15).

Simulated in the steady state: optimizer states exist. With gradient accumulation the second micro batch
stands for all later ones: it runs with the gradients of the first alive.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import Job
from vramlint.memory import optimizers
from vramlint.memory.architectures.family import Network, Outputs
from vramlint.memory.autograd import Engine
from vramlint.memory.evaluation import evaluate
from vramlint.memory.forward import Forward
from vramlint.memory.fully_sharded import FullySharded
from vramlint.memory.holdings import Tensors
from vramlint.memory.optimizer_step import OptimizerStep, by_layer
from vramlint.memory.recorder import BEFORE, Label, Recorder
from vramlint.memory.repetition import Layout
from vramlint.memory.sharding import Sharding
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Inventory

SCALAR = 4


class Step:
    """Runs one step and records it."""

    def __init__(
        self, job: Job, network: Network, inventory: Inventory, sharding: Sharding, recorder: Recorder
    ) -> None:
        self.job = job
        self.sharding = sharding
        self.recorder = recorder
        self.tape = Tape(recorder, Layout.of(job))
        self.tape.outlived = job.objective.loop == "script"
        self.tape.gathered = sharding.gathered
        self.tape.sharded = FullySharded(sharding.units, recorder) if sharding.units else None
        self.tape.consumes_gradients = sharding.consumes_gradients
        self.forward = Forward(job, network, self.tape)
        self.outputs: Outputs | None = None
        """What a hand-written loop still refers to."""
        self.reduced: list[tuple[int, int]] = []
        """Reduced gradients of this rank, until the optimizer has used them."""
        self.trainable = [parameter for parameter in inventory.parameters if parameter.requires_grad]
        self.groups = [
            [p for p in self.trainable if id(p) not in inventory.no_decay],
            [p for p in self.trainable if id(p) in inventory.no_decay],
        ]

    def run(self) -> None:
        """Record the whole step.

        A hand-written loop keeps `outputs` bound until the next forward and the gradients until its own
        zero_grad, so its steady state needs the step before.
        """
        if self.job.objective.loop == "script":
            self._script(BEFORE)
            self._script("")
        else:
            self._trainer()
        self.recorder.phase("end")

    def _trainer(self) -> None:
        """Trainer.training_step: `outputs` is dropped when compute_loss returns."""
        self.recorder.phase("batch")
        batches = [self.forward.inputs(self.job.batch) for _ in range(self.job.batch.gradient_accumulation_steps)]
        for batch in batches[:2]:
            self.recorder.phase("forward")
            outputs = self.forward(batch)
            loss = outputs.loss
            self.tape.drop(outputs.cache)
            del outputs
            self._backward(loss, "backward")
            del loss
        self._optimize("optimizer")
        self._zero_gradients()
        del batches, batch
        if self.job.evaluation is not None:
            evaluate(self.forward, self.job.evaluation, self.job)

    def _script(self, prefix: str) -> None:
        self.recorder.phase(f"{prefix}batch")
        batches = [self.forward.inputs(self.job.batch) for _ in range(self.job.batch.gradient_accumulation_steps)]
        for number, batch in enumerate(batches[:2]):
            self.recorder.phase(f"{prefix}forward")
            if number == 0:
                self._zero_gradients()
            outputs = self.forward(batch)
            if self.outputs is not None:
                self.tape.drop(self.outputs.cache)
            self.outputs = outputs
            del outputs
            self._backward(self.outputs.loss, f"{prefix}backward")
        self._optimize(f"{prefix}optimizer")

    # ------------------------------------------------------------------ pieces

    def _backward(self, loss: Tensor, phase: str) -> None:
        self.recorder.phase(phase)
        buffers = self._hold(self.sharding.backward)
        reduced = self._hold(self.sharding.gradients) if not self.reduced else []
        self.reduced = [*self.reduced, *reduced]
        self.recorder.component = "temporaries"
        self.tape.enter_unit(0)
        if self.job.precision.grad_scaler:
            loss = self.tape.to(loss, loss.dtype)
        Engine(self.tape).run(loss, self.tape.empty((1,), "float32", "ones"))
        self.recorder.component = "activations"
        loss.node = None
        self._release(buffers)

    def _optimize(self, phase: str) -> None:
        recorder = self.recorder
        recorder.phase(phase)
        if self.job.objective.max_grad_norm:
            count = sum(parameter.multiplicity for parameter in self.trainable)
            label = Label("gradient norms", "temporaries", "float32", ())
            recorder.free(recorder.allocate_many(SCALAR, count + 2, label), count + 2)
        rule = optimizers.rule_for(self.job.optimizer)
        if self.sharding.whole and rule is not None and not rule.grads_fused:
            wide = self.job.optimizer.wide_embeddings
            OptimizerStep(recorder, rule, wide_embeddings=wide, first=not recorder.once).run(self.groups)
        else:
            for tensors in () if recorder.once else self.sharding.states:
                label = Label("optimizer state", tensors.component, "uint8", (tensors.nbytes,))
                for _ in range(tensors.count):
                    recorder.allocate_once(tensors.nbytes, label)
            self._release(self._hold(self.sharding.optimizer))
        self._release(self.reduced)
        self.reduced = []

    def _zero_gradients(self) -> None:
        """`zero_grad(set_to_none=True)`, in the model's order."""
        for times, parameters in by_layer(self.trainable):
            self.recorder.repeat(times)
            for parameter in parameters:
                self.tape.drop_gradient(parameter)
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
