"""One forward pass of the model as the training loop calls it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from vramlint.job import Batch, Checkpointing, Job
from vramlint.memory.architectures.causal_lm import CHUNKED, FUSED, LIGER, CausalLM
from vramlint.memory.architectures.family import Network, Outputs
from vramlint.memory.data_parallel import is_replica, is_spread
from vramlint.memory.ops import singular
from vramlint.memory.ops.dynamic_loss import DYNAMIC, dynamic_loss
from vramlint.memory.ops.fused_head import FUSED_FROM
from vramlint.memory.ops.shared_sequences import SWIFT
from vramlint.memory.ops.smoothing import smoothed_loss
from vramlint.memory.ops.swift_sequences import own_loss
from vramlint.memory.ops.token_metrics import token_metrics
from vramlint.memory.rank import engine_precision
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Forward:
    """`model(**batch)`: autocast and what Accelerate wraps around it."""

    def __init__(self, job: Job, network: Network, tape: Tape) -> None:
        self.network = network
        self.tape = tape
        self.regime = Regime.of(job)
        self.autocast = engine_precision(job)[1]
        self.widens_outputs = job.objective.loop == "trainer" and self.autocast is not None
        """Accelerate converts 16-bit outputs to float32 (accelerate 1.15 utils/operations.py)."""

        self.measures = job.objective.sft and job.objective.loop == "trainer"
        """TRL's SFTTrainer measures token accuracy and entropy of the logits it gets."""
        self.trl = job.libraries.trl
        self.spread = job.parallelism.world_size if is_spread(job) else 1
        """GPUs whose outputs DataParallel gathers on the first."""
        self.replica = is_replica(job)
        self.smooths = job.objective.label_smoothing > 0 and job.objective.loop == "trainer"

    def inputs(self, batch: Batch) -> Mapping[str, Tensor]:
        """One micro batch on the device; the first GPU of DataParallel has those of all."""
        inputs = self.network.inputs(batch)
        found = {name: self.tape.empty(shape, dtype, name, "batch") for name, (shape, dtype) in inputs.items()}
        if self.spread > 1 and not self.replica:
            for name, (shape, dtype) in inputs.items():
                others = ((self.spread - 1) * shape[0], *shape[1:])
                found[f"{name} of other GPUs"] = self.tape.empty(others, dtype, name, "batch")
        return found

    def __call__(self, batch: Mapping[str, Tensor]) -> Outputs:
        """The training forward of a micro batch, with its loss and what the trainer measures."""
        outputs = self._gathered(self._with_loss(batch))
        if self.measures and outputs.tensors:
            token_metrics(self.tape, outputs.tensors[0], self.trl)
        return outputs

    def _with_loss(self, batch: Mapping[str, Tensor]) -> Outputs:
        if self.regime.sequence is not None and self.regime.sequence.form == SWIFT:
            return self._with_own_loss(batch)
        dynamic = self.regime.loss == DYNAMIC
        if "labels" not in batch or not (self.smooths or dynamic):
            return self._run(batch, self.regime)
        if self.spread > 1:
            raise NotFollowedError("a loss of outputs that DataParallel gathers")
        self.tape.defers_loss = True
        outputs = self._run(batch, replace(self.regime, loss="causal-lm"))
        self.tape.defers_loss = False
        logits = outputs.tensors[0]
        if dynamic:
            outputs.loss = dynamic_loss(self.tape, logits)
            return outputs
        shifts = isinstance(self.network, CausalLM) and self.network.predicts_next
        outputs.loss = smoothed_loss(self.tape, logits, batch["labels"], shifts=shifts)
        if self.regime.loss == CHUNKED and self.trl >= FUSED_FROM:
            # the figures that the trainer takes need TRL's head, so the model runs once more
            del logits
            outputs.tensors.clear()
            with self.tape.grad_mode(enabled=False):
                self._run(batch, self.regime)
        return outputs

    def _with_own_loss(self, batch: Mapping[str, Tensor]) -> Outputs:
        """ms-swift takes the loss of shared sequences itself, whatever kernels the model has for it."""
        if self.regime.loss not in ("causal-lm", FUSED, LIGER):
            raise NotFollowedError(f"the loss {self.regime.loss} of sequences that ms-swift shares")
        self.tape.defers_loss = True
        outputs = self._run(batch, replace(self.regime, loss="causal-lm"))
        self.tape.defers_loss = False
        outputs.loss = own_loss(self.tape, outputs.tensors[0], batch["labels"])
        return outputs

    def evaluated(self, batch: Mapping[str, Tensor], *, use_cache: bool) -> Outputs:
        """The same in evaluation: checkpointing, which switches the cache off, is for training only."""
        regime = replace(self.regime, use_cache=use_cache, checkpointing=Checkpointing())
        return self._gathered(self._run(batch, regime))

    def _gathered(self, outputs: Outputs) -> Outputs:
        """Where DataParallel runs, the outputs of all GPUs on the first; a replica has none (its Gather)."""
        if self.spread > 1:
            shapes = [((self.spread * x.shape[0], *x.shape[1:]), x.dtype) for x in outputs.tensors if not self.replica]
            whole = [self.tape.empty(*shape, "gathered outputs", "logits and loss") for shape in shapes]
            outputs.tensors = whole
        return outputs

    def _run(self, batch: Mapping[str, Tensor], regime: Regime) -> Outputs:
        self.tape.course.start()
        prompt = self.network.prompt if isinstance(self.network, CausalLM) else None
        with self.tape.autocasting(self.autocast):
            if prompt is not None:
                batch = prompt.extended(self.tape, batch)
            outputs = self.network.outputs(self.tape, regime, batch)
            if self.network.penalised:
                outputs.loss = singular.penalised(self.tape, outputs.loss, self.network.penalised)
        if prompt is not None:
            prompt.held.clear()
        if self.widens_outputs:
            outputs.tensors = [self.tape.to(tensor, "float32") for tensor in outputs.tensors]
        return outputs
