from __future__ import annotations

from dataclasses import replace

import pytest

from tests.memory.runs import llama
from vramlint.api.simulating import Simulator


def test_equal_jobs_are_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    job = llama()
    first = simulator(job, reserved=False)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr("vramlint.memory.simulate", fail)
    assert simulator(replace(job), reserved=False) is first
    with pytest.raises(AssertionError, match="again"):
        simulator(replace(job, batch=replace(job.batch, micro_batch_size=7)), reserved=False)
    with pytest.raises(AssertionError, match="again"):
        simulator(job)
