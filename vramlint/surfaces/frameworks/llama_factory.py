"""LLaMA-Factory: `llamafactory-cli train FILE key=value`, or the same keys as flags.

llamafactory 0.9.5 and the state after it: hparams/*.py, hparams/parser.py, model/adapter.py, model/patcher.py,
model/model_utils/{checkpointing,quantization,liger_kernel,attention}.py, train/trainer_utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.frozen_layers import trained_layers
from vramlint.surfaces.frameworks.llama_factory_presets import shipped
from vramlint.surfaces.frameworks.llama_factory_spelling import SPELLED, SPELLED_BESIDE
from vramlint.surfaces.frameworks.megatron_recipes import share_recipe
from vramlint.surfaces.frameworks.megatron_rows import SPLITS, parallel_facts
from vramlint.surfaces.frameworks.multimodal import freeze_parts
from vramlint.surfaces.frameworks.trainer_rows import trained_by_trainer, trainer_rows
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Plain, Scalar, Table

NAME, V1 = "llama-factory", "llama-factory-v1"

_ROWS = (
    Row("model_name_or_path", "model", "text"),
    Row("cutoff_len", "sequence_length", "count"),
    Row("quantization_bit", "quantization_bits", "count"),
    Row("trust_remote_code", "trust_remote_code", "flag"),
    Row("fp8", "fp8", "flag"),
    Row("ref_model", "reference_model", "text"),
    *trainer_rows(("gradient_checkpointing", "use_liger_kernel", "activation_checkpointing")),
)

_OBJECTIVES: Mapping[Plain, FactValue] = MappingProxyType({"pt": "pretrain", "rm": "reward"})
_PREFERENCES = ("orpo", "simpo")
"""Values of `pref_loss` that are objectives without a reference model (finetuning_args.py, use_ref_model)."""
_ATTENTION: Mapping[Plain, FactValue] = MappingProxyType(
    {
        "auto": None,
        "disabled": "eager",
        "off": "eager",
        False: None,
        True: "flash_attention_2",
        "fa2": "flash_attention_2",
        "fa3": "flash_attention_3",
    }
)
"""`flash_attn`; a switch before 0.7. YAML reads `off` as false, which was `disabled` for a while."""
_OPTIMIZERS = (
    ("use_galore", "galore_adamw", "galore_rank", "galore_layerwise"),
    ("use_apollo", "apollo_adamw", "apollo_rank", "apollo_layerwise"),
    ("use_badam", "badam", "", ""),
    ("use_adam_mini", "adam-mini", "", ""),
    ("use_muon", "muon", "", ""),
)
"""The switch of an optimizer of its own, our name of it, the keys of its rank and of stepping inside backward."""
_MEGATRON_DEFAULTS: Mapping[str, FactValue] = MappingProxyType(
    {"micro_batch_size": 8, "eval_micro_batch_size": 8, "gradient_accumulation_steps": 1, "max_grad_norm": 1.0}
)
"""What mcore_adapter's arguments take over (training_args.py, Seq2SeqTrainingArguments)."""
_LOSSES = (("use_dft_loss", "dft"), ("use_asft_loss", "asft"), ("use_eaft_loss", "eaft"))
"""Switches of losses of its own (train/trainer_utils.py)."""
_LOGITS_IN_LOSS = ("pt", "sft")
"""Stages whose loss Liger may fuse with the head (model/loader.py, require_logits)."""
_SIXTEEN_BIT = (("bf16", "bfloat16"), ("pure_bf16", "bfloat16"), ("fp16", "float16"))


def _complete(config: Config) -> None:
    _run_kind(config)
    _objective(config)
    _tuning(config)
    _quantization(config)
    _precision(config)
    _lengths(config)
    _step(config)
    config.say("world_size", "ray_num_workers", "count")
    _own_networks(config)
    if not _megatron(config):
        trained_by_trainer(config)
        _optimizer(config)


_OLD_PROGRAM, _ITS_LAST = "train_bash.py", (0, 7, 0)
"""The program before `llamafactory-cli` and `src/train.py`, and the last release that has it."""


def _latest(table: Table) -> tuple[int, ...] | None:
    program = table.get(PROGRAM)
    text = program.value if isinstance(program, Scalar) else None
    return _ITS_LAST if isinstance(text, str) and text.endswith(_OLD_PROGRAM) else None


def _lengths(config: Config) -> None:
    """Prompt and answer were cut by themselves before 0.2, and the texts of pretraining to the length of a prompt."""
    if config.given("cutoff_len") or not (config.given("max_source_length") or config.given("max_target_length")):
        return
    source = config.integer("max_source_length") or 0
    if config.text("stage") == "pt":
        config.state("sequence_length", source, "max_source_length")
        return
    total = source + (config.integer("max_target_length") or 0)
    reason = "max_source_length + max_target_length"
    config.derive("sequence_length", total, reason, "max_source_length", "max_target_length")


def _run_kind(config: Config) -> None:
    """Files for inference, merging and evaluation have the same keys; only `do_train` trains (train/tuner.py)."""
    for key in ("export_dir", "infer_backend", "do_predict", "predict_with_generate"):
        if config.given(key) and config.on(key) and not config.on("do_train"):
            config.state("run_kind", "inference", key, over=True)


def _objective(config: Config) -> None:
    loss = config.text("pref_loss") or config.text("dpo_loss")
    if config.text("stage") == "dpo" and loss in _PREFERENCES:
        config.state("objective", loss, "pref_loss", "dpo_loss")
    config.translate("objective", "stage", _OBJECTIVES)
    if config.text("stage") in ("dpo", "kto"):
        config.state("kl_coefficient", config.plain("pref_beta"), "pref_beta")


def _tuning(config: Config) -> None:
    config.translate("tuning", "finetuning_type", {})
    method = config.fact("tuning")
    tuning = method.value if method else None
    if tuning == "freeze":
        pattern = trained_layers(config.text("model_name_or_path"), config.integer("freeze_trainable_layers") or 2)
        if pattern:
            config.state("frozen_parameters", (pattern,), "freeze_trainable_layers")
        else:
            config.unknown("frozen_parameters", "nobody knows how many layers the model has", "freeze_trainable_layers")
        config.derive("checkpointing_reentrant", False, "only layers that train are recomputed", "use_reentrant_gc")
    if tuning == "lora":
        _lora(config)
    freeze_parts(
        config,
        "model_name_or_path",
        towers="freeze_vision_tower",
        projectors="freeze_multi_modal_projector",
        language="freeze_language_model",
    )
    if tuning == "oft":
        config.state("lora_r", config.integer("oft_rank") or 0, "oft_rank")
        config.state("adapter_options", (f"oft_block_size={config.integer('oft_block_size')}",), "oft_block_size")
        _targets(config, "oft_target")


def _lora(config: Config) -> None:
    rank = config.integer("lora_rank")
    config.state("lora_r", rank, "lora_rank")
    alpha = config.integer("lora_alpha")
    if alpha is None and rank is not None:
        alpha = 2 * rank
    config.state("lora_alpha", alpha, "lora_alpha")
    config.state("lora_dropout", config.plain("lora_dropout"), "lora_dropout")
    config.state("use_dora", config.on("use_dora"), "use_dora")
    config.state("use_rslora", config.on("use_rslora"), "use_rslora")
    _targets(config, "lora_target")


def _targets(config: Config, key: str) -> None:
    targets = config.words(key)
    config.state("lora_target_modules", "all-linear" if targets in ((), ("all",)) else targets, key)
    extra = config.words("additional_target")
    if extra:
        config.state("lora_modules_to_save", extra, "additional_target")


def _quantization(config: Config) -> None:
    bits = config.integer("quantization_bit")
    if bits is None:
        return
    config.translate("quantization_method", "quantization_method", {"bitsandbytes": "bnb"})
    method = config.fact("quantization_method")
    if method is not None and method.value not in (None, "bnb"):
        config.state("quantization_type", method.value, "quantization_method")
    elif bits == 4:
        config.state("quantization_type", config.plain("quantization_type"), "quantization_type")
        config.state("double_quantization", config.on("double_quantization"), "double_quantization")
        for key, dtype in _SIXTEEN_BIT:
            if config.on(key):
                reason = "LLaMA-Factory computes and stores packed weights in the dtype of the run"
                config.derive("quantization_compute_dtype", dtype, reason, key)
                config.derive("quantization_storage_dtype", dtype, reason, key)


_LOADS_CHECKPOINT = (0, 9, 4)
"""The release from which weights are loaded in the checkpoint's dtype, not in that of the run (model/loader.py)."""


def _precision(config: Config) -> None:
    """The dtype of the weights, and of what trains (model/adapter.py, init_adapter)."""
    running = next(((key, dtype) for key, dtype in _SIXTEEN_BIT if config.on(key)), None)
    if config.release is not None and config.release < _LOADS_CHECKPOINT and running is not None:
        config.derive("load_dtype", running[1], "the weights are loaded in the dtype of the run", running[0])
    elif config.on("train_from_scratch"):
        config.derive("load_dtype", "auto", "fresh weights have the dtype of the model's config", "train_from_scratch")
    else:
        config.state("load_dtype", "auto", "torch_dtype")
    if config.on("pure_bf16") and not config.on("bf16"):
        config.state("precision", "bf16-pure", "pure_bf16")
    if config.on("upcast_layernorm"):
        config.state("norm_dtype", "float32", "upcast_layernorm")
    tuning = config.fact("tuning")
    adapters = tuning is not None and tuning.value in ("lora", "oft")
    if (config.on("pure_bf16") or config.on("use_badam")) and not adapters:
        config.derive("trainable_dtype", "bfloat16", "what trains stays in 16 bits", "pure_bf16", "use_badam")
    elif not config.given("deepspeed"):  # its engine casts the module whatever was cast before
        config.derive("trainable_dtype", "float32", "LLaMA-Factory makes what trains float32")


def _step(config: Config) -> None:
    off = config.on("disable_gradient_checkpointing") and not config.on("gradient_checkpointing")
    config.state("activation_checkpointing", not off, "disable_gradient_checkpointing")
    config.state("checkpointing_reentrant", config.on("use_reentrant_gc"), "use_reentrant_gc")
    if config.on("use_unsloth_gc"):
        config.state("checkpointing_offload", True, "use_unsloth_gc")
    config.translate("attention_implementation", "flash_attn", _ATTENTION)
    packs = config.on("neat_packing") or config.on("packing")
    if config.given("use_packed_sequences"):
        config.state("packing", config.on("use_packed_sequences"), "use_packed_sequences")
    if not config.given("packing") and not config.given("neat_packing"):
        packs = config.text("stage") == "pt"
    config.state("packing", packs, *(("neat_packing",) if config.on("neat_packing") else ()), "packing")
    _liger(config)


_LIGER = ("enable_liger_kernel", "use_liger_kernel")
"""Its own switch and that of the Trainer, which puts the kernels in as well."""


def _liger(config: Config) -> None:
    on = any(config.on(key) for key in _LIGER)
    fuses = on and config.text("stage") in _LOGITS_IN_LOSS
    config.state("fused_loss", fuses, *_LIGER)
    config.state("liger", on, *_LIGER)
    if on and not fuses:
        reason = "the objective needs the logits"
        config.derive("liger_fused_head", False, reason, *_LIGER)
        config.derive("liger_cross_entropy", True, reason, *_LIGER)
    if config.on("use_unsloth"):
        config.state("unsloth", True, "use_unsloth")
        config.derive("checkpointing_offload", True, "Unsloth keeps checkpoints in host memory", "use_unsloth")
        config.unknown("attention_implementation", "Unsloth puts kernels of its own in the place of the model's")


def _optimizer(config: Config) -> None:
    for switch, name, rank, layerwise in _OPTIMIZERS:
        if not config.on(switch):
            continue
        within = bool(layerwise) and config.on(layerwise)
        config.state("optimizer", f"{name}_layerwise" if within else name, switch, over=True)
        if rank:
            config.state("optimizer_rank", config.integer(rank), rank)
        if within:
            config.state("optimizer_in_backward", True, layerwise)


def _own_networks(config: Config) -> None:
    """Models that are another class than the library's, and where their parts lie."""
    if config.given("mixture_of_depths"):
        config.unknown("model_class", "mixture of depths is not simulated", "mixture_of_depths")
    if config.text("stage") in ("rm", "ppo"):
        config.unknown("model_class", "a value head beside the head of the language model is not simulated", "stage")
    if config.on("use_kt"):
        config.unknown("parallelism", "KTransformers keeps experts in host memory, which is not simulated", "use_kt")
    for key, loss in _LOSSES:
        if config.on(key):
            config.state("loss_type", loss, key)


def _megatron(config: Config) -> bool:
    """Whether Megatron trains: USE_MCA or USE_MEGATRON_BRIDGE in the environment, of which its keys tell."""
    if not any(config.given(key) for key, _ in SPLITS) and not config.on("use_mca"):
        return False
    config.derive("loop", "plain", "Megatron has a training loop of its own")
    config.state("optimizer", "megatron_adam", "optimizer")
    for fact, value in _MEGATRON_DEFAULTS.items():
        config.derive(fact, value, "the default of transformers' TrainingArguments")
    config.draft.facts.pop("trainable_dtype", None)
    config.derive("attention_implementation", "sdpa", "Transformer Engine takes a fused kernel")
    parallel_facts(config, distributed=config.on("use_distributed_optimizer"))
    _ranks(config)
    return True


_FIELDS = ("mixed_precision", "use_packed_sequences", "megatron_pretrained_checkpoint", "extra_config")
"""Keys of Megatron-Bridge's back end alone (src/llamafactory/hparams/megatron_bridge_args.py)."""


def _ranks(config: Config) -> None:
    """How the ranks share the model: by mcore_adapter's arguments and the defaults of its configuration.

    alibaba/ROLL@8eb27cc mcore_adapter/{training_args,trainer/trainer,models/model_config}.py; or by Megatron-Bridge's.
    """
    why = next((f"{what} ({key})" for key, what in _UNFOLLOWED.items() if config.given(key) and config.on(key)), "")
    if not why and config.text("stage") not in _LOGITS_IN_LOSS:
        why = f"the stage {config.text('stage')}"
    share_recipe(config, str, why)
    bridge = any(map(config.given, _FIELDS))
    wide = "accumulate_allreduce_grads_in_fp32"
    config.state("wide_gradients", bridge or config.on(wide), wide)
    config.derive("gradient_accumulation_fusion", bridge, "as the configuration has it by default")
    kind = "moe_token_dispatcher_type"
    config.state("expert_dispatcher", config.text(kind) or ("alltoall" if bridge else "allgather"), kind)
    config.state("grouped_experts", bridge or config.on("moe_grouped_gemm"), "moe_grouped_gemm")


_UNFOLLOWED: Mapping[str, str] = MappingProxyType(
    {
        "fp8": "8-bit products",
        "fp8_recipe": "8-bit products",
        "additional_configs": "further fields of Megatron's configuration",
        "extra_config": "further fields of Megatron-Bridge's configuration",
        "cross_entropy_loss_fusion": "the fused loss of mcore_adapter",
        "neat_packing": "packed sequences",
        "use_packed_sequences": "packed sequences",
    }
)
"""Keys of either back end with which a rank does otherwise than it is followed."""


def _form(table: Table) -> tuple[str, Table]:
    """The second generation (`llamafactory.v1`) names its model otherwise, and its parts are tables."""
    second = table.entry("model") is not None and table.entry("model_name_or_path") is None
    return (V1 if second else NAME), table


FRAMEWORK = Framework(
    NAME,
    "LLaMA-Factory",
    "llamafactory",
    _ROWS,
    _complete,
    loose=False,
    launched=True,
    inherits=("Seq2SeqTrainingArguments",),
    form=_form,
    latest=_latest,
    deepspeed=shipped,
    spelled=SPELLED,
    spelled_beside=SPELLED_BESIDE,
)
