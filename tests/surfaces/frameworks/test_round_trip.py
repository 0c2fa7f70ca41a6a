"""Write a fact, read it back: equal, and every byte outside of the edits as it was. Of every framework."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.catalog.frameworks import FRAMEWORKS
from vramlint.facts import Fact, FactValue, Sheet
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.framework import Framework
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.spelling import spell
from vramlint.surfaces.frameworks.writing import read_data, write_facts
from vramlint.text import Document, apply_edits
from vramlint.values import Table

_VALUES: dict[str, st.SearchStrategy[FactValue]] = {
    "activation_checkpointing": st.booleans(),
    "packing": st.booleans(),
    "torch_compile": st.booleans(),
    "bf16": st.booleans(),
    "fp16": st.booleans(),
    "micro_batch_size": st.integers(1, 4096),
    "gradient_accumulation_steps": st.integers(1, 4096),
    "sequence_length": st.integers(1, 2**20),
    "eval_micro_batch_size": st.integers(1, 4096),
    "lora_r": st.integers(1, 512),
    "lora_alpha": st.integers(1, 512),
    "model": st.sampled_from(["meta-llama/Llama-3.1-8B", "gpt2", "Qwen/Qwen2.5-0.5B-Instruct"]),
    "optimizer": st.sampled_from(["adamw_torch", "adamw_bnb_8bit", "paged_adamw_8bit"]),
    "tuning": st.sampled_from(["full", "lora", "qlora"]),
    "quantization_bits": st.sampled_from([4, 8]),
    "load_dtype": st.sampled_from(["bfloat16", "float16", "float32"]),
    "attention_implementation": st.sampled_from(["sdpa", "eager", "flash_attention_2"]),
    "zero_stage": st.integers(0, 3),
}
"""Facts that fixes change, and values of them."""


def _read(framework: Framework, document: Document) -> Sheet:
    root = read_data(document).root
    assert isinstance(root, Table)
    return read_config(framework, document.path, root)


def _facts(sheet: Sheet) -> dict[str, Fact]:
    return {fact.name: fact for fact in sheet.facts}


def _sayable(framework: Framework) -> Iterator[str]:
    for fact in _VALUES:
        if fact in framework.spelled or any(row.fact == fact for row in framework.rows):
            yield fact


def test_every_framework_with_a_file_of_data_has_a_sample():
    without = {name for name in FRAMEWORKS if not framework_of(name).commands_only}
    assert without == SAMPLES.keys()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_framework_says_something_that_fixes_change(name):
    assert list(_sayable(framework_of(name)))


@pytest.mark.parametrize("name", sorted(SAMPLES))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_written_fact_reads_back(name, data):
    framework = framework_of(name)
    path, text = SAMPLES[name]
    text = text.replace("\n", data.draw(st.sampled_from(["\n", "\r\n"])))
    document = Document.of(path, text)
    before = _read(framework, document)
    fact = data.draw(st.sampled_from(sorted(_sayable(framework))))
    value = data.draw(_VALUES[fact])
    assume(spell(framework, fact, value) is not None)

    said = write_facts(framework, {fact: value}, before.facts, {path: document})

    assert said is not None, f"{fact} = {value!r} cannot be written"
    written = apply_edits(document, said.edits)
    after = _facts(_read(framework, Document.of(path, written)))
    assert after[fact].value == value
    assert _without(written, document, said.edits) == text
    again = write_facts(framework, {fact: value}, tuple(after.values()), {path: Document.of(path, written)})
    assert again is not None
    assert apply_edits(Document.of(path, written), again.edits) == written


def _without(written, document, edits):
    """The text with every edit taken back: what was not edited is as it was."""
    pieces, at, done = [], 0, 0
    for edit in sorted(edits, key=lambda edit: edit.place.span):
        span = edit.place.span
        start, end = document.offset(span.line, span.column), document.offset(span.end_line, span.end_column)
        kept = start - done
        pieces += [written[at : at + kept], document.text[start:end]]
        at += kept
        assert written[at : at + len(edit.replacement)] == edit.replacement
        at += len(edit.replacement)
        done = end
    return "".join((*pieces, written[at:]))
