"""Helpers of TRL that make configs out of a `ModelConfig`."""

from __future__ import annotations

from collections.abc import Mapping as Names
from types import MappingProxyType

from vramlint.readers.python.machine import Machine, Site
from vramlint.readers.python.objects import Given, LibraryObject, Object, Sequence
from vramlint.values import Plain, Scalar

_LORA = MappingProxyType[str, tuple[str, Plain]](
    {
        "task_type": ("lora_task_type", "CAUSAL_LM"),
        "r": ("lora_r", 16),
        "target_modules": ("lora_target_modules", None),
        "target_parameters": ("lora_target_parameters", None),
        "lora_alpha": ("lora_alpha", 32),
        "lora_dropout": ("lora_dropout", 0.05),
        "use_rslora": ("use_rslora", False),
        "use_dora": ("use_dora", False),
        "modules_to_save": ("lora_modules_to_save", None),
    }
)
"""Keywords of LoraConfig: the field that each comes from, and that field's default (trl 1.16.0, trainer/utils.py,
get_peft_config, and trainer/model_config.py)."""

_FOUR_BITS = MappingProxyType[str, tuple[str, Plain]](
    {
        "load_in_4bit": ("load_in_4bit", True),
        "bnb_4bit_quant_type": ("bnb_4bit_quant_type", "nf4"),
        "bnb_4bit_use_double_quant": ("use_bnb_nested_quant", False),
    }
)
"""The same of BitsAndBytesConfig (trainer/utils.py, get_quantization_config)."""

_DTYPES = ("dtype", "torch_dtype")
"""Fields that the compute dtype comes from, by release."""


_FLAGS = MappingProxyType[str, tuple[str, ...]](
    {"get_peft_config": ("use_peft",), "get_quantization_config": ("load_in_4bit", "load_in_8bit")}
)
"""Helpers and the fields that switch on what they make."""


def helper_result(machine: Machine, callee: str, site: Site) -> Object | None:
    """What such a helper gives; None for other functions, and where the ModelConfig does not say.

    Where none of the flags is given it is left to the surfaces, as the library's default decides then.
    """
    if not callee.startswith("trl."):
        return None
    name = callee.rpartition(".")[2]
    config = site.arguments.get("model_args", 0)
    if not isinstance(config, LibraryObject) or not config.callee.endswith(".ModelConfig"):
        return None
    flags = _FLAGS.get(name, ())
    if flags and config.hidden is not None and not any(config.argument(flag) for flag in flags):
        return config.hidden
    if name == "get_peft_config" and _is_on(config, "use_peft"):
        return _made(machine, "peft.LoraConfig", _keywords(config, _LORA), site)
    if name == "get_quantization_config" and _is_on(config, "load_in_4bit"):
        dtype = next((config.argument(field) for field in _DTYPES if config.argument(field) is not None), None)
        more = () if dtype is None else (Given("bnb_4bit_compute_dtype", dtype),)
        return _made(machine, "transformers.BitsAndBytesConfig", (*_keywords(config, _FOUR_BITS), *more), site)
    if name == "get_quantization_config" and _is_on(config, "load_in_8bit"):
        keywords = (Given("load_in_8bit", config.argument("load_in_8bit") or Scalar(True)),)
        return _made(machine, "transformers.BitsAndBytesConfig", keywords, site)
    return None


def _is_on(config: LibraryObject, flag: str) -> bool:
    value = config.argument(flag)
    return isinstance(value, Scalar) and value.value is True


def _keywords(config: LibraryObject, fields: Names[str, tuple[str, Plain]]) -> tuple[Given, ...]:
    found = []
    for name, (field, default) in fields.items():
        value = config.argument(field)
        if value is None and config.open:
            continue
        if isinstance(value, Sequence) and value.elements is not None and len(value.elements) == 1:
            value = value.elements[0]  # `--lora_target_modules all-linear`, which the config takes out of its list
        found.append(Given(name, Scalar(default, None, "library") if value is None else value))
    return tuple(found)


def _made(machine: Machine, callee: str, keywords: tuple[Given, ...], site: Site) -> Object:
    return machine.emit(LibraryObject(callee, (), keywords, site.place, from_command_line=True))
