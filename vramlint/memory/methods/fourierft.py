"""FourierFT: a sparse spectrum."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.dense_delta import DenseDelta, Spectrum
from vramlint.memory.ops.linear import Adapter as Wrapper

FREQUENCIES = 1000
"""FourierFTConfig.n_frequency (peft 0.21)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """A coefficient per frequency."""
    count = option(adapter, "n_frequency", FREQUENCIES)
    return DenseDelta(Spectrum(build.trained(f"{name}.fourierft_spectrum", (count,))))
