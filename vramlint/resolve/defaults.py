"""Library defaults of what the files leave unsaid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.catalog.defaults import default, effective_default
from vramlint.facts import Fact, FactValue, Origin
from vramlint.resolve.board import Board, by_default

TRAINER_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "micro_batch_size": ("per_device_train_batch_size",),
        "eval_micro_batch_size": ("per_device_eval_batch_size",),
        "gradient_accumulation_steps": ("gradient_accumulation_steps",),
        "fp16": ("fp16",),
        "bf16": ("bf16",),
        "optimizer": ("optim",),
        "activation_checkpointing": ("gradient_checkpointing",),
        "max_grad_norm": ("max_grad_norm",),
        "fused_loss": ("use_liger_kernel",),
        "torch_compile": ("torch_compile",),
        "sequence_length": ("max_length", "max_seq_length"),
        "packing": ("packing",),
        "prompt_length": ("max_prompt_length",),
        "completion_length": ("max_completion_length", "response_length", "max_new_tokens"),
        "generations": ("num_generations",),
        "kl_coefficient": ("beta",),
        "inference_memory_fraction": ("vllm_gpu_memory_utilization",),
        "inference_tensor_parallel": ("vllm_tensor_parallel_size",),
        "inference_placement": ("vllm_mode",),
        "inference_sleeps": ("vllm_enable_sleep_mode",),
    }
)
"""Fact and the key of the trainer's arguments that says it (the first that the class has)."""

_TRL_ONLY = (
    "sequence_length",
    "packing",
    "prompt_length",
    "completion_length",
    "generations",
    "kl_coefficient",
    "inference_memory_fraction",
    "inference_tensor_parallel",
    "inference_placement",
    "inference_sleeps",
)
"""Facts whose keys plain TrainingArguments lack: TRL's trainers then take the defaults of their own class."""

DEEPSPEED_KEYS: Mapping[str, tuple[str, FactValue]] = MappingProxyType(
    {
        "zero_stage": ("zero_optimization.stage", 0),
        "offload_optimizer": ("zero_optimization.offload_optimizer.device", "none"),
        "offload_parameters": ("zero_optimization.offload_param.device", "none"),
        "reduce_bucket_size": ("zero_optimization.reduce_bucket_size", 500_000_000),
        "allgather_bucket_size": ("zero_optimization.allgather_bucket_size", 500_000_000),
        "prefetch_bucket_size": ("zero_optimization.stage3_prefetch_bucket_size", 50_000_000),
        "parameter_persistence_threshold": ("zero_optimization.stage3_param_persistence_threshold", 100_000),
        "max_live_parameters": ("zero_optimization.stage3_max_live_parameters", 1_000_000_000),
        "max_reuse_distance": ("zero_optimization.stage3_max_reuse_distance", 1_000_000_000),
        "sub_group_size": ("zero_optimization.sub_group_size", 1_000_000_000),
    }
)
"""Fact, the DeepSpeed key that says it, and its default in deepspeed 0.19.8 (runtime/zero/config.py)."""


def has_lora(board: Board) -> bool:
    """Whether LoRA adapters are trained."""
    return board.value("tuning") in ("lora", "qlora")


def _says_lora(board: Board) -> bool:
    """Whether the files say that it is LoRA: of adapters that are only assumed, nobody knows the defaults."""
    return has_lora(board) and board.facts["tuning"].origin is not Origin.ASSUMED


def _is_four_bit(board: Board) -> bool:
    """Whether bitsandbytes packs the weights; what GPTQ and AWQ store is in the checkpoint."""
    stored = board.network is not None and board.network.quantization not in ("", "nf4", "fp4")
    return board.value("quantization_bits") == 4 and not stored


def loads_a_model(board: Board) -> bool:
    """Whether a transformers model is loaded: one is named, or the trainer of that library gets one."""
    known = board.network is not None and board.network.model_type != ""
    return board.setting.trainer != "" or board.value("model") is not None or known


def _is_checkpointed(board: Board) -> bool:
    return board.value("activation_checkpointing") is True


_OTHER: Mapping[str, tuple[str, str, Callable[[Board], bool]]] = MappingProxyType(
    {
        "quantization_type": ("transformers", "BitsAndBytesConfig.bnb_4bit_quant_type", _is_four_bit),
        "double_quantization": ("transformers", "BitsAndBytesConfig.bnb_4bit_use_double_quant", _is_four_bit),
        "quantization_compute_dtype": ("transformers", "BitsAndBytesConfig.bnb_4bit_compute_dtype", _is_four_bit),
        "lora_r": ("peft", "LoraConfig.r", _says_lora),
        "lora_alpha": ("peft", "LoraConfig.lora_alpha", _says_lora),
        "lora_dropout": ("peft", "LoraConfig.lora_dropout", _says_lora),
        "use_dora": ("peft", "LoraConfig.use_dora", _says_lora),
        "attention_implementation": ("transformers", "from_pretrained.attn_implementation", loads_a_model),
        "checkpointing_reentrant": (
            "transformers",
            "TrainingArguments.gradient_checkpointing_kwargs.use_reentrant",
            _is_checkpointed,
        ),
    }
)
"""Fact, library, key, and when the default matters."""


_STAGES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "reduce_bucket_size": (1, 2, 3),
        "allgather_bucket_size": (1, 2),
        "offload_parameters": (3,),
        "prefetch_bucket_size": (3,),
        "parameter_persistence_threshold": (3,),
        "max_live_parameters": (3,),
        "max_reuse_distance": (3,),
        "sub_group_size": (3,),
    }
)
"""ZeRO stages at which a default does anything."""

_RECIPE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "quantization_type": "bnb_4bit_quant_type",
        "double_quantization": "use_bnb_nested_quant",
        "lora_r": "lora_r",
        "lora_alpha": "lora_alpha",
        "lora_dropout": "lora_dropout",
        "use_dora": "use_dora",
    }
)
"""Facts for which trl.ModelConfig has a default of its own."""


def library_default(board: Board, name: str, library: str, key: str) -> Fact | None:
    """The default of one key at the version of the run, None when the table has none."""
    libraries = board.setting.libraries
    found = default(library, key, getattr(libraries, library), libraries)
    if found is None or found.value is None:
        return None
    return by_default(name, found.value, board.setting.label(library), key)


def trainer_default(board: Board, name: str) -> Fact | None:
    """What the trainer's arguments class takes for a fact; its own default before an inherited one."""
    if not board.setting.trainer:
        return None
    owner = board.setting.trl or board.setting.trainer if name in _TRL_ONLY else board.setting.trainer
    for key in TRAINER_KEYS.get(name, ()):
        found = effective_default(owner, key, board.setting.libraries)
        if found is not None and found.value is not None:
            return by_default(name, found.value, board.setting.label(found.library), key)
    return None


def deepspeed_default(board: Board, name: str) -> Fact | None:
    """DeepSpeed's own default, where a DeepSpeed configuration is in force."""
    if not board.setting.deepspeed or board.value("zero_stage") not in _STAGES.get(name, (0, 1, 2, 3, None)):
        return None
    key, fallback = DEEPSPEED_KEYS[name]
    found = library_default(board, name, "deepspeed", key)
    return found or by_default(name, fallback, board.setting.label("deepspeed"), key)


def other_default(board: Board, name: str) -> Fact | None:
    """The default of a fact that neither trainer nor DeepSpeed decides."""
    library, key, matters = _OTHER[name]
    if not matters(board):
        return None
    if board.setting.recipe and name in _RECIPE_KEYS:
        found = library_default(board, name, "trl", f"ModelConfig.{_RECIPE_KEYS[name]}")
        if found:
            return found
    return library_default(board, name, library, key)


def any_default(board: Board, name: str) -> Fact | None:
    """The library default of a fact, by whichever library decides it."""
    if name in DEEPSPEED_KEYS:
        return deepspeed_default(board, name)
    return other_default(board, name) if name in _OTHER else trainer_default(board, name)
