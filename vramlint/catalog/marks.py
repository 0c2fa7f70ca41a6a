"""The keys that tell a vocabulary, and words of paths that hint at it: what `surfaces/recognising.py` weighs."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Marks(NamedTuple):
    """How files of one vocabulary are told."""

    kind: str
    """Kind of the sheets: the name of a framework, or one of `surfaces/kinds.py`."""
    own: tuple[str, ...]
    """Keys that no other vocabulary has; dotted for nested tables, `*` for a table of any name."""
    shared: tuple[str, ...] = ()
    """Keys that others have too."""
    paths: tuple[str, ...] = ()
    """Parts of a path, in lower case; `/` begins a folder or name."""
    never: tuple[str, ...] = ()
    """Keys that rule it out."""


MARKS: tuple[Marks, ...] = (
    Marks(
        "axolotl",
        (
            "base_model",
            "sequence_len",
            "sample_packing",
            "pad_to_sequence_len",
            "datasets.type",
            "val_set_size",
            "special_tokens.pad_token",
            "flash_optimum",
            "lora_target_linear",
            "dataset_prepared_path",
            "chat_template_jinja",
        ),
        ("micro_batch_size", "adapter", "load_in_4bit", "load_in_8bit", "lora_r", "num_epochs", "wandb_project", "rl"),
        ("axolotl",),
    ),
    Marks(
        "llama-factory",
        (
            "finetuning_type",
            "cutoff_len",
            "dataset_dir",
            "lora_target",
            "quantization_bit",
            "neat_packing",
            "overwrite_cache",
            "pref_loss",
            "disable_gradient_checkpointing",
            "export_dir",
            "infer_backend",
            "kernel_config",
            "peft_config",
            "dist_config",
            "train_dataset",
            "sample_backend",
            "batching_strategy",
        ),
        (
            "stage",
            "template",
            "lora_rank",
            "flash_attn",
            "preprocessing_num_workers",
            "plot_loss",
            "val_size",
            "media_dir",
        ),
        ("llama-factory", "llamafactory", "llama_factory"),
    ),
    Marks(
        "lmflow",
        ("dataset_path_list", "conversation_template", "disable_group_texts", "do_dpo_align", "reward_arch_type"),
        ("block_size", "use_flash_attention", "preprocessing_num_workers"),
        ("lmflow",),
    ),
    Marks(
        "ms-swift",
        (
            "tuner_type",
            "train_type",
            "sft_type",
            "split_dataset_ratio",
            "attn_impl",
            "model_author",
            "load_from_cache_file",
            "rlhf_type",
            "freeze_vit",
            "freeze_aligner",
            "train_dataset_sample",
            "load_dataset_config",
            "val_dataset_sample",
            "cached_dataset",
            "colocate_groups",
            "vit_gradient_checkpointing",
            "mcore_model",
        ),
        (
            "model",
            "model_type",
            "dataset",
            "target_modules",
            "lora_rank",
            "use_hf",
            "ENV",
            "device_groups",
        ),
        ("swift",),
        ("model_name_or_path", "base_model"),
    ),
    Marks(
        "peft",
        ("peft_type", "run_info.peft_config"),
        (
            "optimizer_kwargs",
            "optimizer_kwargs.lr",
            "batch_size_eval",
            "use_gc",
            "grad_norm_clip",
            "autocast_adapter_dtype",
            "base_model_name_or_path",
            "inference_mode",
        ),
        ("training_params.json", "adapter_config.json"),
    ),
    Marks(
        "llm-foundry",
        (
            "device_train_microbatch_size",
            "device_eval_batch_size",
            "global_train_batch_size",
            "device_train_grad_accum",
            "train_loader",
            "fsdp_config.sharding_strategy",
            "icl_tasks",
        ),
        ("max_duration", "eval_loader", "algorithms.gradient_clipping", "max_seq_len", "precision", "variables"),
        ("llm-foundry", "llmfoundry"),
        never=("command", "integrations"),
    ),
    Marks(
        "megatron",
        (
            "MODEL_ARGS",
            "--num-layers",
            "--hidden-size",
            "--micro-batch-size",
            "--tensor-model-parallel-size",
            "--pipeline-model-parallel-size",
            "model_parallel.tensor_model_parallel_size",
        ),
        ("ENV_VARS", "TEST_TYPE", "LAUNCHER", "--seq-length", "--global-batch-size", "--bf16"),
        ("megatron",),
    ),
    Marks(
        "gpt-neox",
        tuple(
            spelled
            for key in (
                "pipe_parallel_size",
                "model_parallel_size",
                "no_weight_tying",
                "pos_emb",
                "gpt_j_residual",
                "output_layer_parallelism",
                "attention_config",
                "scaled_upper_triang_masked_softmax_fusion",
                "bias_gelu_fusion",
                "checkpoint_factor",
                "keep_last_n_checkpoints",
                "distributed_backend",
                "lr_decay_iters",
                "train_data_paths",
                "merge_file",
                "synchronize_each_layer",
            )
            for spelled in (key, key.replace("_", "-"))
        ),
        (
            "num_layers",
            "num-layers",
            "train_micro_batch_size_per_gpu",
            "data_path",
            "data-path",
            "vocab_file",
            "vocab-file",
        ),
        ("neox",),
    ),
    Marks(
        "fairseq",
        (
            "task._name",
            "criterion._name",
            "optimizer._name",
            "lr_scheduler._name",
            "optimization.update_freq",
            "optimization.max_update",
            "optimization.clip_norm",
            "distributed_training.ddp_backend",
            "dataset.ignore_unused_valid_subsets",
            "checkpoint.no_epoch_checkpoints",
        ),
        ("common.fp16", "common.log_interval", "model._name", "dataset.max_tokens", "criterion"),
        ("fairseq",),
    ),
    Marks(
        "lightning",
        tuple(
            f"{section}trainer.{key}"
            for section in ("", "fit.")
            for key in (
                "accumulate_grad_batches",
                "check_val_every_n_epoch",
                "val_check_interval",
                "gradient_clip_val",
                "max_epochs",
                "log_every_n_steps",
                "num_sanity_val_steps",
                "limit_train_batches",
                "default_root_dir",
            )
        ),
        (
            "trainer.precision",
            "trainer.devices",
            "trainer.strategy",
            "trainer.accelerator",
            "model.class_path",
            "model.init_args",
            "data.class_path",
            "data.init_args",
            "seed_everything",
        ),
        (),
        (
            "exp_manager",
            "inference",
            "name",
            "restore_from_path",
            "strategy",
            "trainer._target_",
            "model._target_",
            "defaults",
            "hydra",
            "model.tensor_model_parallel_size",
            "model.micro_batch_size",
            "train.micro_batch_size",
            "actor_rollout_ref",
        ),
    ),
    Marks(
        "litgpt",
        (
            "train.micro_batch_size",
            "train.global_batch_size",
            "train.lr_warmup_fraction",
            "train.tie_embeddings",
            "eval.initial_validation",
            "eval.final_validation",
            "lora_query",
            "lora_projection",
            "model_config.n_query_groups",
            "model_config.norm_class_name",
        ),
        (
            "checkpoint_dir",
            "lora_r",
            "lora_dropout",
            "quantize",
            "data.class_path",
            "optimizer.class_path",
            "num_nodes",
        ),
        ("litgpt", "lit-gpt"),
        (
            "base_model",
            "trainer",
            "train.train_iters",
            "model.seq_length",
            "model.tensor_model_parallel_size",
            "actor_rollout_ref",
        ),
    ),
    Marks(
        "torchtitan",
        (
            "job.dump_folder",
            "job.description",
            "model.flavor",
            "training.local_batch_size",
            "training.data_parallel_shard_degree",
            "training.tensor_parallel_degree",
            "training.mixed_precision_param",
            "parallelism.data_parallel_shard_degree",
            "parallelism.tensor_parallel_degree",
            "experimental.pipeline_parallel_degree",
            "activation_checkpoint.mode",
            "activation_checkpoint.selective_ac_option",
            "profiling.save_traces_folder",
            "metrics.save_tb_folder",
        ),
        ("training.seq_len", "training.steps", "compile.enable", "lr_scheduler.warmup_steps", "checkpoint.interval"),
        ("torchtitan", "train_configs"),
    ),
    Marks(
        "xtuner",
        ("MBS", "MBN", "TP_sp", "os_type", "master_type", "linear_act_type", "topk_weights_position", "mlp_act_dim"),
        ("nodes", "gpu_per_node", "zero_stage", "vpp", "etp", "param_type", "recompute"),
        ("xtuner", "llm_calc"),
    ),
    Marks(
        "torchtune",
        (
            "model._component_",
            "tokenizer._component_",
            "checkpointer._component_",
            "dataset._component_",
            "optimizer._component_",
            "loss._component_",
            "policy_model._component_",
            "metric_logger._component_",
            "profiler._component_",
            "quantizer._component_",
        ),
        (
            "enable_activation_checkpointing",
            "enable_activation_offloading",
            "optimizer_in_bwd",
            "log_peak_memory_stats",
            "max_steps_per_epoch",
            "resume_from_checkpoint",
        ),
        ("torchtune",),
    ),
    Marks(
        "open-instruct",
        (
            "dataset_mixer_list",
            "dataset_mixer_list_splits",
            "dataset_mix_dir",
            "dataset_transform_fn",
            "use_slow_tokenizer",
            "with_tracking",
            "use_qlora",
            "use_8bit_optimizer",
            "dpo_use_paged_optimizer",
            "load_balancing_loss",
            "hf_metadata_dataset",
            "add_bos",
            "try_launch_beaker_eval_jobs",
            "try_auto_save_to_beaker",
            "oe_eval_tasks",
        ),
        (
            "dataset_mixer",
            "preprocessing_num_workers",
            "checkpointing_steps",
            "tokenizer_name",
            "use_flash_attn",
            "use_lora",
            "lora_rank",
            "num_epochs",
            "max_seq_length",
            "model_name_or_path",
        ),
        ("open-instruct", "open_instruct"),
    ),
    Marks(
        "qlora-pipe",
        (
            "micro_batch_size_per_gpu",
            "pipeline_stages",
            "model_weight_dtype",
            "lora_weight_dtype",
            "batch_size_tokens",
            "quantization.bnb",
            "quantization.hqq",
            "dataset_combination_mode",
            "eval_before_first_step",
            "checkpoint_every_n_minutes",
            "offload_mlp_to_cpu",
        ),
        ("full_fine_tune", "lora_rank", "activation_checkpointing", "optimizer.type", "datasets.dataset_type"),
        ("qlora-pipe", "qlora_pipe"),
        ("adapter.type", "model.type"),  # diffusion-pipe, by the same author, has a table for its model
    ),
    Marks(
        "specforge",
        (
            "model.target_model_path",
            "model.draft_model_config",
            "model.embedding_key",
            "model.vocab_mapping_path",
            "training.ttt_length",
            "training.num_anchors",
            "training.loss_decay_gamma",
            "data.hidden_states_path",
            "deployment.disaggregated.control_dir",
            "deployment.trainer.nproc_per_node",
        ),
        ("model.target_backend", "training.strategy", "data.chat_template", "training.attention_backend", "run_id"),
        ("specforge", "eagle3", "dflash", "dspark"),
    ),
    Marks(
        "verl",
        (
            "actor_rollout_ref",
            "algorithm.adv_estimator",
            "async_training.staleness_threshold",
            "critic.ppo_micro_batch_size_per_gpu",
            "reward_loop_source",
            "model.partial_pretrain",
            "data.max_response_length",
            "optimizer_impl",
            "ppo_mini_batch_size",
            "log_prob_micro_batch_size_per_gpu",
            "override_mcore_model_config",
            "fsdp_config.forward_only",
            "transfer_queue.num_data_storage_units",
            "balance_dp_token",
            "data.balance_dp_token",
        ),
        (
            "trainer.n_gpus_per_node",
            "data.train_files",
            "hydra",
            "defaults",
            "sandbox_fusion",
            "ulysses_sequence_parallel_size",
            "entropy_from_logits_with_chunking",
        ),
        ("verl",),
    ),
)
"""Every vocabulary with marks; the one with the most evidence wins, the first of equals."""


RECIPES: tuple[Marks, ...] = (
    Marks(
        "open-r1",
        (
            "dataset_prompt_column",
            "benchmarks",
            "callbacks",
            "overwrite_hub_revision",
            "push_to_hub_revision",
            "wandb_entity",
            "wandb_run_group",
            "wandb_log_unique_prompts",
            "cosine_min_value_wrong",
            "cosine_max_value_wrong",
            "cosine_min_value_correct",
            "cosine_max_value_correct",
            "cosine_max_len",
            "repetition_n_grams",
            "repetition_max_penalty",
            "code_language",
            "code_eval_test_batch_size",
            "code_eval_scoring_mode",
            "code_provider",
            "ioi_provider",
            "parallel_code_exec_per_proc",
            "e2b_router_url",
            "morph_router_url",
            "pass_rate_min",
            "pass_rate_max",
        ),
        ("dataset_mixture", "wandb_project", "system_prompt", "reward_funcs"),
        ("open-r1", "open_r1", "openr1"),
    ),
    Marks(
        "alignment-handbook",
        ("dataset_mixture", "dataset_mixer", "dataset_splits", "dataset_configs", "text_column"),
        paths=("alignment-handbook", "alignment_handbook"),
    ),
)
"""Flat recipes for TRL's parser: keys that only one project's own argument classes add to those of TRL
(open-r1 src/open_r1/configs.py, alignment-handbook src/alignment/configs.py and configs.py of its first releases)."""


@cache
def own_words() -> frozenset[bytes]:
    """The last parts of the keys that one vocabulary alone has."""
    return frozenset(key.rpartition(".")[2].encode() for marks in MARKS for key in marks.own)


@cache
def shared_words() -> frozenset[bytes]:
    """The last parts of the keys that several have."""
    return frozenset(key.rpartition(".")[2].encode() for marks in MARKS for key in marks.shared)
