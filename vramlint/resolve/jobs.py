"""From a settled world to a Job."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vramlint.catalog.liger import CROSS_ENTROPY, FUSED_HEAD, kernels_of
from vramlint.catalog.unsloth import FAST
from vramlint.catalog.unsloth import KERNELS as UNSLOTH
from vramlint.job import (
    Attention,
    Batch,
    Checkpointing,
    ConfigValue,
    Evaluation,
    Gpu,
    Job,
    Model,
    Objective,
    Optimizer,
    Precision,
)
from vramlint.resolve.adapters import adapter_of, frozen_of, quantization_of
from vramlint.resolve.allocator import allocator_of, with_workspaces
from vramlint.resolve.board import Board
from vramlint.resolve.consequences import ADAPTER_OFF, NO_REFERENCE
from vramlint.resolve.defaults import has_lora, library_default
from vramlint.resolve.hosting import loading_of
from vramlint.resolve.lengths import varies
from vramlint.resolve.optim_args import optimizer_arguments
from vramlint.resolve.ranks import DEGREES
from vramlint.resolve.shares import degree, parallelism_of
from vramlint.surfaces.overrides import RESIZED

OFFLOADING = (True, "legacy", "disk")
"""Ways in which everything that autograd keeps waits in host memory or on a disk; `hidden_states` (axolotl) means
checkpoints' inputs alone."""
GENERATED_TOKENS = 20
"""What generate() adds unless a config says otherwise (transformers 5.23 generation/utils.py, max_length 20)."""
MOST_JOBS = 16
"""More worlds than this are thinned out to those that need least and most."""

_TASKS: Mapping[str, str] = MappingProxyType(
    {
        "mlm": "masked-lm",
        "seq-cls": "seq-cls",
        "reward": "seq-cls",
        "token-cls": "token-cls",
        "qa": "qa",
        "seq2seq": "seq2seq-lm",
        "span-corruption": "seq2seq-lm",
        "speech-seq2seq": "speech-seq2seq",
        "image-cls": "image-cls",
        "embedding": "embedding",
        "embedding-pairs": "embedding-pairs",
        "embedding-triplets": "embedding-triplets",
    }
)
"""Objective and the head that it trains; every other objective trains a causal language model."""

_ONE_MODEL_ONE_BATCH = ("", "sft", "pretrain")
"""Objectives whose step is one forward and backward of a language model over one batch. Others (dpo, grpo, …) pair
answers, keep further models or generate; they go by their own name."""

_ROWS: Mapping[str, int] = MappingProxyType({"reward": 2})
"""Rows that a sample becomes: the chosen and the rejected answer run together (trl 1.16 trainer/reward_trainer.py,
openrlhf 0.11 trainer/rm_trainer.py, concatenated_forward)."""

_SFT_LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "chunked_nll": "chunked",
        "LinearCrossEntropyLoss": "chunked-head",
        "ChunkedLossWrapper": "chunked-backward",
        "CEWithChunkedOutputLoss": "chunked-logits",
        "CrossEntropyLoss": "causal-lm",
    }
)
"""`loss_type` of TRL's SFTTrainer, torchtune's losses, and Objective.loss; others go by their own name."""
_FUSED_BY_OTHERS = ("LinearCrossEntropyLoss",)
"""Losses that take the head's weight and are not Liger's."""

_LIGER_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "rope": "liger_rope",
        "rms_norm": "liger_rms_norm",
        "swiglu": "liger_swiglu",
        "geglu": "liger_geglu",
        CROSS_ENTROPY: "liger_cross_entropy",
        FUSED_HEAD: "liger_fused_head",
    }
)
"""Liger's options and the facts that say them."""

_LOOPS: Mapping[str, str] = MappingProxyType({"trainer": "trainer", "lightning": "plain", "plain": "plain"})
"""Fact `loop` and the loop of the memory model; anything else is a hand-written script. A loop with Accelerate or
Fabric keeps `outputs` bound as a script does; Lightning runs `training_step`, which lets go of them, under autocast."""

_CONFIG_KEYS: Mapping[str, str] = MappingProxyType(
    {"experts_implementation": "experts_implementation", "router_logits": "output_router_logits"}
)
"""Facts of the model's configuration, and their keys in it."""


def job_of(board: Board, gpu: Gpu | None) -> Job | None:
    """The job of one settled world; None while the network is not known."""
    network = board.network
    if network is None:
        return None
    return Job(
        model=Model(
            name=str(board.value("model") or network.source),
            model_type=network.model_type,
            config={**network.config, **_written_config(board)},
            parameter_count=network.parameter_count,
            task=_TASKS.get(str(board.value("objective")), "causal-lm"),
        ),
        precision=_precision(board),
        optimizer=_optimizer(board),
        batch=_batch(board),
        attention=Attention(
            implementation=str(board.value("attention_implementation") or "sdpa"),
            use_cache=board.value("use_cache") is True,
        ),
        checkpointing=_checkpointing(board),
        adapter=adapter_of(board),
        quantization=quantization_of(board),
        parallelism=parallelism_of(board),
        objective=_objective(board),
        libraries=board.setting.libraries,
        gpu=with_workspaces(gpu, board.value("cublas_workspace")),
        evaluation=_evaluation(board),
        kernels=_kernels(board),
        compiled=board.value("torch_compile") is True,
        offloads_activations=board.value("activation_offloading") in OFFLOADING
        and board.value("checkpointing_offload") is not True,
        loading=loading_of(board),
        frozen_parameters=frozen_of(board),
        allocator=allocator_of(board.value("allocator_settings")),
    )


def _written_config(board: Board) -> dict[str, ConfigValue]:
    """Keys of config.json that the run sets itself."""
    written = {key: board.value(fact) for fact, key in _CONFIG_KEYS.items()}
    config: dict[str, ConfigValue] = {key: value for key, value in written.items() if isinstance(value, str | bool)}
    vocabulary = board.facts.get("vocabulary_size")
    size = board.integer("vocabulary_size")
    if vocabulary is not None and vocabulary.key == RESIZED and size and board.network:
        text = board.network.config.get("text_config")
        config |= {"vocab_size": size}
        config |= {"text_config": {**text, "vocab_size": size}} if isinstance(text, Mapping) else {}
    return config


def _evaluation(board: Board) -> Evaluation | None:
    if not board.setting.evaluates:
        return None
    generates = board.value("evaluation_generates") is True
    return Evaluation(
        micro_batch_size=board.integer("eval_micro_batch_size") or Evaluation().micro_batch_size,
        keeps_logits=board.value("evaluation_keeps_logits") is True and not generates,
        accumulation_batches=board.integer("eval_accumulation_steps"),
        generated_tokens=(board.integer("completion_length") or GENERATED_TOKENS) if generates else 0,
    )


def _optimizer(board: Board) -> Optimizer:
    targets, decay = board.value("optimizer_target_modules"), board.value("weight_decay")
    name = str(board.value("optimizer") or Optimizer().name)
    arguments = optimizer_arguments(board, name)
    if board.value("optimizer_in_backward") is True:
        arguments = {**arguments, "layerwise": True}
    return Optimizer(
        name,
        arguments,
        weight_decay=float(decay) if isinstance(decay, int | float) else 0.0,
        wide_embeddings=board.value("loop") == "trainer",
        target_modules=targets if isinstance(targets, str | tuple) else None,
    )


def _precision(board: Board) -> Precision:
    flag = "bfloat16" if board.value("bf16") is True else "float16" if board.value("fp16") is True else None
    said = str(board.value("precision") or "")
    if flag is None and said.endswith("-mixed"):
        flag = "bfloat16" if said.startswith("bf16") else "float16"
    weights = str(board.value("load_dtype") or "float32")
    products = _products(board)
    trained = board.value("trainable_dtype")
    if board.value("tuning") == "full" and isinstance(trained, str) and not frozen_of(board):
        weights = trained
    if board.value("parallelism") == "deepspeed" and flag:
        return Precision(
            weights=flag, autocast=None, products=products
        )  # the engine casts the module; its masters are float32
    cast = trained if frozen_of(board) and isinstance(trained, str) and trained != weights else None
    found = board.value("float32_parameters")
    widened = found if isinstance(found, tuple) else ()
    return Precision(weights, flag, flag == "float16", cast, widened, products)


def _products(board: Board) -> str | None:
    """The format of matrix products' operands where layers convert them."""
    said = board.facts.get("product_format")
    if said is not None:
        return str(said.value or "a format that nothing says")
    return "float8" if board.value("fp8") is True else None


def _batch(board: Board) -> Batch:
    padding = board.value("padding") is True
    rows, length = _rows(board)
    return Batch(
        micro_batch_size=rows * _ROWS.get(str(board.value("objective")), 1),
        sequence_length=length,
        gradient_accumulation_steps=_accumulation(board, rows),
        target_length=board.integer("target_length"),
        padding=padding,
        packing=board.value("packing") is True,
        varies=varies(board.facts),
        padding_free=board.value("padding_free") is True,
    )


def _accumulation(board: Board, rows: int) -> int:
    """Micro batches of a step; what Megatron's global batch leaves for each of the ranks that share the data."""
    steps, total = board.integer("gradient_accumulation_steps"), board.integer("global_batch_size")
    if board.value("parallelism") != "megatron" or not total:
        return steps or 1
    copies = max(1, (board.integer("world_size") or 1) // math.prod(degree(board, name) for name in DEGREES))
    return max(1, total // (rows * copies))


def _rows(board: Board) -> tuple[int, int]:
    """Sequences of a micro batch and tokens of each, at least one; a batch that is counted in tokens is filled up."""
    rows, length = (max(1, board.integer(name) or 1) for name in ("micro_batch_size", "sequence_length"))
    tokens = board.integer("tokens_per_batch")
    if tokens is None:
        return rows, length
    rows = max(1, math.ceil(tokens / length))
    return rows, length if rows == 1 else tokens // rows


_WRAPPERS = ("apply_activation_checkpointing", "checkpoint_wrapper")
"""torch's, which come behind FSDP: accelerate 1.15 accelerator.py, composer, torch's own tutorials."""


def _checkpointing(board: Board) -> Checkpointing:
    if board.value("activation_checkpointing") is not True:
        return Checkpointing("none")
    return Checkpointing(
        "reentrant" if board.value("checkpointing_reentrant") is True else "nonreentrant",
        every_n_layers=board.integer("checkpointing_every_n_layers") or 1,
        selective=board.value("checkpointing_selective") is True,
        stops_early=board.value("checkpointing_early_stop") is not False,
        offload=board.value("checkpointing_offload") is True,
        within_units=board.facts["activation_checkpointing"].key in _WRAPPERS,
    )


def _objective(board: Board) -> Objective:
    objective = str(board.value("objective") or "")
    clip, smoothing = board.value("max_grad_norm"), board.value("label_smoothing")
    return Objective(
        kind="inference" if board.value("run_kind") == "inference" else "training",
        loss=_loss(board, objective),
        loop=_LOOPS.get(str(board.value("loop") or "trainer"), "script"),
        max_grad_norm=float(clip) if isinstance(clip, int | float) else 0.0,
        reference_model=_has_reference(board),
        label_smoothing=float(smoothing) if isinstance(smoothing, int | float) else 0.0,
        sft=objective == "sft" and bool(board.setting.trl),
    )


def _loss(board: Board, objective: str) -> str:
    if objective not in _ONE_MODEL_ONE_BATCH and objective not in _TASKS:
        return objective
    if board.value("fake_quantization") is not None:
        return "sft with fake quantization"
    if objective in _ONE_MODEL_ONE_BATCH and runs_unsloth(board):
        return "unsloth"
    trainer = board.setting.trl
    logits = library_default(board, "", "trl", f"{trainer}.logits") if trainer else None
    if logits is not None and logits.value == "tiled":
        return "chunked"
    kernels = _kernels(board)
    chosen = board.value("loss_type") if objective in _ONE_MODEL_ONE_BATCH else None
    if chosen not in (None, "nll") and isinstance(chosen, str):
        return _SFT_LOSSES.get(chosen, chosen)
    if FUSED_HEAD in kernels or CROSS_ENTROPY in kernels:
        return "fused" if FUSED_HEAD in kernels else "liger-cross-entropy"
    if chosen == "nll" or _has_liger(board):
        return "causal-lm"
    return str(logits.value) if logits and logits.value in ("chunked", "fused") else "causal-lm"


def runs_unsloth(board: Board) -> bool:
    """Whether Unsloth's own forward runs the model's layers, which it does with adapters alone."""
    family = board.network.model_type if board.network else ""
    return board.value("unsloth") is True and has_lora(board) and family in FAST


def _has_liger(board: Board) -> bool:
    given = board.value("liger")
    if isinstance(given, bool):
        return given
    return board.value("fused_loss") is True and board.value("loss_type") not in _FUSED_BY_OTHERS


def _kernels(board: Board) -> tuple[str, ...]:
    """Unsloth's or Liger's kernels of the run's model; TRL's own head leaves Liger's aside."""
    if runs_unsloth(board):
        return (UNSLOTH,)
    if not _has_liger(board) or board.network is None:
        return ()
    options = {option: value for option, fact in _LIGER_OPTIONS.items() if isinstance(value := board.value(fact), bool)}
    trainer = board.setting.trl
    logits = library_default(board, "", "trl", f"{trainer}.logits") if trainer else None
    if logits is not None and logits.value == "tiled":
        options[FUSED_HEAD] = False
    return kernels_of(board.network.model_type, options)


def _has_reference(board: Board) -> bool:
    reference, waits = board.value("reference_model"), board.value("offload_reference") == "cpu"
    return isinstance(reference, str) and reference not in (ADAPTER_OFF, NO_REFERENCE) and not waits


def thinned(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """At most MOST_JOBS distinct jobs: of more, those that need least and those that need most by a rough measure."""
    distinct: list[Job] = []
    for job in jobs:
        if job not in distinct:
            distinct.append(job)
    if len(distinct) <= MOST_JOBS:
        return tuple(distinct)
    ordered = sorted(distinct, key=_heaviness)
    return (*ordered[: MOST_JOBS // 2], *ordered[-MOST_JOBS // 2 :])


def _heaviness(job: Job) -> float:
    """A rough order of memory need: factors by which a choice multiplies it, as logarithms."""
    batch = job.batch
    tokens = math.log(batch.micro_batch_size * batch.sequence_length)
    choices = (
        (job.precision.weights == "float32", 0.7),
        (job.adapter is None, 1.5),
        (job.quantization is None, 1.0),
        (job.checkpointing.mode == "none", 1.5),
        (batch.padding, 0.3),
        (batch.gradient_accumulation_steps > 1, 0.2),
        (job.attention.implementation == "eager", 1.0),
        (job.objective.loss == "causal-lm", 0.5),
        (job.parallelism.zero is None, 0.5),
    )
    return tokens + sum(weight for holds, weight in choices if holds)
