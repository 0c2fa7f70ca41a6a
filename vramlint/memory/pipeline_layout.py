"""Which layers the stages of Megatron's pipeline have, and how many forwards of each model chunk are under way.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/transformer/{transformer_block,pipeline_parallel_layer_layout}.py,
megatron/core/pipeline_parallel/schedules.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vramlint.job import Batch, Megatron
from vramlint.memory.refusal import NotFollowedError

Chunks = tuple[tuple[int, ...], ...]
"""The numbers of the layers of each model chunk of a stage."""
_REPEATED = (r"\(([^)]+)\)\*(\d+)", r"(.)\*(\d+)")
"""Groups and single letters of a layout that stand several times (parse_str_to_list)."""
_MOST = 10_000
"""Letters of a layout; more are not meant."""
EMBEDDING, LAYER, PREDICTION, LOSS = "E", "t", "m", "L"


def stages(engine: Megatron, layers: int, predictions: int = 0) -> Sequence[Chunks]:
    """The chunks of every stage, of so many layers in all: numbered as they run, chunk after chunk.

    `predictions` are layers that predict further tokens, which have to be the last stage's.

    Raises:
        NotFollowedError: they cannot be divided like that, or a stage has something else.
    """
    counts = _of_layout(engine, layers, predictions) if engine.layout else _counted(engine, layers)
    chunks = len(counts[0])
    found: list[list[tuple[int, ...]]] = [[] for _ in counts]
    start = 0
    for chunk in range(chunks):
        for stage, sizes in enumerate(counts):
            found[stage].append(tuple(range(start, start + sizes[chunk])))
            start += sizes[chunk]
    return [tuple(chunks) for chunks in found]


def _counted(engine: Megatron, layers: int) -> list[list[int]]:
    """Layers by stage and chunk (transformer_block.py, get_num_layers_to_build)."""
    apart = [engine.first_layers, engine.last_layers]
    named = [size for size in apart if size is not None]
    places = engine.pipeline - len(named)
    rest = layers - sum(named) + engine.counts_embedding + engine.counts_loss
    if (places and rest % places) or (not places and rest) or rest < 0 or places < 0:
        raise NotFollowedError(f"num_hidden_layers {layers} over {engine.pipeline} stages")
    each = [rest // max(1, places)] * engine.pipeline
    for stage, size in ((0, engine.first_layers), (-1, engine.last_layers)):
        if size is not None:
            each[stage] = size
    if any(size % engine.chunks for size in each):
        raise NotFollowedError(f"num_hidden_layers {layers} over {engine.pipeline * engine.chunks} model chunks")
    counts = [[size // engine.chunks] * engine.chunks for size in each]
    counts[0][0] -= engine.counts_embedding
    counts[-1][-1] -= engine.counts_loss
    return counts


def _of_layout(engine: Megatron, layers: int, predictions: int) -> list[list[int]]:
    parts = parsed(engine.layout)
    ends = parts[0].startswith(EMBEDDING) and parts[-1].endswith(LOSS)
    whole, last = EMBEDDING + LAYER * layers + PREDICTION * predictions + LOSS, PREDICTION * predictions + LOSS
    ends = ends and parts[-1].endswith(last)
    if len(parts) % engine.pipeline or not ends or "".join(parts) != whole:
        raise NotFollowedError(f"{layers} layers by the layout {engine.layout} over {engine.pipeline} stages")
    stride = engine.pipeline
    return [[part.count(LAYER) for part in parts[stage::stride]] for stage in range(stride)]


def parsed(layout: str) -> Sequence[str]:
    """`Et*2|(tt|)*5t|tL` as the letters of its parts: E the embedding, t a layer, m a further prediction, L the loss.

    Raises:
        NotFollowedError: it is longer than anybody means, or has other letters.
    """
    text = layout.replace(",", "").replace(" ", "")
    for pattern in _REPEATED:
        text = re.sub(pattern, _repeated, text)
    if len(text) > _MOST or re.search(r"[^EtmL|]", text):
        raise NotFollowedError(f"the layout {layout}")
    return text.split("|")


def _repeated(match: re.Match[str]) -> str:
    times = int(match[2]) if len(match[2]) <= len(str(_MOST)) else _MOST + 1
    return match[1] * min(times, _MOST + 1)


def in_flight(engine: Megatron, stage: int, batch: Batch) -> Sequence[int]:
    """Of each model chunk the forwards that a stage has run when it begins its first backward, the last chunk's.

    1F1B: those of the stages behind it and its own; interleaved: schedules.py, get_pp_rank_microbatches, plus the one
    forward before the first backward. Chunks take turns with as many micro batches as there are stages, or more.
    """
    behind, group = engine.pipeline - stage - 1, engine.alternation or engine.pipeline
    warm = behind if engine.chunks == 1 else 2 * behind + (engine.chunks - 1) * group
    steps = batch.gradient_accumulation_steps
    left = min(warm + 1, steps * engine.chunks)
    found = [0] * engine.chunks
    for start in range(0, steps, group):
        for chunk in range(engine.chunks):
            run = min(left, group, steps - start)
            found[chunk] += run
            left -= run
        if not left:
            break
    return found
