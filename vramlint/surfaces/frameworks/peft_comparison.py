"""An experiment of PEFT's comparison of methods: an adapter_config.json under the parameters of the training.

peft 0.20 method_comparison/MetaMathQA/{run.py,utils.py}: `default_training_params.json` lies three folders above an
experiment, whose own `training_params.json` goes before it. The loop is written by hand and calls the model without
autocast unless `use_amp` is on.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.facts import Link, Sheet
from vramlint.surfaces.adapter_config import method_facts, method_of
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.reading import file_sheet
from vramlint.values import Table

NAME = "peft-comparison"
BESIDE = ("../../../default_training_params.json", "training_params.json", "adapter_config.json")
"""The files of an experiment as seen from its folder; later ones go before earlier ones."""

_ROWS = (
    Row("model_id", "model", "text"),
    Row("batch_size", "micro_batch_size", "count"),
    Row("batch_size_eval", "eval_micro_batch_size", "count"),
    Row("max_seq_length", "sequence_length", "count"),
    Row("use_gc", "activation_checkpointing", "flag"),
    Row("grad_norm_clip", "max_grad_norm", "number"),
    Row("autocast_adapter_dtype", "adapter_cast", "flag"),
    Row("attn_implementation", "attention_implementation", "text"),
    Row("compile", "torch_compile", "flag"),
    Row("optimizer_kwargs.weight_decay", "weight_decay", "number"),
    Row("generation_kwargs.max_new_tokens", "completion_length", "count"),
)
_BITS: Mapping[str, int] = MappingProxyType({"int4": 4, "int8": 8})
_OPTIMIZERS: Mapping[str, str] = MappingProxyType({"AdamW": "adamw_torch", "lora+": "adamw_torch"})
"""`optimizer_type` and the optimizer that is made; others of torch.optim go by their own name."""


def _complete(config: Config) -> None:
    """get_base_model, get_model and get_optimizer_and_scheduler of utils.py, train of run.py."""
    for fact in method_facts(config.table):
        config.draft.put(fact)
    if not method_of(config.table):
        config.derive("tuning", "full", "there is no adapter_config.json")
    dtype = config.text("dtype")
    bits = _BITS.get(dtype, 16)
    config.state("quantization_bits", bits, "dtype")
    if dtype and bits == 16:
        config.state("load_dtype", dtype, "dtype")
    optimizer = config.text("optimizer_type")
    if optimizer:
        config.state("optimizer", _OPTIMIZERS.get(optimizer, optimizer.lower()), "optimizer_type")
    amp = config.on("use_amp")  # torch.autocast of CUDA is float16 unless told otherwise
    config.state("fp16", amp, "use_amp")
    config.state("bf16", False, "use_amp")
    config.derive("precision", "fp16-mixed" if amp else _pure(dtype), "the loop calls the model as it is", "use_amp")
    config.derive("objective", "sft", "the loop trains on questions with answers")
    config.derive("loop", "script", "the loop is written by hand")
    config.derive("gradient_accumulation_steps", 1, "the loop steps after every backward")
    config.derive("packing", False, "every sample is tokenized by itself")
    config.derive("use_cache", True, "the model is called with its own `use_cache`")
    config.derive("world_size", 1, "the loop runs on one device")
    config.derive("parallelism", "none", "the loop runs on one device")


def _pure(dtype: str) -> str:
    return {"bfloat16": "bf16-pure", "float16": "fp16-pure"}.get(dtype, "fp32")


def experiments(path: str, table: Table) -> Iterator[Sheet]:
    """The run that a file of the comparison belongs to, before its parameters are looked at.

    Its links are the files that say the rest, as far as there are any: a file of results has none, for it says all.

    Args:
        path: an adapter_config.json, a file of parameters or one of results.
        table: its root.
    """
    info = table.get("run_info")
    if isinstance(info, Table):
        parts = (part for key in ("train_config", "peft_config") if isinstance(part := info.get(key), Table))
        yield file_sheet(path, Table(tuple(entry for part in parts for entry in part), table.place), NAME)
    else:
        names = tuple(name for name in BESIDE if name != posixpath.basename(path))
        yield replace(file_sheet(path, table, NAME), links=tuple(Link(NAME, name) for name in names))


FRAMEWORK = Framework(NAME, "PEFT's method comparison", "peft", _ROWS, _complete, checked=False, commands_only=True)
