"""Python's search for cyclic garbage, left out while a step is simulated.

A simulation makes hundreds of thousands of small objects that refer to one another and are nearly all alive, which the
search walks through again and again: at Python's usual thresholds for half of the time. References alone decide when
a tensor dies, so nothing is found that would matter.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search, unless it is off anyhow; other threads go without it meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
