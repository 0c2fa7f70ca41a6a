"""Which parameters a program freezes by hand."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from tests.surfaces.test_program import sheet
from vramlint.facts import Sheet

NAMES = (
    "bert.embeddings.word_embeddings.weight",
    "bert.encoder.layer.0.attention.self.query.weight",
    "bert.encoder.layer.0.output.LayerNorm.bias",
    "bert.encoder.layer.11.output.dense.weight",
    "bert.pooler.dense.bias",
    "classifier.weight",
)
EMBEDDINGS, QUERY, NORM, LAST, POOLER, HEAD = range(6)
ALL = {*range(6)}


def frozen(statements: str) -> Sheet:
    return sheet(f"""
        from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

        model = AutoModelForSequenceClassification.from_pretrained("bert-base-uncased", num_labels=2)
{indent(statements, " " * 8)}
        Trainer(model=model, args=TrainingArguments("out"), train_dataset=data).train()
    """)


def numbers(found: Sheet) -> set[int]:
    fact = found.get("frozen_parameters")
    assert fact is not None
    assert isinstance(fact.value, tuple)
    patterns = fact.value
    return {number for number, name in enumerate(NAMES) if any(re.search(pattern, name) for pattern in patterns)}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("model.bert.requires_grad_(False)", ALL - {HEAD}),
        ("for p in model.bert.parameters():\n    p.requires_grad = False", ALL - {HEAD}),
        ("for p in model.base_model.parameters():\n    p.requires_grad = False", ALL - {HEAD}),
        ("for p in model.base_model.embeddings.parameters():\n    p.requires_grad_(False)", {EMBEDDINGS}),
        ("for p in model.parameters():\n    p.requires_grad = False", ALL),
        (
            "for n, p in model.named_parameters():\n    if 'classifier' not in n:\n        p.requires_grad = False",
            ALL - {HEAD},
        ),
        (
            "for n, p in model.named_parameters():\n    if n.startswith('bert.enc') and 'bias' not in n:\n"
            "        p.requires_grad = False",
            {QUERY, LAST},
        ),
        (
            "for n, p in model.named_parameters():\n    if 'pooler' in n or 'layer.11' in n:\n        continue\n"
            "    p.requires_grad = False",
            ALL - {POOLER, LAST},
        ),
        ("model.requires_grad_(False)\nmodel.classifier.requires_grad_(True)", ALL - {HEAD}),
        (
            "for p in model.parameters():\n    p.requires_grad = False\n"
            "for p in model.bert.pooler.parameters():\n    p.requires_grad = True",
            ALL - {POOLER},
        ),
        ("model.get_input_embeddings().requires_grad_(False)", {EMBEDDINGS}),
    ],
)
def test_statements_that_freeze(statements: str, expected: set[int]) -> None:
    found = frozen(statements)

    tuning = found.get("tuning")
    assert tuning is not None
    assert tuning.value == "full"
    assert numbers(found) == expected


@pytest.mark.parametrize(
    "statements",
    [
        "for p in model.parameters():\n    if chosen(p):\n        p.requires_grad = False",
        "for n, p in model.named_parameters():\n    p.requires_grad = 'classifier' in n",
        "for layer in model.bert.encoder.layer[:6]:\n    for p in layer.parameters():\n        p.requires_grad = False",
        "for p in other.parameters():\n    p.requires_grad = False",
    ],
)
def test_what_only_run_time_freezes_stays_open(statements: str) -> None:
    tuning = frozen(statements).get("tuning")

    assert tuning is not None
    assert tuning.reason == "parameters are frozen by hand"


LOOP = """
        import torch
        from transformers import AutoModelForCausalLM

        def load(name, dtype=torch.bfloat16):
            return AutoModelForCausalLM.from_pretrained(name, torch_dtype=dtype)

        model = load("gpt2")
        {other}
        other.requires_grad_(False)
        optimizer = torch.optim.AdamW(model.parameters())
        for batch in loader:
            model(**batch).loss.backward()
            optimizer.step()
"""


@pytest.mark.parametrize(
    "other",
    ['other = load("gpt2")', 'other = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)'],
)
def test_a_frozen_copy_of_the_model_is_its_reference(other: str) -> None:
    found = sheet(LOOP.format(other=other))
    tuning, reference = found.get("tuning"), found.get("reference_model")

    assert tuning is not None and tuning.value == "full"
    assert found.get("frozen_parameters") is None
    assert reference is not None and reference.value == "gpt2"


@pytest.mark.parametrize("other", ['other = load("gpt2-large")', 'other = load("gpt2", torch.float32)'])
def test_another_frozen_model_leaves_it_open_what_is_trained(other: str) -> None:
    found = sheet(LOOP.format(other=other))
    tuning = found.get("tuning")

    assert tuning is not None and tuning.reason == "parameters are frozen by hand"
    assert found.get("reference_model") is None


def test_methods_of_speech_models_freeze_their_convolutions() -> None:
    fact = frozen("model.freeze_feature_encoder()").get("frozen_parameters")

    assert fact is not None
    assert isinstance(fact.value, tuple)
    assert re.search(fact.value[0], "wav2vec2.feature_extractor.conv_layers.0.conv.weight")
    assert not re.search(fact.value[0], "wav2vec2.feature_projection.projection.weight")
