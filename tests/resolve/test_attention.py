from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, run, script, written
from vramlint.facts import Fact, Origin
from vramlint.resolve.run import Run

KNOWN = (LLAMA, written("micro_batch_size", 1), written("sequence_length", 512))


def attention(found: Run) -> tuple[object, ...]:
    fact = found.get("attention_implementation")
    assert fact is not None
    return tuple(candidate.value for candidate in fact.candidates)


def replaced(*kernels: str) -> Fact:
    return written("replaced_attention", tuple(f"llama={kernel}" for kernel in kernels))


@pytest.mark.parametrize(
    ("model", "transformers", "implementation"),
    [
        ("meta-llama/Llama-2-7b-hf", "4.35.2", "eager"),
        ("meta-llama/Llama-2-7b-hf", "4.36.2", "sdpa"),
        ("openai-community/gpt2", "4.41.2", "eager"),
        ("openai-community/gpt2", "4.42.4", "sdpa"),
        ("google-bert/bert-base-uncased", "4.40.2", "eager"),
        ("bigscience/bloom-560m", "5.23.0", "eager"),
    ],
)
def test_the_default_is_what_the_models_classes_have(model: str, transformers: str, implementation: str) -> None:
    found = run(script(written("model", model), *KNOWN[1:]), transformers=transformers)
    assert attention(found) == (implementation,)


def test_what_is_asked_for_stays() -> None:
    said = written("attention_implementation", "sdpa")
    assert attention(run(script(written("model", "openai-community/gpt2"), said), transformers="4.40.2")) == ("sdpa",)


def test_the_kernel_of_the_replacement_runs() -> None:
    found = run(script(*KNOWN, replaced("flash_attention_2")))
    assert attention(found) == ("flash_attention_2",)
    fact = found.get("attention_implementation")
    assert fact is not None
    assert fact.origin is Origin.DERIVED
    assert fact.reason == "the program replaces the attention of llama"


def test_an_unknown_kernel_makes_a_range() -> None:
    found = run(script(*KNOWN, replaced("flash_attention_2", "eager")))
    assert {job.attention.implementation for job in found.jobs} == {"flash_attention_2", "eager"}


def test_attention_that_may_stay_keeps_what_is_said() -> None:
    said = written("attention_implementation", "eager")
    found = run(script(*KNOWN, said, replaced("flash_attention_2", "")))
    assert {job.attention.implementation for job in found.jobs} == {"flash_attention_2", "eager"}


def test_the_attention_of_another_model_stays() -> None:
    other = written("replaced_attention", ("mistral=eager",))
    assert attention(run(script(*KNOWN, other))) == ("sdpa",)


def test_classes_of_their_own_are_missed() -> None:
    """transformers 4.36 to 4.47 ran LlamaSdpaAttention by default."""
    known = (*KNOWN, replaced("flash_attention_2"))
    assert attention(run(script(*known), transformers="4.40.0")) == ("sdpa",)
    assert attention(run(script(*known), transformers="4.33.0")) == ("flash_attention_2",)
    eager = written("attention_implementation", "eager")
    assert attention(run(script(*known, eager), transformers="4.40.0")) == ("flash_attention_2",)
