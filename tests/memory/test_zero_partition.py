"""Pieces of ZeRO's flat buffers, the order of gradients, and what a bucket copies when it goes off."""

from __future__ import annotations

import pytest

from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_coordinator import mark, tree_of
from vramlint.memory.zero_partition import Piece, arrivals, flattened, partition_of, schedule_of


def parameter(name: str, elements: int, used: int | None = None, *, times: int = 1) -> Parameter:
    made = Parameter(name, (elements,), "bfloat16", trainable=True, multiplicity=times)
    made.used = used
    if times > 1:
        made.stretch = (0, 0)
    return made


def test_a_piece_is_cut_where_partitions_end() -> None:
    piece = Piece(parameter("p", 70), begin=15, partition=20)

    assert list(piece.parts()) == [(0, 5, 1), (1, 20, 3), (4, 5, 1)]
    assert list(Piece(parameter("p", 5), begin=15, partition=20).parts()) == [(0, 5, 1)]


def test_partitions_are_padded_to_twice_the_ranks() -> None:
    part = partition_of([[parameter("p", 9)]], 4, 0)

    assert part.sizes == (4,)  # 16 elements for 9
    assert part.largest_slice == 4


def test_gradients_arrive_from_the_last_use_to_the_first() -> None:
    embedding, norm, product, head = (
        parameter("embedding", 8, 1),
        parameter("norm", 2, 4, times=2),
        parameter("product", 4, 3, times=2),
        parameter("head", 8, 9),
    )
    model = [embedding, norm, product, head]
    pieces = [Piece(p, partition=100) for p in (embedding, norm, product, norm, product, head)]

    found = [piece.parameter.name for piece in arrivals(model, pieces)]

    assert found == ["head", "norm", "product", "norm", "product", "embedding"]


def test_a_parameter_whose_use_nobody_saw_comes_with_the_one_before() -> None:
    model = [parameter("a", 1, 5), parameter("b", 1), parameter("c", 1, 2)]

    assert [piece.parameter.name for piece in arrivals(model, [Piece(p) for p in model])] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("begin", "elements", "capacity", "copied"),
    [
        (0, 20, 100, 0),  # one slice
        (0, 60, 100, 60),  # three slices in one bucket
        (0, 60, 30, 40),  # lots of two, then one alone
        (10, 100, 45, 50),  # 10, 20, 20: beyond the bucket with the third
        (0, 100, 10, 0),  # every slice is a lot of its own
        (0, 20_000, 50, 60),  # thousands of slices, three a lot
    ],
)
def test_an_oversized_gradient_goes_in_lots(begin: int, elements: int, capacity: int, copied: int) -> None:
    piece = Piece(parameter("p", elements), begin=begin, partition=20)

    assert flattened([piece], elements, capacity) == copied


def test_neighbours_in_one_partition_are_one_tensor() -> None:
    first, second = parameter("a", 10), parameter("b", 10)

    assert flattened([Piece(first, 0, 20), Piece(second, 10, 20)], 20, 100) == 0
    assert flattened([Piece(first, 0, 10), Piece(second, 10, 10)], 20, 100) == 20


def test_the_buffer_of_own_gradients_is_made_with_the_first_bucket_that_has_some() -> None:
    foreign, own, last = parameter("a", 10), parameter("b", 10), parameter("c", 10)
    pieces = [Piece(foreign, 20, 10), Piece(own, 0, 10, 10), Piece(last, 10, 10)]

    found = schedule_of(pieces, 10, flattened)

    assert found.claims == id(last)
    assert found.rest == 0


def test_a_schedule_knows_the_largest_own_slice_that_goes_off_with_each_gradient() -> None:
    """The norm of an offloaded gradient is that of a float64 copy of the slice."""
    first, second = parameter("a", 100), parameter("b", 60)
    pieces = [Piece(first, 0, 200, 100), Piece(second, 100, 200, 40)]

    schedule = schedule_of(pieces, 100, flattened)

    assert schedule.largest == {id(second): 100, None: 40}


def test_backward_does_not_come_to_what_is_in_front_of_everything_that_trains() -> None:
    """Embedding and the first layer's adapted projections take no gradient to their inputs."""
    names = ["embed_tokens", *(f"layers.0.self_attn.{name}" for name in ("q_proj", "k_proj", "o_proj"))]
    parameters = [parameter(f"model.{name}.weight", 64) for name in names]
    parameters.insert(2, parameter("model.layers.0.self_attn.q_proj.lora_A.weight", 8))
    for p in parameters[1:]:
        p.layer = (0, 0)
    root, _ = tree_of(parameters, leaves=False)

    mark(root, ["lora" in p.name for p in parameters], needed=False)

    model = root.children[0]
    q, k, o = model.children[1].children[0].children
    assert not model.children[0].differentiates
    assert [child.differentiates for child in q.children] == [False, True]
    assert (k.differentiates, o.differentiates) == (False, True)
