"""verl: Hydra's overrides on a command line, over the YAML of its package (verl 0.1 to 0.9).

Its RL trainers (verl/trainer/main_ppo.py, ppo/ray_trainer.py) put actor, reference model and rollout engine on the same
GPUs; workers/fsdp_workers.py and workers/megatron_workers.py say what becomes of the keys. The SFT trainers are in
`verl_sft.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.hydra_defaults import own_configuration
from vramlint.surfaces.frameworks.interpolation import interpolated
from vramlint.surfaces.frameworks.verl_sft import SFT_ROWS, complete_sft
from vramlint.surfaces.frameworks.verl_words import (
    ADAPTER_OFF,
    DTYPES,
    count_gpus,
    megatron,
    optimizer,
    program,
    sharding,
    tuning,
)
from vramlint.values import Items, Scalar, Table

_ACTOR = "actor_rollout_ref.actor"
_MODEL = "actor_rollout_ref.model"
_ROLLOUT = "actor_rollout_ref.rollout"
_REF = "actor_rollout_ref.ref"

_ROWS = (
    Row(f"{_MODEL}.path", "model", "text"),
    Row("data.train_batch_size", "global_batch_size", "count"),
    Row("data.max_prompt_length", "prompt_length", "count"),
    Row("data.max_response_length", "completion_length", "count"),
    Row(f"{_ROLLOUT}.n", "generations", "count"),
    Row(f"{_ROLLOUT}.gpu_memory_utilization", "inference_memory_fraction", "number"),
    Row(f"{_ROLLOUT}.tensor_model_parallel_size", "inference_tensor_parallel", "count"),
    Row(f"{_ROLLOUT}.name", "inference_engine", "text"),
    Row(f"{_ACTOR}.ppo_mini_batch_size", "ppo_mini_batch_size", "count"),
    Row(f"{_MODEL}.enable_gradient_checkpointing", "activation_checkpointing", "flag"),
    Row(f"{_MODEL}.enable_activation_offload", "activation_offloading", "flag"),
    Row(f"{_MODEL}.use_remove_padding", "padding_free", "flag"),
    Row(f"{_MODEL}.use_fused_kernels", "fused_loss", "flag"),
    Row(f"{_MODEL}.use_liger", "liger", "flag"),
    Row(f"{_MODEL}.trust_remote_code", "trust_remote_code", "flag"),
    Row(f"{_MODEL}.tiled_mlp.enabled", "tiled_mlp", "flag"),
    Row(f"{_MODEL}.override_config.attn_implementation", "attention_implementation", "name"),
    Row("trainer.nnodes", "nodes", "count"),
    Row("trainer.n_gpus_per_node", "gpus_per_node", "count"),
    *SFT_ROWS,
)

_OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "gae": "ppo",
        "grpo_passk": "grpo",
        "grpo_vectorized": "grpo",
        "rloo_vectorized": "rloo",
        "reinforce_plus_plus": "reinforce++",
        "reinforce_plus_plus_baseline": "reinforce++",
    }
)
"""`algorithm.adv_estimator` (trainer/ppo/core_algos.py) and the method; others go by their own name."""


def _keys_of(table: Table) -> str:
    """Which of verl's programs the keys are of: its RL trainers, the older SFT trainer, or that over engines."""
    started = program(table)
    if started:
        if "sft_trainer" not in started:
            return "verl"
        return "verl-sft" if "fsdp_sft_trainer" in started else "verl-sft-engine"
    if table.entry("model", "partial_pretrain") is not None:
        return "verl-sft"
    data, model = table.get("data"), table.get("model")
    is_sft = isinstance(data, Table) and data.entry("micro_batch_size_per_gpu") is not None
    if is_sft or table.entry("engine") is not None or _composes(table, "engine"):
        return "verl-sft" if isinstance(model, Table) and model.entry("fsdp_config") is not None else "verl-sft-engine"
    return "verl"


def _composes(table: Table, group: str) -> bool:
    """Whether the defaults list of a file takes something from a group: `- engine@engine: fsdp`."""
    listed = table.get("defaults")
    if not isinstance(listed, Items):
        return False
    tables = [item for item in listed.values if isinstance(item, Table)]
    return any(entry.key.partition("@")[0] == group for item in tables for entry in item)


_WHOLE = ("actor_rollout_ref", "algorithm", "trainer", "async_training", "transfer_queue", "rollout")
"""Tables of which a configuration of a trainer has one."""


def _is_part(config: Config) -> bool:
    """Whether a file is one of a group that others compose: `optim/fsdp.yaml`, `ref/dp_ref.yaml`."""
    listed = config.value("defaults")
    words = [str(item.value) for item in listed.values if isinstance(item, Scalar)] if isinstance(listed, Items) else []
    whole = any(config.table.entry(name) is not None for name in _WHOLE) or any("trainer" in word for word in words)
    return not (config.command or whole)


def _complete(config: Config) -> None:
    if config.keys == "verl" and _is_part(config):
        config.derive("run_kind", "library", "a part that configurations of trainers compose", over=True)
    if config.keys != "verl":
        complete_sft(config)
        return
    config.derive("loop", "plain", "verl's workers call the model under autocast")
    method = config.text("algorithm.adv_estimator")
    config.state("objective", _OBJECTIVES.get(method, method), "algorithm.adv_estimator")
    _lengths(config)
    on_megatron = is_megatron(config)
    tuning(config, _MODEL, megatron=on_megatron)
    count_gpus(config, "trainer.n_gpus_per_node", "trainer.nnodes")
    if on_megatron:
        megatron(config, f"{_ACTOR}.megatron", f"{_ACTOR}.optim")
    else:
        _fsdp(config)
    _batches(config, on_megatron=on_megatron)
    _reference(config, on_megatron=on_megatron)
    config.derive("attention_implementation", "flash_attention_2", "verl asks for FlashAttention")
    if config.on(f"{_MODEL}.use_remove_padding"):
        config.derive("padding", False, "verl takes the padding out", f"{_MODEL}.use_remove_padding")
    config.derive("checkpointing_reentrant", False, "verl asks for checkpointing without reentrance")
    config.derive("quantization_bits", 16, "verl trains no quantized weights")
    kernels = f"{_ACTOR}.use_torch_compile"
    config.derive("torch_compile", False, "verl compiles its own kernels, not the model", kernels)
    clip = f"{_ACTOR}.optim.clip_grad" if on_megatron else f"{_ACTOR}.grad_clip"
    if not config.say("max_grad_norm", clip, "number"):
        config.state("max_grad_norm", config.plain(clip) or 1.0, clip)


def is_megatron(config: Config) -> bool:
    """Whether Megatron trains: by the configuration's name, what it composes, or the strategy."""
    if config.given(f"{_ACTOR}.strategy"):
        return config.text(f"{_ACTOR}.strategy") == "megatron"
    if "megatron" in config.text("config_name") or config.text("model_engine") == "megatron":
        return True
    listed = config.value("defaults")
    words = [item.value for item in listed.values if isinstance(item, Scalar)] if isinstance(listed, Items) else []
    return any("megatron" in str(word) for word in words) or config.given(f"{_ACTOR}.megatron")


def _lengths(config: Config) -> None:
    prompt, answer = config.integer("data.max_prompt_length"), config.integer("data.max_response_length")
    if prompt is not None and answer is not None:
        reason = "data.max_prompt_length + data.max_response_length"
        config.derive("sequence_length", prompt + answer, reason, "data.max_response_length", "data.max_prompt_length")


def _batches(config: Config, *, on_megatron: bool) -> None:
    """Micro batches and their number, as the workers compute them.

    `ppo_mini_batch_size` counts prompts over all GPUs; each brings `rollout.n` sequences.
    """
    samples, prompts = config.integer(f"{_ROLLOUT}.n"), config.integer(f"{_ACTOR}.ppo_mini_batch_size")
    ranks = _data_parallel(config, on_megatron=on_megatron)
    own, old = f"{_ACTOR}.ppo_micro_batch_size_per_gpu", f"{_ACTOR}.ppo_micro_batch_size"
    micro = None
    if config.on(f"{_ACTOR}.use_dynamic_bsz"):
        bound = config.integer(f"{_ACTOR}.ppo_max_token_len_per_gpu")
        reason = f"as many sequences as fit in {bound or 'a number of'} tokens (use_dynamic_bsz)"
        config.unknown("micro_batch_size", reason, f"{_ACTOR}.use_dynamic_bsz")
        if bound is not None:
            config.state("tokens_per_batch", bound, f"{_ACTOR}.ppo_max_token_len_per_gpu")
    elif config.given(own):
        config.say("micro_batch_size", own, "count")
        micro = config.integer(own)
    elif config.given(old) or config.default(old):
        total = config.integer(old)
        if total is not None and ranks:
            micro = max(1, total // ranks)
            config.derive("micro_batch_size", micro, f"ppo_micro_batch_size {total} over {ranks} GPUs", old)
    if micro and samples and prompts and ranks:
        steps = max(1, prompts * samples // ranks // micro)
        reason = f"{prompts} prompts · {samples} samples / {ranks} data-parallel GPUs / {micro} sequences"
        config.derive("gradient_accumulation_steps", steps, reason, f"{_ACTOR}.ppo_mini_batch_size")
    else:
        config.unknown("gradient_accumulation_steps", "into how many micro batches a mini batch is divided")


def _data_parallel(config: Config, *, on_megatron: bool) -> int | None:
    """GPUs that get sequences of their own."""
    world = config.fact("world_size")
    size = world.value if world is not None else None
    if not isinstance(size, int):
        return None
    names = ("tensor_parallel", "pipeline_parallel", "context_parallel") if on_megatron else ("context_parallel",)
    for name in names:
        fact = config.fact(name)
        if fact is not None and isinstance(fact.value, int):
            size //= max(1, fact.value)
    return max(1, size)


def _fsdp(config: Config) -> None:
    own = f"{_ACTOR}.fsdp_config"
    word = config.text(f"{own}.model_dtype") or "fp32"
    config.state("load_dtype", DTYPES.get(word, word), f"{own}.model_dtype")
    compute = config.text(f"{own}.mixed_precision.param_dtype") or config.text(f"{own}.dtype") or "bf16"
    flag = "fp16-mixed" if DTYPES.get(compute) == "float16" else "bf16-mixed"
    keys = (f"{own}.mixed_precision.param_dtype", f"{own}.dtype")
    config.state("precision", "fp32" if DTYPES.get(compute) == "float32" else flag, *keys)
    optimizer(config, f"{_ACTOR}.optim")
    sharding(config, own, f"{_ACTOR}.strategy", f"{own}.strategy")
    for key in (f"{_ACTOR}.ulysses_sequence_parallel_size", f"{own}.ulysses_sequence_parallel_size"):
        if (config.integer(key) or 1) > 1:
            config.state("context_parallel", config.integer(key), key)


def _reference(config: Config, *, on_megatron: bool) -> None:
    """The frozen model that the KL term compares with (trainer/ppo/utils.py, need_reference_policy)."""
    loss, reward = f"{_ACTOR}.use_kl_loss", "algorithm.use_kl_in_reward"
    if config.is_unknown(loss) or config.is_unknown(reward):
        config.unknown("reference_model", "whether a KL term is used", loss)
        return
    if not (config.on(loss) or config.on(reward)):
        return
    by_loss = config.on(loss)
    tuned, model = config.fact("tuning"), config.fact("model")
    if tuned is not None and tuned.value == "lora":
        config.derive("reference_model", ADAPTER_OFF, "the base with its adapter switched off", loss)
    elif model is not None and isinstance(model.value, str):
        config.derive("reference_model", model.value, "a frozen copy for the KL term", loss if by_loss else reward)
    else:
        config.unknown("reference_model", "a frozen copy of a model that is not known", loss)
    key = f"{_REF}.megatron.param_offload" if on_megatron else f"{_REF}.fsdp_config.param_offload"
    config.state("offload_reference", "cpu" if config.on(key) else "none", key)
    config.say("kl_coefficient", f"{_ACTOR}.kl_loss_coef" if by_loss else "algorithm.kl_ctrl.kl_coef", "number")


FRAMEWORK = Framework(
    "verl",
    "verl",
    "verl",
    _ROWS,
    _complete,
    keys_of=_keys_of,
    prepared=interpolated,
    own_configuration=own_configuration,
    closed=frozenset({"optimizer", "zero_stage", "attention_implementation", "quantization_bits"}),
)
