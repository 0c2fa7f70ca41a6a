"""TRL's head from 1.15 on: log-probabilities of labels, by tiles of tokens and vocabulary.

trl 1.16 kernels/chunked_logprob.py, `ChunkedLogProbFunction`, and trainer/utils.py, `add_fused_lm_head`. All labels
are taken to count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

FUSED_FROM = (1, 15)
"""Since then SFTTrainer computes every loss with it."""
TILE_TOKENS = 4096
TILE_VOCABULARY = 32768
STATISTICS = 7
"""Running figures per token: maximum, sums of exponentials, the label's logit."""
LOSS = "logits and loss"


def fused_head(tape: Tape, hidden: Tensor, head: Weights) -> Tensor:
    """The loss of hidden states [B, S, H]; entropies and top-1 hits come along."""
    batch, length, width = hidden.shape
    tokens = batch * (length - 1)
    mask = tape.empty((batch, length - 1), "bool", "label mask")
    rows = shaping.index(tape, shaping.part(tape, hidden, (batch, length - 1, width)), (tokens, width), (mask,))
    targets = tape.empty((tokens,), "int64", "shifted labels")
    found = _log_probabilities(tape, rows, head, targets)
    del rows, targets
    placed = e.linear_unary(tape, "masked_scatter", found.as_shape((batch, length - 1)))
    return e.sum_all(tape, e.linear_unary(tape, "neg", placed))


def _log_probabilities(tape: Tape, rows: Tensor, head: Weights, targets: Tensor) -> Tensor:
    dtype = tape.autocast or rows.dtype
    tokens, weight = rows.shape[0], head.weight
    statistics = [tape.empty((tokens,), "float32", "head statistics", LOSS) for _ in range(STATISTICS)]
    tile = _tile(tape, tokens, dtype)
    part = None
    for count, sizes in _tiles(tokens, weight.shape[0]):
        part = _cast(tape, rows, count, dtype)
        for size in sizes:
            _cast(tape, weight, size, dtype)
    normaliser = tape.empty((tokens,), "float32", "logsumexp", LOSS)
    entropy = tape.empty((tokens,), "float32", "entropy", LOSS)
    inputs = (rows, weight) if head.bias is None else (rows, weight, head.bias)
    save = (*inputs, targets, normaliser, entropy)
    out = tape.apply("chunked loss", inputs, (tokens,), "float32", _backward, save=save, context=dtype)
    del statistics, tile, part
    return out


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Gradients are summed in float32, then cast; tiles of logits are computed again and overwritten."""
    saved = node.unpack(tape)
    inputs = saved[: len(node.edges)]
    rows, weight = inputs[0], inputs[1]
    dtype: str = node.context
    wide = [
        tape.empty(tensor.shape, "float32", "chunked gradient", LOSS) if node.needs(position) else None
        for position, tensor in enumerate(inputs)
    ]
    tile = _tile(tape, rows.shape[0], dtype)
    part = matrix = None
    for count, sizes in _tiles(rows.shape[0], weight.shape[0]):
        part = _cast(tape, rows, count, dtype)
        for size in sizes:
            matrix = _cast(tape, weight, size, dtype)
    results = [
        None if gradient is None else tape.to(gradient, tensor.dtype)
        for gradient, tensor in zip(wide, inputs, strict=True)
    ]
    del tile, part, matrix, saved
    return results


def _tile(tape: Tape, tokens: int, dtype: str) -> Tensor:
    """The buffer of logits, as wide as a tile whatever the vocabulary."""
    return tape.empty((min(tokens, TILE_TOKENS), TILE_VOCABULARY), dtype, "logits tile", LOSS)


def _tiles(tokens: int, vocabulary: int) -> Iterator[tuple[int, Sequence[int]]]:
    sizes = [min(TILE_VOCABULARY, vocabulary - start) for start in range(0, vocabulary, TILE_VOCABULARY)]
    for start in range(0, tokens, TILE_TOKENS):
        yield min(TILE_TOKENS, tokens - start), sizes


def _cast(tape: Tape, tensor: Tensor, count: int, dtype: str) -> Tensor:
    """`tensor[start:end].to(dtype)` of `count` rows."""
    if tensor.dtype == dtype:
        return tensor
    return tape.empty((count, tensor.shape[-1]), dtype, "to", LOSS)
