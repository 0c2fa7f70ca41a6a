"""Changes of a program that no key says: a call behind the statement that loads the model, another optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from vramlint.facts import Fact, FactValue, Origin
from vramlint.surfaces import insertion
from vramlint.surfaces.holding import Holder
from vramlint.surfaces.python_statements import behind, loaded_by, module_of
from vramlint.surfaces.python_values import Part
from vramlint.text import Document, Edit, Place

if TYPE_CHECKING:
    import ast

Said = tuple[str, tuple[Edit, ...]]

_EIGHT_BITS: Mapping[FactValue, str] = MappingProxyType(
    {"adamw_bnb_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
)
_FUSED = "adamw_torch_fused"
_ADAMW = ("torch.optim.AdamW", "optim.AdamW", "AdamW")
"""How programs call torch's."""
_SHARED = frozenset(("lr", "betas", "eps", "weight_decay", "amsgrad"))
"""Arguments that bitsandbytes' has too (bitsandbytes 0.50 optim/adamw.py)."""
_IMPORT = "import bitsandbytes as bnb"


def write_checkpointing(facts: Mapping[str, Fact], load: Holder | None) -> Said | None:
    """`model.gradient_checkpointing_enable()` behind the statement that loads the model; None where there is none.

    The Trainer does it by an argument of its own.
    """
    loop = facts.get("loop")
    if loop is not None and loop.value == "trainer":
        return None
    loaded = loaded_by(load.document, load.place) if load is not None and load.place is not None else None
    if load is None or loaded is None:
        return None
    tuning = facts.get("tuning")
    rows = [f"{loaded.name}.gradient_checkpointing_enable()"]
    if tuning is not None and tuning.value != "full":  # a frozen embedding gives reentrant checkpoints no gradient
        rows.append(f"{loaded.name}.enable_input_require_grads()")
    return rows[0], (behind(load.document, loaded, rows),)


def write_optimizer(value: FactValue, fact: Fact, documents: Mapping[str, Document]) -> Said | None:
    """The fused AdamW of torch, or that of bitsandbytes in its place; None where no plain call makes it."""
    place = fact.place
    document = documents.get(place.path) if place is not None else None
    if place is None or document is None or document.cells or fact.origin is not Origin.WRITTEN or fact.via != "code":
        return None
    module = module_of(document)
    call = _call(module, document, place) if module is not None else None
    if module is None or call is None or not _is_torchs(module, document, call):
        return None
    part = Part(document.text, 0)
    names = {keyword.arg for keyword in call.keywords}
    span = Place(document.path, document.span(*part.span(call)))
    if value == _FUSED:
        edit = insertion.set_keyword(document, span, "fused", True) if "foreach" not in names else None
        return None if edit is None else ("fused=True", (edit,))
    if value not in _EIGHT_BITS or len(call.args) > 1 or not names <= _SHARED:
        return None
    start, end = part.span(call.func)
    made = f"bnb.optim.{_EIGHT_BITS[value]}"
    edits = [Edit(Place(document.path, document.span(start, end)), made)]
    if _IMPORT not in document.text.splitlines():
        first = next((node for node in module.body if _is_import(node)), None)
        if first is None:
            return None
        at = part.offset(first.lineno, 0)
        line_end = document.line_end(first.lineno)
        edits.insert(0, Edit(Place(document.path, document.span(at, at)), f"{_IMPORT}{line_end}"))
    return f"{made}(…)", tuple(edits)


def _is_import(node: ast.stmt) -> bool:
    """An import before which another may stand: `__future__` comes first of all."""
    import ast

    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return isinstance(node, ast.Import | ast.ImportFrom) and not future


def _call(module: ast.Module, document: Document, place: Place) -> ast.Call | None:
    """The call that begins at a place."""
    import ast

    part = Part(document.text, 0)
    start = document.offset(*place.span[:2])
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call) and part.span(node)[0] == start)
    return next(calls, None)


def _is_torchs(module: ast.Module, document: Document, call: ast.Call) -> bool:
    """Whether a call makes torch's AdamW."""
    import ast

    name = ast.unparse(call.func)
    if name == "AdamW":
        imports = (node for node in module.body if isinstance(node, ast.ImportFrom) and node.module == "torch.optim")
        return any(alias.name == "AdamW" and alias.asname is None for node in imports for alias in node.names)
    return name in _ADAMW and "torch" in document.text
