"""Which key of which vocabulary says which fact: the one table that all surfaces of Hugging Face's libraries read.

A row is (vocabulary, key, fact, converter). `key` is dotted for nested tables. Converters are defined in
`vramlint.surfaces.convert`. A fix looks a fact up the other way round, by `keys_saying`.

Vocabularies:
    training-arguments: transformers.TrainingArguments and its subclasses.
    trl: what SFTConfig, DPOConfig, ORPOConfig, KTOConfig, GRPOConfig, RewardConfig … add to it.
    trl-model: trl.ModelConfig, also the model part of alignment-handbook and open-r1 recipes.
    from-pretrained: keywords of `AutoModel….from_pretrained`, also `model_init_kwargs`.
    bitsandbytes: transformers.BitsAndBytesConfig.
    lora: peft.LoraConfig.
    accelerate: accelerate.Accelerator.
    deepspeed: the DeepSpeed JSON.
    accelerate-config: the file of `accelerate launch --config_file`.
    fsdp: the options of `fsdp_config`, in a file of their own or beside other arguments.
    unsloth, unsloth-adapter: Unsloth's loaders and what attaches its adapters.
    setfit: setfit.TrainingArguments.
    lightning: lightning's Trainer and Fabric.
    settings: what programs with loops of their own call their settings.
    diffusers: options of diffusers' training programs.
    loops: what loops hand to torch.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from vramlint.surfaces.further_keys import (
    ACCELERATE_CONFIG,
    DIFFUSERS,
    FSDP,
    LIGHTNING,
    LOOPS,
    SETFIT,
    SETTINGS,
    UNSLOTH,
)


class KeyRow(NamedTuple):
    """One key of one vocabulary and the fact it says."""

    vocabulary: str
    key: str
    fact: str
    converter: str
    """The name of a row of `convert.CONVERTERS`."""


_TRAINING_ARGUMENTS = (
    ("per_device_train_batch_size", "micro_batch_size", "count"),
    ("per_gpu_train_batch_size", "micro_batch_size", "count"),
    ("per_device_eval_batch_size", "eval_micro_batch_size", "count"),
    ("per_gpu_eval_batch_size", "eval_micro_batch_size", "count"),
    ("auto_find_batch_size", "batch_adapts", "flag"),
    ("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    ("max_steps", "max_steps", "count"),
    ("bf16", "bf16", "flag"),
    ("fp16", "fp16", "flag"),
    ("optim", "optimizer", "name"),
    ("gradient_checkpointing", "activation_checkpointing", "switch"),
    ("activation_checkpointing", "activation_checkpointing", "switch"),
    ("gradient_checkpointing_kwargs.use_reentrant", "checkpointing_reentrant", "flag"),
    ("activation_checkpointing_kwargs.use_reentrant", "checkpointing_reentrant", "flag"),
    ("gradient_checkpointing_kwargs.every_n_layers", "checkpointing_every_n_layers", "count"),
    ("activation_checkpointing_kwargs.every_n_layers", "checkpointing_every_n_layers", "count"),
    ("gradient_checkpointing_kwargs.offload", "checkpointing_offload", "flag"),
    ("activation_checkpointing_kwargs.offload", "checkpointing_offload", "flag"),
    ("accelerator_config.gradient_accumulation_kwargs.sync_each_batch", "sync_each_batch", "flag"),
    ("eval_accumulation_steps", "eval_accumulation_steps", "count"),
    ("predict_with_generate", "evaluation_generates", "flag"),
    ("optim_args", "optimizer_arguments", "text"),
    ("weight_decay", "weight_decay", "number"),
    ("optim_target_modules", "optimizer_target_modules", "names"),
    ("label_smoothing_factor", "label_smoothing", "number"),
    ("max_grad_norm", "max_grad_norm", "number"),
    ("use_liger_kernel", "fused_loss", "flag"),
    ("liger_kernel_config.rope", "liger_rope", "flag"),
    ("liger_kernel_config.rms_norm", "liger_rms_norm", "flag"),
    ("liger_kernel_config.swiglu", "liger_swiglu", "flag"),
    ("liger_kernel_config.geglu", "liger_geglu", "flag"),
    ("liger_kernel_config.cross_entropy", "liger_cross_entropy", "flag"),
    ("liger_kernel_config.fused_linear_cross_entropy", "liger_fused_head", "flag"),
    ("torch_compile", "torch_compile", "flag"),
    ("fsdp", "fsdp", "fsdp"),
    ("fsdp_transformer_layer_cls_to_wrap", "fsdp_wrap_class", "names"),
    ("generation_max_length", "completion_length", "bound"),
)

_TRL = (
    ("max_length", "sequence_length", "bound"),
    ("max_seq_length", "sequence_length", "bound"),
    ("packing", "packing", "flag"),
    ("packing_strategy", "packing_strategy", "text"),
    ("padding_free", "padding_free", "flag"),
    ("max_prompt_length", "prompt_length", "bound"),
    ("max_completion_length", "completion_length", "bound"),
    ("response_length", "completion_length", "bound"),
    ("max_new_tokens", "completion_length", "bound"),
    ("num_generations", "generations", "count"),
    ("loss_type", "loss_type", "text"),
    ("beta", "kl_coefficient", "number"),
    ("precompute_ref_log_probs", "precomputes_reference", "flag"),
    ("use_vllm", "inference_engine", "vllm-or-none"),
    ("vllm_mode", "inference_placement", "text"),
    ("vllm_enable_sleep_mode", "inference_sleeps", "flag"),
    ("steps_per_generation", "steps_per_generation", "count"),
    ("generation_batch_size", "generation_batch_size", "count"),
    ("vllm_gpu_memory_utilization", "inference_memory_fraction", "number"),
    ("vllm_tensor_parallel_size", "inference_tensor_parallel", "count"),
    ("activation_offloading", "activation_offloading", "flag"),
    ("use_liger", "fused_loss", "flag"),
    ("use_liger_loss", "fused_loss", "flag"),
)

_TRL_MODEL = (
    ("model_name_or_path", "model", "text"),
    ("torch_dtype", "load_dtype", "dtype"),
    ("dtype", "load_dtype", "dtype"),
    ("attn_implementation", "attention_implementation", "text"),
    ("use_flash_attention_2", "attention_implementation", "flash"),
    ("trust_remote_code", "trust_remote_code", "flag"),
    ("use_peft", "tuning", "lora-or-full"),
    ("lora_r", "lora_r", "count"),
    ("lora_alpha", "lora_alpha", "number"),
    ("lora_dropout", "lora_dropout", "number"),
    ("lora_target_modules", "lora_target_modules", "names"),
    ("lora_modules_to_save", "lora_modules_to_save", "names"),
    ("use_dora", "use_dora", "flag"),
    ("use_rslora", "use_rslora", "flag"),
    ("lora_target_parameters", "lora_target_parameters", "names"),
    ("load_in_4bit", "quantization_bits", "four-bit"),
    ("load_in_8bit", "quantization_bits", "eight-bit"),
    ("bnb_4bit_quant_type", "quantization_type", "text"),
    ("use_bnb_nested_quant", "double_quantization", "flag"),
    ("bnb_4bit_quant_storage", "quantization_storage_dtype", "dtype"),
)

_FROM_PRETRAINED = (
    ("pretrained_model_name_or_path", "model", "text"),
    ("torch_dtype", "load_dtype", "dtype"),
    ("dtype", "load_dtype", "dtype"),
    ("attn_implementation", "attention_implementation", "text"),
    ("_attn_implementation", "attention_implementation", "text"),
    ("use_flash_attention_2", "attention_implementation", "flash"),
    ("device_map", "device_map", "device-map"),
    ("tp_plan", "divided_by", "tensor-plan"),
    ("tp_size", "tensor_parallel", "count"),
    ("trust_remote_code", "trust_remote_code", "flag"),
    ("use_cache", "use_cache", "flag"),
    ("experts_implementation", "experts_implementation", "text"),
    ("output_router_logits", "router_logits", "flag"),
    ("load_in_4bit", "quantization_bits", "four-bit"),
    ("load_in_8bit", "quantization_bits", "eight-bit"),
)

_BITSANDBYTES = (
    ("load_in_4bit", "quantization_bits", "four-bit"),
    ("load_in_8bit", "quantization_bits", "eight-bit"),
    ("bnb_4bit_quant_type", "quantization_type", "text"),
    ("bnb_4bit_use_double_quant", "double_quantization", "flag"),
    ("bnb_4bit_compute_dtype", "quantization_compute_dtype", "dtype"),
    ("bnb_4bit_quant_storage", "quantization_storage_dtype", "dtype"),
    ("llm_int8_skip_modules", "quantization_skip_modules", "names"),
)

_LORA = (
    ("r", "lora_r", "count"),
    ("lora_alpha", "lora_alpha", "number"),
    ("lora_dropout", "lora_dropout", "number"),
    ("target_modules", "lora_target_modules", "names"),
    ("modules_to_save", "lora_modules_to_save", "names"),
    ("use_dora", "use_dora", "flag"),
    ("use_rslora", "use_rslora", "flag"),
    ("bias", "adapter_bias", "text"),
    ("lora_bias", "lora_bias", "flag"),
    ("rank_pattern", "lora_rank_pattern", "pairs"),
    ("layers_to_transform", "lora_layers", "numbers"),
    ("exclude_modules", "lora_exclude_modules", "names"),
    ("target_parameters", "lora_target_parameters", "names"),
    ("trainable_token_indices", "trained_tokens", "tokens"),
    ("token_indices", "trained_tokens", "tokens"),
    ("num_virtual_tokens", "virtual_tokens", "count"),
)
"""Of LoraConfig; configs of other methods share most of them."""

_ACCELERATE = (("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),)

_DEEPSPEED = (
    ("train_micro_batch_size_per_gpu", "micro_batch_size", "count"),
    ("train_batch_size", "global_batch_size", "count"),
    ("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    ("gradient_clipping", "max_grad_norm", "number"),
    ("fp16.enabled", "fp16", "flag"),
    ("bf16.enabled", "bf16", "flag"),
    ("bfloat16.enabled", "bf16", "flag"),
    ("optimizer.type", "optimizer", "name"),
    ("data_types.grad_accum_dtype", "gradient_accumulation_dtype", "dtype"),
    ("seq_parallel_communication_data_type", "sequence_reduce_dtype", "dtype"),
    ("activation_checkpointing.partition_activations", "partition_activations", "flag"),
    ("sequence_parallel_size", "context_parallel", "count"),
    ("tensor_parallel.autotp_size", "tensor_parallel", "count"),
    ("zero_optimization.stage", "zero_stage", "count"),
    ("zero_optimization.offload_optimizer.device", "offload_optimizer", "device"),
    ("zero_optimization.offload_param.device", "offload_parameters", "device"),
    ("zero_optimization.cpu_offload", "offload_optimizer", "cpu-or-none"),
    ("zero_optimization.cpu_offload_param", "offload_parameters", "cpu-or-none"),
    ("zero_optimization.reduce_bucket_size", "reduce_bucket_size", "elements"),
    ("zero_optimization.allgather_bucket_size", "allgather_bucket_size", "elements"),
    ("zero_optimization.stage3_prefetch_bucket_size", "prefetch_bucket_size", "elements"),
    ("zero_optimization.prefetch_bucket_size", "prefetch_bucket_size", "elements"),
    ("zero_optimization.stage3_param_persistence_threshold", "parameter_persistence_threshold", "elements"),
    ("zero_optimization.param_persistence_threshold", "parameter_persistence_threshold", "elements"),
    ("zero_optimization.stage3_max_live_parameters", "max_live_parameters", "elements"),
    ("zero_optimization.max_live_parameters", "max_live_parameters", "elements"),
    ("zero_optimization.stage3_max_reuse_distance", "max_reuse_distance", "elements"),
    ("zero_optimization.max_reuse_distance", "max_reuse_distance", "elements"),
    ("zero_optimization.sub_group_size", "sub_group_size", "elements"),
    ("zero_optimization.overlap_comm", "overlap_comm", "flag"),
    ("zero_optimization.zero_hpz_partition_size", "hpz_partition_size", "count"),
    ("zero_optimization.zero_quantized_weights", "quantized_weight_gathers", "flag"),
    ("zero_optimization.zero_quantized_nontrainable_weights", "quantized_frozen_weights", "flag"),
    ("zero_optimization.zero_quantized_gradients", "quantized_gradients", "flag"),
    ("zero_optimization.mics_shard_size", "mics_shard_size", "count"),
    ("zero_optimization.zenflow.topk_ratio", "zenflow_topk_ratio", "number"),
    ("zero_optimization.zenflow.overlap_step", "zenflow_overlap", "flag"),
    ("zero_optimization.stage3_gather_16bit_weights_on_model_save", "gather_16bit_on_save", "flag"),
    ("zero_optimization.stage3_gather_fp16_weights_on_model_save", "gather_16bit_on_save", "flag"),
    ("zero_optimization.gather_16bit_weights_on_model_save", "gather_16bit_on_save", "flag"),
    ("zero_optimization.offload_optimizer.pin_memory", "offload_pinned", "flag"),
    ("zero_optimization.offload_optimizer.buffer_count", "optimizer_swap_buffers", "count"),
    ("zero_optimization.offload_param.buffer_count", "swap_buffers", "count"),
    ("zero_optimization.offload_param.buffer_size", "swap_buffer_size", "elements"),
    ("zero_optimization.offload_param.max_in_cpu", "parameters_in_ram", "elements"),
)

_UNSLOTH_ADAPTER = (
    *(row for row in _LORA if row[0] != "num_virtual_tokens"),
    ("use_gradient_checkpointing", "activation_checkpointing", "unsloth-switch"),
    ("use_gradient_checkpointing", "checkpointing_offload", "unsloth-offload"),
    ("qat_scheme", "fake_quantization", "text"),
)
"""Of their `get_peft_model`."""

_FULL_STATE_DICT = (("offload_to_cpu", "state_dict_on_host", "flag"),)
_STATE_DICT_OPTIONS = (("cpu_offload", "state_dict_on_host", "flag"),)

_VOCABULARIES = {
    "training-arguments": _TRAINING_ARGUMENTS,
    "trl": _TRL,
    "trl-model": _TRL_MODEL,
    "from-pretrained": _FROM_PRETRAINED,
    "bitsandbytes": _BITSANDBYTES,
    "lora": _LORA,
    "accelerate": _ACCELERATE,
    "deepspeed": _DEEPSPEED,
    "accelerate-config": ACCELERATE_CONFIG,
    "fsdp": FSDP,
    "unsloth": UNSLOTH,
    "unsloth-adapter": _UNSLOTH_ADAPTER,
    "setfit": SETFIT,
    "lightning": LIGHTNING,
    "settings": SETTINGS,
    "full-state-dict": _FULL_STATE_DICT,
    "state-dict-options": _STATE_DICT_OPTIONS,
    "diffusers": DIFFUSERS,
    "loops": LOOPS,
}
VOCABULARIES = tuple(_VOCABULARIES)


@cache
def rows(vocabulary: str) -> dict[str, KeyRow]:
    """The rows of one vocabulary by key.

    Raises:
        KeyError: no such vocabulary.
    """
    return {key: KeyRow(vocabulary, key, fact, converter) for key, fact, converter in _VOCABULARIES[vocabulary]}


@cache
def all_rows(vocabulary: str) -> tuple[KeyRow, ...]:
    """The rows of one vocabulary, also those of a key that says several facts.

    Raises:
        KeyError: no such vocabulary.
    """
    return tuple([KeyRow(vocabulary, *row) for row in _VOCABULARIES[vocabulary]])


def find_row(vocabulary: str, key: str) -> KeyRow | None:
    """The row of a key, None when the key says nothing about memory (or does not exist)."""
    return rows(vocabulary).get(key)


def keys_saying(fact: str, vocabulary: str) -> tuple[str, ...]:
    """The keys of a vocabulary that say a fact, the preferred spelling first."""
    return tuple(row.key for row in all_rows(vocabulary) if row.fact == fact)
