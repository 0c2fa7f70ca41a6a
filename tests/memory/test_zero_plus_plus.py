from msgspec.structs import replace

from vramlint.job import Job, Model, Parallelism, Precision, Zero
from vramlint.memory import simulate
from vramlint.memory.zero_wire import Wire

CONFIG = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8, "num_attention_heads": 8}
CONFIG |= {"num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False}
ZERO = Zero(3, reduce_bucket_size=1 << 24, prefetch_bucket_size=1 << 20, max_reuse_distance=0)
JOB = Job(
    Model("model", "llama", CONFIG),
    precision=Precision("bfloat16", "bfloat16"),
    parallelism=Parallelism(16, "deepspeed", ZERO, nodes=2),
)


def peak(zero: Zero = ZERO) -> int:
    return simulate(replace(JOB, parallelism=replace(JOB.parallelism, zero=zero)), reserved=False).allocated


def test_a_secondary_partition_is_at_most_a_copy_of_the_weights_in_each_group() -> None:
    weights = 2 * simulate(JOB, reserved=False).total_parameters
    assert 0 < peak(replace(ZERO, hpz_partition_size=8)) - peak() <= weights / 8


def test_larger_groups_take_less() -> None:
    peaks = [peak(replace(ZERO, hpz_partition_size=size)) for size in (8, 4, 2)]
    assert peaks == sorted(peaks)


def test_weights_that_travel_in_eight_bits_are_float16_when_they_arrive() -> None:
    plain, plain_highest = Wire(8, 2).sent([0], [1 << 20])
    narrow, narrow_highest = Wire(8, 2, half=False, packed={0}).sent([0], [1 << 20])

    assert plain.size == plain_highest == 2 << 20
    assert 1 << 20 < narrow.size < narrow_highest < 2 << 20
    assert narrow.whole == 2 << 20


def test_mics_divides_the_model_among_fewer_ranks() -> None:
    assert peak(replace(ZERO, mics_shard_size=4)) > peak()
