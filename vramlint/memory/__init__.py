"""The memory model: a simulator of the training step. `simulate` maps a job to its estimate, `trace` to its run."""

from vramlint.memory.simulate import Simulation, simulate, trace

__all__ = ["Simulation", "simulate", "trace"]
