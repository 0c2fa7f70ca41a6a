"""The trace of a step: its counters follow the log, whichever repetitions are drawn whole."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vramlint.estimate import Amount, Estimate, Log, Stretch
from vramlint.findings import JobReport
from vramlint.report.timeline import render

SIZES = (512, 4096)
KINDS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([-1, 1, 2])), min_size=1, max_size=6)


def trace_of(stretches: list[Stretch]) -> list[dict[str, Any]]:
    log = Log((Amount("weights", 1024),), tuple(stretches), SIZES, ("a", "b"), ("activations", "gradients"))
    estimate = Estimate("simulated", 1, 1, 0, "forward", (), (), log=log)
    content: dict[str, list[dict[str, Any]]] = json.loads(
        render((JobReport("train.py", "train.py", "checked", high=estimate),))
    )
    return content["traceEvents"]


@given(st.lists(st.tuples(st.integers(1, 30), KINDS), min_size=1, max_size=4))
def test_the_highest_total_is_the_highest_of_a_plain_replay(blocks: list[tuple[int, list[tuple[int, int]]]]):
    stretches = [Stretch("forward", repeat, tuple(events), (0,)) for repeat, events in blocks]
    alive = highest = 1024
    ends = []
    for repeat, events in blocks:
        for _ in range(repeat):
            for index, count in events:
                alive += SIZES[index] * count
                highest = max(highest, alive)
        ends.append(alive)

    totals = [event["args"]["bytes"] for event in trace_of(stretches) if event["name"] == "total"]

    assert max(1024, *totals) == highest
    assert totals[-1] == ends[-1]


def test_backward_runs_the_last_layer_first():
    repeated = ((0, 1),)
    events = trace_of([Stretch("forward", 3, repeated, (2,)), Stretch("backward", 3, repeated, (2,))])
    layers = [event["name"] for event in events if event.get("tid") == 2 and event["ph"] == "X"]

    assert layers == ["layer 2", "layer 3", "layer 4", "layer 4", "layer 3", "layer 2"]
