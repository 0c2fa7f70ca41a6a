"""Adapters put around a model behind the statement that loads it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.surfaces.adapting import write_adapters
from vramlint.surfaces.holding import Holder
from vramlint.surfaces.literals import PYTHON
from vramlint.text import Document, Place, apply_edits

LORA: Mapping[str, FactValue] = {"tuning": "lora", "lora_r": 8, "lora_target_modules": "all-linear"}
CONFIG = 'LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")'
BITS = (
    'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
    'bnb_4bit_compute_dtype="bfloat16")'
)
LOAD = 'AutoModelForCausalLM.from_pretrained("gpt2")'


def fact(name: str, value: FactValue) -> Fact:
    return Fact(name, (Candidate(value),), Origin.DERIVED)


def after(text: str, changes: Mapping[str, FactValue] = LORA, load: str = LOAD, **facts: FactValue) -> str | None:
    document = Document.of("train.py", text)
    start = text.index(load)
    place = Place("train.py", document.span(start, start + len(load)))
    known = [fact(name, value) for name, value in {"tuning": "full", **facts}.items()]
    said = write_adapters(changes, known, Holder("from-pretrained", PYTHON, document, place))
    if said is None:
        return None
    written = apply_edits(document, said[1])
    ast.parse(written)
    return written


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("from transformers import A\n", "from peft import LoraConfig, get_peft_model\nfrom transformers import A\n"),
        (
            "import torch\nfrom datasets import d\n\nfrom trl import S\n",
            "import torch\nfrom datasets import d\n\nfrom peft import LoraConfig, get_peft_model\nfrom trl import S\n",
        ),
        ("from datasets import d  # d\n", "from datasets import d  # d\nfrom peft import LoraConfig, get_peft_model\n"),
        ("from peft import PeftModel\n", "from peft import LoraConfig, get_peft_model, PeftModel\n"),
        ("from peft import LoraConfig, get_peft_model\n", "from peft import LoraConfig, get_peft_model\n"),
        (
            "from peft import (\n    LoraConfig,\n    TaskType,\n)\n",
            "from peft import (\n    LoraConfig,\n    get_peft_model,\n    TaskType,\n)\n",
        ),
    ],
)
def test_what_is_missing_is_imported(head: str, expected: str) -> None:
    assert (
        after(f"{head}\nmodel = {LOAD}\n") == f"{expected}\nmodel = {LOAD}\nmodel = get_peft_model(model, {CONFIG})\n"
    )


def test_the_statement_keeps_its_indentation_and_line_ends() -> None:
    text = f"from peft import LoraConfig, get_peft_model\r\ndef main():\r\n\tnet = {LOAD}  # net\r\n\tuse(net)\r\n"
    expected = text.replace("# net\r\n", f"# net\r\n\tnet = get_peft_model(net, {CONFIG})\r\n")
    assert after(text) == expected


def test_checkpoints_need_an_input_with_a_gradient() -> None:
    text = f"from peft import LoraConfig, get_peft_model\nmodel = {LOAD}\n"
    expected = f"{text}model = get_peft_model(model, {CONFIG})\nmodel.enable_input_require_grads()\n"
    assert after(text, activation_checkpointing=True) == expected
    assert after(text, {**LORA, "activation_checkpointing": True}) == expected
    assert after(text, activation_checkpointing=False) == expected.replace("model.enable_input_require_grads()\n", "")


@pytest.mark.parametrize(("fp16", "bits"), [(False, BITS), (True, BITS.replace("bfloat16", "float16"))])
def test_a_base_in_4_bits(fp16: bool, bits: str) -> None:
    text = f"from transformers import (\n    AutoModelForCausalLM,\n    Trainer,\n)\n\nmodel = {LOAD}\n"
    config = CONFIG.replace("r=8, lora_alpha=16", "r=16, lora_alpha=32")
    assert after(text, {"tuning": "qlora", "quantization_bits": 4}, fp16=fp16) == (
        "from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training\n"
        "from transformers import (\n    AutoModelForCausalLM,\n    BitsAndBytesConfig,\n    Trainer,\n)\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("gpt2", quantization_config={bits})\n'
        f"model = get_peft_model(prepare_model_for_kbit_training(model), {config})\n"
    )


@pytest.mark.parametrize(
    ("load", "task"),
    [
        ('AutoModelForSeq2SeqLM.from_pretrained("t5")', "SEQ_2_SEQ_LM"),
        ('BertForSequenceClassification.from_pretrained("b")', "SEQ_CLS"),
    ],
)
def test_the_task_is_that_of_the_class(load: str, task: str) -> None:
    written = after(f"from peft import LoraConfig, get_peft_model\nmodel = {load}\n", load=load)
    assert written is not None
    assert f'task_type="{task}"' in written


@pytest.mark.parametrize(
    "text",
    [
        f"from transformers import A\ntrainer = Trainer(model={LOAD})\n",
        f"from transformers import A\nself.model = {LOAD}\n",
        f"from transformers import A\nmodel, x = {LOAD}, 1\n",
        f"from transformers import A\nx = 1; model = {LOAD}\n",
        f"from transformers import A\nmodel = {LOAD}; y = 2\n",
        f"from transformers import A\nmodel = {LOAD}.cuda()\n",
        f"import transformers\nmodel = {LOAD}\n",
        f"from peft import *\nmodel = {LOAD}\n",
        f"from transformers import A\nmodel = {LOAD}\n(",
    ],
)
def test_where_no_statement_loads_it_plainly_nothing_is_written(text: str) -> None:
    assert after(text) is None


def test_models_that_have_adapters_or_other_tasks_stay() -> None:
    text = f"from transformers import A\nmodel = {LOAD}\n"
    assert after(text, tuning="lora") is None
    assert after(text, {"tuning": "prompt"}) is None
    other = 'AutoModel.from_pretrained("gpt2")'
    assert after(text.replace(LOAD, other), load=other) is None
    assert write_adapters(LORA, [fact("tuning", "full")], None) is None
