import pytest

from vramlint.engine.job_terms import JOB_TERMS, LARGE_VOCABULARY
from vramlint.job import ConfigValue, Job, Model


def term(name: str, model_type: str, **config: ConfigValue) -> object:
    return JOB_TERMS[f"model.{name}"](Job(Model("m", model_type, config=config)))


@pytest.mark.parametrize(
    ("model_type", "config", "positions"),
    [
        ("gpt2", {"n_positions": 1024}, 1024),
        ("opt", {"max_position_embeddings": 2048}, 2048),
        ("roberta", {"max_position_embeddings": 514}, 512),
        ("llama", {"max_position_embeddings": 4096}, None),
        ("t5", {"n_positions": 512}, None),
        ("gpt2", {}, None),
    ],
)
def test_positions_that_a_model_learns(model_type: str, config: dict[str, ConfigValue], positions: int | None) -> None:
    assert term("learned_positions", model_type, **config) == positions


def test_vocabularies_from_a_size_on_are_large() -> None:
    sizes = (LARGE_VOCABULARY - 1, LARGE_VOCABULARY)
    assert [term("large_vocabulary", "llama", vocab_size=size) for size in sizes] == [False, True]
    assert term("large_vocabulary", "llama") is False


def test_sizes_of_the_text_part_count() -> None:
    text: dict[str, ConfigValue] = {"vocab_size": 262208, "num_experts": 8}
    assert term("vocabulary", "gemma3", text_config=text) == 262208
    assert term("experts", "gemma3", text_config=text) == 8
    assert term("experts", "llama", vocab_size=1) is None
