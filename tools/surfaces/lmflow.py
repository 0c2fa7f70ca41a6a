"""LMFlow: the dataclasses of its programs' arguments."""

from __future__ import annotations

from collections.abc import Mapping

from tools.surfaces.dataclass_keys import fields
from tools.surfaces.source import Key, Keys, Source
from tools.surfaces.syntax import classes
from tools.surfaces.trees import Tree

_OF_ONE_PROGRAM = ("DPO", "Raft", "Iterative", "Benchmarking")
"""How classes begin that stand beside TrainingArguments, of which their keys have other defaults elsewhere."""

_TRAINING_ARGUMENTS = frozenset(("local_rank", "output_dir", "remove_unused_columns"))
"""Keys that TrainingArguments of transformers has too, with other defaults."""


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys at one state; a default is one that holds in every program."""
    found: dict[str, Key] = {}
    known = classes(tree, ("lmflow/args.py",))
    for name in known:
        if not name.endswith("Arguments"):
            continue
        for field, key in fields(known, [name]).items():
            own = name.startswith(_OF_ONE_PROGRAM) or field in _TRAINING_ARGUMENTS
            held = key._replace(default="") if own else key
            other = found.setdefault(field, held)
            if other.default != held.default:
                found[field] = other._replace(default="")
    return {"lmflow": found}


SOURCE = Source("", ("lmflow",), "OptimalScale/LMFlow", read, elsewhere=("examples/iterative_dpo_train.py",))
