"""Environment variables and what else a script says of evaluation, read into jobs."""

from __future__ import annotations

import pytest

from tests.surfaces.test_program import says, sheet
from vramlint.job import Allocator
from vramlint.resolve.allocator import allocator_of

SCRIPT = """
    import os
    from transformers import Trainer, TrainingArguments

    os.environ{set}
    args = TrainingArguments(
        output_dir="out",
        eval_strategy="steps",
        eval_accumulation_steps=4,
        label_smoothing_factor=0.1,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={{"every_n_layers": 2, "offload": True}},
    )
    Trainer(model=model, args=args, compute_metrics=scores{more}).train()
"""


@pytest.mark.parametrize(
    "assignment",
    [
        '["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"',
        '.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")',
    ],
)
def test_allocator_settings(assignment: str) -> None:
    found = sheet(SCRIPT.format(set=assignment, more=""))

    assert says(found, "allocator_settings") == "expandable_segments:True"


def test_arguments_of_evaluation_and_checkpointing() -> None:
    found = sheet(SCRIPT.format(set='["X"] = "1"', more=""))

    assert found.get("allocator_settings") is None
    expected = {
        "evaluation_keeps_logits": True,
        "eval_accumulation_steps": 4,
        "label_smoothing": 0.1,
        "checkpointing_every_n_layers": 2,
        "checkpointing_offload": True,
    }
    assert {name: says(found, name) for name in expected} == expected


def test_metrics_of_reduced_logits_keep_none() -> None:
    found = sheet(SCRIPT.format(set='["X"] = "1"', more=", preprocess_logits_for_metrics=argmax"))

    assert says(found, "evaluation_keeps_logits") is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("expandable_segments:True", Allocator(expandable_segments=True)),
        ("expandable_segments : false, max_split_size_mb:128", Allocator()),
        (
            "garbage_collection_threshold:0.6,per_process_memory_fraction:0.9",
            Allocator(garbage_collection_threshold=0.6, memory_fraction=0.9),
        ),
        ("garbage_collection_threshold:much", Allocator()),
        ("expandable_segments:True,roundup_power2_divisions:16", Allocator(expandable_segments=True, divisions=16)),
        ("roundup_power2_divisions:3", Allocator()),
        ("roundup_power2_divisions:[256:1,512:2,>:4]", Allocator()),
        ("", Allocator()),
        (None, Allocator()),
    ],
)
def test_the_allocators_own_form(text: str | None, expected: Allocator) -> None:
    assert allocator_of(text) == expected
