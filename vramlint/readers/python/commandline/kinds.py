"""What the words of a command line become: by an annotation, or by their looks."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import libcst as cst

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.readers.python.choices import each
from vramlint.readers.python.commandline.words import Words, is_loose, relocated
from vramlint.readers.python.objects import Choice, Mapping, Object, Sequence, Slot
from vramlint.readers.python.operators import reason_of
from vramlint.values import Plain, Scalar, Unknown

_YES = frozenset({"yes", "true", "t", "y", "1", "on"})
_NO = frozenset({"no", "false", "f", "n", "0", "off"})
_LISTS = frozenset({"list", "List", "Sequence", "Iterable", "tuple", "Tuple", "set", "Set", "frozenset"})
_DICTS = frozenset({"dict", "Dict", "Mapping", "MutableMapping", "Any"})
_INTEGER = lazy(r"[-+]?\d[\d_]*")
_REAL = lazy(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LONGEST = 10_000
"""Characters of a word that is read as a Python or JSON value."""


class Kind(NamedTuple):
    """What an annotation wants."""

    names: tuple[str, ...] = ()
    """int, float, bool, str, dict in the order to try; empty: what the word looks like."""
    many: bool = False
    optional: bool = False

    @property
    def is_flag(self) -> bool:
        """Whether it may stand without a value."""
        return "bool" in self.names and not self.many


ANY = Kind()


@lru_cache(maxsize=2048)  # one class of settings is read for every launcher
def kind_of(annotation: cst.BaseExpression | None) -> Kind:
    """The kind behind an annotation's source text: `Optional[List[int]]`, `int | None`, `Literal["a"]`."""
    if annotation is None:
        return ANY
    text = cst.Module([]).code_for_node(annotation)
    try:
        return _kind(syntax.expression(text.strip()))
    except syntax.UNPARSED:
        return ANY


def _kind(node: ast.expr) -> Kind:
    match node:
        case ast.Constant(value=str() as text):
            try:
                return _kind(syntax.expression(text))
            except (SyntaxError, ValueError):
                return ANY
        case ast.Constant(value=None):
            return Kind(("None",), optional=True)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return Kind((), many=True) if name in _LISTS else Kind(_plain_name(name))
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _union((_kind(left), _kind(right)))
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            return _generic(name, inner)
    return ANY


def _plain_name(name: str) -> tuple[str, ...]:
    if name in ("int", "float", "bool", "str"):
        return (name,)
    if name in ("Path", "PathLike"):
        return ("str",)
    return ("dict",) if name in _DICTS - {"Any"} else ()


def _generic(name: str, inner: ast.expr) -> Kind:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Optional":
        return _union((_kind(inner), Kind(optional=True)))
    if name == "Union":
        return _union(tuple(map(_kind, parts)))
    if name == "Annotated":
        return _kind(parts[0])
    if name == "Literal":
        kinds = {type(part.value).__name__ for part in parts if isinstance(part, ast.Constant)}
        return Kind(tuple(kind for kind in ("int", "float", "bool", "str") if kind in kinds))
    if name in _LISTS:
        return _kind(parts[0])._replace(many=True)
    return Kind(("dict",)) if name in _DICTS else ANY


_ORDER = ("dict", "bool", "int", "float", "str")


def _union(kinds: tuple[Kind, ...]) -> Kind:
    names = {name for kind in kinds for name in kind.names} - {"None"}
    # `bool | str` takes True as a bool; `dict | str` takes JSON as a dict
    return Kind(
        tuple(name for name in _ORDER if name in names),
        any(kind.many for kind in kinds),
        any(kind.optional for kind in kinds),
    )


def as_text(item: Object) -> Object:
    """The word itself."""
    return item


def convert(item: Object, kind: Kind, name: str = "") -> Object:
    """A word as an annotation takes it."""
    return each(lambda one: _convert(one, kind, name), item)


def _convert(item: Object, kind: Kind, name: str) -> Object:
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        return item
    if not kind.names:
        return guess(item)
    for candidate in kind.names:
        found = _CONVERSIONS[candidate](item.value)
        if found is not NotImplemented:
            return relocated(found, item) if isinstance(found, (Mapping, Sequence)) else _scalar(found, item)
    if kind.optional and item.value in ("None", "null"):
        return Scalar(None, item.place, item.via)
    return Unknown(f"command line: {item.value!r} is no {' or '.join(kind.names)} for --{name}", item.place)


def _scalar(value: object, word: Scalar) -> Scalar:
    return Scalar(value if isinstance(value, (str, int, float, bool)) else None, word.place, word.via)


def to_bool(text: str) -> object:
    """yes, true, 1 …; NotImplemented for what is no truth value."""
    lowered = text.strip().lower()
    return True if lowered in _YES else False if lowered in _NO else NotImplemented


def _to_int(text: str) -> object:
    return _number(int, text) if _INTEGER.fullmatch(text.strip()) else NotImplemented


def _to_float(text: str) -> object:
    return _number(float, text)


def _number(convert: Callable[[str], Plain], text: str) -> object:
    try:
        return convert(text)
    except ValueError:
        return NotImplemented


def _to_dict(text: str) -> object:
    if not text.lstrip().startswith(("{", "[")):
        return NotImplemented
    found = literal(text)
    return NotImplemented if found is None or isinstance(found, Scalar) else found


_CONVERSIONS: MappingProxyType[str, Callable[[str], object]] = MappingProxyType(
    {"int": _to_int, "float": _to_float, "bool": to_bool, "str": lambda text: text, "dict": _to_dict}
)


def guess(word: Scalar) -> Object:
    """A word as a number, truth value, JSON object or list if it looks like one, else as text."""
    text = str(word.value)
    if _INTEGER.fullmatch(text) and len(text) < 100:
        return Scalar(int(text), word.place, word.via)
    if _REAL.fullmatch(text):
        return Scalar(float(text), word.place, word.via)
    if text.lower() in ("true", "false"):
        return Scalar(text.lower() == "true", word.place, word.via)
    if text[:1] in ("{", "["):
        found = literal(text)
        if isinstance(found, (Mapping, Sequence)):
            return relocated(found, word)
    return word


def convert_all(words: Words, kind: Kind, name: str = "") -> Object:
    """Several words as one list; unknown where a word may stand for any number of them."""
    doubtful = next((word for word in words if is_loose(word)), None)
    if doubtful is not None:
        return Unknown(reason_of(doubtful), getattr(doubtful, "place", None))
    place = next((word.place for word in words if isinstance(word, Scalar)), None)
    return Sequence.of(tuple(convert(word, kind, name) for word in words), place)


def literal(text: str) -> Object | None:
    """The value of a Python or JSON literal in which words need no quotes (`[q_proj,v_proj]`), None for other text."""
    if len(text) > _LONGEST:
        return None
    try:
        return _literal(syntax.expression(text.strip()))
    except syntax.UNPARSED:
        return None


_WORDS: MappingProxyType[str, Plain] = MappingProxyType({"true": True, "false": False, "null": None})


def _literal(node: ast.expr) -> Object:
    match node:
        case ast.Constant(value=str() | int() | float() | bool() | None as value):
            return Scalar(value)
        case ast.Name(id=name):
            return Scalar(_WORDS.get(name, name))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return Scalar(-number)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return Sequence.of(tuple(map(_literal, parts)))
        case ast.Dict(keys=keys, values=values):
            return Mapping({_key(key): Slot(None, _literal(value)) for key, value in zip(keys, values, strict=True)})
    raise ValueError("no literal")


def _key(node: ast.expr | None) -> str:
    found = None if node is None else _literal(node)
    if not isinstance(found, Scalar):
        raise ValueError("no plain key")
    return str(found.value)


def parsed_literal(item: Object) -> Object:
    """`ast.literal_eval`: text that is no literal stays text, as programs take it that catch the error."""

    def read(one: Object) -> Object:
        if not isinstance(one, Scalar) or not isinstance(one.value, str):
            return one
        found = literal(one.value)
        if found is None or (isinstance(found, Scalar) and isinstance(found.value, str) and found.value == one.value):
            return one
        return relocated(found, one)

    return each(read, item)


def is_known(item: Object) -> bool:
    """Whether an object is a plain value."""
    return isinstance(item, Scalar) or (isinstance(item, Choice) and all(is_known(one) for one, _ in item.options))
