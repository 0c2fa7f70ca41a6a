"""softmax, log_softmax and the cross entropy built on them."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

DEFERRED = Tensor((1,), "float32", None)
"""In place of a loss that the trainer takes from the logits."""


def softmax(tape: Tape, x: Tensor, *, in_float32: bool) -> Tensor:
    """`softmax(x, dim=-1)`, or with `dtype=torch.float32`.

    A bfloat16 input is first copied to float32; a float16 one is converted inside the kernel
    (torch 2.13 aten/src/ATen/native/SoftMax.cpp). Autocast asks for float32 in the same way.
    """
    if in_float32 or tape.autocast is not None:
        wide = x if x.dtype == "float16" else tape.to(x, "float32")
        return tape.apply("softmax", (wide,), wide.shape, "float32", _softmax_backward, save_output=True)
    return tape.apply("softmax", (x,), x.shape, x.dtype, _softmax_backward, save_output=True)


def softmax_as(tape: Tape, x: Tensor, dtype: str) -> Tensor:
    """`softmax(x, dim=-1, dtype=dtype)`: a float16 input becomes float32 inside the kernel, any other before it."""
    widens = x.dtype == "float16" and dtype == "float32"
    return softmax(tape, x if widens else tape.to(x, dtype), in_float32=dtype == "float32")


def _softmax_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The kernel multiplies gradient and result first (torch 2.13 cuda/SoftMax.cu, softmax_backward_cuda_out)."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    result = None if gradient is None or edge is None else tape.empty(gradient.shape, edge[3], "softmax backward")
    if gradient is not None:
        tape.inside_kernel(gradient.nbytes, "gradient times softmax")
    del saved
    return (result,)


def cross_entropy(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """`F.cross_entropy(logits [T, V], labels [T])`: log_softmax keeps its result, nll_loss the labels.

    Backward holds the log-probabilities and two gradients of that size at once. Under autocast only nll_loss is
    float32: 16-bit log-probabilities are kept besides their copy.
    """
    if tape.defers_loss:
        return DEFERRED
    wide = tape.upper(log_softmax(tape, logits))
    mark_logits(tape, wide)
    return nll_loss(tape, wide, labels)


def nll_loss(tape: Tape, likelihoods: Tensor, labels: Tensor) -> Tensor:
    """`F.nll_loss`: keeps both."""
    dtype = likelihoods.dtype
    total = tape.empty((1,), dtype, "nll_loss total_weight")
    return tape.apply("nll_loss", (likelihoods,), (1,), dtype, _nll_backward, save=(likelihoods, labels, total))


def log_softmax(tape: Tape, x: Tensor) -> Tensor:
    """`log_softmax(x, dim=-1)`: keeps its result."""
    backward = _log_softmax_backward
    return tape.apply("log_softmax", (x,), x.shape, x.dtype, backward, save_output=True, component="logits and loss")


def log_softmax_in_float32(tape: Tape, x: Tensor) -> Tensor:
    """`log_softmax(x, dim=-1)` of float32, or under autocast: bfloat16 is copied first, float16 widened inside."""
    if tape.autocast is None and x.dtype != "float32":
        return log_softmax(tape, x)
    x = x if x.dtype == "float16" else tape.to(x, "float32")
    backward = _log_softmax_backward
    return tape.apply("log_softmax", (x,), x.shape, "float32", backward, save_output=True, component="logits and loss")


def _nll_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    result = None if edge is None else tape.empty(edge[2], edge[3], "nll_loss backward", "logits and loss")
    del saved
    return (result,)


def _log_softmax_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    result = tape.empty(gradient.shape, gradient.dtype, "log_softmax backward", "logits and loss")
    del saved
    return (result,)


def mean_squared_error(tape: Tape, predicted: Tensor, wanted: Tensor) -> Tensor:
    """`F.mse_loss`, float32 under autocast: keeps both. Stands for other losses of a few scores per sequence too."""
    if tape.defers_loss:
        return DEFERRED
    wide = tape.upper(predicted)
    return tape.apply("mse_loss", (wide,), (1,), wide.dtype, _mean_squared_backward, save=(wide, wanted))


def _mean_squared_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    result = None if edge is None else tape.empty(edge[2], edge[3], "mse_loss backward")
    del saved
    return (result,)


def causal_lm_loss(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """ForCausalLMLoss (transformers 5.23 loss/loss_utils.py): float32 logits, labels shifted by padding."""
    if tape.defers_loss:
        return DEFERRED
    batch, length, vocabulary = logits.shape
    wide = tape.to(logits, "float32")
    mark_logits(tape, wide)
    padded = tape.empty((batch, length + 1), "int64", "pad")
    shifted = tape.empty((batch, length), "int64", "shifted labels")
    loss = cross_entropy(tape, wide.as_shape((batch * length, vocabulary)), shifted)
    del padded, labels
    return loss


def causal_lm_loss_before_4_49(tape: Tape, logits: Tensor) -> Tensor:
    """ForCausalLMLoss of transformers 4.46 to 4.48: float32 logits, and a copy of them without the last position."""
    wide = tape.to(logits, "float32")
    mark_logits(tape, wide)
    return own_loss(tape, wide)


def own_loss(tape: Tape, logits: Tensor) -> Tensor:
    """The loss inside each model's forward (transformers 4.45 models/llama/modeling_llama.py).

    `logits[..., :-1, :].contiguous()` copies all logits.
    """
    if tape.defers_loss:
        return DEFERRED
    batch, length, vocabulary = logits.shape
    shifted = shifted_copy(tape, logits)
    labels = tape.empty((batch, length - 1), "int64", "shifted labels")
    return cross_entropy(tape, shifted.as_shape((batch * (length - 1), vocabulary)), labels)


def mark_logits(tape: Tape, logits: Tensor) -> None:
    """Count a tensor as logits."""
    if logits.storage is not None:
        tape.recorder.labels[logits.storage.index].component = "logits and loss"


def shifted_copy(tape: Tape, logits: Tensor) -> Tensor:
    """`logits[..., :-1, :].contiguous()`: of a single sequence a view."""
    batch, length, vocabulary = logits.shape
    shape = (batch, length - 1, vocabulary)
    if batch == 1:
        view = logits.as_shape(shape)
        if logits.requires_grad and tape.grad_enabled:
            view.node, view.slot = tape.view_node((logits,), _shifted_backward), 0
        return view
    return tape.apply("contiguous", (logits,), shape, logits.dtype, _shifted_backward, component="logits and loss")


def _shifted_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The slice's gradient is padded: a zero-filled tensor of the full shape."""
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    return (tape.empty(edge[2], gradient.dtype, "slice backward", "logits and loss"),)
