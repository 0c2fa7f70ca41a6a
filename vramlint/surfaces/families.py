"""Architectures by what a script calls them: the class of transformers that it loads, the name of the checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.patterns import lazy

_BY_STEM: Mapping[str, str] = MappingProxyType(
    {
        "Albert": "albert",
        "Bart": "bart",
        "Bert": "bert",
        "Blip2": "blip-2",
        "Bloom": "bloom",
        "CLIP": "clip",
        "Camembert": "camembert",
        "Cohere": "cohere",
        "Deberta": "deberta",
        "DebertaV2": "deberta-v2",
        "DistilBert": "distilbert",
        "Electra": "electra",
        "Ernie": "ernie",
        "Esm": "esm",
        "Falcon": "falcon",
        "GPT2": "gpt2",
        "GPTBigCode": "gpt_bigcode",
        "GPTJ": "gptj",
        "GPTNeo": "gpt_neo",
        "GPTNeoX": "gpt_neox",
        "Gemma": "gemma",
        "Gemma2": "gemma2",
        "Gemma3": "gemma3",
        "Llama": "llama",
        "Llava": "llava",
        "LlavaNext": "llava_next",
        "LongT5": "longt5",
        "MBart": "mbart",
        "MPNet": "mpnet",
        "MT5": "mt5",
        "Mamba": "mamba",
        "Mistral": "mistral",
        "Mixtral": "mixtral",
        "ModernBert": "modernbert",
        "NomicBert": "nomic_bert",
        "OPT": "opt",
        "Pegasus": "pegasus",
        "Phi": "phi",
        "Phi3": "phi3",
        "Qwen2": "qwen2",
        "Qwen2Moe": "qwen2_moe",
        "Qwen2VL": "qwen2_vl",
        "Qwen2_5_VL": "qwen2_5_vl",
        "Qwen3": "qwen3",
        "Qwen3Moe": "qwen3_moe",
        "Roberta": "roberta",
        "T5": "t5",
        "ViT": "vit",
        "Wav2Vec2": "wav2vec2",
        "Whisper": "whisper",
        "XLMRoberta": "xlm-roberta",
    }
)
"""What stands before `For…` or `LMHeadModel` in a class's name to its model_type (transformers 5.23.0, models/auto)."""

_HEAD = lazy(r"(For[A-Z]\w*|LMHeadModel|Model)$")

_BY_NAME = (
    (r"blip-?2", "blip-2"),
    (r"tiny-?llama", "llama"),
    (r"code-?llama", "llama"),
    (r"(meta-)?llama-?[123](?!\d)", "llama"),
    (r"llama-?\d+b", "llama"),
    (r"vicuna", "llama"),
    (r"mixtral", "mixtral"),
    (r"mistral-?7b", "mistral"),
    (r"zephyr-?7b", "mistral"),
    (r"qwen-?2(\.5)?-?\d+(\.\d+)?b", "qwen2"),
    (r"qwen-?3-?\d+(\.\d+)?b(?!-a)", "qwen3"),
    (r"gemma-?2-", "gemma2"),
    (r"gemma-?\d+b", "gemma"),
    (r"falcon-?\d+b", "falcon"),
    (r"pythia", "gpt_neox"),
    (r"gpt-?neox", "gpt_neox"),
    (r"gpt-?neo(?!x)", "gpt_neo"),
    (r"gpt-?j", "gptj"),
    (r"gpt-?2(?!\d)", "gpt2"),
    (r"bloomz?(?![a-z])", "bloom"),
    (r"opt-?\d", "opt"),
    (r"flan-?t5", "t5"),
    (r"mt5|mt0", "mt5"),
    (r"whisper", "whisper"),
)
"""How checkpoints of a family are named, lower case, the more special first; no letter stands before."""


def model_type_of_class(name: str) -> str:
    """The model_type of a class such as `LlamaForCausalLM`; empty for `AutoModel…` and classes that aren't listed."""
    return _BY_STEM.get(_HEAD.sub("", name), "")


def model_type_of_name(name: str) -> str:
    """The architecture that a checkpoint's name suggests (`my-llama-2-7b-chat`), empty when it suggests none."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    return next((model_type for pattern, model_type in _BY_NAME if re.search(rf"(?<![a-z])(?:{pattern})", last)), "")
