"""The search for cyclic garbage while a step is simulated."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.memory.runs import llama
from vramlint.memory import simulate


@pytest.fixture(autouse=True)
def searching() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.enable()
    yield
    if not enabled:
        gc.disable()


def test_nothing_is_searched_while_a_step_is_simulated():
    searches: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        searches.append(phase)

    job = llama({"num_hidden_layers": 12})
    simulate(job)  # what is imported is searched
    gc.collect()
    gc.callbacks.append(note)
    try:
        simulate(job)
        during = searches.copy()
    finally:
        gc.callbacks.remove(note)

    assert during.count("start") <= 2  # when it is switched on again, after the run and after the estimate


def test_the_search_is_left_as_it_was():
    simulate(llama())
    assert gc.isenabled()

    gc.disable()
    simulate(llama())
    assert not gc.isenabled()
    gc.enable()

    with pytest.raises(AttributeError):
        simulate(llama(optimizer=None))
    assert gc.isenabled()
