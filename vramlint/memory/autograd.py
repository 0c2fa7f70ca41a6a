"""The autograd engine: executes the nodes of a graph in reverse order of their creation.

Follows torch 2.13 torch/csrc/autograd/engine.cpp: a node's inputs live until its outputs are validated (reduced
to the broadcast shape, cast to the input's dtype), then its saved tensors are released, then the outputs
move into the buffers of the next nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import prod

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Edge, Gradients, Node, Parameter, Shape, Tensor, only_reference

SLICES = frozenset({"slice backward", "index backward"})
"""Operators whose derivative is zero outside a part of what they took it from."""


class Engine:
    """One backward pass."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.heap: list[tuple[int, Node]] = []
        self.buffers: dict[Node | Parameter, Gradients] = {}

    def run(self, root: Tensor, held: Gradients) -> None:
        """Differentiate `root`, whose gradient, the only one of `held`, is handed over."""
        if root.node is not None:
            self._add(root.node, root.slot, held)
        held.clear()
        self._drain()

    def run_all(self, roots: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Differentiate several tensors at once; those without a gradient are left out."""
        for position, root in enumerate(roots):
            if gradients[position] is None or not root.requires_grad:
                continue
            if isinstance(root, Parameter):
                root.pending += 1
                self._add(root, 0, [gradients[position]])
            elif root.node is not None:
                self._add(root.node, root.slot, [gradients[position]])
        self._drain()

    def run_handed(self, roots: Sequence[tuple[Node, int] | None], gradients: Gradients) -> None:
        """Differentiate several results of nodes, given by their slots; the gradients are handed over."""
        for root in roots:
            held: Gradients = [gradients.pop(0)]
            if root is not None and held[0] is not None:
                self._add(*root, held)
            held.clear()
        self._drain()

    def _drain(self) -> None:
        tape, course = self.tape, self.tape.course
        enabled, tape.grad_enabled = tape.grad_enabled, False
        outermost = not course.differentiating
        if outermost:
            course.backward_starts()
        unit = course.unit
        while self.heap:
            _, node = heappop(self.heap)
            if node.unit != course.unit:
                tape.multiplies_backward()
                course.enter(node.unit)
            self._execute(node)
        if course.unit != unit:
            course.enter(unit)
        if outermost:
            self._end()
        tape.grad_enabled = enabled

    def _end(self) -> None:
        """The outermost backward is over."""
        tape = self.tape
        tape.lifetimes.backward_ends()
        if tape.hooks is not None:
            tape.hooks.finish()
        tape.course.backward_ends()

    def _execute(self, node: Node) -> None:
        gradients = self.buffers.pop(node)
        sharded = self.tape.course.sharded
        if sharded is not None:
            sharded.runs(node)
        if node.work is not None and gradients[0] is not None:
            self.tape.differentiated(node)
        outputs = list(node.backward(self.tape, node, gradients))
        for position, edge in enumerate(node.edges):
            if edge is None:
                outputs[position] = None
            elif outputs[position] is not None:
                self._validate(outputs, position, edge)
        self._release(node)
        del gradients
        for position, edge in enumerate(node.edges):
            held: Gradients = [outputs[position]]
            outputs[position] = None
            if edge is not None and held[0] is not None:
                self._add(edge[0], edge[1], held)

    def _release(self, node: Node) -> None:
        """Let go of what a node that has run had saved."""
        node.release()

    def _validate(self, outputs: Gradients, position: int, edge: Edge) -> None:
        _, _, shape, dtype = edge
        output = outputs[position]
        assert output is not None  # noqa: S101  narrowing for the type checker
        if output.shape != shape and output.numel != prod(shape):
            outputs[position] = output = self._summed(output, shape)
        if output.dtype != dtype:
            outputs[position] = self._ordered(output, shape, dtype, "to")

    def _summed(self, output: Tensor, shape: Shape) -> Tensor:
        """The gradient of something that was broadcast."""
        summed = self._ordered(output, shape, output.dtype, "sum")
        self.tape.sums_partially(output.shape, shape)
        return summed

    def _ordered(self, like: Tensor, shape: Shape, dtype: str, operator: str) -> Tensor:
        """A new tensor in the memory order of `like`."""
        out = self.tape.empty(shape, dtype, operator)
        out.heads_first = like.heads_first
        return out

    def _add(self, target: Node | Parameter, slot: int, held: Gradients) -> None:
        """Put a gradient, the only one of `held`, where its node or parameter waits for it, added to what is there.

        A weight's first gradient waits as a view of the transposed product, so the second is added out of place; a
        copy of it, as autocast makes, is added to in place, unless a dispatch mode looks on.
        """
        gradient = held.pop()
        assert gradient is not None  # noqa: S101  narrowing for the type checker
        buffer = self.buffers.get(target)
        if buffer is None:
            count = target.outputs if isinstance(target, Node) else 1
            buffer = self.buffers[target] = [None] * count
            if isinstance(target, Node):
                heappush(self.heap, (-target.sequence, target))
        if buffer[slot] is None:
            buffer[slot] = gradient
        elif self._waits_observed(target, buffer[slot]) or not only_reference(buffer, slot):
            added = self._ordered(buffer[slot] or gradient, gradient.shape, gradient.dtype, "add")
            # of layers that share their weights one stands for all: each of its repetitions makes a sum of its own
            added.view = isinstance(target, Parameter) and target.layer is None and self.repeats
            buffer[slot] = added
            del added
        if isinstance(target, Parameter):
            target.pending -= 1
            if target.pending == 0:
                del gradient
                self._accumulate(target)

    @property
    def repeats(self) -> bool:
        """Whether the layer whose nodes run stands for several."""
        return self.tape.recorder.current_repeat > 1

    def _waits_observed(self, target: Node | Parameter, gradient: Tensor | None) -> bool:
        """Whether a dispatch mode keeps autograd from adding to what waits: a parameter's whole gradient.

        Gradients of its slices, which are zeros elsewhere, are added in place all the same.
        """
        observed = self.tape.observed and isinstance(target, Parameter)
        if not observed or gradient is None or gradient.storage is None:
            return False
        return self.tape.recorder.labels[gradient.storage.index].operator not in SLICES

    def _accumulate(self, parameter: Parameter) -> None:
        """Add into `parameter.grad`: the first gradient is kept as it is, a later one is added in place."""
        gradients = self.buffers.pop(parameter)
        parameter.reached = True
        sharded = self.tape.course.sharded
        if sharded is not None and sharded.take(parameter, gradients):
            return
        hooks = self.tape.hooks
        if hooks is not None:
            hooks.arriving(parameter)
        (gradient,) = gradients
        if self.tape.consumes_gradients:
            parameter.drop_gradient()
        elif parameter.grad is None and gradient is not None:
            parameter.grad = gradient
            self.tape.became_gradient(gradient)
        del gradient
        gradients.clear()
        if hooks is not None:
            hooks.arrived(parameter)
