"""Unsloth's loaders, and the classes that it puts in the place of TRL's."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import facts, says, sheet
from vramlint.resolve import resolve
from vramlint.resolve.context import Context

SCRIPT = """
    from unsloth import FastLanguageModel
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Meta-Llama-3.1-8B"{given})
    args = SFTConfig(per_device_train_batch_size=2{keys})
    SFTTrainer(model=model, args=args, train_dataset=data).train()
"""


def test_four_bits_are_nf4_with_double_quantization() -> None:
    found = sheet(SCRIPT.format(given=", dtype=None, load_in_4bit=True", keys=""))
    expected = {
        "load_dtype": "bfloat16",
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "quantization_compute_dtype": "bfloat16",
    }
    assert facts(found, *expected) == expected


def test_what_is_given_holds() -> None:
    found = sheet(SCRIPT.format(given=', dtype="float16", load_in_4bit=False', keys=""))
    assert says(found, "load_dtype") == "float16"
    assert found.get("quantization_type") is None


@pytest.mark.parametrize(
    ("keys", "remarked"),
    [
        (", max_seq_length=512, vllm_sampling_params=sampling", []),  # Unsloth's classes take them
        (", gradient_acumulation_steps=4", ["gradient_acumulation_steps"]),
    ],
)
def test_only_misspellings_are_sure_of_replaced_classes(keys: str, remarked: list[str]) -> None:
    found = sheet(SCRIPT.format(given="", keys=keys))
    (run,) = resolve([found], Context(lambda _: None, lambda _: ()))
    assert [remark.subject for remark in run.remarks] == remarked


def test_a_figure_of_other_kernels_is_no_verdict_that_it_does_not_fit() -> None:
    found = sheet(SCRIPT.format(given="", keys=", max_length=500_000"))
    (run,) = resolve([found], Context(lambda _: None, lambda _: ()))
    assert "attention_implementation" in run.unresolved
    fact = run.get("attention_implementation")
    assert fact is not None
    assert "kernels of its own" in fact.reason
