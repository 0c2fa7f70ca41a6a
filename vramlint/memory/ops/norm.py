"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.pooling import divide
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


def rms_norm(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """LlamaRMSNorm (transformers 5.23 models/llama/modeling_llama.py; Qwen2, Qwen3, Mistral, Phi-3 alike)."""
    dtype = x.dtype
    hidden = tape.to(x, "float32")
    variance = e.mean_last(tape, e.power(tape, hidden))
    hidden = e.mul(tape, hidden, e.rsqrt(tape, e.add_number(tape, variance)))
    return e.mul(tape, weight, tape.to(hidden, dtype))


def rms_norm_scaled_wide(tape: Tape, x: Tensor, weight: Parameter, *, widens: bool) -> Tensor:
    """The weight is applied before the cast back: Olmo2RMSNorm; HeliumRMSNorm `widens` the weight first."""
    hidden = tape.to(x, "float32")
    variance = e.mean_last(tape, e.power(tape, hidden))
    hidden = e.mul(tape, hidden, e.rsqrt(tape, e.add_number(tape, variance)))
    return tape.to(e.mul(tape, tape.to(weight, "float32") if widens else weight, hidden), x.dtype)


def rms_norm_unit_offset(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """GemmaRMSNorm: `(x_normed * (1 + weight.float())).type_as(x)` (models/gemma/modeling_gemma.py)."""
    hidden = tape.to(x, "float32")
    hidden = e.mul(tape, hidden, e.rsqrt(tape, e.add_number(tape, e.mean_last(tape, e.power(tape, hidden)))))
    hidden = e.mul(tape, hidden, e.add_number(tape, tape.to(weight, "float32")))
    return tape.to(hidden, x.dtype)


def layer_norm(tape: Tape, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """nn.LayerNorm over the last dimension; float32 under autocast. Keeps its input, weights, mean and rstd.

    Autocast casts 16-bit weights too, at every use.
    """
    scale = [tape.upper(parameter) for parameter in (bias, weight) if parameter is not None]
    wide = tape.upper(x)
    statistics = (*x.shape[:-1], 1)
    results = ((statistics, "float32", "layer_norm mean"), (statistics, "float32", "layer_norm rstd"))
    inputs = (wide, *reversed(scale))
    return tape.apply("layer_norm", inputs, x.shape, wide.dtype, _layer_norm_backward, save=inputs, results=results)


def layer_norm_in_float32(tape: Tape, x: Tensor) -> Tensor:
    """OlmoLayerNorm: computed in float32, without weight and bias (models/olmo/modeling_olmo.py)."""
    return tape.to(layer_norm(tape, tape.to(x, "float32"), None, None), x.dtype)


def layer_norm_of_operators(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """CohereLayerNorm: float32 and without bias, written out in operators (models/cohere/modeling_cohere.py)."""
    hidden = tape.to(x, "float32")
    mean = e.mean_last(tape, hidden)
    variance = e.mean_last(tape, e.power(tape, e.sub(tape, hidden, mean)))
    hidden = e.mul(tape, e.sub(tape, hidden, mean), e.rsqrt(tape, e.add_number(tape, variance)))
    hidden = e.mul(tape, tape.to(weight, "float32"), hidden)
    return tape.to(hidden, x.dtype)


def layer_norm_of_quotients(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """DebertaLayerNorm: normalised in float32 by a division, scaled in its own dtype (models/deberta)."""
    hidden = tape.to(x, "float32")
    mean = e.mean_last(tape, hidden)
    variance = e.mean_last(tape, e.power(tape, e.sub(tape, hidden, mean)))
    deviation = e.unary_of_result(tape, "sqrt", e.add_number(tape, variance))
    hidden = divide(tape, e.sub(tape, hidden, mean), deviation)
    del deviation
    hidden = tape.to(hidden, x.dtype)
    return e.add(tape, e.mul(tape, weight, hidden), bias)


def layer_norm_unit_offset(tape: Tape, x: Tensor, weight: Parameter, bias: Parameter) -> Tensor:
    """NemotronLayerNorm1P: `weight + 1`; under autocast in its dtype (models/nemotron/modeling_nemotron.py)."""
    scale: Tensor = e.add_number(tape, weight)
    shift: Tensor = bias
    if tape.autocast is not None:
        x = tape.to(x, tape.autocast)
        scale, shift = tape.to(scale, tape.autocast), tape.to(shift, tape.autocast)
    with tape.autocasting(None):
        return layer_norm(tape, x, scale, shift)


def group_norm(tape: Tape, x: Tensor, parameters: Sequence[Tensor], groups: int) -> Tensor:
    """nn.GroupNorm of [B, C, …] with weight and bias; float32 under autocast. Keeps its input, mean and rstd."""
    wide = tape.upper(x)
    statistics = (x.shape[0], groups)
    results = ((statistics, wide.dtype, "group_norm mean"), (statistics, wide.dtype, "group_norm rstd"))
    inputs = (wide, *parameters)
    backward = _layer_norm_backward
    return tape.apply("group_norm", inputs, x.shape, wide.dtype, backward, save=(wide,), results=results)


def batch_norm(tape: Tape, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """nn.BatchNorm2d of [B, C, …]; autocast lets it be. Keeps its input and, in training, the batch's mean and rstd."""
    shape = (x.shape[1] if tape.training else 0,)
    results = ((shape, "float32", "batch_norm mean"), (shape, "float32", "batch_norm rstd"))
    inputs = (x, *parameters)
    return tape.apply("batch_norm", inputs, x.shape, x.dtype, _layer_norm_backward, save=(x,), results=results)


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
