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


FIT = """\
from torch.utils.data import DataLoader
from sentence_transformers import SentenceTransformer, losses, models

word = models.Transformer("bert-base-uncased", max_seq_length=96)
model = MODEL
loader = DataLoader(examples, shuffle=True, batch_size=24)
model.fit(train_objectives=[(loader, losses.CosineSimilarityLoss(model))], epochs=1, use_amp=True)
"""


def test_fit_makes_a_trainer():
    source = FIT.replace("MODEL", "SentenceTransformer('all-MiniLM-L6-v2')")

    assert values(source, "run_kind") == {"training"}
    assert values(source, "model") == {"all-MiniLM-L6-v2"}
    assert values(source, "objective") == {"embedding-pairs"}
    assert values(source, "micro_batch_size") == {24}
    assert values(source, "fp16") == {True}


def test_a_model_of_modules_is_its_transformer():
    source = FIT.replace("MODEL", "SentenceTransformer(modules=[word, models.Pooling(768)])")

    assert values(source, "model") == {"bert-base-uncased"}
    assert values(source, "sequence_length") == {96}


@pytest.mark.parametrize("call", ["fit(x, y)", "fit(train_objectives=objectives)", "fit(train_objectives=[(loader,)])"])
def test_other_fits_train_nothing_that_is_known(call):
    assert (
        values(f"from sentence_transformers import SentenceTransformer\nSentenceTransformer('a').{call}\n", "model")
        == set()
    )


def test_a_cross_encoder_fits_on_its_loader():
    source = (
        "from torch.utils.data import DataLoader\n"
        "from sentence_transformers.cross_encoder import CrossEncoder\n"
        'CrossEncoder("distilroberta-base", num_labels=1).fit(train_dataloader=DataLoader(data, batch_size=16))\n'
    )

    assert values(source, "objective") == {"seq-cls"}
    assert values(source, "micro_batch_size") == {16}
