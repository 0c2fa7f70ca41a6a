"""Which attention a model has: by default, and where a program replaces it by its own."""

from __future__ import annotations

from vramlint.catalog.attention_kernels import supports
from vramlint.facts import Candidate, Fact, Origin
from vramlint.resolve.board import Board, derived
from vramlint.resolve.defaults import any_default
from vramlint.surfaces.attention_patches import ITS_OWN

CLASSES_BY_IMPLEMENTATION = ((4, 36), (4, 48))
"""Between these releases of transformers sdpa and flash attention are classes of their own beside `LlamaAttention`
(modeling_llama.py, LLAMA_ATTENTION_CLASSES), which is eager attention then."""


def default_attention(board: Board) -> Fact | None:
    """What `from_pretrained` takes where nothing is asked for: eager where the model's classes have no sdpa."""
    if not board.is_missing("attention_implementation"):
        return None
    found = any_default(board, "attention_implementation")
    kind = board.value("model_type")
    if found is None or not isinstance(kind, str):
        return found
    if supports(kind, str(found.value), board.setting.libraries.transformers) is not False:
        return found
    reason = f"{kind} has no {found.value} in {board.setting.label('transformers')}"
    return derived("attention_implementation", "eager", reason)


def replaced_attention(board: Board) -> Fact | None:
    """The implementation that a model's attention has once the program has put its own there.

    Where replacing it misses the class that runs, nothing follows.
    """
    fact, kind = board.facts.get("replaced_attention"), board.value("model_type")
    if fact is None or not isinstance(fact.value, tuple):
        return None
    kernels = [kernel for named in fact.value for model, _, kernel in (named.partition("="),) if model == kind]
    said = board.facts.get("attention_implementation") or any_default(board, "attention_implementation")
    since, until = CLASSES_BY_IMPLEMENTATION
    apart = since <= board.setting.libraries.transformers[:2] < until
    reason = f"the program replaces the attention of {kind}"
    if said is not None and said.reason == reason:
        return None
    if not kernels or (apart and (said is None or said.value != "eager")):
        return None
    values = [value for kernel in kernels for value in ([kernel] if kernel != ITS_OWN else _values(said))]
    candidates = tuple(Candidate(value, fact.place) for value in dict.fromkeys(values))
    return Fact("attention_implementation", candidates, Origin.DERIVED, via="derived", reason=reason)


def _values(said: Fact | None) -> list[str]:
    """What the attention may be that is not replaced."""
    return [str(candidate.value) for candidate in said.candidates] if said is not None else []
