"""One short file per architecture family; each reads like the model's own forward.

`FAMILIES` maps the `model_type` of a config.json to the causal language model that builds and runs it, `OTHER_TASKS`
maps every other task to such a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.memory.architectures.bart import Bart
from vramlint.memory.architectures.bert import (
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaForSequenceClassification,
)
from vramlint.memory.architectures.bloom import Bloom
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.distilbert import DistilBertForSequenceClassification
from vramlint.memory.architectures.falcon import Falcon
from vramlint.memory.architectures.family import Network
from vramlint.memory.architectures.gemma import Gemma
from vramlint.memory.architectures.gemma2 import Gemma2
from vramlint.memory.architectures.gpt2 import GPT2
from vramlint.memory.architectures.gpt_neox import GPTNeoX
from vramlint.memory.architectures.granite import Granite
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.architectures.mixtral import Mixtral, Qwen3Moe
from vramlint.memory.architectures.opt import OPT
from vramlint.memory.architectures.phi import Phi
from vramlint.memory.architectures.phi3 import Phi3
from vramlint.memory.architectures.t5 import T5
from vramlint.memory.architectures.vit import ViTForImageClassification
from vramlint.memory.architectures.whisper import Whisper

FAMILIES: Mapping[str, type[CausalLM]] = MappingProxyType(
    {
        "llama": Llama,
        "mistral": Llama,
        "qwen2": Llama,
        "qwen3": Llama,
        "phi3": Phi3,
        "gemma": Gemma,
        "gpt2": GPT2,
        "gpt_neox": GPTNeoX,
        "opt": OPT,
        "phi": Phi,
        "gemma2": Gemma2,
        "bloom": Bloom,
        "falcon": Falcon,
        "mixtral": Mixtral,
        "qwen3_moe": Qwen3Moe,
        "granite": Granite,
    }
)

OTHER_TASKS: Mapping[str, Mapping[str, type[Network]]] = MappingProxyType(
    {
        "masked-lm": {
            "bert": BertForMaskedLM,
            "roberta": BertForMaskedLM,
            "xlm-roberta": BertForMaskedLM,
        },
        "seq-cls": {
            "bert": BertForSequenceClassification,
            "roberta": RobertaForSequenceClassification,
            "xlm-roberta": RobertaForSequenceClassification,
            "distilbert": DistilBertForSequenceClassification,
        },
        "image-cls": {
            "vit": ViTForImageClassification,
        },
        "seq2seq-lm": {
            "bart": Bart,
            "t5": T5,
            "mt5": T5,
        },
        "speech-seq2seq": {
            "whisper": Whisper,
        },
    }
)


def find_family(model_type: str, task: str) -> type[Network] | None:
    """The class that simulates this kind of model in this task."""
    if task == "causal-lm":
        return FAMILIES.get(model_type)
    return OTHER_TASKS.get(task, {}).get(model_type)
