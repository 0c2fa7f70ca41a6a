"""Which vocabulary a data file is written in, how sure that is, and by what."""

from __future__ import annotations

from msgspec import Struct

from vramlint.catalog.frameworks import CUSTOM
from vramlint.catalog.keys import SCRIPT_ARGUMENTS, accepted_keys, trl_keys
from vramlint.catalog.marks import MARKS, RECIPES, Marks
from vramlint.facts import Recognised
from vramlint.patterns import lazy
from vramlint.surfaces.kinds import kind_of_table, model_sizes
from vramlint.surfaces.usual import telling_keys, usual_keys
from vramlint.values import Entry, Items, Scalar, Table

_OWN, _SHARED, _PATH = 2.0, 0.5, 1.0
"""What a key that only one vocabulary has, one that several have, and a word of the path count."""
_LEAST = 2.0
"""Less is no evidence: one own key, or four shared ones."""
_SHOWN = 3
"""Keys that the reason names."""


def recognise(path: str, table: Table, forced: str = "") -> Recognised | None:
    """The vocabulary of a file; None where it is no training configuration.

    Args:
        path: the file, of which words hint.
        table: its root.
        forced: the vocabulary that the settings say.
    """
    if forced:
        return Recognised(forced, 1.0, "the settings say so")
    if any(entry.key in _RECORDED or _is_measured(entry) for entry in table):
        return None
    plain = kind_of_table(path, table)
    if plain in _SURE:
        return _plain(plain, table)
    best = max((_weighed(path, table, marks) for marks in MARKS), key=lambda item: item.evidence)
    if plain is not None and plain.startswith("training-args"):
        recipe = _recipe(path, table)
        if recipe is not None and recipe.evidence >= best.evidence:
            return recipe.told
        if not best.own:
            return (recipe.told if recipe else None) or _custom(table, named=True) or _plain(plain, table)
    if best.evidence >= _LEAST and best.own:
        return best.told
    if plain is not None:
        return best.told or _plain(plain, table)
    return _for_trl(table) or _custom(table) or best.told or _by_sizes(path, table)


_RECORDED = ("swift_version",)
"""Keys of the record of a run that is over, which no framework reads as a configuration: the args.json that ms-swift
leaves beside its checkpoints (4.2, swift/arguments/base_args/base_args.py, `save_args`)."""
_MEASURED = lazy(r"^(?:peak_(?:gpu_)?memory\w*|elapsed\w*|\w+_per_second|(?:train|eval)_(?:loss|runtime))$")
"""Keys of what was measured in a run that is over; transformers' all_results.json has the last two
(5.23 trainer_utils.py, `speed_metrics`)."""
_SURE = ("accelerate-config", "deepspeed-json", "fsdp-json", "model-config")
"""Kinds that are told by keys that nothing else has together."""
_PLAIN = {
    "accelerate-config": ("compute_environment", "distributed_type", "mixed_precision", "deepspeed_config"),
}


def _is_measured(entry: Entry) -> bool:
    number = isinstance(entry.value, Scalar) and isinstance(entry.value.value, int | float)
    return number and _MEASURED.match(entry.key) is not None


class _Weighed(Struct, frozen=True):
    evidence: float
    own: int
    """Keys that no other vocabulary has, and a word of the path."""
    told: Recognised | None


_NOTHING = _Weighed(0.0, 0, None)


def _weighed(path: str, table: Table, marks: Marks) -> _Weighed:
    own = [key for key in marks.own if _has(table, key)]
    shared = [key for key in marks.shared if _has(table, key)]
    if any(_has(table, key) for key in marks.never):
        return _NOTHING
    words = [word for word in marks.paths if word in f"/{path.lower()}"]
    keys = _OWN * len(own) + _SHARED * len(shared)
    if keys < _LEAST and not (words and keys >= _LEAST / 2):
        return _NOTHING
    evidence = keys + _PATH * len(words[:1])
    told = Recognised(marks.kind, _sure(evidence), _by([*own, *shared][:_SHOWN], words[:1]))
    return _Weighed(evidence, len(own) + len(words[:1]), told)


def _plain(kind: str, table: Table) -> Recognised:
    own = _PLAIN.get(kind, ())
    keys = [entry.key for entry in table if not own or entry.key in own][:_SHOWN]
    return Recognised(kind, _sure(4.0), _by(keys))


def _recipe(path: str, table: Table) -> _Weighed | None:
    """Whose recipe for TRL's parser it is; None for plain TrainingArguments."""
    written = {entry.key for entry in table}
    best = max((_recipe_weighed(path, table, marks) for marks in RECIPES), key=lambda item: item.evidence)
    if best.told is not None and written & trl_keys():
        return best
    keys = [entry.key for entry in table if entry.key in trl_keys()]
    if _MODEL in keys and len(keys) > 1:
        return _Weighed(0.0, 0, Recognised(_TRL, _sure(_OWN + _SHARED * len(keys)), _by(keys[:_SHOWN])))
    return None


_TRL = "trl"
_MODEL = "model_name_or_path"
"""The key of trl.ModelConfig without which TRL's commands have no model."""


def _for_trl(table: Table) -> Recognised | None:
    """A short file for TRL's commands: a model, and keys that nothing but their parser takes together."""
    keys = [entry.key for entry in table]
    taken = accepted_keys("TrainingArguments") | trl_keys() | SCRIPT_ARGUMENTS
    if _MODEL in keys and len(keys) >= _FEW and taken.issuperset(keys):
        return Recognised(_TRL, _sure(_OWN), _by(keys[:_SHOWN]))
    return None


_FEW = 4
_REPOSITORY = 3.0
"""What the name of a repository in the path counts: recipes of one project may have no key that the other lacks."""


def _custom(table: Table, *, named: bool = False) -> Recognised | None:
    """A configuration with keys of somebody's own; `named`: whose model has a name that no library takes."""
    if len(table.entries) > _MOST_KEYS:
        return None  # a tokenizer's vocabulary has every word
    if named and (table.entry(_MODEL) is not None or not _names_a_model(table)):
        return None
    keys = telling_keys(table)
    return Recognised(CUSTOM, _LIKELY, _by(list(keys[:_SHOWN]))) if keys else None


_MOST_KEYS = 500
"""Keys of a configuration; more are data."""
_LIKELY = 0.4
"""How sure it is what the keys of somebody's own configuration mean."""


def _names_a_model(table: Table) -> bool:
    return "model" in usual_keys(table)


def _by_sizes(path: str, table: Table) -> Recognised | None:
    """A model's sizes in JSON, without the name of its architecture."""
    keys = model_sizes(table) if path.lower().endswith((".json", ".jsonc")) else ()
    return Recognised("model-config", _sure(_OWN), _by(list(keys[:_SHOWN]))) if keys else None


def _recipe_weighed(path: str, table: Table, marks: Marks) -> _Weighed:
    own = [key for key in marks.own if _has(table, key)]
    shared = [key for key in marks.shared if _has(table, key)]
    words = [word for word in marks.paths if word in f"/{path.lower()}"][:1]
    evidence = _OWN * len(own) + _REPOSITORY * len(words) + (_SHARED * len(shared) if own or words else 0.0)
    if not evidence:
        return _NOTHING
    return _Weighed(evidence, len(own), Recognised(marks.kind, _sure(evidence), _by([*own, *shared][:_SHOWN], words)))


def _has(table: Table, key: str) -> bool:
    """Whether a key is there: dotted inside of tables, `*` for any table, of a list the first element."""
    head, _, rest = key.partition(".")
    if head == "*":
        return any(isinstance(entry.value, Table) and _has(entry.value, rest) for entry in table)
    entry = table.entry(head)
    if entry is None:
        return table.entry(key) is not None
    if not rest:
        return True
    value = entry.value.values[0] if isinstance(entry.value, Items) and entry.value.values else entry.value
    return isinstance(value, Table) and _has(value, rest)


def _sure(evidence: float) -> float:
    return round(evidence / (evidence + 0.5), 2)


def _by(keys: list[str], words: list[str] | None = None) -> str:
    named = ", ".join(f"`{key}`" for key in keys)
    return f"by its keys {named}" + (f" and its path ({words[0].strip('/')})" if words else "")
