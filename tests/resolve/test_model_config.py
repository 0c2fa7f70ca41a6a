"""What a run sets of the model's configuration."""

from __future__ import annotations

from tests.resolve.making import run, script, written

MIXTRAL = written("model", "mistralai/Mixtral-8x7B-v0.1", key="pretrained_model_name_or_path")
KNOWN = (written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "bfloat16"))


def test_experts_and_their_loss_go_into_the_config() -> None:
    facts = written("experts_implementation", "batched_mm"), written("router_logits", True)
    (plain,) = run(script(MIXTRAL, *KNOWN)).jobs
    (set_by_hand,) = run(script(MIXTRAL, *KNOWN, *facts)).jobs

    said = {"experts_implementation": "batched_mm", "output_router_logits": True}
    assert set_by_hand.model.config == {**plain.model.config, **said}


def test_alternatives_are_several_jobs() -> None:
    jobs = run(script(MIXTRAL, *KNOWN, written("experts_implementation", "eager", "grouped_mm"))).jobs

    assert [job.model.config["experts_implementation"] for job in jobs] == ["eager", "grouped_mm"]


def test_a_batch_that_is_counted_in_tokens_is_filled_up() -> None:
    model = written("model", "meta-llama/Llama-2-7b-hf", key="pretrained_model_name_or_path")
    tokens = written("tokens_per_batch", 5000)
    for length, expected in ((2048, (3, 1666)), (8192, (1, 8192)), (5000, (1, 5000))):
        facts = (written("micro_batch_size", 1), written("sequence_length", length), written("load_dtype", "bfloat16"))
        job = run(script(model, *facts, tokens)).jobs[0]
        assert (job.batch.micro_batch_size, job.batch.sequence_length) == expected
