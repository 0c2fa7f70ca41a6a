"""A backward in two: first of a stage's inputs, later of its weights (torch 2.13 distributed/pipelining/_backward.py).

`stage_backward_input` runs the nodes on the way to the inputs with `retain_graph`, and remembers what arrived at those
that weights feed into. A node holds the nodes before it, so all that they saved stays; only what lies above the topmost
of them goes. `stage_backward_weight` runs these nodes again, weight by weight, in the order of the modules, and frees
what each has saved; each is a backward of its own, so a checkpoint runs its layer again for every one of them, and
keeps what nobody asks for until the graph is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from vramlint.memory.autograd import Engine
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Edge, Gradients, Node, Parameter, Tensor

Edges = tuple["Edge | None", ...]


def nodes_of(root: Tensor) -> list[Node]:
    """All nodes of the graph behind `root`, the last to have run first."""
    return _behind([root.node] if root.node is not None else [])


def _behind(roots: Iterable[Node]) -> list[Node]:
    found, open_ = set[Node](), list(roots)
    while open_:
        node = open_.pop()
        if node not in found:
            found.add(node)
            open_ += [edge[0] for edge in node.edges if edge is not None and isinstance(edge[0], Node)]
    return sorted(found, key=lambda node: -node.sequence)


def discard(tape: Tape, nodes: list[Node]) -> None:
    """Free what a graph has saved, each layer's tensors in that layer's unit: they go as often as they came."""
    unit = tape.course.unit
    nodes.reverse()
    while nodes:
        node = nodes.pop()
        if node.unit != tape.course.unit:
            tape.course.go_on_in(node.unit)
        node.release()
        node.edges, node.context = (), None
        del node
    if tape.course.unit != unit:
        tape.course.go_on_in(unit)


class Halved:
    """A graph between its two backwards."""

    def __init__(self, tape: Tape, root: Tensor, gradient: Tensor) -> None:
        """Run the backward of the inputs: all leaves of `root`'s graph but the weights."""
        self.tape = tape
        way = _way_to_leaves(nodes_of(root))
        self.arrived: dict[Node, Gradients] = {}
        """The nodes that weights feed into, with their gradients."""
        engine = _OfInputs(tape, way, self.arrived)
        engine.run(root, [gradient])

    def weights(self, order: Sequence[Parameter], take: Callable[[Parameter, Tensor], None]) -> None:
        """Run the backward of the weights, in the `order` of the modules; `take` gets their gradients.

        What lies above all weights that are left goes; the rest with the last of them.
        """
        tape, unit, places = self.tape, self.tape.course.unit, {id(weight): at for at, weight in enumerate(order)}
        alive: list[Node] = []
        groups = sorted(self.arrived, key=lambda node: min(places[id(weight)] for weight in _weights_of(node)))
        last: list[Tensor] = []
        tape.course.differentiating = True
        while groups:
            node = groups.pop(0)
            if not groups:
                alive = _behind([node])
            if node.unit != tape.course.unit:
                last.clear()
                tape.course.go_on_in(node.unit)
            if node.frame is not None:
                node.frame.runs_again()
            gradients = self.arrived.pop(node)
            way = node.edges
            node.edges = tuple([edge if edge is not None and isinstance(edge[0], Parameter) else None for edge in way])
            tape.differentiated(node)
            results = list(node.backward(tape, node, gradients))
            weights = [edge[0] for edge in node.edges if edge is not None]
            found = [result for result, edge in zip(results, node.edges, strict=True) if edge is not None]
            node.edges = way
            if node.frame is not None:
                node.frame.forget(node)
            node.release()
            last.clear()
            for weight, result in zip(weights, found, strict=True):
                if isinstance(weight, Parameter) and result is not None:
                    take(weight, result)
                    last.append(result)
            del gradients, results, found, node
        tape.course.differentiating = False
        last.clear()
        discard(tape, alive)
        if tape.course.unit != unit:
            tape.course.go_on_in(unit)

    def discard(self) -> None:
        """Nobody runs the other half."""
        nodes = _behind(self.arrived)
        held = sorted(self.arrived.items(), key=lambda item: -item[0].sequence)
        self.arrived.clear()
        for node, gradients in held:
            self.tape.course.go_on_in(node.unit)
            gradients.clear()
        del held
        discard(self.tape, nodes)


def _weights_of(node: Node) -> Sequence[Parameter]:
    return [edge[0] for edge in node.edges if edge is not None and isinstance(edge[0], Parameter)]


def _way_to_leaves(nodes: Sequence[Node]) -> Mapping[Node, Edges]:
    """Of every node on the way to a leaf the edges that lead there; leaves have none."""
    way: dict[Node, Edges] = {}
    for node in reversed(nodes):
        edges = tuple([edge if edge is not None and edge[0] in way else None for edge in node.edges])
        if not node.edges or any(edges):
            way[node] = edges
    return way


class _OfInputs(Engine):
    """The backward of the inputs: what nodes have saved stays."""

    def __init__(self, tape: Tape, way: Mapping[Node, Edges], arrived: dict[Node, Gradients]) -> None:
        super().__init__(tape)
        self.way, self.arrived = way, arrived

    def _execute(self, node: Node) -> None:
        whole = node.edges
        node.edges = self.way[node]
        if any(edge is not None and isinstance(edge[0], Parameter) for edge in whole):
            self.arrived[node] = [*self.buffers[node]]
        super()._execute(node)
        node.edges = whole

    def _release(self, node: Node) -> None:
        """The graph is retained."""
