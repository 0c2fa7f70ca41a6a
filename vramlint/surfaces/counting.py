"""Parameters of a module that the files define themselves, counted layer by layer from what its constructors make."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from msgspec import Struct, field

from vramlint.surfaces.draft import options
from vramlint.surfaces.layers import UnknownSizeError, own_parameters, whole
from vramlint.surfaces.lineage import is_module, last, model_class, package
from vramlint.values import Alternatives, Call, Items, Scalar, Table, Unknown, Value

_CONTAINERS = ("ModuleList", "Sequential", "ModuleDict", "ParameterList", "ParameterDict")
_STACKS = ("TransformerEncoder", "TransformerDecoder")
_TENSORS = frozenset({"zeros", "ones", "empty", "full", "rand", "randn", "tensor", "Tensor", "eye"})
_SAME_SIZE_WORDS = """
    bfloat16 clone contiguous cuda detach div double exp fill_ float flatten half log mul normal_ ones_ permute
    requires_grad_ reshape to transpose trunc_normal_ uniform_ unsqueeze view zero_ copy_ data kaiming_uniform_
"""
_SAME_SIZE = frozenset(f".{word}" for word in _SAME_SIZE_WORDS.split())
"""Methods that leave a tensor as many elements as it has."""
_HOLDS_NONE_WORDS = """
    argparse collections dataclasses functools json logging math numpy os pathlib random re time torchmetrics wandb
"""
_HOLDS_NONE = frozenset(_HOLDS_NONE_WORDS.split())
"""Packages whose objects hold no parameters."""
_NO_MODEL = ("Tokenizer", "Processor", "Config", "FeatureExtractor")
_BIGGEST = 4


class Count(Struct):
    """A count in the making. A module that is held in two places counts once."""

    total: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    """By the path of the layers, those of one list together."""
    seen: set[int] = field(default_factory=set)
    partly: bool = False
    """Parts that are not known are left out, instead of leaving the whole number open."""

    def add(self, name: str, count: int) -> None:
        """Take `count` parameters of the part called `name`."""
        if count:
            self.total += count
            self.parts[name] = self.parts.get(name, 0) + count

    def biggest(self) -> str:
        """The biggest parts in words: `h 85.1M, wte 38.6M`."""
        ordered = sorted(self.parts.items(), key=lambda item: -item[1])[:_BIGGEST]
        return ", ".join(f"{name} {short(count)}" for name, count in ordered)


def short(count: int) -> str:
    """A number of parameters as people write it: 124.4M."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def count_module(call: Call, *, partly: bool = False) -> Count:
    """All parameters of a module; with `partly` those of the parts that are known.

    Raises:
        UnknownSizeError: part of it is not known.
    """
    count = Count(partly=partly)
    _module(call, "", count)
    return count


def holds_parameters(value: Value) -> bool:
    """Whether a value is a module or a parameter of torch, or of a class of the files over one."""
    return isinstance(value, Call) and (is_module(value) or value.callee.startswith("torch.nn."))


def _module(call: Call, name: str, count: Count) -> None:
    if id(call) in count.seen:
        return
    count.seen.add(id(call))
    try:
        _counted(call, name, count)
    except UnknownSizeError:
        if not count.partly:
            raise


def _counted(call: Call, name: str, count: Count) -> None:
    if call.open_keywords and is_module(call):
        raise UnknownSizeError(f"the constructor of {name or 'the model'} is not followed to its end")
    kind = last(call.callee)
    if call.callee.startswith("torch.nn.") and kind in _CONTAINERS:
        _container(call, name, count)
    elif call.callee.startswith("torch.nn.") and kind in _STACKS:
        _stack(call, name, count)
    elif call.callee.startswith("torch.nn.") and kind in {"Parameter", "UninitializedParameter"}:
        count.add(name or "parameter", _elements(call.argument("data", 0)))
    elif is_module(call):
        _attributes(call, name, count)
    elif call.callee.startswith("torch.nn."):
        _leaf(call, name, count)
    else:
        _foreign(call, name, count)


def _leaf(call: Call, name: str, count: Count) -> None:
    every, weight = own_parameters(call)
    replaced = _replaced(call)
    if replaced is None:
        count.add(name or last(call.callee), every)
        return
    count.add(name or last(call.callee), every - weight)
    if holds_parameters(replaced):
        _value(replaced, name, count)


def _replaced(call: Call) -> Value | None:
    """What a layer's `weight` was replaced by: that of another layer, or a parameter of its own."""
    value = next((item.value for item in reversed(call.bindings) if item.name == "weight"), None)
    if isinstance(value, Alternatives):
        raise UnknownSizeError("whether a weight is tied to another is decided at run time")
    return value


def _container(call: Call, name: str, count: Count) -> None:
    """ModuleList, Sequential, ModuleDict: their parts count under the container's name."""
    for part in call.args:
        _parts(part, name, count)
    for keyword in call.bindings:
        if "." not in keyword.name:
            _parts(keyword.value, name, count)


def _parts(value: Value, name: str, count: Count) -> None:
    match value:
        case Items(values=values):
            for item in values:
                _pair_or_value(item, name, count)
        case Table():
            for entry in value:
                _value(entry.value, _joined(name, entry.key), count)
        case Call() if last(value.callee) == "OrderedDict":
            for item in value.args:
                _parts(item, name, count)
        case _:
            _value(value, name, count, must=True)


def _pair_or_value(item: Value, name: str, count: Count) -> None:
    """An element of a list of layers, or the pair of a name and a layer."""
    if isinstance(item, Items) and len(item.values) == len(("name", "layer")):
        item = item.values[1]
    _value(item, name, count, must=True)


def _value(value: Value, name: str, count: Count, *, must: bool = False) -> None:
    """What is held under a name; `must`: it is a module for sure, so an unknown one leaves the number open."""
    match value:
        case Call():
            _module(value, name, count)
        case Alternatives():
            _one_of(value, name, count)
        case Unknown(reason=reason) if must:
            raise UnknownSizeError(f"layers of {name or 'the model'}: {reason}")


def _one_of(value: Alternatives, name: str, count: Count) -> None:
    """Alternatives of which none holds parameters; others leave the number open."""
    if any(holds_parameters(option.value) for option in options(value)):
        counts = set()
        for option in options(value):
            trial = Count(seen=set(count.seen), partly=count.partly)
            _value(option.value, name, trial)
            counts.add(trial.total)
        if len(counts) > 1:
            raise UnknownSizeError(f"{name} depends on {value.options[0].condition or 'a branch'}")
        count.add(name, counts.pop())


def _attributes(call: Call, name: str, count: Count) -> None:
    held = {keyword.name: keyword.value for keyword in call.bindings if "." not in keyword.name}
    for attribute, value in held.items():
        _value(value, _joined(name, attribute), count)


def _joined(name: str, attribute: str) -> str:
    """The path of a part; deep ones keep their first names, for people know those."""
    return f"{name}.{attribute}" if name and name.count(".") < 1 else name or attribute


def _stack(call: Call, name: str, count: Count) -> None:
    """TransformerEncoder, TransformerDecoder: copies of one layer, and a norm (torch/nn/modules/transformer.py)."""
    kind = last(call.callee)
    layer = call.argument("encoder_layer" if kind == "TransformerEncoder" else "decoder_layer", 0)
    copies = whole(call.argument("num_layers", 1), f"num_layers of {kind}")
    one = Count()
    if not isinstance(layer, Call):
        raise UnknownSizeError(f"the layer of {kind} is not known")
    _module(layer, name, one)
    count.add(name or kind, copies * one.total)
    norm = call.argument("norm", 2)
    if isinstance(norm, Call):
        _module(norm, name, count)


def _foreign(call: Call, name: str, count: Count) -> None:
    """Something of another library: a copy of a module, or an object that may hold parameters."""
    if last(call.callee) == "deepcopy" and call.args:
        copy = Count()
        _value(call.args[0], name, copy, must=True)
        count.add(name, copy.total)
        return
    source = package(call.callee)
    harmless = source in _HOLDS_NONE or (source == "torch" and not call.callee.startswith("torch.hub"))
    if harmless or any(part in call.callee for part in _NO_MODEL):
        return
    if not source and not any(_is_part(item) for item in (call.receiver, *call.args)):
        return
    if model_class(call) or source:
        raise UnknownSizeError(f"{name or 'the model'} is made by {call.callee.lstrip('.')}(…)")


def _is_part(value: Value | None) -> bool:
    return value is not None and holds_parameters(value)


def _elements(value: Value | None) -> int:
    """Elements of the tensor that a parameter is made of."""
    if isinstance(value, Call) and value.callee in _SAME_SIZE:
        return _elements(value.receiver)
    if isinstance(value, Call) and value.callee.startswith("torch.") and last(value.callee) in _TENSORS:
        return _shape(value)
    if isinstance(value, Unknown):
        raise UnknownSizeError(f"the shape of a parameter: {value.reason}")
    raise UnknownSizeError("the shape of a parameter is not known")


def _shape(call: Call) -> int:
    kind, what = last(call.callee), "the shape of a parameter"
    first = call.argument("size", 0)
    if kind == "tensor":
        return _literal(call.args[0] if call.args else None)
    if isinstance(first, Items):
        return prod(_whole_numbers(first.values, what))
    sizes = call.args[:1] if kind == "full" else call.args
    return prod(_whole_numbers(sizes, what))


def _whole_numbers(values: Iterable[Value], what: str) -> list[int]:
    return [whole(item, what) for item in values]


def _literal(value: Value | None) -> int:
    match value:
        case Scalar():
            return 1
        case Items(values=values):
            return sum(_literal(item) for item in values)
    raise UnknownSizeError("the shape of a parameter is not known")
