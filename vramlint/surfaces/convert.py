"""From located values to the plain values of facts, one converter per kind of fact.

A converter takes one value that is neither `Alternatives` nor `Unknown` and returns the fact's value, or
an `Outcome` when the value says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.values import Alternatives, Call, Entry, Items, Name, Scalar, Table, Unknown, Value


class Outcome(Enum):
    """Why a value gives no fact."""

    ABSENT = "absent"
    """None: as good as not given, the library's default holds."""
    OPAQUE = "opaque"
    """Nothing that can be read without running the program."""
    WRONG_TYPE = "wrong-type"
    """A type that the key doesn't take."""


Converted = FactValue | Outcome
Converter = Callable[[Value], Converted]

_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "bfloat16": "bfloat16",
        "bf16": "bfloat16",
        "float16": "float16",
        "fp16": "float16",
        "half": "float16",
        "float32": "float32",
        "fp32": "float32",
        "float": "float32",
        "float64": "float64",
        "double": "float64",
        "uint8": "uint8",
        "auto": "auto",
    }
)
"""torch's dtype names and aliases (torch.half, torch.float) to the canonical one."""


def flag(value: Value) -> Converted:
    """A boolean; 0 and 1 count."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=bool(known)):
            return known
        case Scalar(value=0 | 1):
            return bool(value.value)
        case Scalar(value="auto"):
            return "auto"
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def switch(value: Value) -> Converted:
    """A boolean for which a method's name also means on (`use_gradient_checkpointing="unsloth"`)."""
    match value:
        case Scalar(value=str(word)) if word:
            return True
    return flag(value)


def count(value: Value) -> Converted:
    """A whole number; a float without fraction counts, and so does "auto"."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=bool()):
            return Outcome.WRONG_TYPE
        case Scalar(value=int(known)):
            return known
        case Scalar(value=float(known)) if known.is_integer():
            return int(known)
        case Scalar(value="auto"):
            return "auto"
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def bound(value: Value) -> Converted:
    """A length; None switches truncation off, so no length is known."""
    match value:
        case Scalar(value=None):
            return Outcome.OPAQUE
    return count(value)


def number(value: Value) -> Converted:
    """An integer or a float."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=bool()):
            return Outcome.WRONG_TYPE
        case Scalar(value=int(known) | float(known)):
            return known
        case Scalar(value="auto"):
            return "auto"
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def text(value: Value) -> Converted:
    """A non-empty string."""
    match value:
        case Scalar(value=None | ""):
            return Outcome.ABSENT
        case Scalar(value=str(known)):
            return known
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def dtype(value: Value) -> Converted:
    """A torch dtype: `torch.bfloat16`, `"bfloat16"`, `"torch.bfloat16"`, `"bf16"`, `"auto"`."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=str(word)):
            return _DTYPES.get(word.removeprefix("torch."), Outcome.WRONG_TYPE)
        case Name(qualified=qualified) if qualified.startswith("torch."):
            return _DTYPES.get(qualified.removeprefix("torch."), Outcome.OPAQUE)
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def names(value: Value) -> Converted:
    """Module names: a string as written, or a list of strings."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=str(word)):
            return word or Outcome.ABSENT
        case Items(values=values):
            words = tuple(item.value for item in values if isinstance(item, Scalar) and isinstance(item.value, str))
            return words if len(words) == len(values) else Outcome.OPAQUE
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def numbers(value: Value) -> Converted:
    """One whole number or several, as text."""
    values = value.values if isinstance(value, Items) else (value,)
    found = [count(item) for item in values]
    if found == [Outcome.ABSENT]:
        return Outcome.ABSENT
    known = tuple([str(number) for number in found if isinstance(number, int)])
    return known if len(known) == len(found) else Outcome.OPAQUE


def pairs(value: Value) -> Converted:
    """A mapping to whole numbers, as `key=number`."""
    if isinstance(value, Scalar) and value.value is None:
        return Outcome.ABSENT
    if not isinstance(value, Table):
        return Outcome.OPAQUE
    found = [(entry.key, count(entry.value)) for entry in value]
    if not all(isinstance(number, int) for _, number in found):
        return Outcome.OPAQUE
    return tuple([f"{key}={number}" for key, number in found]) or Outcome.ABSENT


def tokens(value: Value) -> Converted:
    """Token ids of the embedding, or of several modules, as `module=count`."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Items(values=values):
            return (f"embed_tokens={len(values)}",) if values else Outcome.ABSENT
        case Table(entries=entries) if all(isinstance(entry.value, Items) for entry in entries):
            return tuple([f"{e.key}={len(e.value.values)}" for e in entries if isinstance(e.value, Items)])
    return Outcome.OPAQUE


def name(value: Value) -> Converted:
    """An `optim=` name: a string or a member of transformers' `OptimizerNames`."""
    match value:
        case Name(qualified=qualified) if "OptimizerNames." in qualified:
            return qualified.rsplit(".", 1)[1].lower()
    return text(value)


def flash(value: Value) -> Converted:
    """`use_flash_attention_2`: the implementation that it switches on."""
    on = flag(value)
    if isinstance(on, Outcome):
        return on
    return "flash_attention_2" if on else Outcome.ABSENT


def four_bit(value: Value) -> Converted:
    """`load_in_4bit`: 4 or, if off, nothing said."""
    on = flag(value)
    if isinstance(on, Outcome):
        return on
    return 4 if on else Outcome.ABSENT


def eight_bit(value: Value) -> Converted:
    """`load_in_8bit`: 8 or, if off, nothing said."""
    on = flag(value)
    if isinstance(on, Outcome):
        return on
    return 8 if on else Outcome.ABSENT


def lora_or_full(value: Value) -> Converted:
    """`use_peft`: lora or full."""
    on = flag(value)
    if isinstance(on, Outcome):
        return on
    return "lora" if on else "full"


def vllm_or_none(value: Value) -> Converted:
    """`use_vllm`: the engine, or none."""
    on = flag(value)
    if isinstance(on, Outcome):
        return on
    return "vllm" if on else "none"


def device(value: Value) -> Converted:
    """A DeepSpeed offload device: none, cpu, nvme."""
    match value:
        case Scalar(value=None):
            return "none"
        case Scalar(value=str(word)):
            return word.lower() if word.lower() in (*_OFFLOAD_DEVICES, "auto") else Outcome.WRONG_TYPE
    return text(value)


_OFFLOAD_DEVICES = ("none", "cpu", "nvme")
"""OffloadDeviceEnum of deepspeed 0.19 (runtime/zero/offload_config.py); Accelerate takes them in any letter case."""


def cpu_or_none(value: Value) -> Converted:
    """DeepSpeed's deprecated `cpu_offload` flag as a device."""
    on = flag(value)
    if isinstance(on, Outcome):
        return on
    return "cpu" if on else "none"


_UNSET = ":None"
"""How `f"cuda:{os.environ.get('LOCAL_RANK')}"` ends without a launcher that sets the variable."""


def tensor_plan(value: Value) -> Converted:
    """`tp_plan`: the model's plan ("auto"), or a table of another."""
    if isinstance(value, Scalar):
        return Outcome.ABSENT if value.value is None else "tp_plan"
    return "own_plan" if isinstance(value, Table) else Outcome.OPAQUE


def device_map(value: Value) -> Converted:
    """A `device_map`: the strategy's name; `single` for everything on one device, `process` for that of the process."""
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=str(word)) if word.endswith(_UNSET):
            return "process"
        case Scalar(value=str(word)):
            return word
        case Scalar(value=int()):
            return "single"
        case Table(entries=(Entry(key="", value=Alternatives() | Unknown() | Call()),)):
            return "process"
        case Table(entries=(Entry(key="", value=Scalar(value=str(word))),)) if word.endswith(_UNSET):
            return "process"
        case Table(entries=entries):
            return "single" if len(entries) == 1 and entries[0].key == "" else "custom"
        case Call(callee="torch.device") | Name():
            return "single"
    return Outcome.OPAQUE


def fsdp(value: Value) -> Converted:
    """An `fsdp=` value: options as words, the sharding first, for their order says nothing; or a bare flag."""
    match value:
        case Scalar(value=None | "" | False):
            return Outcome.ABSENT
        case Scalar(value=bool(known)):
            return known
        case Items(values=()):
            return Outcome.ABSENT
    words = names(value)
    if isinstance(words, Outcome):
        return words
    return sharding_first(words if isinstance(words, tuple) else str(words).split())


def sharding_first(words: Iterable[str]) -> str:
    """The words of `fsdp` in one text, the sharding strategy first: their order says nothing."""
    return " ".join(sorted(" ".join(words).split(), key=lambda word: word.lower() in _ADDED))


_ADDED = ("auto_wrap", "offload")
"""What TrainingArguments.fsdp takes beside a sharding strategy (transformers trainer_utils.FSDPOption)."""

CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        "flag": flag,
        "switch": switch,
        "count": count,
        "elements": count,
        "bound": bound,
        "number": number,
        "text": text,
        "dtype": dtype,
        "names": names,
        "numbers": numbers,
        "pairs": pairs,
        "tokens": tokens,
        "name": name,
        "flash": flash,
        "four-bit": four_bit,
        "eight-bit": eight_bit,
        "lora-or-full": lora_or_full,
        "vllm-or-none": vllm_or_none,
        "device": device,
        "cpu-or-none": cpu_or_none,
        "device-map": device_map,
        "tensor-plan": tensor_plan,
        "fsdp": fsdp,
    }
)
"""Converters by the name that key tables use."""
