"""What scripts of Sentence Transformers say: the model, its loss, and the length of a text."""

from __future__ import annotations

import pytest

from tests.surfaces.test_program import sheet

SCRIPT = """\
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers import losses

model = SentenceTransformer("microsoft/mpnet-base", model_kwargs={"torch_dtype": "bfloat16"})
model.max_seq_length = 192
args = SentenceTransformerTrainingArguments(output_dir="out", per_device_train_batch_size=64, batch_sampler="x")
trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=data, loss=LOSS)
trainer.train()
"""


def values(source: str, fact: str) -> set[object]:
    found = sheet(source).get(fact)
    return {item.value for item in found.candidates} if found is not None else set()


def test_the_model_and_its_bound_are_read():
    source = SCRIPT.replace("LOSS", "losses.CoSENTLoss(model)")

    assert values(source, "model") == {"microsoft/mpnet-base"}
    assert values(source, "sequence_length") == {192}
    assert values(source, "load_dtype") == {"bfloat16"}
    assert values(source, "micro_batch_size") == {64}


@pytest.mark.parametrize(
    ("loss", "objectives"),
    [
        ("None", {"embedding-pairs"}),
        ("losses.CosineSimilarityLoss(model)", {"embedding-pairs"}),
        ("losses.TripletLoss(model=model)", {"embedding-triplets"}),
        ("losses.MultipleNegativesRankingLoss(model)", {"embedding-pairs", "embedding-triplets"}),
        ("losses.CachedGISTEmbedLoss(model, guide)", {"CachedGISTEmbedLoss"}),
        ("pick_loss()", set()),
        ("chosen[0]", set()),
    ],
)
def test_the_loss_says_how_many_texts_a_sample_has(loss, objectives):
    assert values(SCRIPT.replace("LOSS", loss), "objective") == objectives


def test_a_cross_encoder_classifies_pairs_in_one_run():
    source = (
        "from sentence_transformers import CrossEncoder, CrossEncoderTrainer\n"
        'model = CrossEncoder("microsoft/MiniLM-L12-H384-uncased", num_labels=1)\n'
        "CrossEncoderTrainer(model=model, train_dataset=data).train()\n"
    )

    assert values(source, "model") == {"microsoft/MiniLM-L12-H384-uncased"}
    assert values(source, "objective") == {"seq-cls"}


def test_other_arguments_of_a_package_of_its_own_are_not_checked():
    tables = dict(sheet(SCRIPT.replace("LOSS", "None")).tables)

    assert all(entry.key_place is None for entry in tables["training-arguments"])
