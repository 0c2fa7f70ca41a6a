"""Reading the event log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramlint.memory.recorder import Block, Label, Recorder, rounded
from vramlint.memory.timeline import Timeline, summed

LABEL = Label("op", "activations", "uint8", ())


def test_sizes_are_rounded_to_blocks():
    assert [rounded(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_repeated_growth_peaks_in_the_last_repetition():
    recorder = Recorder()
    recorder.begin("forward", 10)
    recorder.allocate(1024, LABEL)
    temporary = recorder.allocate(2048, LABEL)
    recorder.free(temporary)
    timeline = Timeline(recorder.blocks, recorder.sizes, 512)

    peak = timeline.peaks()["forward"]

    assert peak.bytes == 512 + 10 * 1024 + 2048
    assert sum(timeline.alive_at(peak).values()) + 512 == peak.bytes


def test_closed_logs_ignore_later_deaths():
    recorder = Recorder()
    recorder.begin("forward")
    index = recorder.allocate(1, LABEL)
    recorder.close()
    recorder.free(index)

    assert recorder.blocks[0].events == [(index, 1)]


@given(st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(-2, 3), max_size=6)), min_size=1, max_size=6))
def test_peaks_equal_a_plain_replay(blocks: list[tuple[int, list[int]]]):
    sizes = [512]
    log = [Block("step", repeat, [(0, count) for count in counts if count]) for repeat, counts in blocks]
    timeline = Timeline(log, sizes, 0)

    alive = highest = 0
    for block in log:
        for _ in range(block.repeat):
            for _, count in block.events:
                alive += 512 * count
                highest = max(highest, alive)
    # a block in which nothing rises above its start still counts with its start
    starts = [level for _, level in timeline.levels()]

    peak = timeline.peaks()["step"]
    assert peak.bytes == max(highest, *starts)
    assert summed(timeline.alive_at(peak), lambda _: "x").get("x", 0) == peak.bytes


def test_a_log_beside_another_base_leaves_out_what_it_is_told():
    blocks = [Block("forward", 3, [(0, 1), (1, 1), (1, -1)]), Block("forward", 1, [(2, 1)]), Block("backward", 1, [])]
    blocks[2].events += [(2, -1), (3, 1), (0, -3)]
    sizes = [1000, 4000, 3000, 700]
    whole = Timeline(blocks, sizes, 0)
    for left_out in (set[int](), {0}, {1, 2}, {3}):
        beside, alone = whole.beside(512, left_out), Timeline(blocks, sizes, 512, left_out)
        peaks = alone.peaks()

        assert beside.peaks() == peaks
        assert list(beside.levels()) == list(alone.levels())
        assert [beside.alive_at(peak) for peak in peaks.values()] == [alone.alive_at(peak) for peak in peaks.values()]
    assert whole.peaks() == Timeline(blocks, sizes, 0).peaks()
