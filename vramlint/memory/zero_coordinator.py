"""Which parameters of ZeRO 3 are whole while each module runs, once the order of modules is known.

Follows deepspeed 0.19.8 runtime/zero/partitioned_param_coordinator.py (fetch_sub_module, release_sub_module) and
partition_parameters.py (all_gather_coalesced, AllGatherCoalescedHandle):

- a module's own parameters are gathered, then those of the next ones until the prefetch bucket is full, one parameter
  beyond it;
- what is gathered together comes in one flat buffer, is copied out of it when the first of them is waited for, and the
  buffer stays until the last one was;
- a parameter that is used again within `max_reuse_distance` elements is not released;
- releasing takes the memory from the parameter and not from a view of it: where autograd keeps one, as of experts in
  one tensor (matrices of linear layers are saved as parameters, runtime/zero/linear.py), it lives until backward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from vramlint.job import Zero
from vramlint.memory.tensor import LayerId, Parameter
from vramlint.memory.zero_partition import in_order

LEAVES = frozenset({"mixtral", "qwen2_moe", "qwen3_moe"})
"""Models whose blocks of experts are gathered whole (deepspeed 0.19.8 runtime/zero/leaf_module_config.py)."""


@dataclass(slots=True)
class Module:
    """One module: its own parameters by their numbers, those inside it, and the layer that it is in."""

    layer: LayerId | None
    parameters: list[int] = field(default_factory=list)
    children: list[Module] = field(default_factory=list)
    starts: bool = False
    """It is the layer itself."""
    leaf: bool = False
    """It is gathered with all that is inside it."""

    def inside(self) -> Iterator[int]:
        """Its parameters and those of the modules inside it."""
        yield from self.parameters
        for child in self.children:
            yield from child.inside()


@dataclass(slots=True)
class Handle:
    """A gather that is under way: what of it nobody has waited for."""

    flat: int
    waiting: set[int]
    copied: bool = False


@dataclass(slots=True)
class Coordinator:
    """One pass forward and backward. Sizes are elements."""

    zero: Zero
    sizes: Sequence[int]
    """Of every parameter."""
    order: Sequence[Module]
    """Modules in the order in which they run, those of backward too."""
    world: int
    forward: int
    """Modules that run before backward begins."""
    viewed: frozenset[int] = frozenset()
    """Parameters that forward takes by a view: when they are released, autograd keeps the memory for backward."""
    whole: dict[int, int] = field(default_factory=dict)
    """Elements that each gathered parameter takes."""
    saved: dict[int, int] = field(default_factory=dict)
    """Elements of released parameters that autograd keeps."""
    handles: dict[int, Handle] = field(default_factory=dict)
    available: int = 0
    flats: int = 0
    _fetched_for: dict[int, int] = field(default_factory=dict)

    def levels(self) -> Iterator[tuple[int, int]]:
        """Elements that are whole while each module runs, and at the highest while its own arrive."""
        threshold = self.zero.parameter_persistence_threshold
        persistent = {number for number, size in enumerate(self.sizes) if size <= threshold}
        before = [0]
        uses: dict[int, deque[int]] = {}
        for step, module in enumerate(self.order):
            own = 0 if module.leaf else sum(self.sizes[p] for p in module.parameters)
            before.append(before[-1] + own)
            for parameter in module.parameters:
                uses.setdefault(parameter, deque()).append(step)
        queue = deque((p, step) for step, module in enumerate(self.order) for p in module.parameters)
        for step, module in enumerate(self.order):
            wanted = [p for p in module.parameters if p not in persistent]
            self._gather([p for p in wanted if p not in self.whole and p not in self.handles])
            highest = 0
            for parameter in wanted:
                highest = max(highest, self._wait(parameter))
            self._discard(queue, [p for p in module.parameters if self._fetched_for.get(p, -1) < step])
            self._prefetch(queue, persistent)
            yield self._held(), max(highest, self._held())
            for parameter in module.parameters:
                uses[parameter].popleft()
                if step >= self.forward:
                    self.saved.pop(parameter, None)
                again = uses[parameter][0] if uses[parameter] else None
                near = again is not None and before[again] - before[step + 1] < self.zero.max_reuse_distance
                if module.leaf:
                    near = self._leaf_stays(step, parameter)
                skipped = self._fetched_for.get(parameter, -1) > step + 1
                if parameter in self.whole and not near and not skipped:
                    size = self.whole.pop(parameter)
                    if step < self.forward and parameter in self.viewed:
                        self.saved[parameter] = size
                    self.available -= self.sizes[parameter]

    def _leaf_stays(self, step: int, parameter: int) -> bool:
        """Whether a module that has a leaf's parameter inside comes soon; what is inside others counts too."""
        passed = 0
        for module in self.order[step + 1 :]:
            if passed >= self.zero.max_reuse_distance:
                return False
            inside = list(module.inside())
            if parameter in inside:
                return True
            passed += sum(self.sizes[p] for p in inside)
        return False

    def _held(self) -> int:
        return sum(self.whole.values()) + sum(self.saved.values()) + self.flats

    def _discard(self, queue: deque[tuple[int, int]], fetched: Sequence[int]) -> None:
        """Take from the trace what is already here."""
        found: set[int] = set()
        while queue and len(found) < len(set(fetched)):
            parameter, step = queue.popleft()
            self._fetched_for[parameter] = step
            found.add(parameter)

    def _prefetch(self, queue: deque[tuple[int, int]], persistent: set[int]) -> None:
        room = min(self.zero.max_live_parameters - self.available, self.zero.prefetch_bucket_size)
        wanted: list[int] = []
        size = 0
        while self.zero.prefetch_bucket_size and queue and size < room:
            parameter, step = queue.popleft()
            self._fetched_for[parameter] = max(self._fetched_for.get(parameter, -1), step)
            absent = parameter not in self.whole and parameter not in self.handles and parameter not in persistent
            if absent and parameter not in wanted:
                wanted.append(parameter)
                size += self.sizes[parameter]
        self._gather(wanted)

    def _gather(self, parameters: Sequence[int]) -> None:
        if not parameters:
            return
        flat = sum(-(-self.sizes[p] // self.world) * self.world for p in parameters)
        handle = Handle(flat, set(parameters), copied=len(parameters) == 1)
        self.flats += flat
        self.available += sum(self.sizes[p] for p in parameters)
        for parameter in parameters:
            self.handles[parameter] = handle

    def _wait(self, parameter: int) -> int:
        """Elements held at the highest while a parameter arrives."""
        handle = self.handles.pop(parameter, None)
        if handle is None:
            return 0
        if handle.copied and parameter not in self.whole:
            self.flats -= handle.flat  # gathered alone, it is the buffer (_all_gather_sequential)
            self.whole[parameter] = handle.flat
            return self._held()
        if not handle.copied:
            handle.copied = True
            self.whole.update({p: self.sizes[p] for p in handle.waiting})
        highest = self._held()
        handle.waiting.discard(parameter)
        if not handle.waiting:
            self.flats -= handle.flat
        return highest


def gathered_elements(
    parameters: Sequence[Parameter], zero: Zero, world: int, *, recomputes: bool, leaves: bool
) -> dict[tuple[bool, LayerId | None], tuple[int, int]]:
    """Elements that are whole at the most while a layer kind runs, forward (False) and backward (True).

    And at the highest while they arrive.
    """
    root, sizes = tree_of(parameters, leaves=leaves)
    order = [(False, module) for module in _forward(root)]
    forward = len(order)
    viewed = frozenset() if recomputes else frozenset(n for n, p in enumerate(in_order(parameters)) if len(p.shape) > 2)
    order += [(True, module) for module in _backward(root, recomputes=recomputes)]
    levels = Coordinator(zero, sizes, [module for _, module in order], world, forward, viewed).levels()
    found: dict[tuple[bool, LayerId | None], tuple[int, int]] = {}
    for (backward, module), (whole, highest) in zip(order, levels, strict=True):
        before = found.get((backward, module.layer), (0, 0))
        found[backward, module.layer] = (max(before[0], whole), max(before[1], highest))
    return found


def _forward(module: Module) -> Iterator[Module]:
    """A module, then those inside it."""
    yield module
    for child in module.children:
        yield from _forward(child)


def _backward(module: Module, *, recomputes: bool) -> Iterator[Module]:
    """A module, then those inside it from the last; of a layer that is recomputed its forward comes first."""
    if recomputes and module.starts:
        yield from _forward(module)
    yield module
    for child in reversed(module.children):
        yield from _backward(child, recomputes=recomputes)


def _inside_layer(owner: str) -> list[str]:
    """The path of a module inside its layer, whose number is the last; outside of layers its own name."""
    parts = owner.split(".")
    numbers = [position for position, part in enumerate(parts) if part.isdigit()]
    return parts[numbers[0] + 1 :] if numbers else parts[-1:]


def _owner(name: str, blocks: Collection[str]) -> str:
    """The module that a parameter is gathered with."""
    return next((block for block in blocks if name.startswith(f"{block}.")), name.rpartition(".")[0])


def tree_of(parameters: Sequence[Parameter], *, leaves: bool) -> tuple[Module, list[int]]:
    """The model's modules, and the elements of every parameter.

    Modules without parameters count: with each one that begins more is gathered in advance. With `leaves` a block of
    experts is one module.
    """
    root = Module(None)
    model = Module(None)
    root.children.append(model)
    sizes: list[int] = []
    embedding: int | None = None
    path: list[tuple[str, Module]] = []
    blocks = {p.name.partition(".experts.")[0] for p in parameters if ".experts." in p.name} if leaves else set()
    started: set[str] = set()
    for parameter in in_order(parameters):
        owner = _owner(parameter.name, blocks)
        begins = parameter.name in started
        if not path or path[0][1].layer != parameter.layer or begins:
            started.clear()
            path = [("", Module(parameter.layer, starts=parameter.layer is not None))]
            (model if parameter.layer is not None or "head" not in owner else root).children.append(path[0][1])
        started.add(parameter.name)
        parts = _inside_layer(owner)
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            if depth < len(path) and path[depth][0] != name:
                del path[depth:]
            if depth >= len(path):
                child = Module(parameter.layer, leaf=owner in blocks and depth == len(parts))
                path[-1][1].children.append(child)
                path.append((name, child))
        del path[len(parts) + 1 :]
        path[-1][1].parameters.append(len(sizes))
        embedding = len(sizes) if parameter.embedding and embedding is None else embedding
        sizes.append(parameter.numel)
    if embedding is not None and not any(p.layer is None and "head" in p.name for p in parameters):
        root.children.append(Module(None, [embedding]))
    return root, sizes
