"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


def rms_norm(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """LlamaRMSNorm (transformers 5.23 models/llama/modeling_llama.py; Qwen2, Qwen3, Mistral, Phi-3 alike)."""
    dtype = x.dtype
    hidden = tape.to(x, "float32")
    variance = e.mean_last(tape, e.power(tape, hidden))
    hidden = e.mul(tape, hidden, e.rsqrt(tape, e.add_number(tape, variance)))
    return e.mul(tape, weight, tape.to(hidden, dtype))


def rms_norm_unit_offset(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """GemmaRMSNorm: `(x_normed * (1 + weight.float())).type_as(x)` (models/gemma/modeling_gemma.py)."""
    hidden = tape.to(x, "float32")
    variance = e.mean_last(tape, e.power(tape, hidden))
    hidden = e.mul(tape, hidden, e.rsqrt(tape, e.add_number(tape, variance)))
    scale = e.add_number(tape, tape.to(weight, "float32"))
    return tape.to(e.mul(tape, hidden, scale), x.dtype)


def layer_norm(tape: Tape, x: Tensor, weight: Parameter | None, bias: Parameter | None) -> Tensor:
    """nn.LayerNorm over the last dimension; float32 under autocast. Keeps its input, weights, mean and rstd.

    Autocast casts 16-bit weights too, at every use.
    """
    scale = [tape.upper(parameter) for parameter in (bias, weight) if parameter is not None]
    wide = tape.upper(x)
    statistics = (*x.shape[:-1], 1)
    results = ((statistics, "float32", "layer_norm mean"), (statistics, "float32", "layer_norm rstd"))
    inputs = (wide, *reversed(scale))
    return tape.apply("layer_norm", inputs, x.shape, wide.dtype, _layer_norm_backward, save=inputs, results=results)


def _layer_norm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    results: list[Tensor | None] = []
    for edge in node.edges:
        results.append(None if edge is None else tape.empty(edge[2], edge[3], "layer_norm backward"))
    del saved
    return results
