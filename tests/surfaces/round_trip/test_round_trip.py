"""Write a fact, read it back: equal, and every byte outside of the edits as it was. Of every vocabulary's every key."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.surfaces.round_trip.rendering import Style
from tests.surfaces.round_trip.samples import SAMPLES, Sample
from vramlint.facts import Fact, FactValue, Origin
from vramlint.surfaces.keys import VOCABULARIES, KeyRow, all_rows
from vramlint.surfaces.launch.scalars import plain_of
from vramlint.surfaces.spelling import CONVERTERS, spelled
from vramlint.surfaces.writing import write
from vramlint.text import Document, apply_edits

WORDS = st.sampled_from(
    ["sdpa", "a b", "it's", 'so "x"', "no", "1e3", "007", "C:\\x", "null", "~", "a: b", "-", "ü", "#1", ".5", ".inf"]
)
NAMES = st.lists(
    st.sampled_from(["q_proj", "v_proj", "model.layers.0.mlp", "head"]), min_size=1, max_size=3, unique=True
)
COUNTS = st.integers(1, 4096)
VALUES: Mapping[str, st.SearchStrategy[FactValue]] = {
    **dict.fromkeys(("flag", "switch", "truth", "resharding", "unsloth-switch", "unsloth-offload"), st.booleans()),
    **dict.fromkeys(("count", "elements", "bound", "processes", "whole-word", "devices"), COUNTS),
    **dict.fromkeys(("number", "bound-word"), st.sampled_from([1, 2.5, 0.1, 100, 1e-7])),
    "text": WORDS,
    "name": st.sampled_from(["adamw_bnb_8bit", "paged_adamw_8bit", "sgd"]),
    "dtype": st.sampled_from(["bfloat16", "float16", "float32"]),
    "device": st.sampled_from(["none", "cpu", "nvme"]),
    "device-map": st.sampled_from(["auto", "balanced"]),
    "fsdp": st.sampled_from(["full_shard", "shard_grad_op auto_wrap", "full_shard auto_wrap offload"]),
    "policy": st.sampled_from(["TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP"]),
    "names": NAMES.map(tuple),
    "classes": st.sampled_from(["LlamaDecoderLayer", "GPT2Block"]) | st.just(("A", "B")),
    "numbers": st.lists(st.integers(0, 80).map(str), min_size=1, max_size=4).map(tuple),
    "pairs": st.dictionaries(st.sampled_from(["q_proj", "k_proj"]), st.integers(1, 64), min_size=1).map(
        lambda found: tuple(f"{key}={number}" for key, number in found.items())
    ),
    "tokens": st.just(("embed_tokens=3",)),
    "four-bit": st.just(4),
    "eight-bit": st.just(8),
    "flash": st.just("flash_attention_2"),
    "lora-or-full": st.sampled_from(["lora", "full"]),
    "vllm-or-none": st.sampled_from(["vllm", "none"]),
    **dict.fromkeys(("cpu-or-none", "offload-device"), st.sampled_from(["cpu", "none"])),
    "strategy": st.sampled_from(["none", "ddp", "deepspeed", "fsdp"]),
    "prefetch": st.sampled_from(["backward_pre", "backward_post", "no_prefetch"]),
    "state-dict": st.sampled_from(["full_state_dict", "local_state_dict", "sharded_state_dict"]),
    "compiles": st.just(True),
    "tensor-plan": st.just("tp_plan"),
    "eight-bit-adam": st.just("adamw_bnb_8bit"),
    **dict.fromkeys(("bf16-word", "fp16-word", "bf16-precision", "fp16-precision"), st.booleans()),
    "fp8-word": st.just(True),
}
"""Values that a key with a converter can say."""
ONE_WAY = ("tokens",)
"""Converters that count what they read: nothing says what it was."""
STYLES = st.builds(
    Style,
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from([2, 4]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["'", '"']),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


DEPENDENT = {
    "quantization_bits": {"tuning"},
    "inference_engine": {"inference_memory_fraction"},
    "parallelism": {"launcher", "gpus_per_node", *(row.fact for row in all_rows("accelerate-config"))},
    "offload_parameters": {"offload_optimizer", "fsdp"},
    "offload_optimizer": {"offload_parameters", "fsdp"},
    "bf16": {"load_dtype"},
    "fp16": {"load_dtype"},
    "gpus_per_node": {"world_size"},
    "nodes": {"world_size", "gpus_per_node"},
    "world_size": {"gpus_per_node", "parallelism", "launcher"},
}
"""Facts to those that follow them."""
UNSAMPLED = frozenset(
    (
        KeyRow("loops", "batch_size", "eval_micro_batch_size", "count"),  # of a second loader
        *(KeyRow("diffusers", key, "image_size", "count") for key in ("image_size", "img_size", "height")),
    )
)
"""Other spellings in programs that no sample has."""
NOT_ADDED = (("from-pretrained", "quantization_bits"),)
"""What transformers 5 takes in a BitsAndBytesConfig alone."""


def _others(facts: Mapping[str, Fact], row: KeyRow) -> dict[str, FactValue]:
    """What the other keys say."""
    follow = {*DEPENDENT.get(row.fact, ()), row.fact}
    return {
        name: fact.value
        for name, fact in facts.items()
        if fact.known and fact.origin is Origin.WRITTEN and fact.via != "library" and name not in follow
        if fact.key.rpartition(".")[2].removeprefix("fsdp_") != row.key.rpartition(".")[2].removeprefix("fsdp_")
    }


def _kept(document: Document) -> list[str]:
    """What no edit of a value may touch: comments, how lines end, the beginning and the end of the file."""
    text = document.text
    if document.path.endswith(".py"):
        tokens = tokenize.generate_tokens(io.StringIO(text.removeprefix("\ufeff")).readline)
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    else:
        comments = re.findall(r"(?:^|(?<=\s\s))# \w.*", text.replace("\r", ""), re.MULTILINE)
    ends = ["\r" if text.count("\r\n") == text.count("\n") > 0 else "\n" * (text.count("\r") == 0)]
    return [*comments, *ends, text[:1] if text[:1] == "\ufeff" else "", "ended" if text.endswith("\n") else ""]


def _is_lost(row: KeyRow, sample: Sample, value: FactValue) -> bool:
    """Whether a command line cannot say a value: a text that spells something else, a list of one."""
    if not sample.path.endswith(".sh"):
        return False
    if isinstance(value, tuple):
        return len(value) == 1
    return row.converter == "text" and isinstance(value, str) and plain_of(value) != value


def _rows(vocabulary: str) -> list[KeyRow]:
    return [row for row in all_rows(vocabulary) if row not in UNSAMPLED]


def test_every_vocabulary_has_samples():
    assert SAMPLES.keys() == set(VOCABULARIES)
    assert all(SAMPLES.values())


def test_every_converter_of_a_key_is_turned_round():
    used = {row.converter for vocabulary in VOCABULARIES for row in all_rows(vocabulary)}
    assert used <= CONVERTERS.keys()
    assert used == VALUES.keys()


def _held(row: KeyRow, value: FactValue) -> object:
    held = spelled([row], {row.fact: value}, {})
    return list(held) if isinstance(held, tuple) else held


@pytest.mark.parametrize(("vocabulary", "row"), [
    pytest.param(name, row, id=f"{name}-{row.key}-{row.fact}") for name in VOCABULARIES for row in _rows(name)
])  # fmt: skip
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_written_fact_reads_back(vocabulary, row, data):
    samples = [sample for sample in SAMPLES[vocabulary] if row.key not in sample.without]
    assert samples
    sample = data.draw(st.sampled_from(samples))
    style = data.draw(STYLES)
    old, new = data.draw(VALUES[row.converter]), data.draw(VALUES[row.converter])
    present = row.converter not in ONE_WAY and (data.draw(st.booleans()) or not sample.adds)
    keys = {sample.spelled(row.key): _held(row, old)} if present else {}
    document = Document.of(sample.path, sample.write({**sample.base, **keys}, style))
    before = {fact.name: fact for fact in sample.read(document)}
    if present and not _is_lost(row, sample, old):
        assert before[row.fact].value == old, document.text

    said = write({row.fact: new}, tuple(before.values()), sample.place(document), sample.documents(document))

    if row.converter in ONE_WAY or _is_lost(row, sample, new) or (not present and (vocabulary, row.fact) in NOT_ADDED):
        assert said is None
        return
    assume(not (present and _is_lost(row, sample, old)))
    nested = "." in sample.spelled(row.key) and sample.path.endswith(".sh")
    if present and style.flow and nested and new != old:
        assert said is None  # `--kwargs='{…}'`: where in the word the value stands is not known
        return
    assert said is not None, f"{row.fact} = {new!r} cannot be written in {document.text}"
    written = apply_edits(document, said.edits)
    changed = Document.of(document.path, written)
    after = {fact.name: fact for fact in sample.read(changed)}
    assert after[row.fact].value == new, written
    assert _others(after, row) == _others(before, row), written
    assert _kept(document) == _kept(changed)
    again = write({row.fact: new}, tuple(after.values()), sample.place(changed), sample.documents(changed))
    assert again is not None
    assert apply_edits(changed, again.edits) == written


ANYTHING = st.one_of(
    *{id(strategy): strategy for strategy in VALUES.values()}.values(), st.sampled_from([True, 0, -1, 1.5, "", "auto"])
)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_a_key_cannot_say_is_refused(vocabulary, data):
    row = data.draw(st.sampled_from([row for row in _rows(vocabulary) if row.converter not in ONE_WAY]))
    sample = data.draw(st.sampled_from([sample for sample in SAMPLES[vocabulary] if row.key not in sample.without]))
    keys = {sample.spelled(row.key): _held(row, data.draw(VALUES[row.converter]))} if data.draw(st.booleans()) else {}
    document = Document.of(sample.path, sample.write({**sample.base, **keys}, data.draw(STYLES)))
    value = data.draw(ANYTHING)

    said = write({row.fact: value}, sample.read(document), sample.place(document), sample.documents(document))

    if said is not None:
        changed = Document.of(document.path, apply_edits(document, said.edits))
        after = {fact.name: fact for fact in sample.read(changed)}
        assert after[row.fact].value == value, changed.text
        assert isinstance(after[row.fact].value, bool) == isinstance(value, bool)


def _now(sample, text, **changes):
    """What a file says after changes, and the file."""
    document = Document.of(sample.path, text)
    said = write(changes, sample.read(document), sample.place(document), sample.documents(document))
    assert said is not None
    changed = Document.of(sample.path, apply_edits(document, said.edits))
    return {fact.name: fact.value for fact in sample.read(changed) if fact.known}, changed.text


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("keys", [{"load_in_4bit": True}, {"load_in_8bit": True}, {"load_in_4bit": False}, {}])
@pytest.mark.parametrize("vocabulary", ["bitsandbytes", "unsloth"])
def test_bits_are_said_by_both_switches(vocabulary, keys, bits):
    sample = SAMPLES[vocabulary][0]
    if vocabulary == "bitsandbytes" and not keys:
        return  # a config that quantizes nothing says nothing
    facts, text = _now(sample, sample.write({**sample.base, **keys}, Style()), quantization_bits=bits)
    assert facts["quantization_bits"] == bits
    assert not ("load_in_4bit=True" in text and "load_in_8bit=True" in text)


@pytest.mark.parametrize("before", ["no", "bf16", "fp16"])
@pytest.mark.parametrize(("bf16", "fp16", "word"), [(True, False, "bf16"), (False, True, "fp16"), (False, False, "no")])
def test_two_facts_of_one_word(before, bf16, fp16, word):
    sample = SAMPLES["accelerate-config"][3]
    text = sample.write({**sample.base, "mixed_precision": before}, Style())
    facts, after = _now(sample, text, bf16=bf16, fp16=fp16)
    assert (facts["bf16"], facts["fp16"]) == (bf16, fp16)
    assert after == text.replace(f'mixed_precision: "{before}"', f'mixed_precision: "{word}"')


def test_facts_that_exclude_each_other_are_refused():
    sample = SAMPLES["accelerate-config"][3]
    document = Document.of(sample.path, sample.write({**sample.base, "mixed_precision": "no"}, Style()))
    both = {"bf16": True, "fp16": True}
    assert write(both, sample.read(document), None, sample.documents(document)) is None


@pytest.mark.parametrize(
    "before", ["full_shard", "shard_grad_op auto_wrap", "full_shard auto_wrap offload", "no_shard"]
)
@pytest.mark.parametrize("after", ["full_shard", "shard_grad_op auto_wrap", "full_shard auto_wrap offload", "no_shard"])
def test_words_of_sharding_in_accelerate(before, after):
    strategy, *options = before.split()
    said = {
        "distributed_type": "FSDP",
        "num_processes": 8,
        "fsdp_config.fsdp_sharding_strategy": strategy.upper(),
        "fsdp_config.fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP" if "auto_wrap" in options else "NO_WRAP",
        "fsdp_config.fsdp_offload_params": "offload" in options,
    }
    sample = next(item for item in SAMPLES["accelerate-config"] if "fsdp_config.fsdp_version" in item.base)
    facts, _ = _now(sample, sample.write(said, Style(comments=True)), fsdp=after)
    assert facts["fsdp"] == after


ANCHORED = """\
distributed_type: DEEPSPEED
num_processes: &gpus 8  # all
deepspeed_config: &zero
  zero_stage: 2
  gradient_accumulation_steps: 4
other:
  <<: *zero
"""


def test_an_anchored_value_is_left_alone_and_its_table_is_not():
    sample = SAMPLES["accelerate-config"][3]
    document = Document.of(sample.path, ANCHORED)
    assert write({"world_size": 4}, sample.read(document), None, sample.documents(document)) is None or (
        "&gpus 4" in _now(sample, ANCHORED, world_size=4)[1]
    )
    facts, after = _now(sample, ANCHORED, zero_stage=3)
    assert facts["zero_stage"] == 3
    assert after == ANCHORED.replace("zero_stage: 2", "zero_stage: 3")


@pytest.mark.parametrize("processes", [1, 2])
def test_one_process_becomes_several(processes):
    sample = SAMPLES["accelerate-config"][3]
    said = {**sample.base, "distributed_type": "NO", "num_processes": processes}
    facts, after = _now(sample, sample.write(said, Style()), world_size=8)
    assert facts["world_size"] == 8
    assert facts["parallelism"] == "ddp"
    assert "num_processes: 8" in after
