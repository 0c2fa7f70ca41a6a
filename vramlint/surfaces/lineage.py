"""Following a value back to what made it: `get_peft_model(prepare(model.to(…)), config)` to `from_pretrained(…)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vramlint.patterns import lazy
from vramlint.surfaces.draft import options
from vramlint.text import Place
from vramlint.values import Call, Items, Scalar, Unknown, Value

_DEPTH = 24
"""Wrappers that are followed before giving up; real programs stay below ten."""

_LOADERS = ("from_pretrained", "from_config", "from_quantized", "load_model")
_MODEL_CLASS = lazy(r"(^AutoModel|^Fast\w*(?:Model|Transformer)$|For[A-Z]\w+|LMHeadModel|Model)$")
_NO_MODEL = lazy(r"Tokenizer|Processor|Extractor|Config|Peft|Scheduler|Collator|Vae|VAE|Diffusion")
_OTHER_PACKAGES = ("diffusers", "timm", "sentence_transformers", "keras", "tensorflow", "sklearn", "pydantic", "django")
_SENTENCE_MODELS = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder")
_MODULE_BASES = (".Module", ".LightningModule", ".PreTrainedModel")
_NAMES = ("model_name_or_path", "model_name")
"""What the classes of sentence_transformers call the model that they load."""


def last(callee: str, count: int = 1) -> str:
    """The last `count` segments of a qualified name."""
    return callee.rpartition(".")[2] if count == 1 else ".".join(callee.split(".")[-count:])


def package(callee: str) -> str:
    """The top-level package of a qualified name; empty for methods of values."""
    return callee.split(".", 1)[0]


def model_class(call: Call) -> str:
    """The class whose weights a call loads or makes, empty when the call does neither.

    `transformers.AutoModelForCausalLM.from_pretrained` → `AutoModelForCausalLM`;
    `transformers.GPT2LMHeadModel` → itself.
    """
    parts = call.callee.split(".")
    if parts[0] == "litgpt":
        return "GPT" if call.callee.endswith((".GPT", ".GPT.from_name", ".LLM.load")) else ""
    if parts[0] == "sentence_transformers" and parts[-1] in _SENTENCE_MODELS:
        named = call.args or first_module(call) or any(call.argument(name) is not None for name in _NAMES)
        return parts[-1] if named else ""
    if parts[0] in _OTHER_PACKAGES or not parts[0]:
        return ""
    if parts[-1] in _LOADERS and len(parts) > 1:
        name = parts[-2]
    elif parts[0] in {"transformers", "trl"} and call.args and parts[-1] != "PreTrainedModel":
        name = parts[-1]
    else:
        return ""
    if name[:1].islower() or not _MODEL_CLASS.search(name) or _NO_MODEL.search(name):
        return ""
    return name


def first_module(call: Call) -> Call | None:
    """The `models.Transformer("name")` of a model of sentence_transformers that is made from modules."""
    modules = call.argument("modules")
    first = modules.values[0] if isinstance(modules, Items) and modules.values else None
    made = isinstance(first, Call) and package(first.callee) == "sentence_transformers"
    return first if isinstance(first, Call) and made and last(first.callee) == "Transformer" else None


class Lineage(NamedTuple):
    """One way in which a model may come about."""

    root: Value
    """The call that loads or builds it, a string that names it, or an `Unknown`."""
    wrappers: tuple[Call, ...] = ()
    """Calls that it went through, outermost first."""
    condition: str = ""


def lineages(value: Value) -> tuple[Lineage, ...]:
    """All ways in which `value` may have been made."""
    return tuple(_follow(value, (), "", _DEPTH))


def _follow(value: Value, wrappers: tuple[Call, ...], condition: str, depth: int) -> Iterator[Lineage]:
    for option in options(value):
        held = " and ".join(dict.fromkeys(filter(None, (condition, option.condition))))
        match option.value:
            case Call() as call if model_class(call):
                yield Lineage(call, wrappers, held)
            case Call() as call if depth:
                carried = _carried(call)
                if carried is None:
                    yield Lineage(Unknown(_unfollowed(call), call.place), (*wrappers, call), held)
                else:
                    yield from _follow(carried, (*wrappers, call), held, depth - 1)
            case Scalar() | Unknown() as root:
                yield Lineage(root, wrappers, held)
            case other:
                yield Lineage(Unknown("not a model that can be followed", other.place), wrappers, held)


def _unfollowed(call: Call) -> str:
    if is_module(call) and leads_to_model(call):
        return f"{call.kind} holds several models"
    return f"made by {call.kind or call.callee.lstrip('.')}(…)"


def _carried(call: Call) -> Value | None:
    """The model that goes through a call: the receiver, the first argument or `model=`, whichever leads to one.

    A module of the files carries the one model that it keeps; of several it is none.
    """
    leading = [value for value in _inner(call) if value is not None and leads_to_model(value)]
    if leading and is_module(call):
        made = {frozenset(way.root.place for way in lineages(value)) for value in leading}
        return leading[0] if len(made) == 1 else None
    return leading[0] if leading else None


def _inner(call: Call) -> list[Value | None]:
    """What a call may hand on; of a module of the files everything that it keeps."""
    if is_module(call) and call.bindings:
        return [item.value for item in call.bindings]
    if is_module(call):
        return [*call.args, *(item.value for item in call.keywords)]
    return [call.receiver, call.args[0] if call.args else None, call.argument("model")]


def is_module(call: Call) -> bool:
    """Whether a call makes an object of a class that the files derive from a module of torch or Lightning."""
    return any(name.endswith(_MODULE_BASES) for name in call.bases)


def leads_to_model(value: Value, seen: set[int] | None = None) -> bool:
    """Whether some possibility of `value` was loaded or built in this file.

    Args:
        value: any value.
        seen: identities of calls that are known to lead nowhere.
    """
    seen = set() if seen is None else seen
    for option in options(value):
        call = option.value
        if not isinstance(call, Call) or id(call) in seen:
            continue
        if model_class(call):
            return True
        seen.add(id(call))
        if any(leads_to_model(item, seen) for item in _inner(call) if item is not None):
            return True
    return False


def calls_until(calls: Sequence[Call], until: Place | None) -> Sequence[Call]:
    """The calls without those that run after training and are written below it: an evaluation casts and cuts too.

    Args:
        calls: of the program, in the order in which it makes them.
        until: the call that trains; None where nobody knows it.
    """
    start = next((index for index, call in enumerate(calls) if call.place == until), None) if until else None
    if start is None or until is None:
        return calls
    return tuple(
        call
        for index, call in enumerate(calls)
        if index <= start or call.place.path != until.path or call.place < until
    )
