"""Programs that put their own attention in the place of transformers'."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import sheet

SCRIPT = """\
import transformers
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.models.llama.modeling_llama import LlamaAttention

def forward(self, hidden_states):
    q, k, v = self.project(hidden_states)
    return CALL

def patch():
    TARGET = forward

PATCHING
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf")
Trainer(model, TrainingArguments("out")).train()
"""


def replaced(call: str, target: str = "LlamaAttention.forward", patching: str = "patch()") -> object:
    text = SCRIPT.replace("CALL", call).replace("TARGET", target).replace("PATCHING", patching)
    fact = sheet(text).get("replaced_attention")
    return None if fact is None else fact.value


@pytest.mark.parametrize(
    ("call", "kernels"),
    [
        ("flash_attn_unpadded_qkvpacked_func(pack(q, k, v), softmax_scale=None)", ("flash_attention_2",)),
        ("xformers.ops.memory_efficient_attention(q, k, v)", ("sdpa",)),
        ("torch.nn.functional.scaled_dot_product_attention(q, k, v)", ("sdpa",)),
        ("torch.softmax(q @ k.mT, -1) @ v", ("eager",)),
        ("kernel_of_ours(q, k, v)", ("flash_attention_2", "eager")),
    ],
)
def test_what_a_replacement_calls_names_its_kernel(call: str, kernels: tuple[str, ...]) -> None:
    assert replaced(call) == tuple(f"llama={kernel}" for kernel in kernels)


def test_the_class_may_be_named_by_its_whole_path() -> None:
    target = "transformers.models.mistral.modeling_mistral.MistralAttention.forward"
    assert replaced("flash_attn_func(q, k, v)", target) == ("mistral=flash_attention_2",)


def test_an_undecided_replacement_may_not_happen() -> None:
    asked = "import sys\nif run_time_knows():\n    patch()"
    assert replaced("flash_attn_func(q, k, v)", patching=asked) == ("llama=flash_attention_2", "llama=")


@pytest.mark.parametrize("target", ["LlamaAttention.half_done", "transformers.Trainer.forward", "model.forward"])
def test_other_attributes_are_no_attention(target: str) -> None:
    assert replaced("flash_attn_func(q, k, v)", target) is None
