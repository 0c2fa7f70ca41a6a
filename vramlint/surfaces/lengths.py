"""Sequence lengths and padding: tokenizer calls, `model_max_length`, collators, settings by their usual names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS, Outcome, count
from vramlint.surfaces.draft import Drawn, by_setting, conditional, draw, stated, united, unknown
from vramlint.surfaces.lineage import last, package
from vramlint.values import Call, Cut, Items, Scalar, Value

_LENGTHS = (
    "model_max_length",
    "max_seq_length",
    "max_seq_len",
    "cutoff_len",
    "block_size",
    "seq_length",
    "seq_len",
    "sequence_length",
    "max_length",
    "context_length",
    "context_size",
)
"""Usual names of the setting that bounds a sample, the surest first."""

_PAIRS = (("source_max_len", "target_max_len"), ("max_source_length", "max_target_length"))
"""Settings whose sum bounds a sample of a decoder; of an encoder-decoder they bound the two sides."""

OWN_MAXIMUM = "padding"
"""The key of a length that only the tokenizer knows, and that every sample has."""

_SPECIAL_TOKENS = 8
"""Tokens that a program may add to a source and a target."""

_PADDING_COLLATORS = ("DataCollatorWithPadding", "DataCollatorForSeq2Seq", "DataCollatorForTokenClassification")
"""Collators of transformers that pad to the longest sample of the batch."""


def tokenizer_calls(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Calls that tokenize text with a bound: they have `max_length` and `truncation` or `padding`."""
    found = []
    for call in calls:
        name = last(call.callee)
        if name.startswith("from_") or name in {"generate", "pipeline", "pad", "Dataset", "GenerationConfig"}:
            continue
        named = {keyword.name for keyword in call.keywords}
        bounded = "truncation" in named or "padding" in named
        if bounded and not (package(call.callee) in {"transformers", "trl"} and name[:1].isupper()):
            found.append(call)
    return tuple(found)


def tokenized_length(calls: Sequence[Call], settings: Mapping[str, Value], *, encoder_decoder: bool) -> Iterable[Fact]:
    """`sequence_length` and, for an encoder-decoder, `target_length` as the tokenizer calls bound them.

    Calls that disagree give several candidates.
    """
    sources: list[Fact] = []
    targets: list[Fact] = []
    for call in tokenizer_calls(calls):
        value = call.argument("max_length")
        if value is None or not (_cuts(call) or _fills(call)):
            continue
        drawn = draw("sequence_length", by_setting(value, settings), CONVERTERS["count"], "max_length", call.place)
        if isinstance(drawn, Fact):
            # labels are tokenized after inputs, with `text_target=` since transformers 4.22
            is_target = _is_target(call) or (sources and sources[0].candidates != drawn.candidates)
            (targets if encoder_decoder and is_target else sources).append(drawn)
    if sources:
        fact = united(sources)
        if fact is not None:
            yield fact
    if targets:
        fact = united(targets)
        if fact is not None:
            yield Fact("target_length", fact.candidates, fact.origin, fact.key, fact.via, fact.library, fact.reason)


def _cuts(call: Call) -> bool:
    value = call.argument("truncation")
    return isinstance(value, Scalar) and value.value not in {False, None, "do_not_truncate"}


def _fills(call: Call) -> bool:
    value = call.argument("padding")
    return isinstance(value, Scalar) and value.value == "max_length"


def filled_rows(calls: Sequence[Call]) -> Fact | None:
    """Rows that a tokenizer fills to the bound, whatever their texts: `padding="max_length"`."""
    filling = next((call for call in tokenizer_calls(calls) if _fills(call) and _cuts(call)), None)
    padding = filling.argument("padding") if filling is not None else None
    return stated("pad_to_maximum", True, padding.place, "padding") if padding is not None else None


def _is_target(call: Call) -> bool:
    return call.argument("text_target") is not None or any("target" in item for item in call.conditions)


def own_maximum(calls: Sequence[Call]) -> Fact | None:
    """Samples that a tokenizer cuts and fills to its own maximum: `padding="max_length"` and no length."""
    for call in tokenizer_calls(calls):
        if _fills(call) and _cuts(call) and call.argument("max_length") is None:
            return unknown("sequence_length", "the tokenizer fills samples to its own maximum", OWN_MAXIMUM, call.place)
    return None


def model_max_length(calls: Sequence[Call]) -> Fact | None:
    """`model_max_length` of the tokenizer's loader, or Unsloth's `max_seq_length` of the model's."""
    for call in calls:
        if last(call.callee) == "from_pretrained" and (value := call.argument("max_seq_length")) is not None:
            drawn = draw("sequence_length", value, CONVERTERS["count"], "max_seq_length", call.place)
            if isinstance(drawn, Fact) and not drawn.reason.startswith("parameter "):  # of what nothing calls
                return drawn
        if last(call.callee) != "from_pretrained" or not ("Tokenizer" in call.callee or "Processor" in call.callee):
            continue
        value = call.argument("model_max_length")
        if value is not None:
            drawn = draw("sequence_length", value, CONVERTERS["count"], "model_max_length", call.place)
            if isinstance(drawn, Fact):
                return drawn
    return None


def setting_pair(settings: Mapping[str, Value]) -> Fact | None:
    """The sum of a source and a target bound, which is what a decoder gets."""
    for source, target in _PAIRS:
        first, second = settings.get(source), settings.get(target)
        if first is None or second is None:
            continue
        lengths = (count(first), count(second))
        if all(isinstance(length, int) and not isinstance(length, (bool, Outcome)) for length in lengths):
            total = sum(length for length in lengths if isinstance(length, int))
            candidate = Candidate(total, first.place)
            via = first.via if isinstance(first, Scalar) else "computed"
            return Fact("sequence_length", (candidate,), Origin.WRITTEN, f"{source} + {target}", via)
    return None


def pair_as_cut(pair: Fact | None, cuts: Sequence[Cut]) -> Fact | None:
    """The sum of a source and a target bound, with what the program adds to it: the end of the text."""
    if pair is None or not isinstance(pair.value, int):
        return pair
    for cut in cuts:
        length = count(cut.length)
        if isinstance(length, int) and 0 < length - pair.value <= _SPECIAL_TOKENS:
            return replace(pair, candidates=(Candidate(length, pair.place),))
    return pair


def cut_length(cuts: Sequence[Cut], *, joined: bool) -> Fact | None:
    """The length of rows that the program cuts from joined samples, or to which it cuts or fills single ones."""
    drawn = [
        draw("sequence_length", cut.length, CONVERTERS["count"], "cut", cut.place)
        for cut in cuts
        if cut.joined is joined
    ]
    return united(fact for fact in drawn if isinstance(fact, Fact) and fact.origin is not Origin.UNKNOWN)


def rows_of_library(calls: Sequence[Call]) -> Iterable[Cut]:
    """TRL's ConstantLengthDataset (until 0.19), which fills rows of `seq_length` tokens."""
    for call in calls:
        if package(call.callee) == "trl" and last(call.callee) == "ConstantLengthDataset":
            yield Cut(call.argument("seq_length") or Scalar(1024, None, "library"), call.place, True, call.conditions)


def rows_packed(cuts: Sequence[Cut], settings: Mapping[str, Value]) -> Fact | None:
    """That rows are full, where samples are joined before they are cut; a setting of that name is what decides it."""
    for cut in cuts:
        if cut.joined:
            reason = "samples are joined and cut into rows of one length"
            asked = settings.get("packing")
            place = asked.place if isinstance(asked, Scalar) and asked.value is True else None
            fact = Fact("packing", (Candidate(True, place or cut.place),), Origin.DERIVED, via="code", reason=reason)
            return conditional(fact, cut.conditions)
    return None


def setting_length(settings: Mapping[str, Value]) -> Fact | None:
    """The bound by a setting's usual name, when no call was seen to take it."""
    for name in _LENGTHS:
        value = settings.get(name)
        if value is not None and not isinstance(value, Items):
            drawn = draw("sequence_length", value, CONVERTERS["count"], name)
            if isinstance(drawn, Fact):
                return drawn
    return None


def encoder_decoder_pair(settings: Mapping[str, Value]) -> Iterable[Drawn]:
    """Source and target bounds of an encoder-decoder."""
    for source, target in _PAIRS:
        if source in settings and target in settings:
            yield draw("sequence_length", settings[source], CONVERTERS["count"], source)
            yield draw("target_length", settings[target], CONVERTERS["count"], target)


def packing_fact(loop: Fact | None, calls: Sequence[Call]) -> Fact | None:
    """No packing where samples are cut one by one and nothing but a plain loop or trainer takes them.

    TRL's trainers pack by themselves; theirs is the trainer's key and its default.
    """
    if loop is None or loop.key in {"SFTTrainer", "LigerSFTTrainer"}:
        return None
    if any(_cuts(call) and call.argument("max_length") is not None for call in tokenizer_calls(calls)):
        reason = "every sample is tokenized by itself"
        return Fact("packing", (Candidate(False),), Origin.DERIVED, via="code", reason=reason)
    return None


def padding_fact(calls: Sequence[Call], packing: Fact | None) -> Fact | None:
    """Whether batches hold padding: not when packed, yes when something pads to a length or to the longest."""
    if packing is not None and packing.value is True:
        return Fact(
            "padding", (Candidate(False, packing.place),), Origin.DERIVED, "packing", "code", reason="rows are packed"
        )
    for call in (*tokenizer_calls(calls), *(call for call in calls if call.callee == ".pad")):
        value = call.argument("padding")
        if isinstance(value, Scalar) and value.value in {"max_length", True, "longest"}:
            return stated("padding", True, value.place or call.place, "padding")
    for call in calls:
        if last(call.callee) in _PADDING_COLLATORS and call.argument("padding") is None:
            return stated("padding", True, call.place, last(call.callee))
    return None
