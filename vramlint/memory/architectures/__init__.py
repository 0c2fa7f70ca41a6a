"""One short file per architecture family; each reads like the model's own forward.

`FAMILIES` maps the `model_type` of a config.json to the class that builds and runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.gemma import Gemma
from vramlint.memory.architectures.gpt2 import GPT2
from vramlint.memory.architectures.gpt_neox import GPTNeoX
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.architectures.opt import OPT
from vramlint.memory.architectures.phi import Phi
from vramlint.memory.architectures.phi3 import Phi3

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
    }
)
