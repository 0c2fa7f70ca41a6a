"""Settings that a program holds in dictionaries: `{...}` and `dict(...)`, handed on by name or with `**`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vramlint import syntax
from vramlint.surfaces import insertion
from vramlint.surfaces.python_values import Part, set_value
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Edit, Place

if TYPE_CHECKING:
    import ast

_MADE = "dict"


def put(document: Document, place: Place, key: str, value: Written) -> Edit | None:
    """The edit by which a call, or a dictionary that is written there, has a key; None where it cannot be made.

    Of a call all of whose keywords come from one dictionary a new one comes from it too.

    Args:
        document: the file.
        place: from the callee's name to the closing bracket, or a dictionary.
        key: dots lead into dictionaries in it.
        value: what it is to hold.
    """
    if document.text[document.offset(*place.span[:2])] != "{":
        source = _source(document, place) if not insertion.has_keyword(document, place, key.partition(".")[0]) else None
        found = put(document, source, key, value) if source is not None and source != place else None
        return found or insertion.set_keyword(document, place, key, value)
    node = syntax.term(document.slice(place.span))
    if node is None:
        return None
    part = Part(document.slice(place.span), document.offset(*place.span[:2]))
    return set_value(document, part, node, key.split("."), value)


def dictionary_of(document: Document, value: Place, key: str) -> Place | None:
    """The dictionary in which a value stands under a dotted key; None where there is none, or in a notebook."""
    module = _module(document)
    start, end = document.offset(*value.span[:2]), document.offset(*value.span[2:])
    for node, part in _dictionaries(module, document):
        found = _under(node, key.split("."))
        if found is not None and part.span(found) == (start, end):
            return Place(document.path, document.span(*part.span(node)))
    return None


def _source(document: Document, call: Place) -> Place | None:
    """The dictionary that a call takes all its keywords from: written in it, or once in the file under a name."""
    import ast

    text = document.slice(call.span)
    node = syntax.term(text)
    if not isinstance(node, ast.Call) or node.args or len(node.keywords) != 1 or node.keywords[0].arg is not None:
        return None
    given = node.keywords[0].value
    if isinstance(given, ast.Name):
        module = _module(document)
        stored = [item for item in ast.walk(module) if _names(item, given.id)] if module is not None else []
        values = [item.value for item in stored if isinstance(item, ast.Assign | ast.AnnAssign)]
        if len(stored) != 1 or len(values) != 1 or values[0] is None or not _is_dictionary(values[0]):
            return None
        return Place(document.path, document.span(*Part(document.text, 0).span(values[0])))
    if not _is_dictionary(given):
        return None
    part = Part(text, document.offset(*call.span[:2]))
    return Place(document.path, document.span(*part.span(given)))


def _names(node: ast.AST, name: str) -> bool:
    """Whether a statement gives a name a value, in whatever way."""
    import ast

    targets: Sequence[ast.expr] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr):
        targets = (node.target,)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        targets = (node.optional_vars,)
    elif isinstance(node, ast.arg):
        return node.arg == name
    stored = (inner for target in targets for inner in ast.walk(target))
    return any(
        isinstance(inner, ast.Name) and inner.id == name and isinstance(inner.ctx, ast.Store) for inner in stored
    )


def _is_dictionary(node: ast.expr) -> bool:
    import ast

    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _MADE
    return isinstance(node, ast.Dict) or (made and not getattr(node, "args", None))


def _dictionaries(module: ast.Module | None, document: Document) -> Iterator[tuple[ast.expr, Part]]:
    import ast

    part = Part(document.text, 0)
    for node in ast.walk(module) if module is not None else ():
        if isinstance(node, ast.expr) and _is_dictionary(node):
            yield node, part


def _under(node: ast.expr, path: Sequence[str]) -> ast.expr | None:
    """What a dictionary has under keys."""
    import ast

    for name in path:
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            items = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == name]
        elif isinstance(node, ast.Call) and _is_dictionary(node):
            items = [keyword.value for keyword in node.keywords if keyword.arg == name]
        else:
            return None
        if not items:
            return None
        node = items[-1]
    return node


def _module(document: Document) -> ast.Module | None:
    return None if document.cells else syntax.tree(document.text)
