"""Facts that a vocabulary says by several keys together, or by keys that say other facts as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.facts import Fact, FactValue
from vramlint.surfaces.accelerate_words import strategy
from vramlint.surfaces.fsdp_config import SHARDINGS
from vramlint.surfaces.holding import Holder
from vramlint.surfaces.insertion import has_keyword
from vramlint.surfaces.spelling import Written
from vramlint.values import Scalar

Spell = Callable[[FactValue, Fact, Holder], "Mapping[str, Written] | None"]
"""From the new value, the fact as it is and where its keys are to keys and what they hold; None: it can't be said."""

_FOUR, _EIGHT = "load_in_4bit", "load_in_8bit"


def _bits(*, by_default: bool, unsaid: bool) -> Spell:
    """Bits of quantized weights, by two switches.

    Args:
        by_default: without a word weights have four bits.
        unsaid: switches that are off say that nothing is quantized.
    """

    def spell(value: FactValue, _fact: Fact, holder: Holder) -> Mapping[str, Written] | None:
        if isinstance(value, bool) or value not in ((4, 8, 16) if unsaid else (4, 8)):
            return None
        wanted = {_FOUR: value == 4, _EIGHT: value == 8}
        off = by_default and value != 4
        return {key: on for key, on in wanted.items() if on or (off and key == _FOUR) or _has(holder, key)}

    return spell


def _has(holder: Holder, key: str) -> bool:
    if holder.root is not None:
        return holder.root.entry(key) is not None
    return holder.place is not None and has_keyword(holder.document, holder.place, key)


def _sharding(value: FactValue, fact: Fact, holder: Holder) -> Mapping[str, Written] | None:
    """The words of `--fsdp` in Accelerate's configuration."""
    if not isinstance(value, str) or holder.root is None or not value:
        return None
    sharding, *options = value.split()
    before = str(fact.value).split()[1:]
    if not {"auto_wrap", "offload"}.issuperset(options) or options != sorted(set(options)):
        return None
    keys: dict[str, Written] = {}
    version = holder.root.get("fsdp_config", "fsdp_version")
    second = isinstance(version, Scalar) and str(version.value) == "2"
    if second and sharding not in ("full_shard", "shard_grad_op"):
        return None
    if sharding != str(fact.value).split()[0]:
        word = next((word for word, meant in SHARDINGS.items() if meant == sharding and word.isupper()), None)
        if word is None:
            return None
        named = holder.root.get("fsdp_config", "fsdp_sharding_strategy")
        keys |= (
            {"fsdp_config.fsdp_reshard_after_forward": sharding == "full_shard"}
            if second
            else {f"fsdp_config.fsdp_{_strategy_key(named is not None, fact)}": word}
        )
    if ("auto_wrap" in options) != ("auto_wrap" in before):
        keys["fsdp_config.fsdp_auto_wrap_policy"] = "TRANSFORMER_BASED_WRAP" if "auto_wrap" in options else "NO_WRAP"
    if ("offload" in options) != ("offload" in before):
        keys["fsdp_config.fsdp_offload_params"] = "offload" in options
    return keys


def _processes(value: FactValue, _fact: Fact, holder: Holder) -> Mapping[str, Written] | None:
    """How many processes Accelerate starts: `distributed_type: NO` starts one, whatever else it is told."""
    if holder.root is None or isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return None
    kind = holder.root.get("distributed_type")
    alone = kind is not None and strategy(kind) == "none"
    return {"num_processes": value, **({"distributed_type": "MULTI_GPU"} if alone and value > 1 else {})}


def _strategy_key(named: bool, fact: Fact) -> str:
    return "sharding_strategy" if named or not fact.key.endswith("reshard_after_forward") else "reshard_after_forward"


def _arrival(value: FactValue, _fact: Fact, holder: Holder) -> Mapping[str, Written] | None:
    """What `from_pretrained` is told to load in: by the name that is there, else by the one that all releases take."""
    key = "dtype" if _has(holder, "dtype") else "torch_dtype"
    return {key: value} if isinstance(value, str) else None


def _on_host(**keys: bool) -> Spell:
    """How a state dict comes to the host, of one process alone."""
    return lambda value, _fact, _holder: keys if value is True else None


SEVERAL: Mapping[str, Mapping[str, Spell]] = MappingProxyType(
    {
        "quantization_bits": MappingProxyType(
            {
                "unsloth": _bits(by_default=True, unsaid=True),
                "bitsandbytes": _bits(by_default=False, unsaid=True),
                "from-pretrained": _bits(by_default=False, unsaid=True),
                "trl-model": _bits(by_default=False, unsaid=False),
            }
        ),
        "arrival_dtype": MappingProxyType({"from-pretrained": _arrival}),
        "state_dict_on_host": MappingProxyType(
            {
                "full-state-dict": _on_host(offload_to_cpu=True, rank0_only=True),
                "state-dict-options": _on_host(cpu_offload=True),
            }
        ),
        "fsdp": MappingProxyType({"accelerate-config": _sharding}),
        "world_size": MappingProxyType({"accelerate-config": _processes}),
    }
)
"""By fact and vocabulary."""
