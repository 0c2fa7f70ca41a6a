"""Sentence Transformers: models that turn texts into vectors, and how many texts their losses take.

sentence_transformers 5.1: SentenceTransformer.py, cross_encoder/CrossEncoder.py, trainer.py, losses/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Drawn, draw, is_absent, options, stated, unknown
from vramlint.surfaces.lineage import Lineage, first_module, last, package
from vramlint.text import Place
from vramlint.values import Call, Items, Keyword, Scalar, Unknown, Value

PAIRS, TRIPLETS = "embedding-pairs", "embedding-triplets"
EMBEDDER = "SentenceTransformer"
_TEXTS = {
    **dict.fromkeys(("AnglELoss", "CoSENTLoss", "ContrastiveLoss", "CosineSimilarityLoss"), (PAIRS,)),
    **dict.fromkeys(("MultipleNegativesSymmetricRankingLoss", "OnlineContrastiveLoss"), (PAIRS,)),
    "MultipleNegativesRankingLoss": (PAIRS, TRIPLETS),
    "TripletLoss": (TRIPLETS,),
}
"""Losses to what they may be given: pairs of texts, or triplets where the data has negatives."""
_PAIR = 2
_DEFAULT_LOSS = "CoSENTLoss"


def embeds(ways: Sequence[Lineage]) -> bool:
    """Whether the trained model turns texts into vectors."""
    return any(isinstance(way.root, Call) and last(way.root.callee) == EMBEDDER for way in ways)


def objective_of_loss(trainer: Call) -> Fact:
    """What a SentenceTransformerTrainer optimises: how many texts a sample has is known from its loss alone."""
    value = trainer.argument("loss")
    if value is None or all(is_absent(option.value) for option in options(value)):
        return stated("objective", _TEXTS[_DEFAULT_LOSS][0], trainer.place, "loss")
    found: dict[str, Candidate] = {}
    for option in options(value):
        words = _words(option.value)
        if words is None:
            return unknown("objective", "its loss cannot be followed", "loss", trainer.place)
        place = _place(option.value) or trainer.place
        found.update({word: Candidate(word, place, option.condition) for word in words})
    return Fact("objective", tuple(found.values()), Origin.WRITTEN, "loss", "code")


def fitted(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Stand-ins for the trainer that `model.fit(train_objectives=[(loader, loss)])` makes (fit_mixin.py)."""
    return tuple([trainer for call in calls if call.callee == ".fit" for trainer in _trainer_of(call)])


def _trainer_of(call: Call) -> Iterable[Call]:
    if not isinstance(call.receiver, Call) or package(call.receiver.callee) != "sentence_transformers":
        return
    loader, loss = _objective(call)
    if not isinstance(loader, Call) or not last(loader.callee).endswith("DataLoader"):
        return
    settings = {
        "per_device_train_batch_size": loader.argument("batch_size", 1) or Scalar(1),
        "fp16": call.argument("use_amp") or Scalar(False),
        "max_grad_norm": call.argument("max_grad_norm") or Scalar(1.0),
        "optim": Scalar("adamw_torch"),
    }
    keywords = tuple([Keyword(name, value) for name, value in settings.items()])
    arguments = Call("sentence_transformers.SentenceTransformerTrainingArguments", (), keywords, call.place)
    given = [Keyword("model", call.receiver), Keyword("args", arguments)]
    given += [] if loss is None else [Keyword("loss", loss)]
    trainer = "sentence_transformers.SentenceTransformerTrainer"
    yield Call(trainer, (), tuple(given), call.place, conditions=call.conditions)


def _objective(call: Call) -> tuple[Value | None, Value | None]:
    """The data and the loss of the first pair; a CrossEncoder gets its data alone."""
    pairs = call.argument("train_objectives", 0)
    if isinstance(pairs, Items) and pairs.values and isinstance(pairs.values[0], Items):
        first = pairs.values[0].values
        return (first[0], first[1]) if len(first) == _PAIR else (None, None)
    return call.argument("train_dataloader", 0), None


def _words(value: Value) -> tuple[str, ...] | None:
    """The objectives of a loss; one that is not listed goes by its own name."""
    if not isinstance(value, Call) or package(value.callee) != "sentence_transformers":
        return None
    name = last(value.callee)
    return _TEXTS.get(name, (name,))


def _place(value: Value) -> Place | None:
    return None if isinstance(value, Unknown) or not isinstance(value, Call) else value.place


def length_of(ways: Sequence[Lineage]) -> Iterable[Drawn]:
    """`model.max_seq_length = 256`, or the keyword of its first module, which bounds every text."""
    for way in ways:
        if not isinstance(way.root, Call) or last(way.root.callee) != EMBEDDER:
            continue
        keyword = Arguments.of(way.root).find("max_seq_length")
        module = first_module(way.root)
        value = keyword.value if keyword is not None else module and module.argument("max_seq_length", 1)
        if value is not None:
            yield draw("sequence_length", value, CONVERTERS["count"], "max_seq_length")
