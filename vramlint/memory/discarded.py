"""Checkpoints that drop their outputs (NVIDIA/Megatron-LM@d98e8a6 core/tensor_parallel/random.py).

CheckpointWithoutOutput runs a part without a graph; once whoever takes its outputs has run, their memory is given up.
When the gradient of a later tensor is there, the part runs again and its new outputs are the memory of the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.autograd import Engine
from vramlint.memory.frame import Inputs, Segment
from vramlint.memory.leaves import capture
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Storage, Tensor


class _Again(Struct, frozen=True):
    """What the second run left for the derivative."""

    outputs: Sequence[Tensor]
    captured: Sequence[Gradients]


class Dropped:
    """One such checkpoint."""

    __slots__ = ("_again", "_inputs", "_segment", "_storages", "_tape", "outputs")

    def __init__(self, tape: Tape, segment: Segment, inputs: Inputs) -> None:
        """Run `segment`; its `outputs` are there until `discard`."""
        self._tape, self._segment = tape, segment
        self._inputs = tuple([tensor for tensor in inputs if tensor is not None])
        self._again: _Again | None = None
        with tape.grad_mode(enabled=False):
            self.outputs = segment(*self._inputs)
        self._storages: list[Storage] = []
        if not tape.grad_enabled or not any(tensor.requires_grad for tensor in self._inputs):
            return
        node = tape.node(self._inputs, _backward)
        node.saved, node.outputs, node.context = self._inputs, len(self.outputs), self
        for slot, output in enumerate(self.outputs):
            output.node, output.slot, output.requires_grad = node, slot, True

    def discard(self, hook: Tensor) -> None:
        """Give the outputs' memory up, until the gradient of `hook` is there."""
        outputs, self.outputs = self.outputs, ()
        if hook.node is None or not outputs or outputs[0].node is None:
            return
        for output in outputs:
            if output.storage is not None:
                self._storages.append(output.storage)
                output.storage.release()
        derivative = hook.node.backward

        def restored(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
            self._restore()
            return derivative(tape, node, gradients)

        hook.node.backward = restored

    def _restore(self) -> None:
        """Run the part again, with a graph."""
        leaves = [Tensor(tensor.shape, tensor.dtype, tensor.storage) for tensor in self._inputs]
        captured: list[Gradients] = [[] for _ in leaves]
        with self._tape.grad_mode(enabled=True):
            for leaf, tensor, found in zip(leaves, self._inputs, captured, strict=True):
                leaf.heads_first = tensor.heads_first
                if tensor.requires_grad:
                    capture(self._tape, leaf, found)
            outputs = self._segment(*leaves)
        for output, storage in zip(outputs, self._storages, strict=True):
            if output.storage is not None:
                storage.take(output.storage)
                output.storage = storage
        self._storages.clear()
        self._again = _Again(outputs, captured)

    def differentiate(self, gradients: Gradients) -> list[Tensor | None]:
        """The gradients of the inputs."""
        again, self._again = self._again, None
        self._inputs = ()
        if again is None:
            return []
        Engine(self._tape).run_all(again.outputs, gradients)
        return [found[0] if found else None for found in again.captured]


def _backward(_: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    checkpoint: Dropped = node.context
    found = checkpoint.differentiate(gradients)
    return found or [None] * len(node.edges)
