"""Sentence Transformers: models that turn texts into vectors, and how many texts their losses take.

sentence_transformers 5.1: SentenceTransformer.py, cross_encoder/CrossEncoder.py, trainer.py, losses/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Drawn, draw, is_absent, options, stated, unknown
from vramlint.surfaces.lineage import Lineage, last, package
from vramlint.text import Place
from vramlint.values import Call, Unknown, Value

PAIRS, TRIPLETS = "embedding-pairs", "embedding-triplets"
EMBEDDER = "SentenceTransformer"
_TEXTS = {
    **dict.fromkeys(("AnglELoss", "CoSENTLoss", "ContrastiveLoss", "CosineSimilarityLoss"), (PAIRS,)),
    **dict.fromkeys(("MultipleNegativesSymmetricRankingLoss", "OnlineContrastiveLoss"), (PAIRS,)),
    "MultipleNegativesRankingLoss": (PAIRS, TRIPLETS),
    "TripletLoss": (TRIPLETS,),
}
"""Losses to what they may be given: pairs of texts, or triplets where the data has negatives."""
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


def _words(value: Value) -> tuple[str, ...] | None:
    """The objectives of a loss; one that is not listed goes by its own name."""
    if not isinstance(value, Call) or package(value.callee) != "sentence_transformers":
        return None
    name = last(value.callee)
    return _TEXTS.get(name, (name,))


def _place(value: Value) -> Place | None:
    return None if isinstance(value, Unknown) or not isinstance(value, Call) else value.place


def length_of(ways: Sequence[Lineage]) -> Iterable[Drawn]:
    """`model.max_seq_length = 256`, which bounds every text."""
    for way in ways:
        if isinstance(way.root, Call) and last(way.root.callee) == EMBEDDER:
            keyword = Arguments.of(way.root).find("max_seq_length")
            if keyword is not None:
                yield draw("sequence_length", keyword.value, CONVERTERS["count"], "max_seq_length", keyword.name_place)
