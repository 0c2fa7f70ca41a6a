"""The tape: executes operators on symbolic tensors and keeps what PyTorch would keep.

It owns the modes that change what an operator does: autograd, autocast with its weight cache, activation checkpointing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

from vramlint.job import DTYPE_BYTES
from vramlint.memory.course import Course
from vramlint.memory.frame import Discarded, Frame, Inputs, Results, Selection, Sink
from vramlint.memory.lifetimes import Kept, Lifetimes
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.reductions import Multiprocessors, partial_sums
from vramlint.memory.repetition import Layout
from vramlint.memory.tensor import Edge, Gradients, Node, Parameter, Shape, Storage, Tensor
from vramlint.memory.updates.backward import GradientHooks
from vramlint.memory.work import BACKWARD, FORWARD, HEADS, RECOMPUTED, RULES, Meter, Operation, of_backward
from vramlint.memory.workspaces import Workspaces

Backward = Callable[["Tape", Node, Gradients], Sequence["Tensor | None"]]
"""The derivative of an operator: what it allocates, in which order."""


Result = tuple[Shape, str, str]
"""Shape, dtype and name of what an operator yields besides its output."""


class Tape:
    """State of one simulated process."""

    def __init__(self, recorder: Recorder, layout: Layout | None = None, workspaces: Workspaces | None = None) -> None:
        self.recorder = recorder
        self.workspaces = workspaces
        """Those of cuBLAS, where a GPU is named."""
        self.course = Course(recorder, layout or Layout())
        self.lifetimes = Lifetimes(self.course)
        self.grad_enabled = True
        self.training = True
        """Whether modules are in training mode: dropout drops."""
        self.defers_loss = False
        """Whether the model is called without labels, because the trainer takes the loss from its logits."""
        self.autocast: str | None = None
        self.frame: Frame | None = None
        """The checkpoint whose layer is running for the first time."""
        self.compiled = False
        """torch.compile fuses what runs between matrix products, where an architecture says how."""
        self.positions_by_row = False
        """Every row has positions of its own."""
        self.observed = False
        """A dispatch mode looks on, as where steps are traced."""
        self.keeps_linear_inputs = False
        """F.linear keeps its input for a frozen weight too: DeepSpeed's under ZeRO 3 (deepspeed 0.19.8
        runtime/zero/linear.py, LinearFunctionForZeroStage3)."""
        self.stored_adapters: str | None = None
        """The dtype in which adapters lie where it is not that of their products: a LoRA layer casts its input to it
        and FSDP 1, of which an adapter is a unit of its own, casts that back (torch 2.13 fsdp/_runtime_utils.py,
        _cast_forward_inputs)."""
        self.meter = Meter()
        self.card = Multiprocessors()
        """Where the kernels run."""
        self.consumes_gradients = False
        """Whether a complete gradient is reduced and freed at once."""
        self.hooks: GradientHooks | None = None
        """An optimizer that updates parameters in backward."""
        self._casts: dict[Tensor, Kept] = {}
        self.leaves: Sequence[Tensor] = ()
        """The inputs of a layer that a reentrant checkpoint runs again: leaves to autocast, like weights."""
        self.held: list[Tensor] = []
        """Tensors that a layer's forward names but no longer uses; they live until it returns."""
        self.sink: Sink | None = None
        """Where what a checkpointed layer saves goes, which runs again."""
        self._sequence = self._operators = 0

    # ------------------------------------------------------------------ memory

    def empty(self, shape: Shape, dtype: str, operator: str, component: str | None = None) -> Tensor:
        """A new tensor with memory of its own."""
        recorder = self.recorder
        label = Label(operator, component or recorder.component, dtype, shape)
        return Tensor(shape, dtype, Storage(recorder, prod(shape) * DTYPE_BYTES[dtype], label))

    def scratch(self, sizes: Sequence[int], operator: str) -> None:
        """Memory of `sizes` bytes that a kernel holds only while it runs."""
        held = [Storage(self.recorder, size, Label(operator, "temporaries", "uint8", (size,))) for size in sizes]
        held.clear()

    def inside_kernel(self, nbytes: int, operator: str) -> None:
        """The same of a kernel whose own memory no dispatch mode sees: not where one looks on."""
        if nbytes and not self.observed:
            self.scratch((nbytes,), operator)

    def multiplies_backward(self) -> None:
        """The backward comes to a product of matrices, or to layers with some."""
        if self.workspaces is not None:
            self.workspaces.multiplies_backward()

    def sums_partially(self, whole: Shape, reduced: Shape) -> None:
        """What the kernel holds that sums, or takes means, over some dimensions of `whole`."""
        self.inside_kernel(partial_sums(self.card, whole, reduced), "partial sums")

    def became_gradient(self, tensor: Tensor) -> None:
        """Count `tensor` as a parameter's gradient from its allocation on."""
        if tensor.storage is not None:
            self.recorder.labels[tensor.storage.index].component = "gradients"

    def became_input(self, tensor: Tensor) -> Tensor:
        """Count `tensor` as what the running module computes with, whatever made it."""
        if tensor.storage is not None:
            self.recorder.labels[tensor.storage.index].component = self.recorder.component
        return tensor

    # ------------------------------------------------------------------ work

    def computes(self, kind: str, dtype: str, flops: float, part: str = "") -> None:
        """Count the work of an operator; a forward that runs during backward is recomputation."""
        part = part or (RECOMPUTED if self.course.differentiating else FORWARD)
        times = self.recorder.current_repeat
        self.meter.add(part, kind, dtype, flops * times, layers=self.course.unit > 0)

    def _dtype_of_products(self, operator: str, inputs: Sequence[Tensor], dtype: str) -> str:
        return dtype if operator not in HEADS else self.autocast or inputs[1].dtype

    def differentiated(self, node: Node) -> None:
        """Count the work of a node's derivative."""
        work: Operation | None = node.work
        if work is not None:
            needed = [edge is not None for edge in node.edges]
            self.computes(work.kind, work.dtype, of_backward(work, needed), BACKWARD)

    # ------------------------------------------------------------------ graph

    def node(self, inputs: Sequence[Tensor], backward: Backward) -> Node:
        """A new node of the graph over `inputs`."""
        self._sequence += 1
        return Node(self._sequence, self.course.unit, tuple([_edge(tensor) for tensor in inputs]), backward)

    def apply(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        shape: Shape,
        dtype: str,
        backward: Backward,
        *,
        save: Sequence[Tensor] = (),
        results: Sequence[Result] = (),
        save_output: bool = False,
        context: object = None,
        component: str | None = None,
    ) -> Tensor:
        """Run one operator: allocate its output and its further `results`; when a gradient will be needed, save `save`.

        Inputs are saved before the operator runs, its further results and the output after it, as VariableType
        does, which decides where the recomputation of a checkpointed layer stops.
        """
        needed = self._uses(inputs) and self.grad_enabled
        later = len(results) + save_output
        node = self._record(inputs, backward, save, later, context) if needed else None
        rule = RULES.get(operator)
        work = None if rule is None else rule(inputs, shape, self._dtype_of_products(operator, inputs, dtype))
        frame = self.sink or self.frame
        if frame is not None and frame.selection is not None:
            output, others = self._selected(
                frame, frame.selection, operator, len(inputs), (shape, dtype, component), results, work
            )
        else:
            output, others = self._results(operator, (shape, dtype, component), results, work)
        output.requires_grad = needed
        if needed:
            output.node = node
            if node is not None:
                node.work = work
            if later:
                self._save_results(node, (*others, _detached(output)) if save_output else others)
        return output

    def _uses(self, inputs: Sequence[Tensor]) -> bool:
        """Count one more operator, which uses `inputs`; whether one of them needs a gradient."""
        self._operators += 1
        needed = False
        for tensor in inputs:
            needed = needed or tensor.requires_grad
            if isinstance(tensor, Parameter) and tensor.used is None:
                tensor.used = self._operators
        return needed

    def _results(
        self, operator: str, output: tuple[Shape, str, str | None], others: Sequence[Result], work: Operation | None
    ) -> Results:
        """What an operator yields."""
        shape, dtype, component = output
        if work is not None:
            self.computes(work.kind, work.dtype, work.flops)
        made = self.empty(shape, dtype, operator, component)
        return made, [self.empty(*other) for other in others] if others else ()

    def _selected(
        self,
        frame: Sink,
        selection: Selection,
        operator: str,
        inputs: int,
        output: tuple[Shape, str, str | None],
        others: Sequence[Result],
        work: Operation | None,
    ) -> Results:
        """The same under selective checkpointing: kept for, or taken from, the forward."""
        chosen = selection.chooses(operator, inputs)
        if chosen and frame is self.sink:
            kept, rest = selection.take()
            return _detached(kept), rest
        made = self._results(operator, output, others, work)
        if chosen:
            selection.kept.append((_detached(made[0]), made[1]))
        return made

    def _record(
        self, inputs: Sequence[Tensor], backward: Backward, save: Sequence[Tensor], later: int, context: object
    ) -> Node | None:
        if self.sink is not None:
            if save:
                self.sink.keep(save)
            return None
        node = self.node(inputs, backward)
        node.context = context
        if self.frame is None:
            node.saved = tuple(save)
        else:
            self.frame.take(node, len(save) + later)
        return node

    def _save_results(self, node: Node | None, results: Sequence[Tensor]) -> None:
        if self.sink is not None:
            self.sink.keep(results)
        elif node is not None and node.frame is None:
            node.saved = (*node.saved, *results)

    def abandon(self, *tensors: Tensor) -> None:
        """Say that nobody differentiates the operators that made `tensors`: parameters don't wait for them."""
        for tensor in tensors:
            for edge in tensor.node.edges if tensor.node is not None else ():
                if edge is not None and isinstance(edge[0], Parameter):
                    edge[0].pending -= 1

    @property
    def replays(self) -> bool:
        """Whether a checkpointed layer runs again for what it saves."""
        return self.sink is not None

    def view_node(self, inputs: Sequence[Tensor], backward: Backward) -> Node | None:
        """A node for an operator that allocates and saves nothing; None where no graph is kept."""
        return None if self.sink is not None else self.node(inputs, backward)

    def in_place(self, saved: Sequence[Tensor], inputs: Sequence[Tensor], backward: Backward) -> Node | None:
        """A node for an operator that writes into its first input and saves `saved`."""
        return self._record(inputs, backward, saved, 0, None)

    def attach(self, tensor: Tensor) -> Tensor | None:
        """Keep `tensor` as an attribute of the graph: returned for a node that dies with its unit, else by the tape."""
        if self.course.differentiating or not self.grad_enabled or not tensor.requires_grad:
            return None if self.replays else tensor
        self.lifetimes.bind(tensor)
        return None

    # ------------------------------------------------------------------ modes

    @contextmanager
    def grad_mode(self, *, enabled: bool) -> Iterator[None]:
        """torch.enable_grad / torch.no_grad."""
        before, self.grad_enabled = self.grad_enabled, enabled
        try:
            yield
        finally:
            self.grad_enabled = before

    @contextmanager
    def inference(self) -> Iterator[None]:
        """model.eval() under torch.no_grad: no graph, no dropout."""
        self.training = False
        try:
            with self.grad_mode(enabled=False):
                yield
        finally:
            self.training = True

    @contextmanager
    def autocasting(self, dtype: str | None) -> Iterator[None]:
        """torch.autocast(dtype), or no autocast. The cache of cast weights ends with the outermost context."""
        before, self.autocast = self.autocast, dtype
        try:
            yield
        finally:
            self.autocast = before
            if before is None:
                casts = list(self._casts.values())
                self._casts.clear()
                self.lifetimes.drop(casts)

    @contextmanager
    def recomputing(self, frame: Frame) -> Iterator[None]:
        """Run a layer again for what it saves; no graph is kept."""
        outer, self.sink = self.sink, frame
        try:
            with self.grad_mode(enabled=True), self.autocasting(frame.autocast):
                yield
        finally:
            self.sink = outer

    @contextmanager
    def inside_recomputation(self, inputs: Inputs) -> Iterator[None]:
        """A checkpoint within one whose layer runs again: its inputs are saved there, what it saves itself nowhere.

        Raises:
            StopRecomputation: the outer layer has nothing more to recompute.
        """
        outer = self.sink
        if outer is not None:
            outer.keep([tensor for tensor in inputs if tensor is not None])
            self.sink = Discarded()
        try:
            yield
        finally:
            self.sink = outer

    # ------------------------------------------------------------------ autocast

    def to(self, tensor: Tensor, dtype: str) -> Tensor:
        """`tensor.to(dtype)`: itself if it has that dtype, else a copy."""
        if tensor.dtype == dtype:
            return tensor
        out = self.apply("to", (tensor,), tensor.shape, dtype, _to_backward)
        out.heads_first = tensor.heads_first
        return out

    def lower(self, tensor: Tensor) -> Tensor:
        """Cast as autocast does for its lower-precision operators (matmul, linear, attention).

        A trainable float32 leaf is cast once and cached until autocast ends; everything else is cast at
        every use (torch 2.13 aten/src/ATen/autocast_mode.cpp, cached_cast).
        """
        dtype = self.autocast
        if dtype is None or tensor.dtype == dtype or tensor.dtype not in ("float32", "bfloat16", "float16"):
            return tensor
        leaf = isinstance(tensor, Parameter) or any(tensor is leaf for leaf in self.leaves)
        if not (leaf and tensor.requires_grad and tensor.dtype == "float32"):
            return self.to(tensor, dtype)
        cached = self._casts.get(tensor)
        if cached is None:
            copy = self.apply("to", (tensor,), tensor.shape, dtype, _to_backward, component="autocast weight copies")
            cached = self._casts[tensor] = self.lifetimes.of(copy)
        return cached.tensor

    def upper(self, tensor: Tensor) -> Tensor:
        """Cast as autocast does for its float32 operators (norms, softmax, pow, losses)."""
        return self.to(tensor, "float32") if self.autocast is not None else tensor


def _edge(tensor: Tensor) -> Edge | None:
    if not tensor.requires_grad:
        return None
    if isinstance(tensor, Parameter):
        tensor.pending += 1
        return (tensor, 0, tensor.shape, tensor.dtype)
    return None if tensor.node is None else (tensor.node, tensor.slot, tensor.shape, tensor.dtype)


def _detached(tensor: Tensor) -> Tensor:
    """The same storage without the graph: a node that saves its own output must not hold itself."""
    return Tensor(tensor.shape, tensor.dtype, tensor.storage)


def _to_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    out = tape.empty(gradient.shape, edge[3], "to")
    out.heads_first = gradient.heads_first
    return (out,)
