"""Activation checkpointing, both forms of torch.utils.checkpoint (torch 2.13 torch/utils/checkpoint.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.job import Checkpointing
from vramlint.memory.autograd import Engine
from vramlint.memory.frame import Frame, Inputs, Like, Segment
from vramlint.memory.leaves import capture
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor


def nonreentrant(tape: Tape, segment: Segment, inputs: Inputs, checkpointing: Checkpointing) -> tuple[Tensor, ...]:
    """Run `segment` without keeping what it saves."""
    if tape.replays:
        with tape.inside_recomputation(inputs):
            return segment(*inputs)
    frame = Frame(segment, inputs, tape.autocast, checkpointing, tape.frame)
    outer, tape.frame = tape.frame, frame
    try:
        return segment(*inputs)
    finally:
        tape.frame = outer


class _Rerun(Struct, frozen=True):
    """What a reentrant checkpoint needs to run its segment again."""

    segment: Segment
    present: Sequence[bool]
    """Which of the segment's inputs are tensors."""
    offloaded: Sequence[Like | None]
    """Those that wait in host memory."""
    autocast: str | None
    outputs: Sequence[tuple[Shape, str]]
    """Shape and dtype of each output."""
    kept: list[Tensor]
    """This rank's parts of the inputs."""


def reentrant(tape: Tape, segment: Segment, inputs: Inputs, *, offload: bool, parts: int = 1) -> tuple[Tensor, ...]:
    """Run `segment` under no_grad; its backward runs it again with a graph and differentiates that.

    Gradients reach its inputs only, and every output that the graph does not use counts as used, with zeros. With
    `offload` the inputs wait in host memory; of several `parts` each rank keeps one, and they are gathered again
    (deepspeed 0.19.8 runtime/activation_checkpointing/checkpointing.py, partition_activations).
    """
    with tape.grad_mode(enabled=False):
        outputs = segment(*inputs)
    tensors = tuple([tensor for tensor in inputs if tensor is not None])
    if not tape.grad_enabled or not any(tensor.requires_grad for tensor in tensors):
        return outputs
    node = tape.node(tensors, _reentrant_backward)
    away = offload or parts > 1
    node.saved = () if away else tensors
    node.outputs = len(outputs)
    node.context = _Rerun(
        segment,
        present=[tensor is not None for tensor in inputs],
        offloaded=[Like.of(tensor) for tensor in tensors] if away else (),
        autocast=tape.autocast,
        outputs=[(output.shape, output.dtype) for output in outputs],
        kept=[] if offload or parts == 1 else [_part(tape, tensor, parts) for tensor in tensors],
    )
    return tuple([_output(output, tensors, node, slot) for slot, output in enumerate(outputs)])


def _output(output: Tensor, inputs: Sequence[Tensor], node: Node, slot: int) -> Tensor:
    """An output of the checkpoint; an input that comes out again, or a leaf, is a view of itself."""
    if isinstance(output, Parameter) or any(output is tensor for tensor in inputs):
        view = output.as_shape(output.shape)
        view.heads_first = output.heads_first
        output = view
    output.node, output.slot, output.requires_grad = node, slot, True
    return output


def _part(tape: Tape, tensor: Tensor, parts: int) -> Tensor:
    return tape.empty((-(-tensor.numel // parts),), tensor.dtype, "part of a checkpoint")


def _zeros(tape: Tape, shape: Shape, dtype: str) -> Tensor:
    zeros = tape.empty(shape, dtype, "zeros")
    zeros.heads_first = len(shape) == 4
    return zeros


def _detached(tensor: Tensor) -> Tensor:
    leaf = Tensor(tensor.shape, tensor.dtype, tensor.storage)
    leaf.heads_first = tensor.heads_first
    return leaf


def _reentrant_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    rerun: _Rerun = node.context
    arriving = [_zeros(tape, *rerun.outputs[slot]) if found is None else found for slot, found in enumerate(gradients)]
    from_host = [like.new(tape) for like in rerun.offloaded if like]
    rerun.kept.clear()
    detached = [_detached(tensor) for tensor in (*node.unpack(tape), *from_host)]
    from_host.clear()
    captured: list[Gradients] = [[] for _ in detached]
    with tape.grad_mode(enabled=True):
        for position, leaf in enumerate(detached):
            if node.needs(position):
                capture(tape, leaf, captured[position])
        outer, tape.leaves = tape.leaves, detached
        following = iter(detached)
        with tape.autocasting(rerun.autocast):
            outputs = rerun.segment(*[next(following) if present else None for present in rerun.present])
        tape.leaves = outer
        Engine(tape).run_all(outputs, arriving)
    inputs = [leaf for position, leaf in enumerate(detached) if node.needs(position)]
    tape.lifetimes.retain([*inputs, *(found[0] for found in captured if found and found[0] is not None)])
    return [found[0] if found else None for found in captured]
