"""Unsloth's layers with adapters: unsloth 2026.8 kernels/{fast_lora,utils}.py.

Each is one autograd.Function whose backward is written by hand. A 4-bit weight is unpacked into a buffer that all share
in forward, and into memory of its own in backward. Gradients of inputs are written over the inputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.low_rank import LowRank
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor
from vramlint.memory.work import LINEAR, Operation

BLOCK = 64
"""Elements of a 4-bit weight that share a scale."""
Backward = Callable[[Tape, Node, Gradients], Sequence[Tensor | None]]


class _Products(Struct, frozen=True):
    """What the backward of products of one input knows."""

    layers: Sequence[Weights]
    overwrites: bool
    """The input's gradient takes its memory."""


def is_fast(*layers: Weights) -> bool:
    """Whether Unsloth's own products stand in the place of these layers: LoRA without dropout, and no biases."""
    return all(
        isinstance(layer.adapter, LowRank) and layer.bias is None and not layer.adapter.dropout for layer in layers
    )


def products(tape: Tape, x: Tensor, layers: Sequence[Weights], *, overwrites: bool) -> Sequence[Tensor]:
    """LoRA_QKV and LoRA_W: one input [B, S, H] through several layers; it is kept once.

    Args:
        tape: runs them.
        x: the input.
        layers: each with a low-rank adapter.
        overwrites: the input's gradient takes its memory.
    """
    results = [_product(tape, x, layer) for layer in layers]
    factors = _factors(layers)
    _differentiate(
        tape,
        results,
        (x, *factors),
        (x, *factors),
        _products_backward,
        _Products(layers, overwrites),
        _work([x] * len(layers), layers),
    )
    return results


def gated_mlp(tape: Tape, x: Tensor, gate: Weights, up: Weights, down: Weights) -> Tensor:
    """LoRA_MLP: keeps its input and both inner products, over which backward writes."""
    first = _product(tape, x, gate)
    second = _product(tape, x, up)
    inner = tape.empty(first.shape, first.dtype, "gated product")
    result = _product(tape, inner, down)
    del inner
    layers = (gate, up, down)
    factors, work = _factors(layers), _work((x, x, first), layers)
    _differentiate(
        tape,
        [result],
        (x, *factors),
        (x, first, second, *factors),
        _mlp_backward,
        layers,
        work,
    )
    return result


def shared_buffers(layers: Sequence[Weights], width: int) -> Sequence[int]:
    """Bytes of the buffers that 4-bit weights are unpacked into: the largest weight's, and its scales'."""
    packed = [layer.weight.numel for layer in layers if layer.packed is not None]
    largest = max(packed, default=0)
    return (width * largest, 4 * (largest // BLOCK)) if largest else ()


def _differentiate(
    tape: Tape,
    results: Sequence[Tensor],
    inputs: Sequence[Tensor],
    saved: Sequence[Tensor],
    backward: Backward,
    context: object,
    work: Operation,
) -> None:
    """One node of the graph behind several results."""
    if not tape.grad_enabled or not any(tensor.requires_grad for tensor in inputs):
        return
    node = tape.in_place(saved, inputs, backward)
    if node is not None:
        node.outputs, node.context = len(results), context
        node.work = work
    for slot, result in enumerate(results):
        result.node, result.slot, result.requires_grad = node, slot, True


def _product(tape: Tape, x: Tensor, layer: Weights) -> Tensor:
    """`matmul_lora`: the adapter's product is added into the base's."""
    out = tape.empty((*x.shape[:-1], layer.out_features), x.dtype, "linear")
    if isinstance(layer.adapter, LowRank):
        a, b = (_cast(tape, factor, x.dtype) for factor in (layer.adapter.a, layer.adapter.b))
        low = tape.empty((x.numel // x.shape[-1], layer.adapter.a.shape[0]), x.dtype, "linear", "temporaries")
        del a, b, low
    tape.computes(LINEAR, x.dtype, _flops(x, layer))
    return out


def _work(inputs: Sequence[Tensor], layers: Sequence[Weights]) -> Operation:
    """Backward: the inputs' gradients through the frozen weights and the factors, and the factors' own."""
    whole = sum(_flops(x, layer) for x, layer in zip(inputs, layers, strict=True))
    tokens = inputs[0].numel // inputs[0].shape[-1]
    return Operation(
        LINEAR, inputs[0].dtype, whole, (1, *(2 * tokens * factor.numel / whole for factor in _factors(layers)))
    )


def _flops(x: Tensor, layer: Weights) -> int:
    tokens = x.numel // x.shape[-1]
    return 2 * tokens * (layer.weight.numel + sum(factor.numel for factor in _factors([layer])))


def _factors(layers: Sequence[Weights]) -> Sequence[Parameter]:
    return [f for layer in layers if isinstance(layer.adapter, LowRank) for f in (layer.adapter.a, layer.adapter.b)]


def _products_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    known: _Products = node.context
    x, *factors = node.unpack(tape)
    casts = [_cast(tape, factor, x.dtype) for factor in factors]
    results = _factor_gradients(tape, node, casts, 1)
    edge = node.edges[0]
    out = None
    if edge is not None:
        out = x.as_shape(x.shape) if known.overwrites else tape.empty(edge[2], x.dtype, "linear backward")
        for layer in known.layers:
            _unpacked(tape, layer, x.dtype)
    del casts
    return [out, *_as_their_parameters(tape, node, results)]


def _mlp_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    layers: Sequence[Weights] = node.context
    x, first, _, *factors = node.unpack(tape)
    casts = [_cast(tape, factor, x.dtype) for factor in factors]
    inner = tape.empty(first.shape, first.dtype, "linear backward")
    results = _factor_gradients(tape, node, casts, 1)
    for layer in layers[:2]:
        _unpacked(tape, layer, x.dtype)
    del inner, casts
    out = None if node.edges[0] is None else x.as_shape(x.shape)
    return [out, *_as_their_parameters(tape, node, results)]


def _factor_gradients(tape: Tape, node: Node, casts: Sequence[Tensor], first: int) -> list[Tensor | None]:
    """The gradients of both factors of every layer, in the dtype that the products have."""
    return [
        tape.empty(cast.shape, cast.dtype, "linear backward") if node.edges[first + number] is not None else None
        for number, cast in enumerate(casts)
    ]


def _as_their_parameters(tape: Tape, node: Node, results: list[Tensor | None]) -> Sequence[Tensor | None]:
    """What autograd makes of gradients that have another dtype than their parameters."""
    for position, result in enumerate(results):
        edge = node.edges[position + 1]
        if result is not None and edge is not None and result.dtype != edge[3]:
            results[position] = tape.empty(result.shape, edge[3], "to")
    return results


def _unpacked(tape: Tape, layer: Weights, dtype: str) -> None:
    """`fast_dequantize` without the shared buffer: the weight and its scales, for one product."""
    if layer.packed is None:
        return
    scales = tape.empty((layer.weight.numel // BLOCK,), "float32", "absmax", "temporaries")
    dense = tape.empty(layer.weight.shape, dtype, "dequantize", "temporaries")
    del dense, scales


def _cast(tape: Tape, factor: Tensor, dtype: str) -> Tensor:
    return factor if factor.dtype == dtype else tape.empty(factor.shape, dtype, "to", "temporaries")
