"""Programs that put layers and weights of their own into a model."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import facts, reason, says, sheet

SCRIPT = """\
import torch
from accelerate import init_empty_weights
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import AutoConfig, AutoModelForCausalLM

def replaced(model, layer, **keywords):
    for name, module in model.named_children():
        if isinstance(module, torch.nn.Linear):
            model._modules[name] = layer(module.in_features, module.out_features, module.bias is not None, **keywords)
    return model

config = AutoConfig.from_pretrained("meta-llama/Llama-2-7b-hf")
with init_empty_weights():
    model = AutoModelForCausalLM.from_config(config)
    model = replaced(model, LAYER)
load_weights(model)
optimizer = torch.optim.AdamW(model.parameters())
for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
"""


def test_four_bit_layers() -> None:
    layer = 'Linear4bit, quant_type="nf4", compute_dtype=torch.bfloat16'
    assert facts(
        sheet(SCRIPT.replace("LAYER", layer)),
        "quantization_bits",
        "quantization_type",
        "quantization_compute_dtype",
        "double_quantization",
    ) == {
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "quantization_compute_dtype": "bfloat16",
        "double_quantization": True,
    }


@pytest.mark.parametrize(("layer", "bits", "kind"), [("Linear8bitLt", 8, "int8"), ("Linear4bit", 4, "fp4")])
def test_their_own_type(layer: str, bits: int, kind: str) -> None:
    found = sheet(SCRIPT.replace("LAYER", layer))
    assert (says(found, "quantization_bits"), says(found, "quantization_type")) == (bits, kind)


def test_weights_that_come_later_are_no_fresh_ones() -> None:
    found = sheet(SCRIPT.replace("LAYER", "Linear4bit"))
    assert says(found, "objective") == "sft"
    assert "loads the weights by itself" in reason(found, "load_dtype")
