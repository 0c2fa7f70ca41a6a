"""litgpt's models: names, what its Config computes, and how many parameters they have."""

from __future__ import annotations

import pytest

from vramlint.catalog.litgpt_models import completed, hub_id, litgpt_model, of_checkpoint, parameter_count
from vramlint.catalog.models import find_model
from vramlint.job import Job, Model
from vramlint.memory import simulate


@pytest.mark.parametrize("name", ["pythia-160m", "EleutherAI/pythia-160m", "checkpoints/EleutherAI/pythia-160m"])
def test_names_are_litgpts_own_or_the_hubs(name: str) -> None:
    found = litgpt_model(name)

    assert found is not None
    assert (found["n_layer"], found["n_embd"], found["padded_vocab_size"], found["head_size"]) == (12, 768, 50304, 64)


def test_what_is_in_no_line_is_unknown() -> None:
    assert litgpt_model("nobody/nothing") is None
    assert hub_id("nothing") == ""
    assert hub_id("gemma-2b") == "google/gemma-2b"


def test_vocabularies_are_padded_and_sizes_follow() -> None:
    found = completed({"n_embd": 96, "n_head": 6, "vocab_size": 1000})

    assert [found[key] for key in ("padded_vocab_size", "head_size", "intermediate_size", "n_query_groups")] == [
        1024,
        16,
        384,
        6,
    ]
    assert completed({"vocab_size": 1000, "padding_multiple": 64})["padded_vocab_size"] == 1024


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Llama-2-7b-hf", 6_738_415_616),
        ("tiny-llama-1.1b", 1_100_048_384),
        ("phi-2", 2_779_683_840),
        ("pythia-160m", 162_322_944),
        ("Mixtral-8x7B-v0.1", 46_702_792_704),
        ("Qwen2.5-7B", 7_615_616_512),
    ],
)
def test_parameters_are_those_of_the_published_checkpoints(name: str, count: int) -> None:
    found = litgpt_model(name)

    assert found is not None
    assert parameter_count(found) == count


@pytest.mark.parametrize(
    "name", ["Gemma-2-2b", "OLMo-1B-hf", "OLMo-2-1124-7B", "Qwen3-8B", "falcon-7b", "phi-2", "stablelm-zephyr-3b"]
)
def test_parameters_are_those_of_the_simulated_network(name: str) -> None:
    found = litgpt_model(name)

    assert found is not None
    estimate = simulate(Job(Model(name, "litgpt", found)), reserved=False)
    assert (estimate.method, estimate.total_parameters) == ("simulated", parameter_count(found))


@pytest.mark.parametrize("name", ["google/gemma-2-2b", "microsoft/phi-2", "Qwen/Qwen2.5-7B", "tiiuae/falcon-7b"])
def test_a_checkpoint_of_transformers_is_the_same_network(name: str) -> None:
    row = find_model(name)
    own = litgpt_model(name)

    assert row is not None
    assert own is not None
    made = of_checkpoint(row.model_type, row.config)
    assert made is not None
    assert parameter_count({**made, "padded_vocab_size": own["padded_vocab_size"]}) == parameter_count(own)


def test_models_that_litgpt_has_not() -> None:
    assert of_checkpoint("bert", {"hidden_size": 64}) is None
