"""litgpt as a library: `GPT.from_name("pythia-160m", lora_r=8)`, `GPT(Config.from_name(…))`, its data modules.

litgpt 0.5: model.py, lora.py, config.py, data/base.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Drawn, draw, is_absent
from vramlint.values import Call, Items, Keyword, Scalar, Value

_TARGETS = (
    ("lora_query", ("q_proj",)),
    ("lora_key", ("k_proj",)),
    ("lora_value", ("v_proj",)),
    ("lora_projection", ("o_proj",)),
    ("lora_mlp", ("gate_proj", "up_proj", "down_proj")),
    ("lora_head", ("lm_head",)),
)
"""Flags of litgpt's LoRA, all off unless given, and the same modules by the names of transformers."""
_MADE = (".GPT.from_name", ".GPT", ".LLM.load")
_PASSED_ON = (("lora_r", "r"), ("lora_alpha", "lora_alpha"), ("lora_dropout", "lora_dropout"))


def is_litgpt(call: Call) -> bool:
    """Whether a call makes one of litgpt's models."""
    return call.callee.startswith("litgpt.") and call.callee.endswith(_MADE)


def litgpt_name(call: Call) -> Value | None:
    """The name of the model, which is the last part of the hub's id, or the folder that its config lies in."""
    if call.callee.endswith(".from_name"):
        return call.argument("name", 0)
    if call.callee.endswith(".load"):
        return call.argument("model", 0)
    config = call.argument("config", 0)
    if not isinstance(config, Call):
        return None
    name = config.argument("name", 0) if config.callee.endswith(".from_name") else config.argument("path", 0)
    if name is None and config.callee.endswith(".from_checkpoint"):
        name = config.argument("path", 0)
    if isinstance(name, Scalar) and isinstance(name.value, str):
        path = name.value.removesuffix("/model_config.yaml").removeprefix("checkpoints/")
        return Scalar(path, name.place, name.via)
    return name


def connected(calls: Sequence[Call]) -> Iterable[Drawn]:
    """`data.connect(tokenizer, batch_size=4, max_seq_length=512)` of one of its data modules."""
    for call in calls:
        if call.callee != ".connect" or call.argument("tokenizer", 0) is None:
            continue
        length = call.argument("max_seq_length", 2)
        size = call.argument("batch_size", 1)
        if size is not None:
            yield draw("micro_batch_size", size, CONVERTERS["count"], "batch_size", call.place)
        if length is not None and not is_absent(length):
            yield draw("sequence_length", length, CONVERTERS["count"], "max_seq_length", call.place)


def lora_keywords(call: Call) -> tuple[Keyword, ...]:
    """The arguments of its LoRA under PEFT's names; empty where `lora_r` is 0 or absent."""
    config = call.argument("config", 0)
    if isinstance(config, Call) and not call.callee.endswith(".from_name"):
        call = config
    rank = call.argument("lora_r")
    if rank is None or (isinstance(rank, Scalar) and not rank.value):
        return ()
    found = []
    for own, name in _PASSED_ON:
        keyword = next((item for item in call.keywords if item.name == own), None)
        if keyword is not None:
            found.append(Keyword(name, keyword.value, keyword.name_place))
    flags = [(call.argument(flag), modules) for flag, modules in _TARGETS]
    if all(flag is None or isinstance(flag, Scalar) for flag, _ in flags):
        modules = [name for flag, names in flags if isinstance(flag, Scalar) and flag.value is True for name in names]
        found.append(
            Keyword("target_modules", Items(tuple([Scalar(name, call.place) for name in modules]), call.place))
        )
    return tuple(found)
