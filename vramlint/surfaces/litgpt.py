"""litgpt as a library: `GPT.from_name("pythia-160m", lora_r=8)`, `GPT(Config.from_name(…))`, its data modules.

litgpt 0.5: model.py, lora.py, config.py, data/base.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from vramlint.catalog.litgpt_models import MODEL_TYPE, litgpt_model
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Drawn, draw, is_absent, stated
from vramlint.surfaces.model_config import table_of
from vramlint.values import Call, Items, Keyword, Scalar, Table, Value

TARGETS = (
    ("lora_query", "query"),
    ("lora_key", "key"),
    ("lora_value", "value"),
    ("lora_projection", "projection"),
    ("lora_mlp", "mlp"),
    ("lora_head", "head"),
)
"""Flags of litgpt's LoRA, which its Config has all off, and the parts of its modules that they put LoRA on."""
_DATA: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("Alpaca", "Alpaca2k", "AlpacaGPT4", "Deita", "FLAN", "JSON", "LIMA", "LongForm"), "sft"),
        **dict.fromkeys(("LitData", "MicroLlama", "OpenWebText", "TextFiles", "TinyLlama", "TinyStories"), "pretrain"),
    }
)
"""Its data modules: instructions with answers, or plain text."""
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


def litgpt_network(call: Call, calls: Sequence[Call]) -> Table | None:
    """The network of a model by its name, as litgpt describes it; None where no table of litgpt has the name.

    The head runs over the tokens in pieces where some call of the program asks for that (`lm_head_chunk_size=128`).
    """
    name = litgpt_name(call)
    found = litgpt_model(name.value) if isinstance(name, Scalar) and isinstance(name.value, str) else None
    if found is None:
        return None
    sizes = [value for each in calls if (value := each.argument("lm_head_chunk_size")) is not None]
    chunk = next((size.value for size in sizes if isinstance(size, Scalar) and isinstance(size.value, int)), 0)
    return table_of({"model_type": MODEL_TYPE, **found, "lm_head_chunk_size": chunk})


def connected(calls: Sequence[Call]) -> Iterable[Drawn]:
    """`data.connect(tokenizer, batch_size=4, max_seq_length=512)` of one of its data modules, and what for."""
    for call in calls:
        kind = _DATA.get(call.callee.rpartition(".")[2], "") if call.callee.startswith("litgpt.data.") else ""
        if kind:
            yield stated("objective", kind, call.place, call.callee.rpartition(".")[2])
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
    flags = [(call.argument(flag), part) for flag, part in TARGETS]
    if all(flag is None or isinstance(flag, Scalar) for flag, _ in flags):
        modules = [part for flag, part in flags if isinstance(flag, Scalar) and flag.value is True]
        found.append(
            Keyword("target_modules", Items(tuple([Scalar(name, call.place) for name in modules]), call.place))
        )
    return tuple(found)
