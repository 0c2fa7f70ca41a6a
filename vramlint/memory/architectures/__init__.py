"""One short file per architecture family; each reads like the model's own forward.

`FAMILIES` says by task and `model_type` of a config.json which class builds and runs a model. A run needs one of
them, so each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vramlint.memory.architectures.family import Network

FAMILIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "causal-lm": {
            "bloom": "bloom:Bloom",
            "falcon": "falcon:Falcon",
            "gemma": "gemma:Gemma",
            "gemma2": "gemma2:Gemma2",
            "gpt2": "gpt2:GPT2",
            "gpt_neox": "gpt_neox:GPTNeoX",
            "granite": "granite:Granite",
            "llama": "llama:Llama",
            "mistral": "llama:Llama",
            "mixtral": "mixtral:Mixtral",
            "opt": "opt:OPT",
            "phi": "phi:Phi",
            "phi3": "phi3:Phi3",
            "qwen2": "llama:Llama",
            "qwen3": "llama:Llama",
            "qwen3_moe": "mixtral:Qwen3Moe",
        },
        "masked-lm": {
            "bert": "bert:BertForMaskedLM",
            "roberta": "bert:BertForMaskedLM",
            "xlm-roberta": "bert:BertForMaskedLM",
        },
        "seq-cls": {
            "bart": "bart:BartForSequenceClassification",
            "bert": "bert:BertForSequenceClassification",
            "distilbert": "distilbert:DistilBertForSequenceClassification",
            "mbart": "mbart:MBartForSequenceClassification",
            "mt5": "t5:MT5ForSequenceClassification",
            "plbart": "mbart:PLBartForSequenceClassification",
            "roberta": "bert:RobertaForSequenceClassification",
            "t5": "t5:T5ForSequenceClassification",
            "umt5": "t5:UMT5ForSequenceClassification",
            "xlm-roberta": "bert:RobertaForSequenceClassification",
        },
        "image-cls": {
            "vit": "vit:ViTForImageClassification",
        },
        "seq2seq-lm": {
            "bart": "bart:Bart",
            "blenderbot": "blenderbot:Blenderbot",
            "blenderbot-small": "blenderbot:BlenderbotSmall",
            "m2m_100": "mbart:M2M100",
            "marian": "marian:Marian",
            "mbart": "mbart:MBart",
            "mt5": "t5:MT5",
            "pegasus": "marian:Pegasus",
            "plbart": "mbart:PLBart",
            "t5": "t5:T5",
            "umt5": "t5:UMT5",
        },
        "audio-cls": {
            "whisper": "whisper:WhisperForAudioClassification",
        },
        "speech-seq2seq": {
            "whisper": "whisper:Whisper",
        },
    }
)
"""Task to `model_type` to `module:Class` of this package."""


def find_family(model_type: str, task: str) -> type[Network] | None:
    """The class that simulates this kind of model in this task."""
    name = FAMILIES.get(task, {}).get(model_type)
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    family: type[Network] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return family


def is_simulated(model_type: str) -> bool:
    """Whether this kind of model is simulated in some task."""
    return any(model_type in families for families in FAMILIES.values())
