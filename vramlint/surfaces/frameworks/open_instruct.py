"""open-instruct's YAML and command lines (open_instruct/finetune.py, dpo_tune_cache.py, dpo_utils.py, grpo_fast.py)."""

from __future__ import annotations

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.launch.framework_programs import PROGRAM

_ROWS = (
    Row("model_name_or_path", "model", "text"),
    Row("per_device_train_batch_size", "micro_batch_size", "count"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("max_seq_length", "sequence_length", "count"),
    Row("gradient_checkpointing", "activation_checkpointing", "flag"),
    Row("packing", "packing", "flag"),
    Row("weight_decay", "weight_decay", "number"),
    Row("use_liger_kernel", "fused_loss", "flag"),
    Row("sequence_parallel_size", "context_parallel", "count"),
    Row("zero_stage", "zero_stage", "count"),
)

_ONLINE = (
    ("deepspeed_stage", "zero_stage", "count"),
    ("max_prompt_token_length", "prompt_length", "count"),
    ("response_length", "completion_length", "count"),
    ("pack_length", "sequence_length", "count"),
    ("num_samples_per_prompt_rollout", "generations", "count"),
    ("vllm_gpu_memory_utilization", "inference_memory_fraction", "number"),
    ("vllm_tensor_parallel_size", "inference_tensor_parallel", "count"),
)
"""Of grpo_fast.py, with its defaults."""
_DISTRIBUTED = (
    ("tensor_parallel_degree", "tensor_parallel", "count"),
    ("context_parallel_degree", "context_parallel", "count"),
    ("fsdp_shard_degree", "data_parallel_shard", "count"),
    ("fsdp_num_replicas", "data_parallel_replicate", "count"),
    ("max_token_length", "sequence_length", "count"),
    ("per_device_eval_batch_size", "eval_micro_batch_size", "count"),
)
"""Of dpo.py and reward_modeling.py, where they are given."""

_TARGETS = ("q_proj", "o_proj", "v_proj", "k_proj", "gate_proj", "up_proj", "down_proj")
"""What every script gives LoraConfig (finetune.py, dpo_tune_cache.py)."""
_OBJECTIVES = (
    ("grpo", "grpo", ("num_samples_per_prompt_rollout", "num_unique_prompts_rollout", "apply_verifiable_reward")),
    ("ppo", "ppo", ("value_learning_rate", "num_mini_batches")),
    ("dpo", "dpo", ("beta", "dpo_beta", "loss_type", "dpo_loss_type", "gamma_beta_ratio", "dpo_use_paged_optimizer")),
    ("reward", "reward", ("dataset_eval_mixer", "num_labels")),
    ("finetune", "sft", ()),
)
"""Part of the program's name, objective, and keys that only its arguments have."""
_OWN_REFERENCE = "the reference's log probabilities are computed before training and kept"
"""dpo_utils.build_reference_logprobs_cache."""
_SIMPO = ("simpo", "wpo")
"""Losses of DPOLossType without a reference."""
_DETECTED = "where flash-attn is installed, which its requirements name (model_utils.detect_hf_attn_implementation)"


def _complete(config: Config) -> None:
    config.derive("loop", "accelerate", "open-instruct's scripts have loops of their own, with an Accelerator")
    objective = _objective(config)
    config.derive("load_dtype", "bfloat16", "every script loads the model in bfloat16")
    lora = config.on("use_lora")
    _tuning(config, lora=lora)
    if not config.given("use_flash_attn") or config.on("use_flash_attn"):
        config.derive("attention_implementation", "flash_attention_2", _DETECTED, "use_flash_attn")
    clips = config.plain("clip_grad_norm") or config.plain("max_grad_norm")
    bound = clips if isinstance(clips, int | float) and clips > 0 else 0
    config.state("max_grad_norm", bound, "clip_grad_norm", "max_grad_norm")
    if objective == "dpo":
        _preference(config)
    for key, fact, converter in _DISTRIBUTED:
        config.say(fact, key, converter)
    if objective == "grpo":
        _online(config)
    if config.given("zero_stage"):
        config.derive("parallelism", "deepspeed", "zero_stage makes the Accelerator use DeepSpeed", "zero_stage")
    if config.plain("max_seq_length") is None and objective in ("sft", "dpo"):
        config.unknown("sequence_length", "max_seq_length is not given, and nothing truncates", "max_seq_length")


def _objective(config: Config) -> str:
    program = config.text(PROGRAM).replace("\\", "/").rpartition("/")[2]
    for part, objective, _ in _OBJECTIVES:
        if part in program:
            config.by_program("objective", objective)
            return objective
    for _, objective, keys in _OBJECTIVES:
        if any(config.given(key) for key in keys):
            config.state("objective", objective, *(key for key in keys if config.given(key)))
            return objective
    reason = "no key of another of its scripts is given; which is started, the launcher says"
    config.draft.put(Fact("objective", (Candidate("sft"),), Origin.ASSUMED, via="code", reason=reason))
    return "sft"


def _tuning(config: Config, *, lora: bool) -> None:
    four = config.on("use_qlora")
    config.state("tuning", ("qlora" if four else "lora") if lora else "full", "use_qlora", "use_lora")
    if four:
        config.state("quantization_bits", 4, "use_qlora")
        config.derive("quantization_type", "nf4", "use_qlora means nf4", "use_qlora")
        config.derive("double_quantization", True, "use_qlora quantizes the constants too", "use_qlora")
        config.derive("quantization_compute_dtype", "bfloat16", "use_qlora computes in bfloat16", "use_qlora")
    if lora:
        if four:
            config.derive("prepared_for_kbit", True, "the scripts prepare what is quantized", "use_qlora")
        for key, fact, converter in (
            ("lora_rank", "lora_r", "count"),
            ("lora_alpha", "lora_alpha", "number"),
            ("lora_dropout", "lora_dropout", "number"),
        ):
            if not config.say(fact, key, converter):
                config.state(fact, config.default(key), key)
        config.derive("lora_target_modules", _TARGETS, "the scripts name them")
    eight = config.on("use_8bit_optimizer")
    if four or config.on("dpo_use_paged_optimizer"):
        config.state(
            "optimizer", "paged_adamw_8bit" if eight else "paged_adamw_32bit", "use_8bit_optimizer", "use_qlora"
        )
    elif config.given("fused_optimizer") and not config.on("fused_optimizer"):
        config.state("optimizer", "adamw_torch", "fused_optimizer")
    else:
        config.derive("optimizer", "adamw_torch_fused", "torch.optim.AdamW, fused unless fused_optimizer is off")


def _online(config: Config) -> None:
    for key, fact, converter in _ONLINE:
        if not config.say(fact, key, converter) and config.default(key) is not None:
            config.state(fact, config.default(key), key)
    config.state("micro_batch_size", 1, "per_device_train_batch_size")  # of GRPOExperimentConfig; 8 elsewhere
    config.say("kl_coefficient", "beta", "number")
    config.derive("packing", True, "grpo_fast.py packs prompts and answers into rows of pack_length", "pack_length")
    reference = config.text("model_name_or_path")
    if reference:
        config.state("reference_model", reference if config.on("load_ref_policy") else "none", "load_ref_policy")
    config.state("inference_engine", "vllm", "vllm_num_engines")
    config.derive("parallelism", "deepspeed", "the learners are DeepSpeed engines", "deepspeed_stage")


def _preference(config: Config) -> None:
    loss = config.text("loss_type") or config.text("dpo_loss_type")
    config.say("loss_type", "loss_type", "text")
    config.say("loss_type", "dpo_loss_type", "text")
    config.say("kl_coefficient", "beta", "number")
    config.say("kl_coefficient", "dpo_beta", "number")
    reason = f"{loss} has no reference" if loss in _SIMPO else _OWN_REFERENCE
    config.derive("reference_model", "none", reason)


FRAMEWORK = Framework("open-instruct", "open-instruct", "", _ROWS, _complete, launched=True)
