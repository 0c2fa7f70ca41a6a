"""vramlint itself: the simulation with the allocator, as a check makes it."""

from __future__ import annotations

import sys

from bench.calculators.harness import NotExpressibleError, Run, serve
from bench.cases import job_of
from vramlint.memory import simulate


def predict(run: Run) -> float:
    """The peak of allocated memory.

    Raises:
        NotExpressibleError: the run is not simulated.
    """
    estimate = simulate(job_of(run.row), observed=True)
    if estimate.method != "simulated":
        raise NotExpressibleError(estimate.why)
    return estimate.allocated


if __name__ == "__main__":
    sys.exit(serve(predict))
