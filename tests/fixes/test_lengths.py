import pytest
from msgspec.structs import replace

from vramlint.estimate import Estimate
from vramlint.fixes.lengths import UNIT, reach, with_length
from vramlint.job import Batch, Gpu, Job, Model
from vramlint.memory import simulate
from vramlint.resolve.assume import SHORTEST

GIB = 2**30
GPT2 = Model(
    "gpt2",
    "gpt2",
    config={"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 8192, "n_ctx": 8192},
)
LONG = Job(GPT2, batch=Batch(8, 4096, varies=True))


def card(gibibytes: float) -> Gpu:
    size = int(gibibytes * GIB)
    return Gpu("own", "own", size, size, (8, 0), True, 0, 0)


def tensors(job: Job) -> Estimate:
    return simulate(job, reserved=False)


@pytest.mark.parametrize("gibibytes", [6, 12, 20])
def test_rows_of_the_length_found_fit_and_longer_ones_do_not(gibibytes: float) -> None:
    gpu = card(gibibytes)
    assert tensors(LONG).device_low > gpu.usable_bytes
    found = reach(LONG, gpu, tensors).fitting
    assert found is not None
    assert found % UNIT == 0
    assert tensors(with_length(LONG, found)).device_low <= gpu.usable_bytes
    more = max(UNIT, 4096 // 8)
    assert tensors(with_length(LONG, found + more)).device_low > gpu.usable_bytes


def test_states_that_are_too_much_fit_at_no_length() -> None:
    found = reach(LONG, card(1), tensors)
    assert found.fitting is None
    assert found.shortest.device_low == tensors(with_length(LONG, SHORTEST)).device_low > GIB


def test_few_simulations_are_made() -> None:
    made: list[int] = []

    def counted(job: Job) -> Estimate:
        made.append(job.batch.sequence_length)
        return tensors(job)

    reach(LONG, card(12), counted)
    assert len(made) <= 6


def test_a_target_is_shortened_alike() -> None:
    pair = replace(LONG, batch=replace(LONG.batch, target_length=256))
    assert with_length(pair, 64).batch.target_length == 64
    assert with_length(pair, 512).batch.target_length == 256
    assert with_length(pair, 8192).batch.sequence_length == 4096
