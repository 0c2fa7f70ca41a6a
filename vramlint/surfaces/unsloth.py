"""Unsloth's loaders and adapters: what they do unless their arguments say otherwise.

unsloth 2026.8.7: models/loader.py, models/llama.py, models/vision.py, models/sentence_transformer.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Draft, Drawn, draw, is_absent, stated, unknown
from vramlint.surfaces.hardware import COMPUTES_IN_BFLOAT16
from vramlint.text import Place
from vramlint.values import Call, Scalar, Value

_CALL = lazy(r"\b(Fast\w*(?:Model|Transformer))\.(from_pretrained|get_peft_model)$")
_SENTENCES = "FastSentenceTransformer"
_LANGUAGE = "FastLanguageModel"
_LIBRARY = "unsloth 2026.8.7"
_KERNELS = "Unsloth puts kernels of its own in the place of the model's, which need less"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_LANGUAGE_LAYERS = r".*(?:language|text).*\.(?:self_attn|attention|attn|mixer|mlp|feed_forward|ffn|dense)\..*"
"""get_peft_regex without vision layers (unsloth_zoo 2026.8 peft_utils.py), in a model that has such."""


class _Bits(Struct, frozen=True):
    """A switch that decides how weights are stored."""

    key: str
    bits: int
    kind: str = ""


_BITS = (
    _Bits("full_finetuning", 16),
    _Bits("load_in_16bit", 16),
    _Bits("load_in_fp8", 8, "fp8"),
    _Bits("load_in_8bit", 8, "int8"),
)
"""Those that hold where they are on, the stronger first; else it is 4 bits unless `load_in_4bit` is off."""
_DEFAULTS: Mapping[str, FactValue] = MappingProxyType(
    {"lora_r": 16, "lora_alpha": 16, "lora_dropout": 0, "adapter_bias": "none"}
)
"""What get_peft_model of every class takes for absent keys, by fact."""
_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "lora_r": "r",
        "lora_alpha": "lora_alpha",
        "lora_dropout": "lora_dropout",
        "adapter_bias": "bias",
        "lora_target_modules": "target_modules",
    }
)
_SENTENCE_TARGETS = ("query", "key", "value", "dense")


def is_unsloth(call: Call) -> bool:
    """Whether one of Unsloth's classes loads or wraps a model here."""
    return _CALL.search(call.callee) is not None


def trains_in_full(root: Value | None) -> bool:
    """Whether the loader is asked to train all weights; get_peft_model returns the model as it is then."""
    match = _CALL.search(root.callee) if isinstance(root, Call) else None
    if match is None or match[1] == _SENTENCES or not isinstance(root, Call):
        return False
    return _is_on(Arguments.of(root), "full_finetuning")


def unsloth_facts(root: Call) -> Iterable[Drawn]:
    """What the loader does by itself: 4-bit in nf4 with double quantization, all else in bfloat16.

    `dtype=None` is bfloat16 where the GPU computes in it, else float16, or float32 where all weights train.
    """
    match, arguments = _CALL.search(root.callee), Arguments.of(root)
    if match is None or arguments.unseen:
        return
    yield stated("unsloth", True, root.place, match[1])
    yield from _dtype(arguments, root.place)
    yield unknown("attention_implementation", _KERNELS, place=root.place)
    yield from _storage(arguments, root.place, sentences=match[1] == _SENTENCES)
    yield from _engine(arguments, root.place)
    yield from _rounding(arguments)


def _dtype(arguments: Arguments, place: Place) -> Iterator[Drawn]:
    dtype, wide = arguments.value("dtype"), arguments.find("float32_mixed_precision")
    full, open_dtype = _is_on(arguments, "full_finetuning"), dtype is None or is_absent(dtype)
    if full and wide is not None and _is_true(wide.value):
        yield stated("load_dtype", "float32", wide.value.place, wide.name)
    elif open_dtype:
        yield _by_gpu("load_dtype", "bfloat16", "float32" if full else "float16", place, "dtype")


def _by_gpu(fact: str, able: FactValue, unable: FactValue, place: Place | None, key: str) -> Fact:
    """A fact that depends on whether the GPU computes in bfloat16."""
    held = ((able, COMPUTES_IN_BFLOAT16), (unable, f"not {COMPUTES_IN_BFLOAT16}"))
    candidates = tuple(Candidate(value, place, condition) for value, condition in held)
    return Fact(fact, candidates, Origin.DERIVED, key, "library", reason="Unsloth looks at the GPU")


def _storage(arguments: Arguments, place: Place, *, sentences: bool) -> Iterator[Drawn]:
    """How weights are stored; without a word of it in 4 bits, those of sentence transformers in 16."""
    if arguments.find("quantization_config"):
        return
    for switch in _BITS:
        keyword = arguments.find(switch.key)
        if keyword is not None and _is_true(keyword.value):
            yield stated("quantization_bits", switch.bits, keyword.value.place, switch.key, "literal")
            if switch.kind:
                yield stated("quantization_type", switch.kind, keyword.value.place, switch.key, "library")
            return
        if keyword is not None and not isinstance(keyword.value, Scalar):
            return  # only run time knows
    four = arguments.value("load_in_4bit")
    if four is None:
        yield stated("quantization_bits", 16 if sentences else 4, place, "load_in_4bit", "library")
    if (four is None and sentences) or (isinstance(four, Scalar) and four.value is False):
        return
    yield stated("quantization_type", "nf4", place, "load_in_4bit", "library")
    yield stated("double_quantization", True, place, "load_in_4bit", "library")
    dtype = arguments.value("dtype")
    if dtype is None or is_absent(dtype):
        yield _by_gpu("quantization_compute_dtype", "bfloat16", "float16", place, "dtype")


def _rounding(arguments: Arguments) -> Iterator[Drawn]:
    """`qat_scheme`: quantization-aware training."""
    keyword = arguments.find("qat_scheme")
    if keyword is not None and not is_absent(keyword.value):
        yield draw("fake_quantization", keyword.value, CONVERTERS["text"], keyword.name, keyword.name_place)


def _engine(arguments: Arguments, place: Place) -> Iterator[Drawn]:
    """`fast_inference=True`: vLLM shares the card, and takes half of it unless it is told otherwise."""
    keyword = arguments.find("fast_inference")
    if keyword is not None and keyword.value == Scalar(False, keyword.value.place):
        yield stated("inference_engine", "none", keyword.value.place, "fast_inference")
    if keyword is None or not _is_true(keyword.value):
        return
    yield stated("inference_engine", "vllm", keyword.value.place, "fast_inference")
    part = arguments.find("gpu_memory_utilization")
    if part is None:
        yield stated("inference_memory_fraction", 0.5, place, "gpu_memory_utilization", "library")
    else:
        yield draw("inference_memory_fraction", part.value, CONVERTERS["number"], part.name, part.name_place)


def attaching_facts(root: Value, chain: Sequence[Call]) -> Iterator[Drawn]:
    """What get_peft_model takes for what its call leaves out, and how it checkpoints.

    Args:
        root: the call that loads the model.
        chain: the calls that it went through.
    """
    for call in chain:
        match = _CALL.search(call.callee)
        arguments = Arguments.of(call)
        if match is None or match[2] != "get_peft_model" or arguments.unseen:
            continue
        if isinstance(root, Call) and trains_in_full(root):
            yield from _checkpointing(Arguments.of(root), root.place, on=True)
            continue
        yield from _checkpointing(arguments, call.place, on=match[1] != _SENTENCES)
        yield from _rounding(arguments)
        for fact, value in {**_DEFAULTS, "lora_target_modules": _targets(match[1], arguments)}.items():
            given = arguments.value(_KEYS[fact])
            if given is None or (fact == "lora_target_modules" and is_absent(given)):
                yield Fact(fact, (Candidate(value, call.place),), Origin.DEFAULT, _KEYS[fact], "library", _LIBRARY)


def _checkpointing(arguments: Arguments, place: Place, *, on: bool) -> Iterator[Drawn]:
    """Inputs of checkpointed layers wait in host memory where `use_gradient_checkpointing` is "unsloth"."""
    keyword = arguments.find("use_gradient_checkpointing")
    if keyword is None:
        for fact in ("activation_checkpointing", "checkpointing_offload"):
            yield Fact(fact, (Candidate(on, place),), Origin.DEFAULT, "use_gradient_checkpointing", "library", _LIBRARY)
    elif isinstance(keyword.value, Scalar):
        offloads = keyword.value.value == "unsloth"
        yield stated("checkpointing_offload", offloads, keyword.value.place or place, keyword.name)
    yield stated("checkpointing_reentrant", True, place, "get_peft_model", "library")


def mixed_precision(draft: Draft, roots: Iterable[Value]) -> Iterator[Drawn]:
    """Unsloth's trainers compute under autocast in the dtype of the model, unless the arguments ask for another one.

    models/rl.py: `bf16` follows the model where neither switch is on.
    """
    if not {"bf16", "fp16"}.isdisjoint(draft.facts):
        return
    for root in roots:
        match = _CALL.search(root.callee) if isinstance(root, Call) else None
        if match is not None and match[1] != _SENTENCES:
            yield _by_gpu("bf16", True, False, root.place, "bf16")
            yield _by_gpu("fp16", False, True, root.place, "fp16")


def _targets(name: str, arguments: Arguments) -> FactValue:
    """Modules that get adapters where none are named."""
    if name == _LANGUAGE:
        return _PROJECTIONS
    if name == _SENTENCES:
        return _SENTENCE_TARGETS
    vision = arguments.value("finetune_vision_layers")
    return _LANGUAGE_LAYERS if isinstance(vision, Scalar) and vision.value is False else "all-linear"


def _is_on(arguments: Arguments, key: str) -> bool:
    value = arguments.value(key)
    return value is not None and _is_true(value)


def _is_true(value: Value) -> bool:
    """On, also by a word such as `load_in_fp8="block"`."""
    return isinstance(value, Scalar) and value.value not in (False, None, 0)


def replaces_trl(imports: Sequence[str]) -> bool:
    """Whether the program imports Unsloth, which puts classes of its own, with further keys, in the place of TRL's."""
    return any(name.partition(".")[0] == "unsloth" for name in imports)
