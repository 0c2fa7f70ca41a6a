"""Windows over a grid of patches: padding, shifting, cutting apart and together (models/swin/modeling_swin.py)."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Windows(Struct, frozen=True):
    """A grid of patches with `size` features each, in windows of `side` by `side`."""

    grid: tuple[int, int]
    side: int
    size: int

    @property
    def padded(self) -> tuple[int, int]:
        """The grid in whole windows."""
        rows, columns = self.grid
        return -(-rows // self.side) * self.side, -(-columns // self.side) * self.side

    @property
    def area(self) -> int:
        """Patches of a window."""
        return self.side**2

    @property
    def count(self) -> int:
        """Windows of an image."""
        rows, columns = self.padded
        return rows // self.side * (columns // self.side)

    def pad(self, tape: Tape, x: Tensor) -> Tensor:
        """F.pad of [B, patches, size], which copies even where there is nothing to pad."""
        return shaping.reordered(tape, x, (x.shape[0], *self.padded, self.size))

    def roll(self, tape: Tape, x: Tensor, *, shifted: bool) -> Tensor:
        """cyclic_shift, in either direction."""
        return e.linear_unary(tape, "roll", x) if shifted else x

    def partition(self, tape: Tape, x: Tensor) -> Tensor:
        """From padded images to [B · windows, area, size]."""
        return self._reordered(tape, x, (x.shape[0] * self.count, self.area, self.size))

    def reverse(self, tape: Tape, x: Tensor) -> Tensor:
        """Back to padded images."""
        return self._reordered(tape, x, (x.shape[0] // self.count, *self.padded, self.size))

    def cut(self, tape: Tape, x: Tensor) -> Tensor:
        """From padded images to [B, patches, size]."""
        batch, (rows, columns), (padded_rows, padded_columns) = x.shape[0], self.grid, self.padded
        if rows != padded_rows:
            x = shaping.part(tape, x, (batch, rows, padded_columns, self.size))
        if columns != padded_columns:
            x = shaping.part(tape, x, (batch, rows, columns, self.size))
        if self.grid != self.padded:
            x = e.clone(tape, x)
        return shaping.viewed(tape, x, (batch, rows * columns, self.size))

    def shift_mask(self, tape: Tape, dtype: str) -> Tensor:
        """get_attn_mask: additive, [windows, area, area]."""
        return tape.empty((self.count, self.area, self.area), dtype, "shift mask")

    def _reordered(self, tape: Tape, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Windows beside each other are copied apart, both ways; below each other they already lie so."""
        if self.padded[1] == self.side:
            return shaping.viewed(tape, x, shape)
        return shaping.reordered(tape, x, shape)
