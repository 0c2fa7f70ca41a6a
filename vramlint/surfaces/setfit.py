"""SetFit: a sentence encoder that is tuned on pairs of texts before its small head is.

setfit 1.1: trainer.py (`train_embeddings` runs a SentenceTransformerTrainer), training_args.py, modeling.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vramlint.surfaces.draft import is_absent, options
from vramlint.surfaces.lineage import last, package
from vramlint.values import Call, Items, Keyword, Scalar, Value

_BATCH = 16
"""`TrainingArguments.batch_size`, a number or a pair of which the first is that of the embeddings."""
_TRAINERS = ("Trainer", "SetFitTrainer", "DistillationTrainer")


def setfit_trainers(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Stand-ins for the trainers of sentence encoders that SetFit's trainers make."""
    return tuple([made for call in calls for made in _trainer_of(call)])


def _trainer_of(call: Call) -> Iterator[Call]:
    if package(call.callee) != "setfit" or last(call.callee) not in _TRAINERS:
        return
    loaded = _encoder(call.argument("model", 0) or call.argument("model_init"))
    given = call.argument("args", 1)
    written = given if isinstance(given, Call) else call
    settings: dict[str, Value] = {
        "per_device_train_batch_size": _first(written.argument("batch_size")) or Scalar(_BATCH),
        "fp16": written.argument("use_amp") or Scalar(False),
        "optim": Scalar("adamw_torch"),
    }
    keywords = tuple([Keyword(name, value) for name, value in settings.items()])
    arguments = Call("sentence_transformers.SentenceTransformerTrainingArguments", (), keywords, written.place)
    loss = Call("sentence_transformers.losses.CosineSimilarityLoss", (), (), call.place)
    named = [Keyword("args", arguments), Keyword("loss", loss)]
    if loaded is not None:
        named.append(Keyword("model", loaded))
    trainer = "sentence_transformers.SentenceTransformerTrainer"
    yield Call(trainer, (), tuple(named), call.place, conditions=call.conditions)


def _first(value: Value | None) -> Value | None:
    """Of `(16, 2)` the first."""
    if isinstance(value, Items):
        return value.values[0] if value.values else None
    return None if value is None or is_absent(value) else value


def _encoder(value: Value | None) -> Call | None:
    """The encoder inside of `SetFitModel.from_pretrained("name")`."""
    for option in options(value) if value is not None else ():
        call = option.value
        if isinstance(call, Call) and package(call.callee) == "setfit" and last(call.callee) == "from_pretrained":
            name = call.argument("pretrained_model_name_or_path", 0) or call.argument("model_id", 0)
            if name is not None:
                return Call("sentence_transformers.SentenceTransformer", (name,), (), call.place)
    return None
