from __future__ import annotations

import pytest

from tests.surfaces.reading import says, sheet

SCRIPT = """
    import torch
    from peft import cast_mixed_precision_params
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    use_fp8 = SETTING
    model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
    STATEMENT
    Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=rows).train()
"""


def script(statement: str = "pass", setting: str = "None") -> str:
    return SCRIPT.replace("STATEMENT", statement.replace("\n", "\n    ")).replace("SETTING", setting)


@pytest.mark.parametrize(
    ("statement", "fact", "dtype"),
    [
        (
            "for name, module in model.named_modules():\n    if 'norm' in name:\n        module.to(torch.float32)",
            "norm_dtype",
            "float32",
        ),
        (
            "for name, module in model.named_modules():\n"
            "    if isinstance(module, LoraLayer):\n        module.to(torch.float16)",
            "trainable_dtype",
            "float16",
        ),
        (
            "for param in model.parameters():\n    if param.requires_grad:\n        param.data = param.data.float()",
            "trainable_dtype",
            "float32",
        ),
        ("cast_mixed_precision_params(model, dtype=torch.float16)", "trainable_dtype", "float32"),
    ],
)
def test_casts_of_parts(statement: str, fact: str, dtype: str) -> None:
    found = sheet(script(statement))
    assert says(found, fact) == dtype
    assert says(found, "load_dtype") == "bfloat16"


def test_eight_bit_floats() -> None:
    assert sheet(script()).get("fp8") is None
    assert says(sheet(script("from torchao.float8 import convert_to_float8_training as c; c(model)")), "fp8") is True


def test_what_the_evaluation_below_casts_and_cuts_is_none_of_the_training() -> None:
    later = "\n    model = model.half()\n    tokenizer(text, truncation=True, max_length=99)"
    loads = "tokenizer = AutoTokenizer.from_pretrained('gpt2')\n"
    text = script(f"{loads}rows = tokenizer(text, truncation=True, max_length=512)")
    text = text.replace("AutoModelForCausalLM, Trainer", "AutoModelForCausalLM, AutoTokenizer, Trainer")
    found = sheet(text.replace(".train()", ".train()" + later))
    assert (says(found, "load_dtype"), says(found, "sequence_length")) == ("bfloat16", 512)
    assert found.get("pad_to_maximum") is None
    assert says(sheet(script("model.half()")), "load_dtype") == "float16"
    filled = sheet(text.replace("truncation=True, ", "truncation=True, padding='max_length', "))
    assert says(filled, "pad_to_maximum") is True


@pytest.mark.parametrize(
    ("statement", "dtypes"),
    [
        ("model.half()\nmodel.to(torch.float32)", {"float32"}),
        ("model.half()", {"float16"}),
        ("if flag():\n    model.half()\nmodel.cuda()", {"float16", None}),
    ],
)
def test_the_last_cast_of_the_whole_model_decides(statement: str, dtypes: set[str | None]) -> None:
    fact = sheet(script(statement)).get("load_dtype")
    assert fact is not None
    assert {item.value for item in fact.candidates} == dtypes
