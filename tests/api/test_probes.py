"""What scripts are told about the machine and the launcher that starts them."""

from __future__ import annotations

import pytest

from vramlint.api.probes import machine_answers
from vramlint.api.world import World
from vramlint.values import Plain

SIZE, RANK = 'os.environ["WORLD_SIZE"]', 'os.environ["LOCAL_RANK"]'


@pytest.mark.parametrize(
    ("world", "size", "rank"),
    [
        (World(), None, None),
        (World(world_size=8), "8", "0"),
        (World(world_size=8, launched=True), "8", "0"),
        (World(world_size=8, alone=True), None, None),
    ],
    ids=["undeclared", "declared", "launched", "python alone"],
)
def test_variables_of_the_launcher(world: World, size: Plain, rank: Plain) -> None:
    answers = machine_answers(world)
    assert answers[SIZE] == size
    assert answers[RANK] == rank


def test_python_alone_is_one_process_that_sees_all_gpus() -> None:
    answers = machine_answers(World(world_size=4, alone=True))
    assert answers["torch.cuda.device_count()"] == 4
    assert answers["torch.distributed.get_world_size()"] == 1


def test_sizes_stay_open_where_a_launcher_counts_the_gpus() -> None:
    assert SIZE not in machine_answers(World(launched=True))
