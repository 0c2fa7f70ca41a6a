"""An evaluation between two training steps: forward passes without a graph, and the logits that metrics ask for.

transformers 5.23 trainer.py, Trainer.evaluation_loop and prediction_step; trainer_pt_utils.py, EvalLoopContainer.
"""

from __future__ import annotations

from math import ceil

from msgspec.structs import replace

from vramlint.job import Batch, Evaluation, Job
from vramlint.memory import generation
from vramlint.memory.forward import Forward
from vramlint.memory.ops.shared_sequences import ULYSSES
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

BATCHES_AT_LEAST = 2
"""Where the number of samples is unknown: the least with which logits are put together."""


def evaluate(forward: Forward, evaluation: Evaluation, job: Job) -> None:
    """Record an evaluation. Gradients are gone; the optimizer's states stay."""
    recorder = forward.tape.recorder
    batch = replace(job.batch, micro_batch_size=evaluation.micro_batch_size)
    sequence = job.parallelism.sequence
    if sequence is not None and sequence.form == ULYSSES:  # rows that nobody shares (disable_in_eval)
        batch = replace(batch, sequence_length=batch.sequence_length * sequence.ranks)
    with forward.tape.inference():
        if evaluation.generated_tokens:
            recorder.phase("generation")
            generation.generate(forward, batch, evaluation.generated_tokens)
        recorder.phase("evaluation")
        logits = _logits(forward, batch, job)
        batches = _batches(evaluation, job) if evaluation.keeps_logits else 1
        if logits is not None and batches > 1:
            rows = logits.shape[0] * job.parallelism.processes
            shape = (rows * (batches - 1), *logits.shape[1:])
            dtype = logits.dtype
            del logits
            collected = forward.tape.empty(shape, dtype, "collected logits", "logits and loss")
            logits = _logits(forward, batch, job)
            if logits is not None:
                _put_together(forward.tape, collected, logits, rows)


def _logits(forward: Forward, batch: Batch, job: Job) -> Tensor | None:
    """The logits of one batch; None where the loss never makes them."""
    outputs = forward.evaluated(forward.inputs(batch), use_cache=job.attention.use_cache)
    outputs.cache.clear()
    return outputs.tensors[0] if outputs.tensors else None


def _batches(evaluation: Evaluation, job: Job) -> int:
    """Batches whose logits lie on the device at once."""
    world = max(1, job.parallelism.world_size)
    whole = BATCHES_AT_LEAST
    if evaluation.samples is not None:
        whole = ceil(evaluation.samples / (evaluation.micro_batch_size * world))
    return whole if evaluation.accumulation_batches is None else min(whole, evaluation.accumulation_batches)


def _put_together(tape: Tape, collected: Tensor, logits: Tensor, rows: int) -> None:
    """Gather the logits of all GPUs, then `torch.cat((collected, new))`: all of them lie there until it is done."""
    new = logits
    if rows > logits.shape[0]:
        new = tape.empty((rows, *logits.shape[1:]), logits.dtype, "gathered logits", "logits and loss")
    shape = (collected.shape[0] + rows, *logits.shape[1:])
    together = tape.empty(shape, logits.dtype, "collected logits", "logits and loss")
    del new, together
