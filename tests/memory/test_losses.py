"""The loss stage: which copies of the logits each version of transformers makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.memory.runs import llama
from vramlint.job import Batch, Job, Libraries, Model, Precision
from vramlint.memory import simulate

VOCABULARY = 64_000
TOKENS = 1024
LOGITS = TOKENS * VOCABULARY
"""Elements of the logits of a batch."""


def job(model_type: str, transformers: tuple[int, ...]) -> Job:
    base = llama({"num_hidden_layers": 1, "vocab_size": VOCABULARY, "tie_word_embeddings": False})
    return replace(
        base,
        model=Model("test", model_type, base.model.config),
        precision=Precision("bfloat16"),
        batch=Batch(1, TOKENS),
        libraries=Libraries(transformers=transformers),
    )


def saved(model_type: str, *transformers: int) -> int:
    return simulate(job(model_type, transformers), reserved=False).saved_activations


@pytest.mark.parametrize(
    ("model_type", "until"), [("mistral", (4, 48, 0)), ("granite", (4, 48, 0)), ("starcoder2", (4, 47, 0))]
)
def test_a_loss_of_the_models_own_saves_what_the_shared_one_does_as_long_as_both_widen(model_type, until):
    major, minor, _ = until

    assert saved(model_type, major, minor - 1, 0) == pytest.approx(saved(model_type, major, minor, 0), rel=0.01)


def test_a_loss_of_the_models_own_that_widens_nothing_saves_half_the_bytes():
    own, shared = saved("stablelm", 4, 47, 1), saved("stablelm", 4, 48, 0)

    assert shared - own == pytest.approx(2 * LOGITS, rel=0.01)


def test_the_labels_are_shifted_instead_of_the_logits_from_4_49_on():
    before = simulate(job("llama", (4, 48, 3)), reserved=False).allocated
    after = simulate(job("llama", (4, 49, 0)), reserved=False).allocated

    assert before > after
