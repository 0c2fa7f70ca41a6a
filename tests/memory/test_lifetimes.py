"""What outlives its layer dies in that layer's unit, as often as it came."""

from __future__ import annotations

from vramlint.memory.recorder import Recorder
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def test_what_every_layer_kept_is_freed_as_often_as_it_was_made() -> None:
    recorder = Recorder()
    recorder.begin("forward")
    tape = Tape(recorder)
    tape.course.start()

    def layer(x: Tensor, _position: int) -> Tensor:
        tape.lifetimes.keep(tape.empty((16,), "float32", "key"))
        return x

    tape.course.repeat(12, layer, [Tensor((1, 8), "float32", None)])
    kept = tape.lifetimes.taken_cache()
    assert [one.unit for one in kept] == [1, 2, 3, 4]
    assert tape.lifetimes.taken_cache() == []
    tape.lifetimes.drop(kept)
    changes = [0] * len(recorder.sizes)
    freed = 0
    for block in recorder.blocks:
        for index, count in block.events:
            changes[index] += block.repeat * count
            freed -= block.repeat * min(count, 0)
    assert changes == [0, 0, 0, 0]
    assert freed == 12
    assert tape.course.unit == 0


def test_what_a_graph_holds_dies_with_the_backward_or_where_a_loop_binds_the_loss_with_its_outputs() -> None:
    for outlived in (False, True):
        recorder = Recorder()
        recorder.begin("forward")
        tape = Tape(recorder)
        tape.course.start()
        tape.lifetimes.outlived = outlived
        tape.lifetimes.bind(tape.empty((16,), "float32", "to"))
        tape.lifetimes.backward_ends()
        events = [event for block in recorder.blocks for event in block.events]
        assert ((0, -1) in events) is not outlived
        assert len(tape.lifetimes.taken_cache()) == outlived
