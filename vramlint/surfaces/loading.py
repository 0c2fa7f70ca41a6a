"""Loading a model: `from_pretrained`, `from_config`, casts after loading, model names given to a trainer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vramlint.facts import Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS, Outcome, dtype
from vramlint.surfaces.draft import Arguments, Drawn, draw, draw_keyword, stated, unknown
from vramlint.surfaces.families import model_type_of_class
from vramlint.surfaces.keys import rows
from vramlint.surfaces.lineage import Lineage, first_module, last, model_class
from vramlint.surfaces.litgpt import is_litgpt, litgpt_name
from vramlint.surfaces.quantization import quantization_facts
from vramlint.surfaces.unsloth import is_unsloth, unsloth_facts
from vramlint.values import Call, Entry, Name, Scalar, Table, Unknown, Value

_LATER = ("quantization_bits",)
"""Facts of the from-pretrained vocabulary that another module reads with more context."""

_TASKS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (lazy(pattern), task)
    for pattern, task in (
        (r"(T5|Bart|BART|Pegasus|Marian|Prophet|Longt5|LED)\w*ForConditionalGeneration", "seq2seq"),
        (r"ForSeq2SeqLM", "seq2seq"),
        (r"ForSpeechSeq2Seq|Whisper\w*ForConditionalGeneration", "speech-seq2seq"),
        (r"ChatGLM\w*ForConditionalGeneration", "sft"),
        (r"ForConditionalGeneration|ForVision2Seq|ForImageTextToText", "sft-vlm"),
        (r"ForCausalLM|LMHeadModel|^Fast\w*Model", "sft"),
        (r"ForMaskedLM|ForPreTraining", "mlm"),
        (r"ForSequenceClassification", "seq-cls"),
        (r"ForTokenClassification", "token-cls"),
        (r"ForQuestionAnswering", "qa"),
        (r"ForMultipleChoice", "multiple-choice"),
        (r"ForImageClassification", "image-cls"),
        (r"^CrossEncoder$", "seq-cls"),
        (r"^(Fast)?SentenceTransformer$", "embedding-pairs"),
        (r"^SparseEncoder$", "sparse-embedding"),
        (r"^MultiVectorEncoder$", "multi-vector-embedding"),
    )
)
"""Class names of transformers to what a plain Trainer optimises with them."""

_HOME = lazy(r"value of (~/\S+): the home directory$")
"""Why the shell reader does not know a path in the home directory, which names a model as well as any other."""

_CASTS: Mapping[str, str] = MappingProxyType(
    {".half": "float16", ".bfloat16": "bfloat16", ".float": "float32", ".double": "float64"}
)
"""Methods of a module that cast all its weights."""

_MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "GPT2Config": "gpt2",
        "GPTNeoXConfig": "gpt_neox",
        "GPTNeoConfig": "gpt_neo",
        "GPTJConfig": "gptj",
        "GPTBigCodeConfig": "gpt_bigcode",
        "Qwen2MoeConfig": "qwen2_moe",
        "Qwen3MoeConfig": "qwen3_moe",
        "DebertaV2Config": "deberta-v2",
        "XLMRobertaConfig": "xlm-roberta",
        "DistilBertConfig": "distilbert",
        "NomicBertConfig": "nomic_bert",
    }
)
"""Config classes whose model_type isn't simply their name in small letters (transformers 5.23.0, models/*)."""

_CONFIG_KEYS = (
    ("use_cache", "use_cache", "flag"),
    ("_attn_implementation", "attention_implementation", "text"),
    ("attn_implementation", "attention_implementation", "text"),
    ("_experts_implementation", "experts_implementation", "text"),
    ("experts_implementation", "experts_implementation", "text"),
    ("output_router_logits", "router_logits", "flag"),
)
"""Keys of a configuration object, or attributes that are assigned to it, that say something of training."""
_ARGUMENTS_ONLY = frozenset({"attn_implementation", "experts_implementation"})
"""Those that only its constructor knows."""


def loading_facts(lineage: Lineage) -> Iterable[Drawn]:
    """Facts of the call that loads the model and of the casts that it goes through."""
    yield from _casts(lineage)
    yield from _quantized(lineage)
    root = lineage.root
    if not isinstance(root, Call):
        return
    arguments = Arguments.of(root)
    yield from unsloth_facts(root)
    yield from _keywords(arguments)
    passed_on = arguments.value("model_kwargs")
    if isinstance(passed_on, Table):
        yield from mapping_facts(passed_on)
    family = model_type_of_class(model_class(root))
    if family:
        yield stated("model_type", family, root.place, model_class(root))
    config = _config(root)
    if config is not None:
        yield from _config_facts(config)
    if "Liger" in root.callee:
        yield stated("fused_loss", True, root.place)
    yield from quantization_facts(arguments)


def mapping_facts(table: Table) -> Iterable[Drawn]:
    """Facts of `model_init_kwargs`, with which a trainer loads the model that it got by name."""
    arguments = Arguments.of(table)
    yield from _keywords(arguments)
    yield from quantization_facts(arguments)


def model_fact(lineage: Lineage) -> Fact | None:
    """Which model: the id or path given to the loader, or to the config that it is built from."""
    root = lineage.root
    if isinstance(root, Unknown):
        return unknown("model", root.reason, "model", root.place)
    if isinstance(root, Scalar):
        return _identity(root, "model")
    if not isinstance(root, Call):
        return None
    if is_litgpt(root):
        return _identity(litgpt_name(root) or Unknown("its config cannot be followed"), "name")
    name = root.argument("pretrained_model_name_or_path", 0) or root.argument("model_name")
    module = first_module(root)
    name = name or root.argument("model_name_or_path") or (module and module.argument("model_name_or_path", 0))
    config = _config(root)
    if config is not None and not _is_loader(root):
        name = config.argument("pretrained_model_name_or_path", 0) if _is_loader(config) else None
        return _identity(name, "config") if name is not None else None
    if name is None:
        return unknown("model", f"no name is given to {last(root.callee, 2)}", "model", root.place)
    return _identity(name, "pretrained_model_name_or_path")


def inline_config(lineage: Lineage) -> Table | None:
    """The config.json keys of a model that is built from `LlamaConfig(hidden_size=…)` in the script."""
    root = lineage.root
    config = _config(root) if isinstance(root, Call) and not _is_loader(root) else None
    if config is None or _is_loader(config):
        return None
    arguments = Arguments.of(config)
    name = last(config.callee)
    if arguments.unseen or not name[:1].isupper():  # `Config.from_file(path)` reads its keys elsewhere
        return None
    kind = _MODEL_TYPES.get(name, name.removesuffix("Config").lower())
    return Table((Entry("model_type", None, Scalar(kind, config.place, "code")), *arguments.table()), config.place)


def objective_of(lineage: Lineage) -> str:
    """What a plain Trainer optimises with this model, by its class; empty when the class doesn't say."""
    name = _class_of(lineage.root) if isinstance(lineage.root, Call) else ""
    task = next((task for pattern, task in _TASKS if pattern.search(name)), "")
    if task == "sft" and isinstance(lineage.root, Call) and not _is_loader(lineage.root):
        return "pretrain"
    return task


def _class_of(root: Call) -> str:
    """The class that is trained; Unsloth's loaders take it as `auto_model` where it is no language model."""
    chosen = root.argument("auto_model") if is_unsloth(root) else None
    return last(chosen.qualified) if isinstance(chosen, Name) else model_class(root)


def cast_of(call: Call) -> Fact | None:
    """The `load_dtype` that `.half()`, `.to(torch.bfloat16)` or `.to(device, dtype=…)` leaves the weights in."""
    if call.callee in _CASTS:
        return stated("load_dtype", _CASTS[call.callee], call.place, call.callee.lstrip("."))
    if call.callee != ".to":
        return None
    for value in (call.argument("dtype"), *call.args):
        if value is None:
            continue
        converted = dtype(value)
        if not isinstance(converted, Outcome) and not isinstance(value, Scalar):
            return stated("load_dtype", converted, value.place or call.place, "to")
    return None


def _identity(name: Value, key: str) -> Fact | None:
    home = _HOME.match(name.reason) if isinstance(name, Unknown) else None
    if home is not None:
        name = Scalar(home[1], name.place, "cli")
    drawn = draw("model", named_folder(name), CONVERTERS["text"], key)
    if isinstance(drawn, Fact):
        return drawn if all(item.value is not None for item in drawn.candidates) else _maybe_unnamed(drawn)
    return unknown("model", "no model is named: it has no default", key, name.place)


def named_folder(name: Value) -> Value:
    """A path of which only run time knows where it begins: models are known by the name of their folder too."""
    if isinstance(name, Unknown) and name.suffix.count("/") and name.suffix.strip("/"):
        return Scalar(f"…{name.suffix}" if name.suffix.startswith("/") else name.suffix, name.place, "cli")
    return name


def _maybe_unnamed(fact: Fact) -> Fact:
    if fact.origin is Origin.UNKNOWN:
        return fact
    named = tuple(item for item in fact.candidates if item.value is not None)
    return Fact(fact.name, named, fact.origin, fact.key, fact.via)


def _casts(lineage: Lineage) -> Iterable[Drawn]:
    """The outermost cast decides."""
    for wrapper in lineage.wrappers:
        fact = cast_of(wrapper)
        if fact is not None:
            yield fact
            return


def _quantized(lineage: Lineage) -> Iterable[Drawn]:
    """`model.quantize(4)`, which the code of ChatGLM, Baichuan and their like has: weights of so many bits."""
    for wrapper in lineage.wrappers:
        bits = wrapper.argument("bits", 0) if wrapper.callee == ".quantize" else None
        if bits is not None:
            yield draw("quantization_bits", bits, CONVERTERS["count"], "quantize", wrapper.place)


def _keywords(arguments: Arguments) -> Iterable[Drawn]:
    for row in rows("from-pretrained").values():
        keyword = arguments.find(row.key)
        if keyword is None or row.fact in _LATER or row.fact == "model":
            continue
        yield draw_keyword(row, keyword)
    for key, fact, convert in _CONFIG_KEYS:
        keyword = arguments.find(f"config.{key}") if key not in _ARGUMENTS_ONLY else None
        if keyword is not None:
            yield draw(fact, keyword.value, CONVERTERS[convert], f"config.{key}", keyword.name_place)


def _config(root: Call) -> Call | None:
    """The configuration object that a model is loaded with or built from."""
    value = root.argument("config")
    if value is None and last(root.callee) != "from_pretrained" and root.args:
        value = root.args[0]
    return value if isinstance(value, Call) and "Config" in value.callee else None


def _config_facts(config: Call) -> Iterable[Drawn]:
    arguments = Arguments.of(config)
    for key, fact, convert in _CONFIG_KEYS:
        keyword = arguments.find(key)
        if keyword is not None:
            yield draw(fact, keyword.value, CONVERTERS[convert], key, keyword.name_place)


def _is_loader(call: Call) -> bool:
    return last(call.callee) in {"from_pretrained", "from_quantized", "load_model"}
