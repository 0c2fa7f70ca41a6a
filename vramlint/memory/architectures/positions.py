"""Absolute positions of encoder-decoders: tables by learned weights or sinusoids, with the ids that look them up."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vramlint.memory.ops.embedding import embedding
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

BART_OFFSET = 2
"""Rows of BART's and M2M100's tables before the first position."""


class Positions(ABC):
    """One stack's table of positions."""

    @abstractmethod
    def __init__(self, build: Builder, name: str, count: int, width: int) -> None:
        """A table of `count` positions, `name` in transformers."""

    @abstractmethod
    def __call__(self, tape: Tape, tokens: Tensor, *, decodes: bool) -> Tensor:
        """What is added to the embeddings of `tokens` [B, S]."""


class Learned(Positions):
    """Blenderbot's: one look-up for all rows."""

    offset = 0

    def __init__(self, build: Builder, name: str, count: int, width: int) -> None:
        self.weight: Parameter = build.parameter(f"{name}.weight", (count + self.offset, width))

    def __call__(self, tape: Tape, tokens: Tensor, *, decodes: bool) -> Tensor:
        """[1, S, H]."""
        order = tape.empty((1, tokens.shape[1]), "int64", "position ids")
        return embedding(tape, order, self.weight)


class LearnedByRow(Learned):
    """BART's: the encoder looks positions up for every row."""

    offset = BART_OFFSET

    def __call__(self, tape: Tape, tokens: Tensor, *, decodes: bool) -> Tensor:
        """[B, S, H] in the encoder, [1, T, H] in the decoder."""
        rows = 1 if decodes else tokens.shape[0]
        order = tape.empty((rows, tokens.shape[1]), "int64", "position ids")
        return embedding(tape, order, self.weight)


class Sinusoids(Learned):
    """Marian's and Pegasus's: a parameter that does not train."""

    def __init__(self, build: Builder, name: str, count: int, width: int) -> None:
        super().__init__(build, name, count, width)
        self.weight.requires_grad = False


class SinusoidBuffer(Positions):
    """M2M100's: a buffer, from which every row takes the positions of its unpadded tokens."""

    def __init__(self, build: Builder, name: str, count: int, width: int) -> None:
        build.buffer(build.width * (count + BART_OFFSET) * width)
        self.dtype, self.width = build.dtype, width

    def __call__(self, tape: Tape, tokens: Tensor, *, decodes: bool) -> Tensor:
        """[B, S, H]."""
        return tape.empty((*tokens.shape, self.width), self.dtype, "position embeddings")
