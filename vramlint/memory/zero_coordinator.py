"""Which parameters of ZeRO 3 are whole while each module runs, once the order of modules is known.

Follows deepspeed 0.19.8 runtime/zero/partitioned_param_coordinator.py (fetch_sub_module, release_sub_module) and
partition_parameters.py (all_gather_coalesced, AllGatherCoalescedHandle): a module's own parameters are gathered, then
those of the next ones until the prefetch bucket is full, one parameter beyond it; several that are gathered together
come in one flat buffer, are copied out of it when the first of them is waited for, and the buffer stays until the last
one was. A parameter that is used again within `max_reuse_distance` elements is not released.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from vramlint.job import Zero
from vramlint.memory.tensor import LayerId, Parameter
from vramlint.memory.zero_partition import in_order


@dataclass(frozen=True, slots=True)
class Module:
    """One module's own parameters by their numbers, and the layer that it is in."""

    layer: LayerId | None
    parameters: tuple[int, ...]


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
    whole: dict[int, int] = field(default_factory=dict)
    """Elements that each gathered parameter takes."""
    handles: dict[int, Handle] = field(default_factory=dict)
    available: int = 0
    flats: int = 0
    _fetched_for: dict[int, int] = field(default_factory=dict)

    def levels(self) -> Iterator[int]:
        """Elements that are whole while each module runs, with what its gathering takes."""
        threshold = self.zero.parameter_persistence_threshold
        persistent = {number for number, size in enumerate(self.sizes) if size <= threshold}
        before = [0]
        uses: dict[int, deque[int]] = {}
        for step, module in enumerate(self.order):
            before.append(before[-1] + sum(self.sizes[p] for p in module.parameters))
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
            yield max(highest, self._held())
            for parameter in module.parameters:
                uses[parameter].popleft()
                again = uses[parameter][0] if uses[parameter] else None
                near = again is not None and before[again] - before[step + 1] < self.zero.max_reuse_distance
                skipped = self._fetched_for.get(parameter, -1) > step + 1
                if parameter in self.whole and not near and not skipped:
                    del self.whole[parameter]
                    self.available -= self.sizes[parameter]

    def _held(self) -> int:
        return sum(self.whole.values()) + self.flats

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
        if handle.copied and handle.flat and handle.waiting == {parameter} and parameter not in self.whole:
            self.flats -= handle.flat  # gathered alone: it is the buffer
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
    parameters: Sequence[Parameter], zero: Zero, world: int, *, recomputes: bool
) -> dict[tuple[bool, LayerId | None], int]:
    """Elements that are whole at the most while a layer kind runs, forward (False) and backward (True)."""
    modules, sizes = modules_of(parameters)
    order = [(False, module) for module in modules]
    order += [(True, module) for module in _backward(modules, recomputes=recomputes)]
    levels = Coordinator(zero, sizes, [module for _, module in order], world).levels()
    found: dict[tuple[bool, LayerId | None], int] = {}
    for (backward, module), level in zip(order, levels, strict=True):
        key = (backward, module.layer)
        found[key] = max(found.get(key, 0), level)
    return found


def _backward(modules: Sequence[Module], *, recomputes: bool) -> Iterator[Module]:
    """The modules of backward; of a layer that is recomputed its forward comes first."""
    if not recomputes:
        yield from reversed(modules)
        return
    layer: list[Module] = []
    for module in reversed(modules):
        if layer and (module.layer is None or module.layer != layer[-1].layer):
            yield from layer[::-1]
            yield from layer
            layer = []
        if module.layer is None:
            yield module
        else:
            layer.append(module)


def modules_of(parameters: Sequence[Parameter]) -> tuple[list[Module], list[int]]:
    """The modules that own parameters, in the model's order, and the elements of every parameter."""
    modules: list[Module] = []
    sizes: list[int] = []
    owner: Hashable = None
    for parameter in in_order(parameters):
        name = (parameter.layer, parameter.name.rpartition(".")[0])
        if name == owner and modules:
            modules[-1] = Module(parameter.layer, (*modules[-1].parameters, len(sizes)))
        else:
            modules.append(Module(parameter.layer, (len(sizes),)))
        owner = name
        sizes.append(parameter.numel)
    tied = not any(p.layer is None and "head" in p.name for p in parameters)
    embedding = next((number for number, p in enumerate(in_order(parameters)) if p.embedding), None)
    if tied and embedding is not None:
        modules.append(Module(None, (embedding,)))
    return modules, sizes
