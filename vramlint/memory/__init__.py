"""The memory model: a simulator of the training step. `simulate` maps a job to its estimate."""

from vramlint.memory.simulate import simulate

__all__ = ["simulate"]
