"""After the last step: adapters merged into the weights that they adapt, one matrix after the other.

Saving needs nothing of the kind: tensors are copied to the host one by one. The optimizer lives on, and with it the
adapters and their states; gradients are gone (peft 0.21 tuners/tuners_utils.py, `_unload_and_optionally_merge`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vramlint.job import DTYPE_BYTES, Job, Quantization
from vramlint.memory.holdings import Tensors, total
from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import Parameter

FACTOR = ".lora_A.weight"
PRODUCTS = 2
"""B·A, and the same scaled (peft 0.21 tuners/lora/layer.py, get_delta_weight)."""


def merging_peak(job: Job, parameters: Sequence[Parameter], persistent: Sequence[Tensors]) -> int:
    """Bytes at the highest point of `merge_and_unload`; 0 where nothing is merged.

    `persistent` is what is there between two steps.
    """
    if job.adapter is None or not job.adapter.merged:
        return 0
    moments = [_merged(weight, factor, job.quantization) for weight, factor in _adapted(parameters)]
    return total(persistent) + max(moments) if moments else 0


def _adapted(parameters: Sequence[Parameter]) -> Iterator[tuple[Parameter, Parameter]]:
    """Every weight with the first factor of its adapter."""
    by_name = {parameter.name: parameter for parameter in parameters}
    for name, factor in by_name.items():
        if name.endswith(FACTOR) and (weight := by_name.get(f"{name.removesuffix(FACTOR)}.weight")) is not None:
            yield weight, factor


def _merged(weight: Parameter, factor: Parameter, quantization: Quantization | None) -> int:
    """Bytes that merging one matrix takes.

    A weight as it is takes the product in place. A quantized one is dequantized, added to the product, copied to the
    host and back, and quantized again; all of these are there at the end (peft 0.21 tuners/lora/bnb.py).
    """
    product = rounded(weight.numel * DTYPE_BYTES[factor.dtype])
    if quantization is None or weight.stored_tensors == (weight.nbytes,):
        return PRODUCTS * product
    dense = rounded(weight.numel * DTYPE_BYTES[quantization.compute_dtype])
    total_width = max(DTYPE_BYTES[quantization.compute_dtype], DTYPE_BYTES[factor.dtype])
    merged = rounded(weight.numel * total_width)
    return dense + product + 2 * merged + sum(map(rounded, weight.stored_tensors))
