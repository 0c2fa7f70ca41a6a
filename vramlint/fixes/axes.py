"""The space of plans: axes of changes, on each of which a plan takes one value or none.

The values of an axis take more and more off the peak, so that a plan with a later value on each axis needs no more
memory than one with earlier values. Axes that break this (buffers of ZeRO, copies of autocast) are `apart`: each of
their values is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from vramlint.fixes.further_moves import (
    CHECKPOINT_OFFLOAD,
    FLASH_ATTENTION,
    FSDP,
    IN_BACKWARD,
    LEAST_LENGTH,
    evaluation_batch_move,
    gpus_move,
    launch_move,
    length_move,
    micro_batch_move,
    smaller_sizes,
)
from vramlint.fixes.moves import MOVES, Move
from vramlint.job import Job

SEQUENCE, LORA, QLORA, GPUS = "seq-len", "lora", "qlora", "gpus"
ALLOWANCES: Mapping[str, str] = MappingProxyType(
    {
        SEQUENCE: "shorter sequences",
        LORA: "adapters instead of the model itself",
        QLORA: "adapters on a 4-bit base",
        GPUS: "more GPUs of the same kind",
    }
)
"""What a plan changes only where the user allows it."""

SAME, NUMERICS, STORAGE, TRAINED, BASE = 0, 1, 2, 3, 4
"""How far a change goes into the training's result: not at all; the numbers of computation or states; the precision in
which weights are stored; what is trained, or on what; the base under what is trained."""
_LENGTHS = 4
_DOUBLINGS = 4


class Option(Struct, frozen=True):
    """A value of an axis."""

    move: Move
    alters: int = SAME
    result: str = ""
    """What changes in the training's result, in words; empty where nothing does."""
    edits: int = 1
    """What has to be touched: keys, launchers, and twice as much for a package that has to be installed."""
    quickens: bool = False
    """A step may take less time with it."""
    allow: str = ""
    """Only taken where this is allowed."""
    uncounted: float = 1.0
    """Factor of a step's time where nothing tells how long its traffic takes: an assumption to order plans by."""
    at_least: float = 1.0
    """Factor of a step's time that is assumed of what is never counted, to order plans by."""
    on_host: bool = False
    """It takes host memory."""
    package: str = ""
    """What has to be installed for it."""
    framework: str = ""
    """Only in this framework, whose vocabulary means it so."""


class Axis(NamedTuple):
    """Options that exclude one another, the one that saves most last."""

    name: str
    options: tuple[Option, ...]
    apart: bool = False
    """Which of the options needs least depends on the job."""
    begins: bool = False
    """Whether any of the options needs less than none depends on the job; among themselves they are in order."""


_BY_NAME = {move.name: move for move in MOVES}
_STATES = "the optimizer's states have 8 bits"
_STORED = "weights, gradients and states are bfloat16: small updates are lost"


def _of(name: str, alters: int = SAME, result: str = "", **traits: float | str) -> Option:
    return Option(_BY_NAME[name], alters, result, **traits)  # type: ignore[arg-type]  # rows below name its fields


_GPUS = (
    Axis(
        "gpus",
        tuple(
            Option(gpus_move(1 << count), edits=3 + count, quickens=True, allow=GPUS)
            for count in range(1, _DOUBLINGS + 1)
        ),
        begins=True,
    ),
)
_MICRO_BATCH = Axis("micro-batch", ())
"""Where the axis of the job's own micro batches comes."""
_EVALUATION_BATCH = Axis("evaluation-batch", (_of("smaller-eval-batch"),))
"""A batch of one row; those between come from the job."""
_CUT = "longer samples are cut"

_AXES: tuple[Axis, ...] = (
    Axis(
        "zero",
        (
            _of("zero-1", edits=4, package="deepspeed"),
            _of("zero-2", edits=4, package="deepspeed"),
            _of("zero-3", edits=4, uncounted=1.3, package="deepspeed"),
            Option(FSDP, edits=2, uncounted=1.3),
        ),
        apart=True,
    ),
    Axis("distributed-optimizer", (_of("distributed-optimizer"),), apart=True),
    Axis("fsdp-units", (_of("fsdp-wrap-layers"),), apart=True),
    Axis("fsdp-sharding", (_of("fsdp-full-shard", uncounted=1.3),), apart=True),
    Axis("fsdp-groups", (_of("fsdp-across-machines", uncounted=1.2),), apart=True),
    Axis(
        "autocast",
        (_of("bf16-autocast", NUMERICS, "activations and products are bfloat16", quickens=True),),
        apart=True,
    ),
    Axis("update", (Option(IN_BACKWARD, framework="torchtune"),), apart=True),
    Axis(
        "adapters",
        (
            _of(
                "lora",
                TRAINED,
                "adapters are trained, not the model",
                edits=3,
                quickens=True,
                allow=LORA,
                package="peft",
            ),
            _of(
                "qlora",
                BASE,
                "adapters are trained, on a 4-bit base",
                edits=4,
                quickens=True,
                allow=QLORA,
                package="bitsandbytes",
            ),
        ),
        apart=True,
    ),
    Axis("loading", (_of("cast-while-loading", quickens=True),)),
    Axis("weights", (_of("bf16-weights", STORAGE, _STORED, quickens=True),)),
    Axis("offload-parameters", (_of("offload-parameters", uncounted=3.0, on_host=True),)),
    Axis("offload-optimizer", (_of("offload-optimizer", uncounted=1.6, on_host=True),)),
    Axis("fsdp-offload", (_of("fsdp-offload", uncounted=3.0, on_host=True),)),
    Axis("offload-checkpoints", (Option(CHECKPOINT_OFFLOAD, framework="torchtune"),)),
    Axis("checkpointing", (_of("activation-checkpointing"),)),
    _MICRO_BATCH,
    Axis("sync", (_of("sync-each-batch", uncounted=1.1),)),
    Axis(
        "optimizer",
        (
            _of("fused-optimizer", quickens=True),
            _of("8bit-optimizer", NUMERICS, _STATES, edits=3, quickens=True, package="bitsandbytes"),
            _of(
                "paged-8bit-optimizer", NUMERICS, _STATES, edits=3, quickens=True, at_least=1.05, package="bitsandbytes"
            ),
        ),
    ),
    Axis(
        "attention", (_of("sdpa", quickens=True), Option(FLASH_ATTENTION, edits=3, quickens=True, package="flash-attn"))
    ),
    Axis("loss", (_of("fused-loss", edits=3, quickens=True, package="liger-kernel"),)),
    _EVALUATION_BATCH,
    Axis("evaluation-logits", (_of("eval-accumulation"),)),
)
"""All but those whose values depend on the job. They are made, and looked at, in this order: the dearest first."""


def axes_of(job: Job, allowed: Collection[str], gpus: int = 0) -> tuple[Axis, ...]:
    """The axes of a job, with the values that are allowed; whether they apply is not asked yet.

    Args:
        job: as it is.
        allowed: names of `ALLOWANCES`.
        gpus: GPUs that the machine is known to have; 0: nothing is known of further ones.
    """
    found = [
        _launch(gpus),
        *_GPUS,
        _lengths(job),
        *(_OF_JOB[axis.name](job) if axis.name in _OF_JOB else axis for axis in _AXES),
    ]
    kept = (
        axis._replace(options=tuple(option for option in axis.options if not option.allow or option.allow in allowed))
        for axis in found
    )
    return tuple(axis for axis in kept if axis.options)


def _launch(gpus: int) -> Axis:
    """The GPUs of the machine, where the run leaves some of them idle."""
    return Axis(
        "launch", (Option(launch_move(gpus), edits=1, uncounted=1.1, quickens=True),) if gpus > 1 else (), apart=True
    )


def _lengths(job: Job) -> Axis:
    """Sequences of half the length, of a quarter, and so on."""
    length = job.batch.sequence_length
    shorter = [length >> count for count in range(1, _LENGTHS + 1) if length >> count >= LEAST_LENGTH]
    options = (Option(length_move(each), TRAINED, _CUT, quickens=True, allow=SEQUENCE) for each in shorter)
    return Axis("length", tuple(options))


def _micro_batches(job: Job) -> Axis:
    """The divisors of the micro batch, from above.

    The first one may need more than none: gradients that accumulate are there in the next forward.
    """
    options = tuple(Option(micro_batch_move(each), edits=2) for each in smaller_sizes(job.batch.micro_batch_size))
    return _MICRO_BATCH._replace(options=options, begins=job.batch.gradient_accumulation_steps == 1)


def _evaluation_batches(job: Job) -> Axis:
    """The divisors of the evaluation's batch, from above."""
    size = job.evaluation.micro_batch_size if job.evaluation is not None else 1
    between = (Option(evaluation_batch_move(each)) for each in smaller_sizes(size) if each > 1)
    return _EVALUATION_BATCH._replace(options=(*between, *_EVALUATION_BATCH.options))


_OF_JOB: Mapping[str, Callable[[Job], Axis]] = MappingProxyType(
    {_MICRO_BATCH.name: _micro_batches, _EVALUATION_BATCH.name: _evaluation_batches}
)
"""Axes whose values depend on the job, by name."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "8bit-adam": "8bit-optimizer",
        "8-bit-adam": "8bit-optimizer",
        "paged-8bit-adam": "paged-8bit-optimizer",
        "gradient-checkpointing": "activation-checkpointing",
        "checkpointing": "activation-checkpointing",
        "flash-attention-2": "flash-attention",
        "liger": "fused-loss",
        "bf16": "bf16-autocast",
        "fused-adam": "fused-optimizer",
        "zero-offload": "offload-optimizer",
        "eval-batch": "smaller-eval-batch",
    }
)
"""Other names of changes."""
_RANGED: Mapping[str, str] = MappingProxyType(
    {
        "micro-batch": "micro-batch",
        "batch-size": "micro-batch",
        "seq-len": "length",
        "gpus": "gpus",
        "all-gpus": "launch",
    }
)
"""Names of axes whose values are numbers: the name alone stands for the one that saves most."""

_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "zero-1": "several GPUs under data parallelism, and no higher stage of ZeRO",
        "zero-2": "several GPUs under data parallelism, and no higher stage of ZeRO",
        "zero-3": "several GPUs under data parallelism, and no quantized base",
        "fsdp": "the Trainer's data parallelism over several GPUs, all weights trained",
        "all-gpus": "a machine with more GPUs (--gpu NAMExN) than the run starts processes",
        "distributed-optimizer": "Megatron, and ranks that hold the same weights",
        "fsdp-wrap-layers": "FSDP over the whole model at once",
        "fsdp-full-shard": "FSDP that keeps weights whole",
        "fsdp-across-machines": "FSDP in groups of GPUs",
        "bf16-autocast": "a run in float32 on a card that computes in bfloat16",
        "bf16-weights": "weights in float32, no ZeRO, and a card that computes in bfloat16",
        "cast-while-loading": "a program that casts weights to a narrower dtype on the GPU",
        "offload-optimizer": "ZeRO with its optimizer on the device",
        "offload-parameters": "ZeRO stage 3 with its parameters on the device",
        "fsdp-offload": "FSDP with its shares on the device and no quantized base",
        "activation-checkpointing": "a run that recomputes nothing so far",
        "sync-each-batch": "FSDP that accumulates gradients over micro batches",
        "fused-optimizer": "Adam or AdamW of torch with its foreach update, and no ZeRO",
        "8bit-optimizer": "Adam or AdamW in full precision, and no ZeRO or FSDP 2",
        "paged-8bit-optimizer": "Adam or AdamW in full precision, and no ZeRO or FSDP 2",
        "sdpa": "eager attention",
        "fused-loss": "a model with a fused loss of Liger's, the Trainer, and no kernels of Liger's so far",
        "smaller-eval-batch": "an evaluation with several rows at a time",
        "eval-accumulation": "an evaluation that gathers logits on the device",
        "lora": "a run that trains all weights of a language model",
        "qlora": "a base that is not quantized, and no ZeRO stage 3",
        "flash-attention": "16-bit attention of the Trainer's model on Ampere or later",
        "offload-checkpoints": "activation checkpointing with its inputs on the device",
        "optimizer-in-backward": "one GPU, a full fine-tuning without accumulation and clipping",
    }
)
"""What it takes for a change to apply, in words: `conditions.py`."""


def needs(name: str) -> str:
    """What it takes for a change of that name to apply."""
    return _NEEDS.get(name, "a value that it could make smaller")


def option_names() -> tuple[str, ...]:
    """The names of all changes."""
    return (*(option.move.name for axis in _AXES for option in axis.options), *_RANGED, *ALIASES)


def find_option(name: str, axes: Sequence[Axis]) -> Option | None:
    """The change of that name; None where the job has no such axis."""
    known = ALIASES.get(name, name)
    ranged = next((axis for axis in axes if axis.name == _RANGED.get(known)), None)
    if ranged is not None:
        return ranged.options[-1]
    return next((option for axis in axes for option in axis.options if option.move.name == known), None)
