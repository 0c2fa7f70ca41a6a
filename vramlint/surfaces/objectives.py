"""What a run optimises, from what the program shows beside its model: the trainer, the collator, how data is cut."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from msgspec.structs import replace

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.draft import is_absent, options, stated
from vramlint.surfaces.lineage import Lineage, last, lineages, model_class, package
from vramlint.surfaces.loading import model_fact
from vramlint.surfaces.models import common_objective
from vramlint.surfaces.trainers import objective_of_trainer, vocabulary_of
from vramlint.values import Call, Program, Scalar

_PRETRAINS = lazy(r"pre-?train|(^|[_-])pt([_.-]|$)", re.IGNORECASE)
"""How programs are called that train on text as it is."""

_REFERENCES = ("ref_model", "reference_model")


def objective_of_run(program: Program, ways: Sequence[Lineage], trainer: Call | None = None) -> str:
    """What is optimised, empty when nothing says so.

    Next-token loss over rows that are cut from joined text is pretraining where the program calls itself so.
    """
    word = (objective_of_trainer(trainer) if trainer is not None else "") or common_objective(ways)
    word = word or _by_collator(program.calls, ways)
    rows = any(cut.joined and cut.mapped and not cut.conditions for cut in program.cuts)
    return "pretrain" if word == "sft" and rows and _PRETRAINS.search(posixpath.basename(program.path)) else word


def objective_fact(objective: str, made: Call, ways: Sequence[Lineage], given: Sequence[Call] = ()) -> Fact:
    """The fact, said where the program trains.

    A trainer's own arguments say it too (`ORPOConfig`), and what no trainer says the class of the loaded model does.

    Args:
        objective: what is optimised.
        made: the trainer, or a loop's backward.
        ways: how the model may have been made.
        given: the arguments of the trainer.
    """
    own = objective_of_trainer(made) != ""
    told = [item for item in given if not _is_plain(item)] if own else [way.root for way in ways]
    also = dict.fromkeys(item.place for item in told if isinstance(item, Call))
    return replace(stated("objective", objective, made.place, last(made.callee)), also=tuple(also))


def _is_plain(arguments: Call) -> bool:
    """Whether arguments are those of no trainer in particular."""
    return vocabulary_of(arguments) == "training-arguments"


def _by_collator(calls: Sequence[Call], ways: Sequence[Lineage]) -> str:
    """What the batches are made for, where the model's class leaves it to code of its own."""
    own_code = any(_is_own_code(way) for way in ways)
    for call in calls:
        name = last(call.callee)
        if name == "create_model" and package(call.callee) == "timm":
            return "image-cls"
        if name == "DataCollatorForLanguageModeling":
            masked = call.argument("mlm", 1)
            if masked is None or isinstance(masked, Scalar):
                return "sft" if masked is not None and not masked.value else "mlm"
        if name == "DataCollatorForSeq2Seq" and own_code:
            return "sft"
    return ""


def _is_own_code(way: Lineage) -> bool:
    root = way.root
    trusted = root.argument("trust_remote_code") if isinstance(root, Call) else None
    return isinstance(root, Call) and model_class(root) == "AutoModel" and trusted is not None


def reference_of(trainer: Call) -> Fact | None:
    """The frozen model that a trainer is given to compare with."""
    for name in _REFERENCES:
        value = trainer.argument(name)
        if value is None or all(is_absent(option.value) for option in options(value)):
            continue
        facts = [model_fact(way) for way in lineages(value)]
        if len(facts) == 1 and facts[0] is not None and facts[0].known:
            fact = facts[0]
            return Fact("reference_model", fact.candidates, fact.origin, name, fact.via)
    return None
