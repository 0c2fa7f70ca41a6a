"""DataParallel: the first GPU with the model, replicas on the others (torch 2.13 torch/nn/parallel)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.estimate import Estimate
from vramlint.job import Adapter, Batch, Evaluation, Job, Objective, Parallelism, Precision, Quantization
from vramlint.memory import simulate

LOGITS = 2 * 128 * 2000
"""Elements of the small llama's logits on one GPU."""
PARAMETERS = 5_451_008


def spread(gpus: int, **overrides: object) -> Job:
    return replace(llama(parallelism=Parallelism(gpus, "dataparallel")), **overrides)


def found(job: Job) -> Estimate:
    return simulate(job, reserved=False)


def phases(job: Job) -> dict[str, int]:
    return {peak.phase: peak.allocated for peak in found(job).phases}


def test_the_first_gpu_is_the_worst_of_two_kinds() -> None:
    estimate = found(spread(4))
    assert [(peak.name, peak.ranks) for peak in estimate.ranks] == [("GPU 0", 1), ("other GPUs", 3)]
    first, others = estimate.ranks
    assert estimate.allocated == first.allocated > others.allocated


def test_the_first_gathers_the_logits_of_all() -> None:
    forward = {gpus: phases(spread(gpus))["forward"] for gpus in (2, 4, 8)}
    inputs = 3 * 2 * 128 * 8
    assert forward[8] - forward[4] == pytest.approx(4 * (4 * LOGITS + inputs), abs=4096)
    assert forward[4] - forward[2] == pytest.approx(2 * (4 * LOGITS + inputs), abs=4096)


def test_replicas_take_the_same_whatever_their_number() -> None:
    assert found(spread(2)).ranks[1].allocated == found(spread(8)).ranks[1].allocated


def test_a_replica_has_weights_activations_and_gradients_but_no_optimizer() -> None:
    one, replica = found(llama()), found(spread(2)).ranks[1].allocated
    assert one.optimizer_states == pytest.approx(8 * PARAMETERS, rel=1e-3)
    assert replica <= one.allocated - one.optimizer_states + 4096 * 64


def test_nothing_runs_under_autocast_in_the_trainer() -> None:
    mixed, plain = (Precision("bfloat16", autocast) for autocast in ("float16", None))
    assert found(spread(2, precision=mixed)).allocated == found(spread(2, precision=plain)).allocated
    loop = Objective(loop="plain")
    one = found(spread(2, precision=mixed, objective=loop)).allocated
    assert one != found(spread(2, precision=plain, objective=loop)).allocated


def test_the_sum_of_gradients_is_made_beside_them() -> None:
    short = Batch(1, 16)  # so that gradients and not activations decide
    one, two = phases(llama(batch=short)), phases(spread(2, batch=short))
    assert two["backward"] - one["backward"] > 3 * PARAMETERS
    many = replace(short, gradient_accumulation_steps=4)
    assert phases(spread(2, batch=many))["backward"] - two["backward"] == pytest.approx(4 * PARAMETERS, rel=0.02)


def test_evaluation_gathers_and_collects_as_one_process_does() -> None:
    one, two = (phases(replace(job, evaluation=Evaluation(2)))["evaluation"] for job in (llama(), spread(2)))
    assert two > one
    whole = Evaluation(2, keeps_logits=True, samples=16)
    one, two = (phases(replace(job, evaluation=whole))["evaluation"] for job in (llama(), spread(2)))
    assert two == one  # all samples' logits in the end, of which no process has a part


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_models_of_bitsandbytes_stay_on_one_gpu(kind: str) -> None:
    job = spread(2, quantization=Quantization(kind), adapter=Adapter())
    assert found(job).ranks == ()


def test_a_loss_over_gathered_outputs_is_not_followed() -> None:
    estimate = found(spread(2, objective=Objective(label_smoothing=0.1)))
    assert "DataParallel" in estimate.why
