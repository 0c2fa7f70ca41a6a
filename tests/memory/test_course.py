"""Where in the model a run is: repeated layers are recorded once, in blocks that say how often and of which layers."""

from __future__ import annotations

from vramlint.memory.course import Course
from vramlint.memory.recorder import Recorder
from vramlint.memory.repetition import Layout
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def started(checkpoint_every: int = 1) -> tuple[Course, Recorder]:
    recorder = Recorder()
    recorder.begin("forward")
    course = Course(recorder, Layout(checkpoint_every))
    course.start()
    return course, recorder


def ran(course: Course, layers: int, stack: int = 0) -> list[tuple[int, bool]]:
    """Run a stack; the unit of each traced layer, and whether it is recomputed."""
    seen: list[tuple[int, bool]] = []

    def layer(x: Tensor, position: int) -> Tensor:
        assert position == len(seen)
        seen.append((course.unit, course.recomputes))
        return x

    hidden = Tensor((1, 8), "float32", None)
    assert course.repeat(layers, layer, [hidden], stack=stack) is hidden
    return seen


def test_of_equal_layers_the_third_stands_for_the_others() -> None:
    course, recorder = started()
    assert [unit for unit, _ in ran(course, 12)] == [1, 2, 3, 4]
    assert [(block.repeat, list(block.layers)) for block in recorder.blocks[-5:-1]] == [
        (1, [0]),
        (1, [1]),
        (9, [2]),
        (1, [11]),
    ]
    assert course.unit == 0
    assert recorder.current_repeat == 1


def test_what_enters_a_stack_dies_as_soon_as_no_layer_needs_it() -> None:
    course, recorder = started()
    tape = Tape(recorder)

    def layer(x: Tensor, _: int) -> Tensor:
        return tape.empty(x.shape, x.dtype, "layer")

    course.repeat(3, layer, [tape.empty((1, 8), "float32", "embedding")])
    assert [event for block in recorder.blocks for event in block.events] == [
        *((0, 1), (1, 1), (0, -1)),
        *((2, 1), (1, -1)),
        *((3, 1), (2, -1)),
        (3, -1),
    ]


def test_the_layers_of_a_second_stack_are_numbered_behind_the_first() -> None:
    course, recorder = started()
    ran(course, 2)
    ran(course, 2, stack=1)
    assert [list(block.layers) for block in recorder.blocks if block.layers] == [[0], [1], [2], [3]]


def test_a_stack_that_runs_again_in_backward_has_the_same_numbers_in_units_of_its_own() -> None:
    course, recorder = started()
    ran(course, 2)
    course.backward_starts()
    assert [unit for unit, _ in ran(course, 2)] == [3, 4]
    assert [list(block.layers) for block in recorder.blocks if block.layers] == [[0], [1], [0], [1]]
    assert course.unit_of((0, 1)) == 4


def test_the_unit_of_what_is_in_no_layer_is_zero() -> None:
    course, _ = started()
    ran(course, 2)
    assert course.unit_of(None) == 0
    assert course.unit_of((1, 0)) == 0


def test_only_every_second_layer_is_recomputed_where_checkpointing_says_so() -> None:
    course, _ = started(checkpoint_every=2)
    assert [recomputes for _, recomputes in ran(course, 4)] == [True, False, True, False]


def test_within_a_unit_nothing_is_gathered() -> None:
    course, recorder = started()
    course.gathered = {(0, 0): 1024}
    ran(course, 1)
    assert recorder.sizes == [1024]  # by the layer itself
    with course.within(1):
        assert course.unit == 1
    assert course.unit == 0
    assert recorder.sizes == [1024]
