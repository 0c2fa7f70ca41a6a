"""What settled facts come down to: the dtype of what trains, the reference model, whole logits, growing segments."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.resolve.adapters import UNQUANTIZED, adapter_of
from vramlint.resolve.allocator import allocator_of
from vramlint.resolve.board import Board, derived
from vramlint.resolve.defaults import any_default, has_lora

SIXTEEN_BIT = ("bfloat16", "float16")
WITH_REFERENCE = ("dpo", "kto", "bco")
"""Preference objectives that keep a frozen reference model unless adapters can be switched off instead."""
_ONLINE = ("ppo", "online-dpo", "nash-md", "xpo")
"""Objectives of TRL's trainers that keep one too (trl 0.12 to 1.16, trainer/*_trainer.py)."""
BY_DISTANCE = ("grpo", "rloo")
"""Objectives that keep one where the distance to it has a weight."""
ADAPTER_OFF = "adapter off"
NO_REFERENCE = "none"
_LOGITS = ("sft", "pretrain")


def trainable_dtype(board: Board) -> Fact | None:
    """The dtype in which trainable weights are kept."""
    weights = board.facts.get("load_dtype")
    if not board.is_missing("trainable_dtype") or weights is None or not isinstance(weights.value, str):
        return None
    name, flag = "trainable_dtype", _flag(board)
    bits = board.integer("quantization_bits") or UNQUANTIZED
    if board.value("parallelism") == "deepspeed" and flag and bits >= UNQUANTIZED:
        return derived(name, flag, f"DeepSpeed casts the module to {flag} and keeps float32 masters", weights)
    adapter = adapter_of(board)
    if adapter is None:
        if board.value("parallelism") == "fsdp" and flag and weights.value in SIXTEEN_BIT:
            return None  # whether the flat parameters are widened is a matter of who wraps
        return derived(name, weights.value, "the weights train as they are loaded", weights)
    if adapter.dtype is not None:
        return derived(name, adapter.dtype, "the trainer makes what trains bfloat16")
    if bits < UNQUANTIZED and adapter.from_peft:
        reason = "PEFT makes adapters over a quantized base in float32"
        return derived(name, "float32", reason, board.facts.get("quantization_bits"))
    if adapter.autocast_adapter_dtype and adapter.from_peft and weights.value in SIXTEEN_BIT:
        return derived(name, "float32", f"PEFT keeps the adapters of a {weights.value} base in float32")
    return derived(name, weights.value, "adapters take the dtype of the base", weights)


def _flag(board: Board) -> str:
    return "bfloat16" if board.value("bf16") is True else "float16" if board.value("fp16") is True else ""


def reference_model(board: Board) -> Fact | None:
    """The frozen model that a preference objective compares with."""
    objective = board.value("objective")
    if not board.is_missing("reference_model") or board.value("precomputes_reference") is True:
        return None  # TRL 1.16 trainer/dpo_trainer.py: it computes the log probabilities and keeps no model
    if objective in BY_DISTANCE and board.value("kl_coefficient") in (None, 0):
        return None
    online = _ONLINE if board.setting.trl else ()
    if objective not in (*WITH_REFERENCE, *BY_DISTANCE, *online):
        return None
    policy = board.facts.get("model")
    if has_lora(board):
        return derived("reference_model", ADAPTER_OFF, "the base with its adapter switched off", policy)
    if policy is None or not isinstance(policy.value, str):
        return None
    return derived("reference_model", policy.value, "a copy of the model that is trained", policy)


ENGINE = ("inference_memory_fraction", "inference_tensor_parallel", "inference_placement", "inference_sleeps")


def of_engine(board: Board, name: str) -> Fact | None:
    """The trainer's default for the engine that generates, where there is one."""
    engine = board.value("inference_engine")
    return any_default(board, name) if board.is_missing(name) and engine not in (None, "none") else None


def full_logits(board: Board) -> Fact | None:
    """Whether the logits of all tokens are one tensor."""
    fused = board.value("fused_loss")
    if not board.is_missing("full_logits") or board.value("objective") not in _LOGITS or not isinstance(fused, bool):
        return None
    if board.setting.trl or board.value("loss_type") is not None:
        return None  # what TRL's loss makes of them depends on its version
    reason = "the head is fused with the loss" if fused else "nothing fuses the head with the loss"
    return derived("full_logits", not fused, reason, board.facts.get("fused_loss"))


def expandable_segments(board: Board) -> Fact | None:
    """Whether the allocator's segments grow, by its settings."""
    settings = board.facts.get("allocator_settings")
    if settings is None or not isinstance(settings.value, str):
        return None
    on = allocator_of(settings.value).expandable_segments
    return derived("expandable_segments", on, "by the allocator's settings", settings)
