"""XTuner's configurations: mmengine's dicts of 0.x, objects of the engine of 1.x, inputs of its memory calculator.

xtuner 0.2 model/{sft,dpo,llava}.py, tools/train.py, dataset/huggingface.py; 1.x is in `xtuner_engine.py`, the
calculator in `xtuner_calculator.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.xtuner import packaged
from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.networks import Sizes
from vramlint.surfaces.frameworks.xtuner_calculator import calculator
from vramlint.surfaces.frameworks.xtuner_engine import engine
from vramlint.surfaces.hardware import by_bfloat16
from vramlint.surfaces.model_config import table_of
from vramlint.values import Entry, Items, Plain, Scalar, Table, Value

_ROWS: tuple[Row, ...] = ()

_MODELS: Mapping[str, str] = MappingProxyType(
    {
        "SupervisedFinetune": "sft",
        "DPO": "dpo",
        "ORPO": "orpo",
        "RewardModel": "reward",
        "LLaVAModel": "sft-vlm",
        "InternVL_V1_5": "sft-vlm",
        "OMGLLaVA": "sft-vlm",
    }
)
"""Classes of `model.type` and what they optimise."""

_QUANTIZATION = (
    ("bnb_4bit_quant_type", "quantization_type", "text"),
    ("bnb_4bit_use_double_quant", "double_quantization", "flag"),
    ("bnb_4bit_compute_dtype", "quantization_compute_dtype", "dtype"),
    ("bnb_4bit_quant_storage", "quantization_storage_dtype", "dtype"),
)
_LORA = (
    ("r", "lora_r", "count"),
    ("lora_alpha", "lora_alpha", "number"),
    ("lora_dropout", "lora_dropout", "number"),
    ("target_modules", "lora_target_modules", "names"),
    ("modules_to_save", "lora_modules_to_save", "names"),
    ("bias", "adapter_bias", "text"),
    ("use_dora", "use_dora", "flag"),
)
_LLM = (
    ("pretrained_model_name_or_path", "model", "text"),
    ("trust_remote_code", "trust_remote_code", "flag"),
    ("attn_implementation", "attention_implementation", "text"),
)
_TRAINING = (
    ("train_dataloader.batch_size", "micro_batch_size", "count"),
    ("optim_wrapper.accumulative_counts", "gradient_accumulation_steps", "count"),
    ("optim_wrapper.clip_grad.max_norm", "max_grad_norm", "number"),
    ("optim_wrapper.optimizer.weight_decay", "weight_decay", "number"),
    ("optim_wrapper.optimizer.type", "optimizer", "name"),
    ("sequence_parallel_size", "context_parallel", "count"),
)


def _complete(config: Config) -> None:
    if config.given("MBS") or config.given("os_type") or config.given("TP_sp"):
        calculator(config)
    elif config.given("optim_wrapper") or config.given("train_dataloader"):
        _mmengine(config)
    else:
        engine(config)


def _mmengine(config: Config) -> None:
    kind = config.text("model.type").rpartition(".")[2]
    config.state("objective", _MODELS.get(kind, "sft"), "model.type")
    config.derive("loop", "plain", "mmengine's runner calls the model under its wrapper's autocast")
    for key, fact, converter in _TRAINING:
        config.say(fact, key, converter)
    objective = config.fact("objective")
    if (config.integer("sequence_parallel_size") or 1) > 1 and objective is not None and objective.value == "sft":
        reason = "xtuner's Ulysses (xtuner/parallel/sequence)"
        config.derive("sequence_sharing", "xtuner", reason, "sequence_parallel_size")
    if config.given("strategy.config"):  # what `xtuner train --deepspeed` makes of the file that it is given
        config.say("gradient_accumulation_steps", "strategy.gradient_accumulation_steps", "count")
        config.link("deepspeed", "strategy.config")
    config.state("gradient_accumulation_steps", 1)
    config.state("optimizer", "adamw_torch")
    config.link("deepspeed", "deepspeed")
    _model(config)
    _data(config)
    config.say("activation_checkpointing", "model.use_activation_checkpointing", "flag")
    config.state("activation_checkpointing", True)


def _model(config: Config) -> None:
    llm = "model.llm" if config.given("model.llm") else "model"
    for key, fact, converter in _LLM:
        config.say(fact, f"{llm}.{key}", converter)
    adapter = next((key for key in ("model.lora", "model.llm_lora", "lora") if config.given(key)), "")
    bits = _bits(config, f"{llm}.quantization_config")
    if adapter and bits == 4:
        config.state("tuning", "qlora", f"{llm}.quantization_config.load_in_4bit")
    else:
        config.state("tuning", "lora" if adapter else "full", f"{adapter}.r" if adapter else "model.lora")
    if adapter:
        for key, fact, converter in _LORA:
            config.say(fact, f"{adapter}.{key}", converter)
        config.derive("lora_target_modules", "all-linear", "target_modules is None: all linear layers", adapter)
    if adapter and bits < 16:
        config.derive("prepared_for_kbit", True, "the model is prepared for k-bit training", adapter)
    _dtypes(config, llm, adapter, bits)
    if config.given("model.ref_llm"):
        config.say("reference_model", "model.ref_llm.pretrained_model_name_or_path", "text")


def _bits(config: Config, key: str) -> int:
    for word, bits in (("load_in_4bit", 4), ("load_in_8bit", 8)):
        if config.on(f"{key}.{word}"):
            config.state("quantization_bits", bits, f"{key}.{word}")
            for name, fact, converter in _QUANTIZATION if bits == 4 else ():
                config.say(fact, f"{key}.{name}", converter)
            return bits
    return 16


def _dtypes(config: Config, llm: str, adapter: str, bits: int) -> None:
    """The wrapper's autocast, or DeepSpeed's dtype; flash attention, where it is installed, decides the weights'."""
    place, key = config.place("optim_wrapper.dtype"), "optim_wrapper.dtype"
    word = config.text("optim_wrapper.dtype") or "float16"
    amp = config.text("optim_wrapper.type").endswith("AmpOptimWrapper")
    if config.given("strategy.config"):
        for name in ("fp16", "bf16"):
            config.state(name, config.on(f"strategy.config.{name}.enabled"), f"strategy.config.{name}.enabled")
    elif config.given("deepspeed"):
        reason = (
            "DeepSpeed computes in the 16-bit dtype that the GPU has (xtuner/utils, auto_dtype_of_deepspeed_config)"
        )
        config.draft.put(by_bfloat16("bf16", True, False, reason, "deepspeed", config.place("deepspeed")))
        config.draft.put(by_bfloat16("fp16", False, True, reason, "deepspeed", config.place("deepspeed")))
    else:
        for name, dtype in (("fp16", "float16"), ("bf16", "bfloat16")):
            config.draft.put(
                Fact(name, (Candidate(amp and word == dtype, place),), Origin.WRITTEN, key, "config-file")
                if place is not None
                else Fact(name, (Candidate(amp and word == dtype),), Origin.DEFAULT, key, "library", config.label)
            )
    if adapter and bits == 16:
        reason = "prepare_model_for_kbit_training makes 16-bit weights float32, quantized or not"
        config.derive("load_dtype", "float32", reason, adapter)
    elif not config.say("load_dtype", f"{llm}.torch_dtype", "dtype") and not config.say(
        "load_dtype", f"{llm}.dtype", "dtype"
    ):
        candidates = (Candidate("bfloat16"), Candidate("float32"))
        reason = "flash attention, where it is installed, makes the weights 16-bit; else the loader's default holds"
        config.draft.put(Fact("load_dtype", candidates, Origin.ASSUMED, f"{llm}.torch_dtype", "runtime", reason=reason))


def _data(config: Config) -> None:
    """Length and packing of the data set, or of the first that it is made of."""
    data = config.value("train_dataloader.dataset")
    if isinstance(data, Table) and isinstance(inner := data.get("datasets"), Items) and inner.values:
        data = inner.values[0]
    if not isinstance(data, Table):
        data = Table(())
    config.draft.put(_said("sequence_length", data.get("max_length"), "max_length"))
    if config.fact("sequence_length") is None:
        config.say("sequence_length", "max_length", "count")
    kind = data.get("type")
    packs = isinstance(kind, Scalar) and str(kind.value).rpartition(".")[2] in _PACKING
    flag = data.get("pack_to_max_length")
    known = flag.value if isinstance(flag, Scalar) else None
    if isinstance(known, bool):
        config.draft.put(_said("packing", flag, "pack_to_max_length"))
    else:
        config.state("packing", packs)
    if known is True or (known is None and packs):
        config.state("pad_to_maximum", True)
        if config.on("use_varlen_attn") or config.on("model.use_varlen_attn"):
            config.derive("padding_free", True, "attention runs over the samples of a row", "use_varlen_attn")


_PACKING = ("process_hf_dataset", "process_intern_repo_dataset", "process_untokenized_datasets")
"""Data sets that pack unless they are told otherwise (dataset/huggingface.py)."""


def _said(fact: str, value: Value | None, key: str) -> Fact | None:
    if not isinstance(value, Scalar) or value.value is None:
        return None
    if value.via == "library":
        return Fact(fact, (Candidate(value.value),), Origin.DEFAULT, key, "library", "xtuner")
    return Fact(fact, (Candidate(value.value, value.place),), Origin.WRITTEN, key, "config-file")


_CPU: Mapping[str, Plain] = MappingProxyType({"device": "cpu"})
_ZERO: Mapping[str, Sizes] = MappingProxyType(
    {
        "deepspeed_zero1": {"stage": 1, "overlap_comm": True},
        "deepspeed_zero2": {"stage": 2, "overlap_comm": True},
        "deepspeed_zero2_offload": {"stage": 2, "offload_optimizer": _CPU, "overlap_comm": True},
        "deepspeed_zero3": {"stage": 3, "overlap_comm": True},
        "deepspeed_zero3_offload": {
            "stage": 3,
            "offload_optimizer": _CPU,
            "offload_param": _CPU,
            "overlap_comm": True,
        },
    }
)
"""configs/deepspeed/*.json, which `--deepspeed` takes by name."""


def _shipped(target: str) -> Table | None:
    zero = _ZERO.get(target.rpartition("/")[2].removesuffix(".json"))
    if zero is None:
        return None
    rest = table_of({"zero_force_ds_cpu_optimizer": False, "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}})
    return Table((Entry("zero_optimization", None, table_of(zero)), *rest.entries))


def _packaged(name: str) -> Table | None:
    said = packaged().get(name.removesuffix(".py"))
    return _tree(said) if said is not None else None


def _tree(said: Mapping[str, object]) -> Table:
    entries = []
    for key, value in said.items():
        inner: Value = _tree(value) if isinstance(value, Mapping) else Scalar(_scalar(value), None, "library")
        entries.append(Entry(key, None, inner))
    return Table(tuple(entries))


def _scalar(value: object) -> Plain:
    return value if isinstance(value, str | int | float | bool) else None


FRAMEWORK = Framework(
    "xtuner",
    "XTuner",
    "xtuner",
    _ROWS,
    _complete,
    packaged=_packaged,
    deepspeed=_shipped,
    commands_only=True,
    launched=True,
    closed=frozenset(
        {"quantization_bits", "optimizer", "fused_loss", "attention_implementation", "tuning", "load_dtype"}
    ),
)
