"""OpenRLHF's RL trainer: `openrlhf.cli.train_ppo_ray`, with vLLM beside DeepSpeed (openrlhf 0.2 to 0.11)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.frameworks import framework_keys
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.launch.framework_programs import PROGRAM

_OBJECTIVES: Mapping[str, str] = MappingProxyType({"gae": "ppo", "group_norm": "grpo"})
"""Estimators of advantages, and the method; others by their own name."""


def complete_rl(config: Config) -> None:
    """What a step of the actor takes; it shares its GPUs with the engine if all models are colocated."""
    estimator = _key(config, "algo.advantage.estimator", "advantage_estimator")
    word = config.text(estimator) or "gae"
    config.state("objective", _OBJECTIVES.get(word, word), estimator)
    started = config.place(PROGRAM)
    said = config.fact("objective")
    if started is not None and said is not None:  # of a method that trains by its rewards
        config.draft.replace(replace(said, also=(*said.also, started)))
    _lengths(config)
    _batches(config)
    _machines(config)
    _engine(config)
    _reference(config)


def _key(config: Config, new: str, old: str) -> str:
    """The name that is written, else the one of the release."""
    if config.given(new) or config.given(old):
        return new if config.given(new) else old
    held = any(row.holds_in(config.release) for row in framework_keys(config.keys).get(new, ()))
    return new if held else old


def _lengths(config: Config) -> None:
    """`max_len` for prompt and answer together, before 0.9.8 a bound for each."""
    config.say("prompt_length", "prompt_max_len", "count")
    for key in ("rollout.max_new_tokens", "generate_max_len", "max_new_tokens"):
        config.say("completion_length", key, "count")
    prompt, answer = config.integer("prompt_max_len"), config.integer("generate_max_len")
    if config.fact("sequence_length") is None and prompt and answer:
        reason = "prompt_max_len + generate_max_len"
        config.derive("sequence_length", prompt + answer, reason, "generate_max_len", "prompt_max_len")
        for fact, key, size in (
            ("prompt_length", "prompt_max_len", prompt),
            ("completion_length", "generate_max_len", answer),
        ):
            config.state(fact, size, key)


def _batches(config: Config) -> None:
    samples = _key(config, "rollout.n_samples_per_prompt", "n_samples_per_prompt")
    if not config.say("generations", samples, "count"):
        config.state("generations", config.integer(samples) or 1, samples)
    dynamic = _key(config, "train.dynamic_batch_enable", "use_dynamic_batch")
    if config.on(dynamic):
        bound = _key(config, "train.max_tokens_per_gpu", "train_max_tokens_per_gpu")
        config.draft.facts.pop("micro_batch_size", None)
        reason = f"as many sequences as fit in {config.integer(bound) or 'a number of'} tokens"
        config.unknown("micro_batch_size", reason, dynamic)
        if config.integer(bound):
            config.state("tokens_per_batch", config.integer(bound), bound)
        config.unknown("gradient_accumulation_steps", "into how many micro batches a batch is divided", dynamic)
        packed = config.fact("packing")
        if packed is None or packed.value is not True:
            config.state("packing", True, dynamic, over=True)  # train_ppo_ray.py turns packing_samples on


def _machines(config: Config) -> None:
    each = _key(config, "actor.num_gpus_per_node", "actor_num_gpus_per_node")
    nodes = _key(config, "actor.num_nodes", "actor_num_nodes")
    if config.keys != "openrlhf-ppo":
        return
    gpus, machines = config.integer(each), config.integer(nodes)
    config.state("gpus_per_node", gpus, each)
    config.state("nodes", machines, nodes)
    if gpus and machines:
        config.state("world_size", gpus * machines, each, nodes)


def _engine(config: Config) -> None:
    engines = _key(config, "vllm.num_engines", "vllm_num_engines")
    if not config.integer(engines):
        config.state("inference_engine", "none", engines)
        return
    config.state("inference_engine", "vllm", engines)
    for fact, new, old, converter in (
        ("inference_tensor_parallel", "vllm.tensor_parallel_size", "vllm_tensor_parallel_size", "count"),
        ("inference_memory_fraction", "vllm.gpu_memory_utilization", "vllm_gpu_memory_utilization", "number"),
    ):
        key = _key(config, new, old)
        value = config.plain(key)
        if not config.say(fact, key, converter) and value is not None:
            config.state(fact, value, key)


def _reference(config: Config) -> None:
    """A reference model is kept unless the KL coefficient is 0 (train_ppo_ray.py)."""
    weight = _key(config, "algo.kl.init_coef", "init_kl_coef")
    value = config.plain(weight)
    if not config.say("kl_coefficient", weight, "number") and value is not None:
        config.state("kl_coefficient", value, weight)
    model = config.fact("model")
    if value in (0, 0.0) or model is None or not isinstance(model.value, str):
        return
    config.derive("reference_model", model.value, "a frozen copy for the KL term", weight)
    offload = "ref_reward_offload" if config.given("ref_reward_offload") else _key(config, "ref.offload", "ref_offload")
    config.state("offload_reference", "cpu" if config.on(offload) else "none", offload)
