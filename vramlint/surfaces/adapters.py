"""Adapters: PEFT configs given to `get_peft_model` or to a trainer; preparation for k-bit training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from vramlint.facts import Candidate, Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS, switch
from vramlint.surfaces.draft import (
    Arguments,
    Drawn,
    conditional,
    distinct,
    draw,
    is_absent,
    left_off,
    options,
    stated,
    united,
    unknown,
)
from vramlint.surfaces.keys import rows
from vramlint.surfaces.lineage import Lineage, last
from vramlint.surfaces.litgpt import is_litgpt, lora_keywords
from vramlint.surfaces.unsloth import trains_in_full
from vramlint.text import Place
from vramlint.values import Call, Items, Keyword, Name, Scalar, Unknown, Value

_CONFIG = lazy(r"^(\w+)Config$")
_OWN_KEYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "adalora": {"r": "init_r"},
        "vera": {"lora_dropout": "vera_dropout"},
        "miss": {"lora_dropout": "miss_dropout"},
        "oft": {"lora_dropout": ""},
        "boft": {"r": "", "lora_dropout": ""},
        "deft": {"lora_dropout": "deft_dropout"},
        "hira": {"lora_dropout": "hira_dropout"},
        "randlora": {"lora_dropout": "randlora_dropout"},
        "unilora": {"lora_dropout": "unilora_dropout"},
        "delora": {"lora_dropout": "module_dropout"},
        "gralora": {"lora_dropout": "gralora_dropout"},
        "pvera": {"lora_dropout": "pvera_dropout"},
        "vblora": {"lora_dropout": "vblora_dropout"},
        "c3a": {"r": "", "lora_dropout": ""},
        "road": {"r": "", "lora_dropout": ""},
    }
)
"""Keys that stand in a method's config for one of LoRA's (peft 0.21 tuners/*/config.py); empty: it has none."""
_OPTIONS = (
    "feedforward_modules",
    "oft_block_size",
    "coft",
    "block_share",
    "module_dropout",
    "use_cayley_neumann",
    "n_frequency",
    "decompose_both",
    "decompose_factor",
    "init_weights",
    "mini_r",
    "prefix_projection",
    "encoder_hidden_size",
    "encoder_reparameterization_type",
    "rank_dropout",
    "depth",
    "act_fn",
    "config_A_B",
    "effective_rank",
    "theta_d_length",
    "para",
    "decomposition_method",
    "num_subspaces",
    "subspace_rank",
    "use_dynamic_rank",
    "use_asa",
    "gralora_k",
    "hybrid_r",
    "num_vectors",
    "vector_length",
    "topk",
    "block_size",
    "variant",
    "boft_block_num",
    "boft_block_size",
    "boft_n_butterfly_factor",
    "boft_dropout",
)
"""Keys of other methods' configs that decide what is made."""
_VARIANTS = (
    "layer_replication",
    "use_qalora",
    "alora_invocation_tokens",
    "arrow_config",
    "velora_config",
    "kasa_config",
    "monteclora_config",
    "use_bdlora",
)
"""Keys of LoraConfig that make the layers other ones; absent, None and False they do nothing."""
_PREPARERS = ("prepare_model_for_kbit_training", "prepare_model_for_int8_training")


class Adapter(NamedTuple):
    """One possibility of what is trained."""

    method: str
    """lora, adalora, ia3, prefixtuning, …; full without adapter; empty when only run time knows."""
    arguments: Arguments | None = None
    place: Place | None = None
    condition: str = ""
    reason: str = ""
    """Why the method is not known."""
    cast: Keyword | None = None
    """`autocast_adapter_dtype` of the call that attaches it."""


FULL = Adapter("full")


def adapters_of(lineage: Lineage) -> tuple[Adapter, ...]:
    """The adapters that the model gets on its way from the loader, all possibilities."""
    for wrapper in lineage.wrappers:
        name = last(wrapper.callee)
        if name == "get_peft_model" and not trains_in_full(lineage.root):
            config = wrapper.argument("peft_config", 1)
            if config is None:
                return (Adapter("lora", Arguments.of(wrapper), wrapper.place, lineage.condition),)
            return tuple(_at(item, wrapper) for item in _of_config(config, lineage.condition))
        if name == "from_pretrained" and "Peft" in wrapper.callee:
            return (_loaded(wrapper, lineage.condition),)
    root = lineage.root
    if isinstance(root, Call) and is_litgpt(root) and (keywords := lora_keywords(root)):
        cast = Keyword("autocast_adapter_dtype", Scalar(False))  # its adapters take the dtype of the weights
        return (Adapter("lora", Arguments(keywords, root.place), root.place, lineage.condition, cast=cast),)
    return ()


def _at(adapter: Adapter, call: Call) -> Adapter:
    """The adapter as attached by `call`."""
    if adapter.method in {"", "full"}:
        return adapter
    return adapter._replace(place=call.place, cast=Arguments.of(call).find("autocast_adapter_dtype"))


def adapters_in(config: Value | None) -> tuple[Adapter, ...]:
    """The adapters that a trainer's `peft_config` or `add_adapter` argument may mean; full training for None."""
    return tuple(_of_config(config, "")) if config is not None else ()


def attached(calls: Sequence[Call]) -> tuple[Adapter, ...]:
    """Adapters attached by a call whose result doesn't lead to the trainer in a way that can be followed."""
    found: list[Adapter] = []
    for call in calls:
        name = last(call.callee)
        config = call.argument("peft_config", 1) if name == "get_peft_model" else call.argument("adapter_config", 0)
        if name == "get_peft_model" and config is None and call.argument("r") is not None:
            found.append(Adapter("lora", Arguments.of(call), call.place, " and ".join(call.conditions)))
        elif name in {"get_peft_model", "add_adapter"} and isinstance(config, Call):
            found += _of_config(config, " and ".join(call.conditions))
        else:
            continue
        if call.conditions:
            found.append(Adapter("full", condition=f"not ({' and '.join(call.conditions)})"))
    return tuple(found)


def _of_config(value: Value, condition: str) -> Iterable[Adapter]:
    for option in options(value):
        held = " and ".join(dict.fromkeys(filter(None, (condition, option.condition))))
        match option.value:
            case Call() as call if match := _CONFIG.match(last(call.callee)):
                method = match.group(1).lower()
                yield Adapter(method, Arguments.of(call), call.place, held)
            case absent if is_absent(absent):
                yield Adapter("full", condition=held)
            case Call() as call if last(call.callee) == "get_peft_config" and left_off(call, "use_peft"):
                yield Adapter("full", condition=held)
            case Unknown() as open_value:
                yield Adapter("", place=open_value.place, reason=open_value.reason)
            case Call() as call:
                yield Adapter("", place=call.place, reason=f"result of {call.callee.lstrip('.')}(…)")
            case other:
                yield Adapter("", place=other.place, reason="computed at run time")


def _loaded(call: Call, condition: str) -> Adapter:
    """`PeftModel.from_pretrained(model, path)`: an adapter whose config lies beside its weights."""
    return Adapter("", None, call.place, condition, "the adapter's config lies with its weights")


def tuning_fact(adapters: Sequence[Adapter], bits: Fact | None) -> Fact:
    """The fact `tuning`: full, lora, qlora on a 4-bit base, or another method's name."""
    loaded = [item for item in adapters if item.method]
    for adapter in adapters:
        if not adapter.method and not _same_kind(adapter, loaded):
            return unknown("tuning", adapter.reason, "peft_config", adapter.place)
    if bits is not None and bits.origin is Origin.UNKNOWN and any(item.method == "lora" for item in loaded):
        return unknown("tuning", bits.reason, bits.key)
    candidates: list[Candidate] = []
    for adapter in loaded or (FULL,):
        for method, condition in _with_bits(adapter, bits):
            candidates.append(Candidate(method, adapter.place, condition))
    kept = distinct(candidates)
    if kept == (Candidate("full"),):
        return Fact("tuning", kept, Origin.DERIVED, via="code", reason="no adapter is attached")
    place = bits.place if bits is not None and any(item.value == "qlora" for item in kept) else None
    also = () if place is None else (place,)
    return Fact("tuning", kept, Origin.WRITTEN, "peft_config", "code", also=also)


def _same_kind(adapter: Adapter, others: Sequence[Adapter]) -> bool:
    """An adapter read from a checkpoint is taken for the one that is otherwise made new."""
    return "lies with its weights" in adapter.reason and any(other.method != "full" for other in others)


def _with_bits(adapter: Adapter, bits: Fact | None) -> Iterable[tuple[str, str]]:
    if adapter.method != "lora" or bits is None:
        yield adapter.method, adapter.condition
        return
    for candidate in bits.candidates:
        condition = " and ".join(dict.fromkeys(filter(None, (adapter.condition, candidate.condition))))
        yield ("qlora" if candidate.value == 4 else "lora"), condition


def adapter_facts(adapters: Sequence[Adapter]) -> Iterable[Drawn]:
    """Rank, targets and the rest, united over the possibilities that have an adapter."""
    read = [dict(_read(item)) for item in adapters if item.arguments is not None]
    for name in dict.fromkeys(
        (*(row.fact for row in rows("lora").values()), "adapter_cast", "lora_variants", "adapter_options")
    ):
        found = [facts.get(name) for facts in read]
        if any(found):
            yield united(found)


def _read(adapter: Adapter) -> Iterable[tuple[str, Fact]]:
    arguments = adapter.arguments
    if arguments is None:
        return
    own = _OWN_KEYS.get(adapter.method, {})
    for row in rows("lora").values():
        key = own.get(row.key, row.key)
        keyword = arguments.find(key) if key else None
        if keyword is None:
            continue
        value = _sorted(keyword.value) if row.converter == "names" else keyword.value
        drawn = draw(row.fact, value, CONVERTERS[row.converter], key, keyword.name_place)
        if isinstance(drawn, Fact):
            yield row.fact, drawn
    variants = [key for key in _VARIANTS if not _is_off(arguments, key)]
    if variants:
        yield "lora_variants", stated("lora_variants", tuple(variants), adapter.place, variants[0])
    if adapter.cast is not None:
        drawn = draw("adapter_cast", adapter.cast.value, CONVERTERS["flag"], adapter.cast.name, adapter.cast.name_place)
        if isinstance(drawn, Fact):
            yield "adapter_cast", drawn
    found = [(key, arguments.find(key)) for key in _OPTIONS]
    written = [(key, keyword) for key, keyword in found if keyword is not None]
    if written:
        yield "adapter_options", _options(written)


def _is_off(arguments: Arguments, key: str) -> bool:
    keyword = arguments.find(key)
    return keyword is None or (isinstance(keyword.value, Scalar) and keyword.value.value in (None, False))


def _options(written: Sequence[tuple[str, Keyword]]) -> Fact:
    """All options of an adapter as one fact; unknown if one of them is."""
    said: list[str] = []
    for key, keyword in written:
        value = keyword.value
        names = CONVERTERS["names"](value)
        if isinstance(value, Scalar):
            said.append(f"{key}={value.value}")
        elif isinstance(names, tuple):
            said.append(f"{key}={','.join(names)}")
        else:
            return unknown("adapter_options", "computed at run time", key, keyword.name_place)
    place = written[0][1].value.place or written[0][1].name_place
    return Fact("adapter_options", (Candidate(tuple(said), place),), Origin.WRITTEN, written[0][0], "code")


def _sorted(value: Value) -> Value:
    """Target modules as they are; members of the `TaskType` kind of enumeration have no meaning here."""
    if isinstance(value, Items) and any(isinstance(item, Name) for item in value.values):
        return Unknown("names are computed", value.place)
    return value


def preparation_facts(calls: Sequence[Call], chain: Sequence[Call]) -> Iterable[Drawn]:
    """`prepare_model_for_kbit_training`: marks the model prepared and by default turns checkpointing on.

    Its parameter `use_gradient_checkpointing` is True unless given (peft 0.21.2, utils/other.py).

    Args:
        calls: all calls of the program.
        chain: the calls that the model went through, which may repeat some of them.
    """
    seen = {call.place: call for call in (*chain, *calls) if last(call.callee) in _PREPARERS}
    facts: list[Fact] = []
    for call in seen.values():
        yield conditional(stated("prepared_for_kbit", True, call.place, last(call.callee)), call.conditions)
        given = call.argument("use_gradient_checkpointing", 1)
        drawn = (
            draw("activation_checkpointing", given, switch, "use_gradient_checkpointing", call.place)
            if given is not None
            else stated("activation_checkpointing", True, call.place, last(call.callee))
        )
        if isinstance(drawn, Fact):
            facts.append(conditional(drawn, call.conditions))
    yield from facts
