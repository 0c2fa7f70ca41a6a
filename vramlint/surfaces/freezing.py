"""Parameters that a program freezes by hand: which of them keep no gradient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Fact, FactValue, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.lineage import Lineage, last, lineages, model_class
from vramlint.surfaces.loading import loading_facts, model_fact
from vramlint.values import Call, Scalar, Value

HEADS = "classifier classification_head cls lm_head pre_classifier qa_outputs score vocab_projector vocab_transform"
"""Modules of a model that are not in its `base_model`."""
_BODY = rf"^(?!(?:{HEADS.replace(' ', '|')})\.)"
_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "freeze_feature_encoder": r"(^|\.)feature_extractor\.",
        "freeze_feature_extractor": r"(^|\.)feature_extractor\.",
        "freeze_base_model": _BODY,
        "freeze_encoder": r"^model\.encoder\.",
    }
)
"""Methods of transformers' speech models and what they freeze (5.23 models/{wav2vec2,whisper})."""
_MARKS = lazy(r"mark_only_\w+_as_trainable$")
"""Functions of loralib and litgpt that freeze everything but what they put in."""
_CONTAINS = lazy(r"""^(['"])(?P<word>[^'"]+)\1 (?P<absent>not )?in \w+$""")
_STARTS = lazy(r"""^(?P<absent>not )?\w+\.startswith\((['"])(?P<word>[^'"]+)\2\)$""")


class Rule(Struct, frozen=True):
    """One statement: parameters whose names fit the pattern train from there on, or no longer do."""

    pattern: str
    trains: bool


def freezes(call: Call) -> bool:
    """Whether a call freezes something."""
    if last(call.callee) in _METHODS or _MARKS.match(last(call.callee)):
        return True
    value = call.argument("requires_grad", 0) if last(call.callee) == "requires_grad_" else None
    return isinstance(value, Scalar) and value.value is False


def frozen_parameters(calls: Sequence[Call], ways: Sequence[Lineage]) -> tuple[str, ...] | None:
    """Regular expressions of the names of frozen parameters; None where they cannot be followed."""
    trained = _Trained(calls, ways)
    rules: list[Rule] = []
    for call in calls:
        if _MARKS.match(last(call.callee)):
            return None
        if last(call.callee) not in {"requires_grad_", *_METHODS}:
            continue
        rule = _rule(call, trained)
        if rule is not None:
            rules.append(rule)
        elif _copy(call, ways, trained) is None:
            return None
    return tuple([_except(rule.pattern, rules[number + 1 :]) for number, rule in enumerate(rules) if not rule.trains])


class _Trained:
    """The calls that made the trained model."""

    def __init__(self, calls: Sequence[Call], ways: Sequence[Lineage]) -> None:
        counts = Counter(call.place for call in calls if model_class(call))
        self._twice = {place for place, count in counts.items() if count > 1}
        """Where a function loads one model after the other, whose values alone tell them apart."""
        roots = [way.root for way in ways if isinstance(way.root, Call)]
        self._made = {self._key(call) for call in (*roots, *(item for way in ways for item in way.wrappers))}

    def is_made_by(self, value: Value | None) -> bool:
        """Whether a value is the trained model."""
        return isinstance(value, Call) and self._key(value) in self._made

    def _key(self, call: Call) -> object:
        return id(call) if call.place in self._twice else call.place


def _rule(call: Call, trained: _Trained) -> Rule | None:
    name = last(call.callee)
    value = call.argument("requires_grad", 0) if name == "requires_grad_" else Scalar(False)
    value = Scalar(True) if value is None else value
    scope = _scope(call, trained)
    if scope is None or not isinstance(value, Scalar) or not isinstance(value.value, bool):
        return None
    if name in _METHODS:
        return Rule(_METHODS[name], False) if not call.conditions else None
    ahead = [_named(condition) for condition in call.conditions]
    if any(pattern is None for pattern in ahead):
        return None
    return Rule("".join(f"(?={pattern})" for pattern in ahead) + scope, value.value)


def _scope(call: Call, trained: _Trained) -> str | None:
    """Where the parameters of the call are: all of the model's, or those of one of its modules."""
    if isinstance(call.receiver, Call) and call.receiver.callee == ".parameter":
        call = call.receiver
    holder: Value | None = call.owner if call.path else call.receiver
    if isinstance(holder, Call) and last(holder.callee) == "get_input_embeddings" and not call.path:
        inner = holder.receiver
        return r"(embed_tokens|word_embeddings|wte|shared)\.weight$" if trained.is_made_by(inner) else None
    if not trained.is_made_by(holder):
        return None
    if not call.path:
        return "^"
    if call.path == "base_model":
        return _BODY
    module = call.path.removeprefix("base_model.")
    body = "" if module == call.path else r"\w+\."  # bert, model, transformer: as the class names its body
    return rf"^{body}{re.escape(module)}\."


def reference_beside(calls: Sequence[Call], ways: Sequence[Lineage]) -> Fact | None:
    """The frozen copy of the trained model with which a loop of the program's own compares it."""
    trained = _Trained(calls, ways)
    copies = (_copy(call, ways, trained) for call in calls if freezes(call))
    fact = next((model_fact(copy) for copy in copies if copy is not None), None)
    if fact is None or not fact.known:
        return None
    reason = "a copy of the model that is trained, frozen beside it"
    return replace(fact, name="reference_model", origin=Origin.DERIVED, key="", reason=reason)


def _copy(call: Call, ways: Sequence[Lineage], trained: _Trained) -> Lineage | None:
    """The second model of which a call is, where it is loaded as the trained one is and is not that one."""
    holder = call.receiver
    if isinstance(holder, Call) and holder.callee == ".parameter":
        holder = holder.receiver
    others = lineages(holder) if holder is not None else ()
    if not ways or len(others) != 1 or not all(_is_loaded(way) for way in (*ways, *others)):
        return None
    root = others[0].root
    alike = {_as_loaded(way) for way in ways} == {_as_loaded(others[0])}
    return others[0] if alike and not trained.is_made_by(root) else None


def _is_loaded(way: Lineage) -> bool:
    return isinstance(way.root, Call) and model_class(way.root) != ""


def _as_loaded(way: Lineage) -> frozenset[tuple[str, tuple[FactValue, ...]]]:
    """Which model it is and how it is loaded: names of facts and their values."""
    facts = [drawn for drawn in (model_fact(way), *loading_facts(way)) if isinstance(drawn, Fact)]
    return frozenset((fact.name, tuple([item.value for item in fact.candidates])) for fact in facts)


def _named(condition: str) -> str | None:
    """What a test of a parameter's name says, as a pattern for the name's beginning; None for another test."""
    if condition.startswith("not (") and condition.endswith(")"):
        inner = _named(condition[5:-1])
        return None if inner is None else f"(?!{inner})"
    if " or " in condition:
        parts = [_named(part) for part in condition.split(" or ")]
        return None if any(part is None for part in parts) else f"(?:{'|'.join(part or '' for part in parts)})"
    if " and " in condition:
        parts = [_named(part) for part in condition.split(" and ")]
        return None if any(part is None for part in parts) else "".join(f"(?={part})" for part in parts)
    for pattern, before in ((_CONTAINS, ".*"), (_STARTS, "")):
        found = pattern.match(condition)
        if found:
            text = before + re.escape(found["word"])
            return f"(?!{text})" if found["absent"] else text
    return None


def _except(pattern: str, later: Sequence[Rule]) -> str:
    """The pattern without what later statements let train again."""
    kept = "".join(f"(?!{_anywhere(rule.pattern)})" for rule in later if rule.trains)
    return f"^{kept}{_anywhere(pattern)}" if kept else pattern


def _anywhere(pattern: str) -> str:
    """The same from the beginning of a name."""
    return pattern.removeprefix("^") if pattern.startswith(("^", "(?")) else f".*{pattern}"
