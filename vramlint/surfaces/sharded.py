"""FSDP as a program asks for it: wrappers of torch, the plugin of Accelerate, the strategy of Lightning.

torch 2.13 distributed/fsdp, accelerate 1.15 utils/dataclasses.py, lightning 2.5 {pytorch,fabric}/strategies/fsdp.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS, Converted, Outcome, dtype
from vramlint.surfaces.draft import Arguments, Drawn, distinct, draw, is_absent, options, stated, unknown
from vramlint.surfaces.fsdp_config import prefetch
from vramlint.surfaces.lineage import last
from vramlint.values import Call, Items, Keyword, Name, Scalar, Unknown, Value

_STRATEGIES: Mapping[object, str] = MappingProxyType(
    {
        1: "full_shard",
        2: "shard_grad_op",
        3: "no_shard",
        4: "hybrid_shard",
        5: "hybrid_shard_zero2",
        0: "shard_grad_op",
    }
)
"""Numbers of torch's ShardingStrategy; the flag `reshard_after_forward` of FSDP2, true or false, is 1 or 0 here."""
_SHARDING = ("sharding_strategy", "reshard_after_forward")
_WRAPPING = ("auto_wrap_policy", "transformer_cls_names_to_wrap", "transformer_auto_wrap_policy")
_OFFLOADING = ("cpu_offload", "offload_policy")
_MIXED = ("mixed_precision", "mp_policy", "mixed_precision_policy")
_CHECKPOINTING = ("activation_checkpointing", "activation_checkpointing_policy")
_MESHES = ("device_mesh", "mesh")
_SIZES = ("data_parallel_replicate", "data_parallel_shard")
_CLASSES = ("transformer_layer_cls", "module_classes", "transformer_cls_names_to_wrap")
"""Where the classes stand that become units of their own."""


def sharded_facts(call: Call) -> Iterable[Drawn]:
    """Facts of one call that shards a model: its options in the words of the Trainer's `fsdp`."""
    arguments = Arguments.of(call)
    yield _options(call, arguments)
    yield _wrap_class(arguments)
    yield _prefetch(call, arguments)
    yield _checkpointing(arguments)
    yield from _compute_dtype(arguments)
    yield from _mesh(arguments)


def second_version(call: Call, found: Iterable[Drawn], alike: Sequence[Call]) -> Iterable[Drawn]:
    """The facts of `fully_shard`: FSDP 2, whose groups are what it is called on.

    Args:
        call: the first of a program.
        found: what its options say.
        alike: all of them; what is called on the layers, in a loop or one by one, leaves the rest to the root.
    """
    yield stated("fsdp_version", 2, call.place, last(call.callee))
    layers = len({other.place for other in alike}) > 1
    if layers:
        yield stated("fsdp_layers_alone", True, call.place, last(call.callee))
    policy = _first(Arguments.of(call), _MIXED)
    reduced = policy.value.argument("reduce_dtype", 1) if policy and isinstance(policy.value, Call) else None
    if reduced is not None:
        yield draw("fsdp_reduce_dtype", reduced, dtype, "reduce_dtype", call.place)
    for drawn in found:
        if layers and isinstance(drawn, Fact) and drawn.name == "fsdp":
            words = ((item, *str(item.value).partition(" ")) for item in drawn.candidates)
            wrapped = tuple([replace(item, value=f"{head} auto_wrap{gap}{rest}") for item, head, gap, rest in words])
            yield replace(drawn, candidates=wrapped)
        else:
            yield drawn


def bucket_view(call: Call) -> Drawn:
    """Whether DDP's gradients lie in its buckets: an option of the wrapper, and of what hands it on."""
    given = Arguments.of(call).find("gradient_as_bucket_view")
    if given is None:
        return None
    return draw(given.name, given.value, CONVERTERS["flag"], given.name, given.name_place or call.place)


def _mesh(arguments: Arguments) -> Iterable[Drawn]:
    """Sizes of a mesh of two dimensions: copies of the model, and the GPUs that share each (torch's HYBRID_SHARD)."""
    given = _first(arguments, _MESHES)
    value = given.value if given is not None else None
    if isinstance(value, Call) and last(value.callee) == "init_device_mesh":
        value = value.argument("mesh_shape", 1)
    if given is None or not isinstance(value, Items) or len(value.values) != len(_SIZES):
        return
    for fact, size in zip(_SIZES, value.values, strict=True):
        yield draw(fact, size, CONVERTERS["count"], given.name, given.name_place)


def _first(arguments: Arguments, names: Iterable[str]) -> Keyword | None:
    return next((keyword for name in names if (keyword := arguments.find(name)) is not None), None)


def _options(call: Call, arguments: Arguments) -> Fact:
    given = _first(arguments, _SHARDING)
    words = draw("fsdp", given.value, _strategy, given.name, given.name_place or call.place) if given else None
    if not isinstance(words, Fact):
        words = stated("fsdp", "full_shard", call.place, last(call.callee))
    if words.origin is Origin.UNKNOWN:
        return words
    policy = _first(arguments, _WRAPPING)
    extra = ["auto_wrap"] if policy is not None and not is_absent(policy.value) else []
    extra += ["offload"] if _is_on(arguments, _OFFLOADING) else []
    candidates = distinct(
        Candidate(" ".join((str(item.value), *extra)), item.place or call.place, item.condition)
        for item in words.candidates
    )
    return Fact("fsdp", candidates, Origin.WRITTEN, words.key, words.via or "code")


def _strategy(value: Value) -> Converted:
    match value:
        case Scalar(value=None):
            return Outcome.ABSENT
        case Scalar(value=str(word)) if not word.isdecimal():
            return word.lower()
        case Scalar(value=str(word)):
            return _STRATEGIES.get(int(word), Outcome.OPAQUE)
        case Scalar(value=number):
            return _STRATEGIES.get(number, Outcome.OPAQUE)
        case Name(qualified=qualified):
            return last(qualified).lower()
    return Outcome.OPAQUE


def _is_on(arguments: Arguments, names: Iterable[str]) -> bool:
    """Whether one of these is surely given and no way of switching the thing off."""
    keyword = _first(arguments, names)
    return keyword is not None and all(_is_given(option.value) for option in options(keyword.value))


def _is_given(value: Value) -> bool:
    if is_absent(value) or (isinstance(value, Unknown)):
        return False
    if isinstance(value, Scalar):
        return bool(value.value)
    if isinstance(value, Call) and last(value.callee) == "CPUOffload":
        flag = value.argument("offload_params", 0)
        return isinstance(flag, Scalar) and flag.value is True
    return not (isinstance(value, Call) and last(value.callee) == "OffloadPolicy")


def _wrap_class(arguments: Arguments) -> Fact | None:
    """The class of the layers that are wrapped one by one, where the policy names it."""
    keyword = _first(arguments, _WRAPPING)
    if keyword is None:
        return None
    value = keyword.value
    if isinstance(value, Call):
        value = next((found for name in _CLASSES if (found := value.argument(name)) is not None), value)
    names = [_class_name(item) for item in (value.values if isinstance(value, Items) else (value,))]
    known = tuple([name for name in names if name])
    if not known or len(known) < len(names):
        return None
    place = value.place or keyword.name_place
    return stated("fsdp_wrap_class", known[0] if len(known) == 1 else known, place, keyword.name)


def _class_name(value: Value) -> str:
    match value:
        case Scalar(value=str(name)):
            return name
        case Name(qualified=qualified) if last(qualified) not in {"Module", "always_wrap_policy"}:
            name = last(qualified)
            return name if name[:1].isupper() else ""
    return ""


def _prefetch(call: Call, arguments: Arguments) -> Drawn:
    """When backward gathers the next unit. Accelerate's plugin asks the launcher for what it is not given."""
    given = arguments.find("backward_prefetch")
    if given is None or (last(call.callee).endswith("Plugin") and is_absent(given.value)):
        return None
    return draw("fsdp_backward_prefetch", given.value, _prefetched, given.name, given.name_place or call.place)


def _prefetched(value: Value) -> Converted:
    if isinstance(value, Name):
        return last(value.qualified).lower()
    return "no_prefetch" if is_absent(value) else prefetch(value)


def _checkpointing(arguments: Arguments) -> Fact | None:
    keyword = _first(arguments, _CHECKPOINTING)
    if keyword is None:
        return None
    if isinstance(keyword.value, Unknown):
        return unknown("activation_checkpointing", keyword.value.reason, keyword.name, keyword.value.place)
    on = _is_on(arguments, _CHECKPOINTING)
    return stated("activation_checkpointing", on, keyword.value.place or keyword.name_place, keyword.name)


def _compute_dtype(arguments: Arguments) -> Iterable[Drawn]:
    """`MixedPrecision(param_dtype=…)`: gathered weights take that dtype, which computes as autocast does."""
    keyword = _first(arguments, _MIXED)
    policy = keyword.value if keyword is not None else None
    if not isinstance(policy, Call):
        return
    value = policy.argument("param_dtype", 0)
    if value is None:
        return
    word = draw("bf16", value, dtype, "param_dtype", policy.place)
    if isinstance(word, Fact):
        yield from flags_of(word, {"bf16": "bfloat16", "fp16": "float16"})


def flags_of(word: Fact, meaning: Mapping[str, str]) -> Iterable[Fact]:
    """A fact of one word as the two flags `bf16` and `fp16`; `meaning` maps each to the word that switches it on."""
    for name, on in meaning.items():
        if word.origin is Origin.UNKNOWN:
            yield unknown(name, word.reason, word.key)
            continue
        candidates = distinct(Candidate(item.value == on, item.place, item.condition) for item in word.candidates)
        yield Fact(name, candidates, Origin.WRITTEN, word.key, word.via)
