"""What follows from functions of libraries that a program replaces by its own."""

from __future__ import annotations

from vramlint.facts import Candidate, Fact, Origin
from vramlint.resolve.board import Board
from vramlint.resolve.defaults import any_default
from vramlint.surfaces.attention_patches import ITS_OWN

CLASSES_BY_IMPLEMENTATION = ((4, 36), (4, 48))
"""Between these releases of transformers sdpa and flash attention are classes of their own beside `LlamaAttention`
(modeling_llama.py, LLAMA_ATTENTION_CLASSES), which is eager attention then."""


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
