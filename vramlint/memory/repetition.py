"""Which of a model's equal layers are traced."""

from __future__ import annotations

SINGLE_LAYERS = 3
"""Up to so many layers each is traced by itself."""


def traced(count: int) -> list[int]:
    """How many layers each traced layer stands for.

    The first and the last are traced by themselves, because their neighbours differ; one in the middle
    stands for all others.
    """
    return [1] * count if count <= SINGLE_LAYERS else [1, count - 2, 1]
