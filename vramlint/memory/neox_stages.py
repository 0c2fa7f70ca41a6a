"""How DeepSpeed cuts the layers of a pipeline into stages (deepspeed 0.19.8 runtime/pipe/module.py, runtime/utils.py).

A part of gpt-neox's model is the embedding, a layer, the last norm, the head, or a function between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from vramlint.memory.refusal import NotFollowedError

EMBED, BEFORE, LAYER, AFTER, NORM, HEAD = (
    "EmbeddingPipe",
    "_pre_transformer_block",
    "ParallelTransformerLayerPipe",
    "_post_transformer_block",
    "NormPipe",
    "ParallelLinearPipe",
)
"""Names by which DeepSpeed counts the parts of gpt-neox's model (megatron/model/gpt2_model.py, init_specs)."""


def parts_of(layers: int, *, tied: bool) -> tuple[str, ...]:
    """The model's parts; a tied head is the embedding again."""
    return (EMBED, BEFORE, *([LAYER] * layers), AFTER, NORM, EMBED if tied else HEAD)


def cut(parts: Sequence[str], weights: Sequence[int], stages: int, method: str) -> list[tuple[str, ...]]:
    """The parts of every stage.

    Args:
        parts: of the model.
        weights: parameters of each.
        stages: how many.
        method: uniform, parameters, or `type:` and a pattern of names that count.

    Raises:
        NotFollowedError: DeepSpeed has no such method, or the pattern finds nothing or is none.
    """
    method = method.lower()
    if method == "uniform":
        bounds = uniform(len(parts), stages)
    elif method == "parameters":
        bounds = balanced(tuple(weights), stages)
    elif method.startswith("type:"):
        bounds = balanced(_counted(parts, method.split(":")[1]), stages)
    else:
        raise NotFollowedError(f"pipeline stages by {method}")
    return [tuple(parts[first:last]) for first, last in pairwise(bounds)]


def _counted(parts: Sequence[str], pattern: str) -> tuple[int, ...]:
    try:
        found = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise NotFollowedError(f"pipeline stages by type:{pattern}") from error
    counted = tuple(int(found.search(part) is not None) for part in parts)
    if not any(counted):
        raise NotFollowedError(f"pipeline stages by type:{pattern}, which no layer is")
    return counted


def uniform(items: int, parts: int) -> list[int]:
    """partition_uniform: the first ones have one more where they do not come out even."""
    if items <= parts:
        return [min(part, items) for part in range(parts + 1)]
    each, more = divmod(items, parts)
    return [part * each + min(part, more) for part in range(parts + 1)]


@lru_cache(maxsize=64)
def balanced(weights: tuple[int, ...], parts: int) -> list[int]:
    """partition_balanced: the cut with the least difference between the heaviest and the lightest part."""
    count = len(weights)
    if count <= parts:
        return uniform(count, parts)
    sums = [0]
    for weight in weights:
        sums.append(sums[-1] + weight)
    infinite = float("inf")
    highest = [[infinite] * (parts + 1) for _ in range(count + 1)]
    lowest = [[infinite] * (parts + 1) for _ in range(count + 1)]
    cost = [[infinite] * (parts + 1) for _ in range(count + 1)]
    position = [[0] * (parts + 1) for _ in range(count + 1)]
    highest[0][0] = cost[0][0] = 0
    for end in range(1, count + 1):
        for part in range(1, min(end, parts) + 1):
            for start in range(end):
                size = sums[end] - sums[start]
                most, least = max(highest[start][part - 1], size), min(lowest[start][part - 1], size)
                if most != infinite and cost[end][part] >= most - least:
                    cost[end][part], highest[end][part], lowest[end][part] = most - least, most, least
                    position[end][part] = start
    bounds = [count]
    for part in range(parts, 0, -1):
        bounds.append(position[bounds[-1]][part])
    return bounds[::-1]
