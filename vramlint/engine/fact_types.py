"""The types of facts: what surfaces write into them, and `resolve` after them.

A text that is not bounded here may be anything that a file says. An unknown fact has no value at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.engine.types import Kind, Type, of

NUMBER, TEXT, TRUTH, TEXTS, NULL = (
    of(Kind.NUMBER),
    of(Kind.TEXT),
    of(Kind.TRUTH),
    of(Kind.TEXTS),
    of(Kind.NULL),
)
TOKENS = of(Kind.NUMBER, unit="tokens")
ELEMENTS = of(Kind.NUMBER, unit="elements")
GIBS = of(Kind.NUMBER, unit="GiB")
BYTES = of(Kind.NUMBER, unit="bytes")


def words(*values: str) -> Type:
    """A text that is one of these."""
    return of(Kind.TEXT, values=values)


DTYPE = words("float32", "bfloat16", "float16", "float64", "float8", "int8", "uint8", "auto")
DEVICE = words("none", "cpu", "nvme")
AUTO = words("auto")
"""Of a DeepSpeed file by itself, which a trainer would fill in."""
STRATEGY = words("none", "ddp", "dataparallel", "deepspeed", "fsdp", "megatron", "device_map")

_GROUPS: tuple[tuple[Type, str], ...] = (
    (
        TRUTH,
        """fp8 cast_on_device sharded_on_device
        batch_adapts evaluation_keeps_logits evaluation_generates packing padding_free padding
        activation_checkpointing checkpointing_early_stop checkpointing_reentrant checkpointing_selective
        checkpointing_offload use_cache router_logits double_quantization prepared_for_kbit use_dora lora_bias
        adapter_by_trainer adapter_cast merges_adapter full_logits fused_loss unsloth liger liger_rope liger_rms_norm
        liger_swiglu liger_geglu liger_cross_entropy liger_fused_head torch_compile expandable_segments loss_parallel
        fsdp_layers_alone overlap_comm gather_16bit_on_save offload_pinned ram_efficient_loading zenflow_overlap
        trust_remote_code tied_embeddings sequence_parallel distributed_optimizer gradient_accumulation_fusion
        optimizer_in_backward quantized_experts use_rslora sync_each_batch fsdp_use_orig_params
        tiled_mlp partition_activations pad_to_maximum quantized_weight_gathers quantized_frozen_weights
        quantized_gradients pipeline_engine precise_optimizer distributed_checkpoints grouped_experts
        gradient_as_bucket_view state_dict_on_host precomputes_reference inference_sleeps""",
    ),
    (
        NUMBER,
        """layers attention_heads key_value_heads hidden_size vocabulary_size dropout parameters parameters_at_least
        eval_micro_batch_size eval_accumulation_steps max_steps generations checkpointing_every_n_layers
        quantization_bits
        quantization_group_size lora_r lora_alpha lora_dropout label_smoothing world_size tensor_parallel
        context_parallel data_parallel_shard data_parallel_replicate fsdp_version zero_stage optimizer_swap_buffers
        swap_buffers zenflow_topk_ratio nodes gpus_per_node intermediate_size vocabulary_multiple experts
        experts_per_token expert_intermediate_size shared_expert_intermediate_size moe_layers mtp_layers
        pipeline_parallel expert_parallel expert_tensor_parallel distributed_optimizer_instances recompute_layers
        pipeline_chunks optimizer_rank inference_memory_fraction inference_tensor_parallel steps_per_generation
        generation_batch_size ppo_mini_batch_size
        kl_coefficient image_size hpz_partition_size mics_shard_size optimizer_offload_fraction
        chunk_alternation pipeline_micro_batch_size
        sequence_head_stride
        pipeline_micro_batches pipeline_stage_layers pipeline_embedding_layers pipeline_head_layers""",
    ),
    (TOKENS, "sequence_length target_length prompt_length completion_length virtual_tokens tokens_per_batch"),
    (
        ELEMENTS,
        """swap_buffer_size parameters_in_ram""",
    ),
    (TRUTH | AUTO, "bf16 fp16"),
    (
        NUMBER | AUTO,
        "micro_batch_size gradient_accumulation_steps global_batch_size max_grad_norm weight_decay",
    ),
    (
        ELEMENTS | AUTO,
        """reduce_bucket_size allgather_bucket_size prefetch_bucket_size parameter_persistence_threshold
        max_live_parameters max_reuse_distance sub_group_size""",
    ),
    (TRUTH | words("legacy", "hidden_states"), "activation_offloading"),
    (TRUTH | TEXT, "fsdp"),
    (GIBS, "declared_memory measured_memory"),
    (BYTES, "host_memory"),
    (
        TEXT,
        """objective model model_type tuning optimizer optimizer_arguments packing_strategy attention_implementation
        experts_implementation quantization_type adapter_library inference_placement loss_type
        reference_model allocator_settings
        divided_by pipeline_schedule deepspeed_config accelerate_config device_map entry launcher gpu activation
        attention_kind pipeline_layout cublas_workspace product_format fake_quantization quantization_method
        fsdp_mixed_precision inference_engine draft_model model_class argument_parser""",
    ),
    (
        DTYPE,
        """load_dtype arrival_dtype trainable_dtype norm_dtype quantization_compute_dtype
        quantization_storage_dtype fsdp_reduce_dtype
        gradient_accumulation_dtype sequence_reduce_dtype master_dtype average_dtype variance_dtype""",
    ),
    (DEVICE, "offload_optimizer offload_parameters offload_reference"),
    (STRATEGY, "parallelism"),
    (words("training", "inference", "library"), "run_kind"),
    (words("ulysses", "ring", "swift", "verl", "xtuner", "flash-ring", "flash-gather"), "sequence_sharing"),
    (words("fp32", "bf16-mixed", "fp16-mixed", "bf16-pure", "fp16-pure"), "precision"),
    (words("none", "all", "lora_only"), "adapter_bias"),
    (words("trainer", "lightning", "accelerate", "fabric", "plain", "script"), "loop"),
    (words("none", "selective", "full"), "recompute"),
    (words("uniform", "block"), "recompute_method"),
    (words("backward_pre", "backward_post", "no_prefetch"), "fsdp_backward_prefetch"),
    (words("full_state_dict", "local_state_dict", "sharded_state_dict"), "fsdp_state_dict"),
    (words("alltoall", "allgather"), "expert_dispatcher"),
    (
        TEXTS,
        """frozen_parameters float32_parameters lora_modules_to_save lora_rank_pattern lora_layers
        lora_target_parameters lora_variants recompute_modules trained_tokens adapter_options
        replaced_attention""",
    ),
    (TRUTH | words("default", "always", "never"), "fsdp_reshard_after_forward"),
    (
        TEXT | TEXTS,
        "fsdp_wrap_class lora_exclude_modules quantization_skip_modules optimizer_target_modules",
    ),
    (TEXT | TEXTS | NULL, "lora_target_modules"),
)

FACT_TYPES: Mapping[str, Type] = MappingProxyType({name: type_ for type_, names in _GROUPS for name in names.split()})
"""The type of every fact."""
