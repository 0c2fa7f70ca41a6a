"""What a rule cannot compare, and that the table of types is what the program writes."""

from __future__ import annotations

import typing
from types import NoneType, UnionType

import pytest
from msgspec import Struct

from tests.engine.builders import estimate, run
from vramlint import facts, job
from vramlint.engine.expression import ExpressionError, parse
from vramlint.engine.fact_types import FACT_TYPES
from vramlint.engine.job_terms import JOB_TERMS
from vramlint.engine.names import Scope, complaint, type_of
from vramlint.engine.types import Kind, Type, check_condition, check_value, of
from vramlint.engine.vocabulary import ENTRIES
from vramlint.surfaces.frameworks import FRAMEWORKS, framework_of
from vramlint.surfaces.keys import VOCABULARIES, all_rows


def check(source: str) -> None:
    check_condition(parse(source, complaint).tree, type_of)


@pytest.mark.parametrize(
    "source",
    [
        "estimate.high.device_high > settings.headroom * gpu.usable_bytes",
        "estimate.low.ram_running - estimate.low.ram_rounding > machine.ram / 2",
        "facts.precision == 'bf16-mixed' and not facts.fp16",
        "facts.zero_stage in [2, 3] or facts.parallelism in ['fsdp', 'ddp']",
        "'model' in run.unresolved and 'q_proj' in facts.lora_target_modules",
        "job.adapter.r == null or job.adapter.r > 8",
        "versions.transformers < [4, 39] and gpu.compute_capability >= [8, 0]",
        "len(run.open_facts) > 2 and max(facts.world_size, 2) > abs(-1)",
        "known(facts.fsdp) and facts.bf16 == true and 'llama' in facts.model",
        "facts.micro_batch_size * facts.sequence_length > 8192",
        "1 < facts.world_size <= 8",
        "origin.bf16 == 'written' and estimate.exact",
    ],
)
def test_a_condition(source: str) -> None:
    check(source)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("facts.precision == 'bf16-mixd'", "`facts.precision` is never 'bf16-mixd'; did you mean 'bf16-mixed'?"),
        ("'fspd' != facts.parallelism", "`facts.parallelism` is never 'fspd'; did you mean 'fsdp'?"),
        ("facts.parallelism in ['ddp', 'zorro']", "`facts.parallelism` is never 'zorro'; there are none, ddp"),
        ("'modle' in run.unresolved", "`run.unresolved` never holds 'modle'; did you mean 'model'?"),
        ("origin.bf16 == 'writen'", "did you mean 'written'?"),
        ("facts.lora_r == 'eight'", "`facts.lora_r` is a number, `'eight'` is text"),
        ("gpu.name > 3", "`gpu.name` is text, `3` is a number"),
        ("gpu.name < 'x'", "`gpu.name` is text, `'x'` is text"),
        ("gpu.compute_capability < 8", "`gpu.compute_capability` is a list of numbers, `8` is a number"),
        ("1 < facts.world_size < 'x'", "`facts.world_size` is a number, `'x'` is text"),
        ("facts.fp8 == 1", "`facts.fp8` is true or false, `1` is a number"),
        ("facts.fp8 == null", "`known(…)` asks for what is not known"),
        ("facts.world_size in run.unresolved", "`facts.world_size` is a number, `run.unresolved` is a list of texts"),
        ("'x' in facts.world_size", "`'x'` is text, `facts.world_size` is a number"),
        ("facts.zero_stage in [3, 'three']", "`facts.zero_stage` is a number, `'three'` is text"),
        ("[1, 'x'] == versions.torch", "neither a list of texts nor one of numbers"),
        ("estimate.low.ram > facts.sequence_length", "is about bytes and tokens"),
        ("estimate.low.ram + facts.sequence_length > 3", "is about bytes and tokens"),
        ("estimate.low.ram == facts.declared_memory", "is about bytes and GiB"),
        ("max(estimate.low.ram, facts.sequence_length) > 3", "is about bytes and tokens"),
        ("facts.lora_r", "`facts.lora_r` is a number, not a condition"),
        ("facts.bf16 and facts.optimizer", "`facts.optimizer` is text, not a condition"),
        ("not facts.optimizer", "`facts.optimizer` is text, not a condition"),
        ("gpu.name * 2 > 3", "`gpu.name` is text, not a number"),
        ("-facts.fp8 < 3", "`facts.fp8` is true or false, not a number"),
        ("max(gpu.name, 3) > 2", "`gpu.name` is text, not a number"),
        ("len(facts.lora_r) > 2", "`facts.lora_r` is a number, which has no length"),
        ("known(facts.bf16, facts.fp16)", "known(…) takes one value"),
        ("abs(1, 2) > 1", "abs(…) takes one value"),
        ("'text'", "`'text'` is text, not a condition"),
    ],
)
def test_what_is_no_condition(source: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(source)
    assert complaint in str(caught.value)


def test_a_value_that_a_fix_sets() -> None:
    check_value("facts.bf16", True, type_of)
    check_value("facts.precision", "bf16-mixed", type_of)
    with pytest.raises(ExpressionError, match=r"`facts.bf16` is never 'yes'"):
        check_value("facts.bf16", "yes", type_of)
    with pytest.raises(ExpressionError, match=r"did you mean .cpu"):
        check_value("facts.offload_optimizer", "cpus", type_of)


def test_a_union_is_bounded_where_all_its_texts_are() -> None:
    words, text, number = of(Kind.TEXT, values=("a",)), of(Kind.TEXT), of(Kind.NUMBER, unit="bytes")
    assert (words | of(Kind.NULL)).values == ("a",)
    assert (words | text).values == ()
    assert (number | of(Kind.NULL)).words == "a number or null of bytes"


def test_every_fact_has_a_type() -> None:
    assert set(FACT_TYPES) == set(facts.NAMES)


CONVERTED: dict[str, Kind] = {
    **dict.fromkeys(("flag", "switch"), Kind.TRUTH),
    **dict.fromkeys(("count", "elements", "bound", "number", "four-bit", "eight-bit"), Kind.NUMBER),
    **dict.fromkeys(("text", "name", "dtype", "flash", "device", "device-map", "fsdp", "cpu-or-none"), Kind.TEXT),
    **dict.fromkeys(("lora-or-full", "vllm-or-none"), Kind.TEXT),
    **dict.fromkeys(("names", "numbers", "pairs", "tokens"), Kind.TEXTS),
}
"""What the converters of key tables make."""

WRITTEN = {
    *((row.fact, row.converter) for vocabulary in VOCABULARIES for row in all_rows(vocabulary)),
    *((row.fact, row.converter) for name in FRAMEWORKS for row in framework_of(name).rows),
}


@pytest.mark.parametrize(("fact", "converter"), sorted(WRITTEN))
def test_facts_have_the_types_that_their_keys_write(fact: str, converter: str) -> None:
    if converter in CONVERTED:
        assert CONVERTED[converter] in FACT_TYPES[fact].kinds


KINDS: dict[object, Kind] = {
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    str: Kind.TEXT,
    bool: Kind.TRUTH,
    NoneType: Kind.NULL,
}


def declared(owner: type, path: str) -> set[Kind]:
    """The kinds of a dotted field, as the structs declare it."""
    head, _, rest = path.partition(".")
    hint = typing.get_type_hints(owner, vars(job))[head]
    options = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    found: set[Kind] = set()
    for option in options:
        if rest and isinstance(option, type) and issubclass(option, Struct):
            found |= declared(option, rest)
        else:
            found.add(KINDS[option])
    return found


WRITTEN_IN_JOBS = [name for name in ENTRIES if name.startswith("job.") and name.removeprefix("job.") not in JOB_TERMS]


@pytest.mark.parametrize("name", WRITTEN_IN_JOBS)
def test_job_names_have_the_types_of_the_job(name: str) -> None:
    assert set(type_of(name).kinds) == declared(job.Job, name.removeprefix("job."))


@pytest.mark.parametrize("name", JOB_TERMS)
def test_what_is_read_of_a_config_has_the_type_that_is_declared(name: str) -> None:
    sizes: dict[str, job.ConfigValue] = {"vocab_size": 8, "num_experts": 2, "n_positions": 16}
    for config in (sizes, {}):
        value = JOB_TERMS[name](job.Job(job.Model("m", "gpt2", config=config)))
        assert KINDS[type(value)] in type_of(f"job.{name}").kinds


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith("estimate.low.")])
def test_estimate_names_have_the_types_of_the_estimate(name: str) -> None:
    value = Scope(run(), estimate(1), estimate(1)).lookup(name)
    assert KINDS[type(value)] in type_of(name).kinds


def test_bytes_are_told_from_counts() -> None:
    for name, entry in ENTRIES.items():
        if "bytes" in entry.meaning and Kind.NUMBER in entry.type.kinds:
            assert entry.type == Type(frozenset({Kind.NUMBER}), (), "bytes"), name
