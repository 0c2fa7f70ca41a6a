"""Holds one fact of `explain --format json` against the hand-read fact of an expected-facts file.

The two vocabularies differ: `NAMES` maps the names, `ACCEPTED` the values. A value that one vocabulary spells and the
other does not is widened here, in the open, never narrowed: an entry says which of our words a reader would
take for the same thing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Verdict = Literal["right", "wrong", "missing"]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "method": "objective",
        "model": "model",
        "model_family": "model_type",
        "n_layers": "layers",
        "n_heads": "attention_heads",
        "n_kv_heads": "key_value_heads",
        "hidden": "hidden_size",
        "vocab": "vocabulary_size",
        "dropout": "dropout",
        "max_prompt_len": "prompt_length",
        "max_completion_len": "completion_length",
        "max_new_tokens": "completion_length",
        "num_generations": "generations",
        "zenflow_topk_ratio": "zenflow_topk_ratio",
        "zenflow_overlap": "zenflow_overlap",
        "finetune": "tuning",
        "load_dtype": "load_dtype",
        "train_precision": "precision",
        "optimizer": "optimizer",
        "micro_batch_size": "micro_batch_size",
        "eval_micro_batch_size": "eval_micro_batch_size",
        "grad_accum": "gradient_accumulation_steps",
        "global_batch_size": "global_batch_size",
        "max_seq_len": "sequence_length",
        "packing": "packing",
        "grad_checkpointing": "activation_checkpointing",
        "attn_impl": "attention_implementation",
        "quant_bits": "quantization_bits",
        "quant_type": "quantization_type",
        "double_quant": "double_quantization",
        "quant_compute_dtype": "quantization_compute_dtype",
        "lora_r": "lora_r",
        "lora_alpha": "lora_alpha",
        "lora_dropout": "lora_dropout",
        "lora_targets": "lora_target_modules",
        "modules_to_save": "lora_modules_to_save",
        "use_dora": "use_dora",
        "fused_ce": "fused_loss",
        "torch_compile": "torch_compile",
        "parallelism": "parallelism",
        "n_gpus": "world_size",
        "n_nodes": "nodes",
        "zero_stage": "zero_stage",
        "offload_optimizer": "offload_optimizer",
        "offload_param": "offload_parameters",
        "reduce_bucket_size": "reduce_bucket_size",
        "allgather_bucket_size": "allgather_bucket_size",
        "prefetch_bucket_size": "prefetch_bucket_size",
        "param_persistence_threshold": "parameter_persistence_threshold",
        "max_live_parameters": "max_live_parameters",
        "sub_group_size": "sub_group_size",
        "gather_16bit_on_save": "gather_16bit_on_save",
        "fsdp": "fsdp",
        "fsdp_wrap_class": "fsdp_wrap_class",
        "fsdp_version": "fsdp_version",
        "fsdp_offload": "offload_parameters",
        "tp": "tensor_parallel",
        "cp": "context_parallel",
        "dp_shard": "data_parallel_shard",
        "dp_replicate": "data_parallel_replicate",
        "param_dtype": "load_dtype",
        "trainable_dtype": "trainable_dtype",
        "norm_dtype": "norm_dtype",
        "fp8": "fp8",
        "full_logits": "full_logits",
        "ref_model": "reference_model",
        "expandable_segments": "expandable_segments",
        "padding_free": "padding_free",
        "activation_offloading": "activation_offloading",
        "entry": "entry",
        "launcher": "launcher",
        "pp": "pipeline_parallel",
        "pp_layout": "pipeline_layout",
        "ep": "expert_parallel",
        "expert_tp": "expert_tensor_parallel",
        "sequence_parallel": "sequence_parallel",
        "distributed_optimizer": "distributed_optimizer",
        "recompute": "recompute",
        "ffn": "intermediate_size",
        "tied_embeddings": "tied_embeddings",
        "vocab_multiple": "vocabulary_multiple",
        "activation": "activation",
        "attention_kind": "attention_kind",
        "num_experts": "experts",
        "moe_topk": "experts_per_token",
        "moe_ffn": "expert_intermediate_size",
        "moe_shared_ffn": "shared_expert_intermediate_size",
        "moe_layers": "moe_layers",
        "mtp_layers": "mtp_layers",
        "optimizer_in_backward": "optimizer_in_backward",
        "apollo_rank": "optimizer_rank",
        "quant_storage": "quantization_storage_dtype",
        "quant_method": "quantization_method",
        "use_rslora": "use_rslora",
        "fsdp_use_orig_params": "fsdp_use_orig_params",
        "fsdp_reshard": "fsdp_reshard_after_forward",
        "fsdp_mixed_precision": "fsdp_mixed_precision",
        "tiled_mlp": "tiled_mlp",
        "partition_activations": "partition_activations",
        "vllm": "inference_engine",
        "vllm_gpu_util": "inference_memory_fraction",
        "vllm_tp": "inference_tensor_parallel",
        "ppo_mini_batch_size": "ppo_mini_batch_size",
        "ref_offload": "offload_reference",
        "beta": "kl_coefficient",
        "image_size": "image_size",
        "batch_size_tokens": "tokens_per_batch",
        "model_class": "model_class",
        "pad_to_max": "pad_to_maximum",
        "fsdp_wrap": "fsdp_wrap_class",
        "loss": "loss_type",
        "declared_gpu_gib": "declared_memory",
        "measured_gb": "measured_memory",
    }
)
"""Expected name -> our fact name. A name that is absent here counts as missing."""

_ADAMW = frozenset({"adamw_torch", "adamw", "adam", "torch.optim.adamw", "torch.optim.adam"})
_FUSED = frozenset({"adamw_torch_fused", "adamw_apex_fused"})
_DEEPSPEED_ADAM = frozenset({"deepspeed_adamw", "deepspeed.fusedadam"})
_CPU_ADAM = frozenset({"deepspeed_cpu_adam", "deepspeedcpuadam"})
_BNB_8BIT = frozenset({"adamw_bnb_8bit", "adamw_8bit"})
_SFT = frozenset({"sft", "causal-lm", "clm"})
_MASTER_WEIGHTS = {kind: frozenset({f"{kind}-mixed", f"{kind} with fp32 master"}) for kind in ("bf16", "fp16")}
_NO_FLASH = frozenset({"sdpa", "eager", "default"})
_NONE = frozenset({"none", False})

_FULL_SHARD = frozenset({"full_shard", "full_shard auto_wrap", "full_shard auto_wrap offload", "full_shard offload"})

ACCEPTED: Mapping[str, Mapping[object, frozenset[object]]] = MappingProxyType(
    {
        "method": {
            "sft": _SFT,
            # Masked tokens and spans are what encoders, and encoders with decoders, are pretrained on.
            "pretrain": frozenset({"pretrain", "causal-lm", "clm", "mlm", "span-corruption"}),
            "sft-seq2seq": frozenset({"seq2seq", "sft-seq2seq"}),
            "sft-vlm": frozenset({"sft-vlm", "vlm"}) | _SFT,
        },
        # PEFT's types by the names of their configs.
        "finetune": {
            "prefix_tuning": frozenset({"prefixtuning"}),
            "prompt_tuning": frozenset({"prompttuning"}),
            "p_tuning": frozenset({"promptencoder"}),
            "ln_tuning": frozenset({"lntuning"}),
            "adaption_prompt": frozenset({"adaptionprompt"}),
            "trainable_tokens": frozenset({"trainabletokens"}),
        },
        "optimizer": {
            "adamw_torch": _ADAMW,
            "torch.optim.adamw": _ADAMW,
            "torch.optim.adam": _ADAMW,  # the same states and temporaries
            "adamw (torch)": _ADAMW,
            # A DeepSpeed JSON's "AdamW" is DeepSpeed's own, on the CPU when the optimizer is offloaded.
            "adamw": _ADAMW | _FUSED | _DEEPSPEED_ADAM | _CPU_ADAM,
            "adam": _ADAMW | _FUSED | _DEEPSPEED_ADAM | _CPU_ADAM,
            "adam (deepspeed adamw, fused)": _DEEPSPEED_ADAM,
            "deepspeedcpuadam": _CPU_ADAM,
            "torch.optim.adamw (fused)": _FUSED,
            "muon": frozenset({"torch_muon", "muon"}),
            "apollo": frozenset({"apollo_adamw", "apollo_adamw_layerwise"}),
            "galore": frozenset({"galore_adamw", "galore_adamw_layerwise"}),
            "adamw_8bit": _BNB_8BIT,
            "adamw_bnb_8bit": _BNB_8BIT,
            "pagedadamw32bit": frozenset({"paged_adamw_32bit"}),  # bitsandbytes' class of that name
            "bitsandbytes.optim.pagedadamw": frozenset({"paged_adamw_32bit", "paged_adamw"}),
            # The loops over parameters that Composer and llm-foundry write out for their own classes.
            "decoupled_adamw": frozenset({"adamw_torch_forloop"}),
            "decoupled_lionw": frozenset({"lion_pytorch"}),
            "muon (matrices) + adamw (embeddings, head, scalars)": frozenset(
                {"torch_muon", "muon", "deepspeed_muon", "muonadamw"}
            ),
        },
        "train_precision": {
            "bf16 with fp32 master": _MASTER_WEIGHTS["bf16"],
            "fp16 with fp32 master": _MASTER_WEIGHTS["fp16"],
            "amp_bf16": frozenset({"bf16-mixed"}),
            "none (no autocast)": frozenset({"fp32", "bf16-pure", "fp16-pure"}),
        },
        "attn_impl": {
            "default (no flash)": _NO_FLASH,
            "unfused (materialised scores)": frozenset({"eager"}),
            "flash": frozenset({"flash_attention_2", "flash_attention_3"}),
            # Megatron's words: cuDNN's kernel keeps no scores, its own two keep them.
            "fused": frozenset({"sdpa"}),
            "unfused": frozenset({"eager"}),
            "local": frozenset({"eager"}),
        },
        "lora_targets": {
            "all linear": frozenset({"all-linear"}),
            "all-linear except lm_head": frozenset({"all-linear"}),  # PEFT's own all-linear leaves the output head out
            # A reader describes the regular expression that the file writes.
            "regex over language-model mlp and attention projections": frozenset(
                {r"model.language_model.layers.[\d]+.(mlp|cross_attn|self_attn).(up|down|gate|q|k|v|o)_proj"}
            ),
        },
        "grad_checkpointing": {
            "full": frozenset({True}),
            "unsloth": frozenset({True}),
            "selective": frozenset({True}),  # what is recomputed are facts of their own
        },
        "offload_optimizer": {"none": _NONE, False: _NONE, True: frozenset({"cpu"})},
        "offload_param": {"none": _NONE, False: _NONE, True: frozenset({"cpu"})},
        "parallelism": {
            "single process, layers split over visible gpus": frozenset({"device_map"}),
            "ddp if world_size != 1, else device_map auto": frozenset({"ddp", "device_map"}),
        },
        # gpt-neox's pipe_parallel_size 0 means that no pipeline is built: one stage.
        "pp": {0.0: frozenset({1.0})},
        # Embeddings aside, the weights are float32.
        "param_dtype": {"float32 (embeddings in compute dtype)": frozenset({"float32"})},
        "ref_model": {"base weights with the adapter switched off": frozenset({"adapter off"})},
        "fsdp_offload": {True: frozenset({"cpu"}), False: _NONE},
        "ref_offload": {True: frozenset({"cpu"}), False: _NONE},
        # Which engine generates is a fact of its own for us; a reader notes whether it is this one.
        "vllm": {True: frozenset({"vllm"}), False: frozenset({"none", "sglang", "hf", "trtllm"})},
        # Readers state wrapping and offloading as facts of their own, beside the strategy.
        "fsdp": {
            "full_shard": _FULL_SHARD,
            "fsdp, full shard over all gpus": _FULL_SHARD,
            "full shard with activation checkpointing": frozenset({"full_shard"}),
            "full_shard auto_wrap": frozenset({"full_shard auto_wrap offload"}),
        },
    }
)
"""Expected name -> expected value -> our values that mean the same, all in canonical form."""

LEFT_TO_TRAINER = frozenset({"auto", "auto (bf16 from the trainer)", "from the trainer"})
"""Expected values that say: another file, the Trainer or the checkpoint decides. Right is to say `auto`, unknown, or
the value that follows together with the reason that the key is auto."""

ROADS = ("through", "decided_by", "also")
"""Places of a fact besides its own that a reader may write down for it."""

_OPERATORS: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = MappingProxyType(
    {
        "<": lambda have, bound: have < bound,
        "<=": lambda have, bound: have[: len(bound)] <= bound,
        ">": lambda have, bound: have[: len(bound)] > bound,
        ">=": lambda have, bound: have >= bound,
        "==": lambda have, bound: have[: len(bound)] == bound,
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one expected fact came out."""

    name: str
    verdict: Verdict
    claimed: bool
    """Wrong, and said to be written in the files."""
    span_expected: bool
    """Right, and the expected fact states the line that writes it."""
    span_right: bool
    expected: object
    expected_line: int | None
    ours: object
    ours_line: int | None
    origin: str


def compare(
    name: str,
    expected: Mapping[str, Any],
    fact: Mapping[str, Any] | None,
    versions: Mapping[str, str],
    path: str = "",
) -> Outcome:
    """One outcome.

    - The expected value is unknown: right if we say unknown, give several values, only assume one or have no such
      fact; else wrong.
    - It is known: missing if we have no such fact or say unknown or several values; right if our value means the
      same; else wrong.
    - It depends on a library's version: the entry that holds for the version that `explain` states.

    Args:
        name: The expected vocabulary's name.
        expected: Its row: `value`, `line`, `origin`.
        fact: Our fact of the mapped name from `explain --format json`.
        versions: Library -> version from the same output.
        path: The file that was read. A value that another file holds stands for the line of this one that names it,
            as a reader writes it down.
    """
    wanted = _choices(expected.get("value"), versions)
    location = (fact or {}).get("location") or {}
    values = [candidate["value"] for candidate in (fact or {}).get("candidates", ())]
    origin = str((fact or {}).get("origin", ""))
    left_open = bool(re.search(r"\bis auto\b", str((fact or {}).get("reason", ""))))
    verdict = _verdict(name, wanted, [canonical(value) for value in values], origin, left_open)
    line = expected.get("line")
    stated = verdict == "right" and line is not None and expected.get("origin") == "explicit"
    roads = [location, *(place for key in ROADS for place in (fact or {}).get(key, ()))]
    covered = any(_covers(road, line or 0, path) for road in roads)
    return Outcome(
        name=name,
        verdict=verdict,
        claimed=verdict == "wrong" and origin == "written",
        span_expected=stated,
        span_right=stated and covered,
        expected=expected.get("value"),
        expected_line=line,
        ours=values[0] if len(values) == 1 else values or None,
        ours_line=location.get("line"),
        origin=origin,
    )


def _covers(location: Mapping[str, Any], line: int, path: str) -> bool:
    """Whether a place of ours covers a line of the file; of a notebook, a line of its JSON."""
    if not location or (path and location.get("path") != path):
        return False
    first, last = (location.get(f"file_{key}", location[key]) for key in ("line", "end_line"))
    return int(first) <= line <= int(last)


def _verdict(name: str, wanted: Sequence[object], ours: Sequence[object], origin: str, left_open: bool) -> Verdict:
    silent = len(ours) != 1 or origin == "unknown"
    if None in wanted:
        return "right" if silent or origin == "assumed" or ours[0] is None else "wrong"
    if LEFT_TO_TRAINER.intersection(value for value in wanted if isinstance(value, str)):
        return "right" if silent or left_open or ours[0] is None or ours[0] == "auto" else "wrong"
    same = ACCEPTED.get(name, {})
    accepted = frozenset().union(*({value} | same.get(value, frozenset()) for value in wanted))
    if silent:
        # Several values that all mean the expected one are no doubt about it.
        return "right" if ours and accepted.issuperset(ours) else "missing"
    if ours[0] is None:
        return "missing"
    return "right" if ours[0] in accepted else "wrong"


def canonical(value: object) -> object:
    """A hashable form in which equal meanings are equal: folded strings, floats, sets of names."""
    if isinstance(value, str):
        return value.strip().casefold()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list | tuple):
        return frozenset(map(canonical, value))
    return repr(value)


def _choices(value: object, versions: Mapping[str, str]) -> list[object]:
    """The expected values that may hold at these versions; all of them when the versions do not decide."""
    if not isinstance(value, dict):
        return [canonical(value)]
    holding = [canonical(result) for spec, result in value.items() if _holds(spec, versions)]
    return holding or [canonical(result) for result in value.values()]


def _holds(spec: str, versions: Mapping[str, str]) -> bool:
    match = re.fullmatch(r"([a-z_-]+)\s*([<>=]+)\s*([\d.]+)", spec)
    if not match or match[1] not in versions:
        return False
    return _OPERATORS[match[2]](_numbers(versions[match[1]]), _numbers(match[3]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
