"""Keys of files and calls beside those of Hugging Face's trainers, as rows of `keys.KeyRow` without the vocabulary."""

from __future__ import annotations

FSDP = (
    ("transformer_layer_cls_to_wrap", "fsdp_wrap_class", "classes"),
    ("auto_wrap_policy", "fsdp_wrap_class", "policy"),
    ("activation_checkpointing", "activation_checkpointing", "truth"),
    ("offload_params", "offload_parameters", "offload-device"),
    ("cpu_offload", "offload_parameters", "offload-device"),
    ("offload_params", "offload_optimizer", "offload-device"),
    ("cpu_offload", "offload_optimizer", "offload-device"),
    ("reshard_after_forward", "fsdp_reshard_after_forward", "resharding"),
    ("use_orig_params", "fsdp_use_orig_params", "truth"),
    ("version", "fsdp_version", "count"),
    ("backward_prefetch", "fsdp_backward_prefetch", "prefetch"),
    ("cpu_ram_efficient_loading", "ram_efficient_loading", "truth"),
    ("state_dict_type", "fsdp_state_dict", "state-dict"),
)
"""Without the `fsdp_` that each may carry; facts have `fsdp_config.` before the key. Some say two facts."""

ACCELERATE_CONFIG = (
    ("distributed_type", "parallelism", "strategy"),
    ("num_processes", "world_size", "processes"),
    ("num_machines", "nodes", "processes"),
    ("mixed_precision", "bf16", "bf16-word"),
    ("mixed_precision", "fp16", "fp16-word"),
    ("mixed_precision", "fp8", "fp8-word"),
    ("dynamo_backend", "torch_compile", "compiles"),
    ("deepspeed_config.zero_stage", "zero_stage", "whole-word"),
    ("deepspeed_config.offload_optimizer_device", "offload_optimizer", "device"),
    ("deepspeed_config.offload_param_device", "offload_parameters", "device"),
    ("deepspeed_config.gradient_accumulation_steps", "gradient_accumulation_steps", "whole-word"),
    ("deepspeed_config.gradient_clipping", "max_grad_norm", "bound-word"),
    ("deepspeed_config.zero3_save_16bit_model", "gather_16bit_on_save", "truth"),
    *((f"fsdp_config.fsdp_{key}", fact, converter) for key, fact, converter in FSDP),
    ("parallelism_config.parallelism_config_tp_size", "tensor_parallel", "whole-word"),
    ("parallelism_config.parallelism_config_cp_size", "context_parallel", "whole-word"),
    ("parallelism_config.parallelism_config_sp_size", "context_parallel", "whole-word"),
    ("parallelism_config.parallelism_config_dp_shard_size", "data_parallel_shard", "whole-word"),
    ("parallelism_config.parallelism_config_dp_replicate_size", "data_parallel_replicate", "whole-word"),
    ("megatron_lm_config.megatron_lm_tp_degree", "tensor_parallel", "whole-word"),
    ("megatron_lm_config.megatron_lm_pp_degree", "pipeline_parallel", "whole-word"),
    ("megatron_lm_config.megatron_lm_sequence_parallelism", "sequence_parallel", "truth"),
    ("megatron_lm_config.megatron_lm_use_distributed_optimizer", "distributed_optimizer", "truth"),
    ("megatron_lm_config.megatron_lm_gradient_clipping", "max_grad_norm", "bound-word"),
)
"""Of Accelerate's configuration (accelerate 1.15 commands/launch.py, utils/dataclasses.py)."""

UNSLOTH = (
    ("max_seq_length", "sequence_length", "bound"),
    ("dtype", "load_dtype", "dtype"),
    ("load_in_4bit", "quantization_bits", "four-bit"),
    ("load_in_8bit", "quantization_bits", "eight-bit"),
    ("trust_remote_code", "trust_remote_code", "flag"),
    ("fast_inference", "inference_engine", "vllm-or-none"),
    ("gpu_memory_utilization", "inference_memory_fraction", "number"),
    ("qat_scheme", "fake_quantization", "text"),
)
"""Of `FastLanguageModel.from_pretrained` and its kin."""

SETFIT = (("batch_size", "micro_batch_size", "count"), ("use_amp", "fp16", "flag"))
"""Of setfit.TrainingArguments."""

LIGHTNING = (
    ("accumulate_grad_batches", "gradient_accumulation_steps", "count"),
    ("gradient_clip_val", "max_grad_norm", "number"),
    ("num_nodes", "nodes", "count"),
    ("devices", "gpus_per_node", "devices"),
    ("precision", "bf16", "bf16-precision"),
    ("precision", "fp16", "fp16-precision"),
)
"""Of lightning's Trainer and Fabric."""

SETTINGS = (
    ("per_device_train_batch_size", "micro_batch_size", "count"),
    ("device_batch_size", "micro_batch_size", "count"),
    ("micro_batch_size", "micro_batch_size", "count"),
    ("batch_size", "micro_batch_size", "count"),
    ("per_device_eval_batch_size", "eval_micro_batch_size", "count"),
    ("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    ("grad_accum_steps", "gradient_accumulation_steps", "count"),
    ("accumulation_steps", "gradient_accumulation_steps", "count"),
)
"""Settings of loops by their usual names, which no call was seen to take."""

DIFFUSERS = (
    ("resolution", "image_size", "count"),
    ("image_size", "image_size", "count"),
    ("img_size", "image_size", "count"),
    ("height", "image_size", "count"),
    ("gradient_checkpointing", "activation_checkpointing", "flag"),
    ("use_8bit_adam", "optimizer", "eight-bit-adam"),
    ("mixed_precision", "bf16", "bf16-word"),
    ("mixed_precision", "fp16", "fp16-word"),
)
"""Options of diffusers' training programs (diffusers 0.42 examples/) whose names are not those of other loops."""

LOOPS = (
    ("batch_size", "micro_batch_size", "count"),
    ("batch_size", "eval_micro_batch_size", "count"),
    ("max_norm", "max_grad_norm", "number"),
)
"""Parameters of torch's DataLoader and `clip_grad_norm_`."""
