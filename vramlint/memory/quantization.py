"""How weights are stored in a quantized model, and which of their products runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod

from vramlint.job import DTYPE_BYTES, Libraries, Quantization
from vramlint.memory.ops.linear import Joining, Packed
from vramlint.memory.tensor import Shape

QUANTIZES_ROWS_FROM = (0, 45)
"""Since then only rows of the input are quantized, and the weight lies in one order (autograd/_functions.py)."""
KEEPS_INPUTS_UNTIL = (0, 43, 2)
"""Before this release of bitsandbytes the products of 4-bit weights kept their input, as an attribute of their context
that lives as long as the graph (autograd/_functions.py, MatMul4Bit)."""
DIRECT_FROM = (0, 50)
"""Since then the forward is an operator of its own, which dequantizes to the compute dtype at once, for inputs of more
than 1536 tokens surely (backends/cuda/ops.py, gemm_4bit)."""
NESTED_BLOCK = 256
"""absmax values per second-level block under double quantization (bitsandbytes 0.50 functional.py)."""
NF4_CODE_BYTES = 64
NF4_OFFSET_BYTES = 4
NESTED_MAP_BYTES = 1024
"""The 256-entry float32 map of the second level, one for the whole model."""
GPTQ_JOINS_AS_LINEAR_FROM = (0, 16)
"""Since this version of PEFT the LoRA layer over GPTQ adds up as that over nn.Linear (tuners/lora/gptq.py)."""
GPTQ_IN_PLACE = Joining(casts_always=False, narrows="unscaled", in_place=True)


def _bitsandbytes_4bit(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """Packed weight, absmax and code; absmax in 8 bits with scales and an offset of its own where it is nested."""
    from vramlint.memory.ops.four_bit import NF4_BLOCK

    elements = prod(shape)
    blocks = -(-elements // NF4_BLOCK)
    constants: tuple[int, ...] = (4 * blocks, NF4_CODE_BYTES)
    if quantization.double_quantization:
        constants = (blocks, 4 * -(-blocks // NESTED_BLOCK), NF4_CODE_BYTES, NF4_OFFSET_BYTES)
    return (-(-elements // 2), *constants)


def _bitsandbytes_8bit(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """CB and SCB."""
    return (shape[0] * shape[1], 4 * shape[0])


def _gptq(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """Bytes of qweight, qzeros, scales and g_idx (auto_gptq 0.7 nn_modules/qlinear/qlinear_tritonv2.py)."""
    outputs, inputs = shape
    bits, group_size = quantization.bits, quantization.group_size
    groups = 1 if group_size < 0 else -(-inputs // group_size)
    return (outputs * inputs * bits // 8, groups * outputs * bits // 8, 2 * groups * outputs, 4 * inputs)


def _hqq(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """W_q, and scale and zero of each group in 16 bits (hqq 0.2 core/quantize.py)."""
    elements = shape[0] * shape[1]
    groups = elements // max(1, quantization.group_size)
    return (elements * quantization.bits // 8, 2 * groups, 2 * groups)


def _rows(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """int8 and a 16-bit scale for every row."""
    return (shape[0] * shape[1], 2 * shape[0])


def _nf4_tensor(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """Torchao's NF4Tensor, whose scales and codes have the dtype of the weight."""
    from vramlint.memory.ops.nf4_tensor import stored

    return stored(shape, DTYPE_BYTES[quantization.source_dtype or quantization.compute_dtype])


def _awq(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """Bytes of qweight, qzeros and scales (autoawq 0.2.9 modules/linear/gemm.py)."""
    elements = shape[0] * shape[1]
    group = shape[1] if quantization.group_size < 0 else quantization.group_size
    return (elements // 2, elements // group // 2, 2 * elements // group)


_STORAGE: Mapping[str, Callable[[Quantization, Shape], tuple[int, ...]]] = {
    "nf4": _bitsandbytes_4bit,
    "fp4": _bitsandbytes_4bit,
    "int8": _bitsandbytes_8bit,
    "gptq": _gptq,
    "hqq": _hqq,
    "quanto": _rows,
    "torchao": _rows,
    "awq": _awq,
    "nf4-tensor": _nf4_tensor,
}
_BITS: Mapping[str, tuple[int, ...]] = {"hqq": (4, 8), "quanto": (8,), "torchao": (8,), "awq": (4,)}
"""Bits of which the products are followed: Quanto's 4-bit kernels are others, and torchao's have no derivative."""
SIMULATED = frozenset(_STORAGE)
"""Kinds of quantization whose products are followed."""


def is_simulated(quantization: Quantization) -> bool:
    """Whether the products of this quantization are followed."""
    kind, bits = quantization.kind, quantization.bits
    return kind in SIMULATED and bits in _BITS.get(kind, (bits,))


BITSANDBYTES = frozenset({"nf4", "fp4", "int8"})
"""Kinds of bitsandbytes."""
LEFT_NARROW = frozenset({"gptq", "hqq", "torchao"})
"""Kinds over which prepare_model_for_kbit_training widens nothing (peft 0.21 utils/other.py)."""
NARROWED = ("lm_head", "embed_tokens", "wte", "wpe")
"""Parts of the names of modules that TRL narrows to bfloat16 again (trl 0.13 trainer/utils.py)."""
PACKED_CHECKPOINTS = frozenset({"gptq", "awq"})
"""Kinds whose weights are read as they are stored."""


ENDS_OF_NAMES_FROM = (5, 0)
"""Since this version of transformers skipped modules are ends of names or patterns for their beginnings."""


def converts(quantization: Quantization, name: str, transformers: tuple[int, ...], *, head: bool) -> bool:
    """Whether the linear layer `name` is quantized (transformers 5.23 quantizers/quantizers_utils.py)."""
    skipped = quantization.skipped_modules
    if head and (not skipped or quantization.kind in PACKED_CHECKPOINTS):
        return False
    if transformers < ENDS_OF_NAMES_FROM:
        return not any(key in (name, name.rpartition(".")[2]) or f"{key}." in name for key in skipped)
    return not any(name.endswith(key) or _begins(key, name) for key in skipped)


def _begins(pattern: str, name: str) -> bool:
    try:
        return re.match(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))", name) is not None
    except re.error:
        return False


def widens(quantization: Quantization, name: str) -> bool:
    """Whether the unquantized parameter `name` is float32 beside quantized ones."""
    if not quantization.prepared_for_kbit or quantization.kind in LEFT_NARROW:
        return False
    if quantization.only_norms:
        return "norm" in name.lower()
    return not (quantization.narrowed_embeddings and any(part in name for part in NARROWED))


def stored_tensors(quantization: Quantization, shape: Shape) -> tuple[int, ...]:
    """Bytes of each tensor that stores a weight [out, in]."""
    return _STORAGE[quantization.kind](quantization, shape)


def packed_of(quantization: Quantization, dtype: str, libraries: Libraries) -> Packed:
    """The product of a quantized weight in a model whose other weights were loaded as `dtype`."""
    source = quantization.source_dtype or dtype
    if quantization.kind == "int8":
        from vramlint.memory.ops.eight_bit import EightBit

        return EightBit(by_columns_too=libraries.bitsandbytes < QUANTIZES_ROWS_FROM)
    if quantization.kind == "nf4-tensor":
        from vramlint.memory.ops.nf4_tensor import Nf4Tensor

        return Nf4Tensor(dtype)
    if quantization.kind in _BITS:
        return _unpacked(quantization, source)
    from vramlint.memory.ops.four_bit import FourBit

    if quantization.kind == "gptq":
        joining = Joining() if libraries.peft >= GPTQ_JOINS_AS_LINEAR_FROM else GPTQ_IN_PLACE
        return FourBit(quantization.compute_dtype, source, direct=False, joining=joining)
    return FourBit(
        quantization.compute_dtype,
        source,
        nested=quantization.double_quantization,
        direct=libraries.bitsandbytes >= DIRECT_FROM,
        keeps_input=libraries.bitsandbytes < KEEPS_INPUTS_UNTIL,
    )


def _unpacked(quantization: Quantization, source: str) -> Packed:
    from vramlint.memory.ops.unpacked import Affine, CastRows, Groups, ScaledRows

    products: Mapping[str, Packed] = {
        "hqq": Affine(source, quantization.bits),
        "quanto": ScaledRows(source),
        "torchao": CastRows(),
        "awq": Groups(),
    }
    return products[quantization.kind]
