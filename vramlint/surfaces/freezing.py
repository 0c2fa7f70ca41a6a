"""Parameters that a program freezes by hand: which of them keep no gradient."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.surfaces.lineage import Lineage, last
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
    places = {place for way in ways for place in _places(way)}
    rules: list[Rule] = []
    for call in calls:
        if _MARKS.match(last(call.callee)):
            return None
        if last(call.callee) not in {"requires_grad_", *_METHODS}:
            continue
        rule = _rule(call, places)
        if rule is None:
            return None
        rules.append(rule)
    return tuple([_except(rule.pattern, rules[number + 1 :]) for number, rule in enumerate(rules) if not rule.trains])


def _places(way: Lineage) -> list[object]:
    root = [way.root.place] if isinstance(way.root, Call) else []
    return [*root, *(wrapper.place for wrapper in way.wrappers)]


def _rule(call: Call, places: set[object]) -> Rule | None:
    name = last(call.callee)
    value = call.argument("requires_grad", 0) if name == "requires_grad_" else Scalar(False)
    value = Scalar(True) if value is None else value
    scope = _scope(call, places)
    if scope is None or not isinstance(value, Scalar) or not isinstance(value.value, bool):
        return None
    if name in _METHODS:
        return Rule(_METHODS[name], False) if not call.conditions else None
    ahead = [_named(condition) for condition in call.conditions]
    if any(pattern is None for pattern in ahead):
        return None
    return Rule("".join(f"(?={pattern})" for pattern in ahead) + scope, value.value)


def _scope(call: Call, places: set[object]) -> str | None:
    """Where the parameters of the call are: all of the model's, or those of one of its modules."""
    if isinstance(call.receiver, Call) and call.receiver.callee == ".parameter":
        call = call.receiver
    holder: Value | None = call.owner if call.path else call.receiver
    if isinstance(holder, Call) and last(holder.callee) == "get_input_embeddings" and not call.path:
        inner = holder.receiver
        return r"(embed_tokens|word_embeddings|wte|shared)\.weight$" if _is(inner, places) else None
    if not _is(holder, places):
        return None
    if not call.path:
        return "^"
    if call.path == "base_model":
        return _BODY
    module = call.path.removeprefix("base_model.")
    body = "" if module == call.path else r"\w+\."  # bert, model, transformer: as the class names its body
    return rf"^{body}{re.escape(module)}\."


def _is(value: Value | None, places: set[object]) -> bool:
    return isinstance(value, Call) and value.place in places


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
