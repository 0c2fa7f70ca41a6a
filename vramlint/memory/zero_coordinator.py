"""Which parameters of ZeRO 3 are whole while each module runs, once the order of modules is known.

Follows deepspeed 0.19.8 runtime/zero/partitioned_param_coordinator.py (fetch_sub_module, release_sub_module) and
partition_parameters.py (all_gather_coalesced, AllGatherCoalescedHandle):

- a module's own parameters are gathered, then those of the next ones until the prefetch bucket is full, one parameter
  beyond it;
- what is gathered together comes in one flat buffer, is copied out of it when the first of them is waited for, and the
  buffer stays until the last one was;
- backward does not come to a module whose output needs no gradient: the embedding and the first layer's projections
  under adapters; their parameters go behind forward;
- a parameter that is used again within `max_reuse_distance` elements is not released;
- releasing takes the memory from the parameter and not from a view of it: where autograd keeps one, as of experts in
  one tensor (matrices of linear layers are saved as parameters, runtime/zero/linear.py), it lives until backward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.job import Zero
from vramlint.memory.tensor import LayerId, Parameter
from vramlint.memory.zero_partition import in_order
from vramlint.memory.zero_quantizer import HALF
from vramlint.memory.zero_wire import Handle, Wire, aligned

LEAVES = frozenset({"mixtral", "qwen2_moe", "qwen3_moe"})
"""Models whose blocks of experts are gathered whole (deepspeed 0.19.8 runtime/zero/leaf_module_config.py)."""
BESIDE = frozenset(
    {("q_proj", "k_proj"), ("k_proj", "q_proj"), ("k_proj", "v_proj"), ("gate_proj", "up_proj")}
    | {("query", "key"), ("key", "value"), ("q", "k"), ("k", "v"), ("wi_0", "wi_1"), ("w1", "w3")}
)
"""Modules, by their names, that follow each other and take the same input."""


class Module(Struct):
    """One module: its own parameters by their numbers, those inside it, and the layer that it is in."""

    layer: LayerId | None
    parameters: list[int] = field(default_factory=list)
    children: list[Module] = field(default_factory=list)
    starts: bool = False
    """It is the layer itself."""
    leaf: bool = False
    """It is gathered with all that is inside it."""
    beside: bool = False
    """It takes what the module before it takes, not what that one gives."""
    differentiates: bool = True
    """Its output needs a gradient: else no hook of backward is on it (parameter_offload.py, PreBackwardFunction)."""

    def inside(self) -> Iterator[int]:
        """Its parameters and those of the modules inside it."""
        yield from self.parameters
        for child in self.children:
            yield from child.inside()


class Level(Struct, frozen=True):
    """Bytes while one module runs."""

    whole: int
    """Gathered."""
    highest: int
    """Of all times while its own arrive and the next ones are sent for."""
    second: int
    """Of the secondary partitions that are made behind it."""


class Coordinator(Struct):
    """One pass forward and backward."""

    zero: Zero
    sizes: Sequence[int]
    """Elements of every parameter."""
    order: Sequence[Module]
    """Modules in the order in which they run, those of backward too."""
    wire: Wire
    forward: int
    """Modules that run before backward begins."""
    viewed: frozenset[int] = frozenset()
    """Parameters that forward takes by a view: when they are released, autograd keeps the memory for backward."""
    whole: dict[int, int] = field(default_factory=dict)
    """Bytes that each gathered parameter takes."""
    saved: dict[int, int] = field(default_factory=dict)
    """Bytes of released parameters that autograd keeps."""
    handles: dict[int, Handle] = field(default_factory=dict)
    available: int = 0
    """Elements."""
    held: int = 0
    """Bytes of what is whole, of what is saved and of the flat buffers."""
    _fetched_for: dict[int, int] = field(default_factory=dict)
    _partitioned: set[int] = field(default_factory=set)
    _highest: int = 0

    def levels(self) -> Iterator[Level]:
        """What each module has."""
        threshold = self.zero.parameter_persistence_threshold
        persistent = {number for number, size in enumerate(self.sizes) if size <= threshold}
        before = [0]
        uses: dict[int, deque[int]] = {}
        for step, module in enumerate(self.order):
            own = 0 if module.leaf else sum([self.sizes[p] for p in module.parameters])
            before.append(before[-1] + own)
            for parameter in module.parameters:
                uses.setdefault(parameter, deque()).append(step)
        queue = deque([(p, step) for step, module in enumerate(self.order) for p in module.parameters])
        self._partitioned = set(self.wire.lasting)
        for step, module in enumerate(self.order):
            self._highest = 0
            if module.parameters:
                wanted = [p for p in module.parameters if p not in persistent]
                self._gather([p for p in wanted if p not in self.whole and p not in self.handles])
                for parameter in wanted:
                    self._wait(parameter)
                self._discard(queue, [p for p in module.parameters if self._fetched_for.get(p, -1) < step])
            self._prefetch(queue, persistent)
            whole, highest, second = self.held, max(self._highest, self.held), 0
            for parameter in module.parameters:
                uses[parameter].popleft()
                if step >= self.forward:
                    self.held -= self.saved.pop(parameter, 0)
                again = uses[parameter][0] if uses[parameter] else None
                near = again is not None and before[again] - before[step + 1] < self.zero.max_reuse_distance
                if module.leaf:
                    near = self._leaf_stays(step, parameter)
                skipped = self._fetched_for.get(parameter, -1) > step + 1
                if parameter in self.whole and not near and not skipped:
                    size = self.whole.pop(parameter)
                    self.held -= size
                    second += self._second(parameter)
                    if step < self.forward and parameter in self.viewed:
                        self.held += size - self.saved.get(parameter, 0)
                        self.saved[parameter] = size
                    self.available -= self.sizes[parameter]
            yield Level(whole, highest, second)

    def _second(self, parameter: int) -> int:
        """Bytes of a secondary partition that is made now."""
        if parameter not in self.wire.partitioned or parameter in self._partitioned:
            return 0
        self._partitioned.add(parameter)
        return self.wire.width * aligned(self.sizes[parameter], self.wire.world) // self.wire.second

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

    def _discard(self, queue: deque[tuple[int, int]], fetched: Sequence[int]) -> None:
        """Take from the trace what is already here."""
        found: set[int] = set()
        wanted = len(set(fetched))
        while queue and len(found) < wanted:
            parameter, step = queue.popleft()
            self._fetched_for[parameter] = step
            found.add(parameter)

    def _prefetch(self, queue: deque[tuple[int, int]], persistent: set[int]) -> None:
        room = min(self.zero.max_live_parameters - self.available, self.zero.prefetch_bucket_size)
        if not self.zero.prefetch_bucket_size or room <= 0:
            return
        whole, handles, fetched = self.whole, self.handles, self._fetched_for
        wanted: list[int] = []
        size = 0
        while queue and size < room:
            parameter, step = queue.popleft()
            if fetched.get(parameter, -1) < step:
                fetched[parameter] = step
            if not (parameter in whole or parameter in handles or parameter in persistent or parameter in wanted):
                wanted.append(parameter)
                size += self.sizes[parameter]
        self._gather(wanted)

    def _gather(self, parameters: Sequence[int]) -> None:
        """What lies there in 8 bits travels apart from the rest, and what has a secondary partition from what has none.

        __all_gather_params and __all_gather_params_.
        """
        if not parameters:
            return
        kinds = [(p in self.wire.stored, p in self._partitioned) for p in parameters]
        for kind in sorted(set(kinds), reverse=True):
            group = [p for p, own in zip(parameters, kinds, strict=True) if own == kind]
            for sent in [[p] for p in group] if self.wire.apart else [group]:
                handle, highest = self.wire.sent(sent, self.sizes)
                self._highest = max(self._highest, self.held + highest)
                self.held += handle.size
                self.available += sum([self.sizes[p] for p in sent])
                self.handles.update(dict.fromkeys(sent, handle))

    def _wait(self, parameter: int) -> None:
        handle = self.handles.pop(parameter, None)
        if handle is None:
            return
        if handle.copied and parameter not in self.whole:
            self.whole[parameter] = handle.size  # gathered alone, it is the buffer (_all_gather_sequential)
            self._highest = max(self._highest, self.held)
            return
        if not handle.copied:
            handle.copied = True
            if handle.whole is not None and not (self.wire.half and len(handle.waiting) == 1):
                self.held += handle.whole
                handle.size += handle.whole
            self._arrive(sorted(handle.waiting), widens=handle.whole is not None and not self.wire.half)
        self._highest = max(self._highest, self.held)
        handle.waiting.discard(parameter)
        if not handle.waiting:
            self.held -= handle.size

    def _arrive(self, parameters: Sequence[int], *, widens: bool) -> None:
        """Parameters are copied out of a buffer one by one; float16 values become those of another dtype anew."""
        for parameter in parameters:
            size = self.wire.width * self.sizes[parameter]
            self.held += size - self.whole.get(parameter, 0)
            self.whole[parameter] = size
            between = HALF * self.sizes[parameter] if widens and len(parameters) > 1 else 0
            self._highest = max(self._highest, self.held + between)


Place = tuple[bool, LayerId | None]
"""Backward or forward, and a layer kind; None: what is outside of layers."""


class Gathered(NamedTuple):
    """Bytes of ZeRO 3's parameters while layers run."""

    whole: dict[Place, tuple[tuple[int, int], ...]]
    """Whole at the most, and at the highest while they arrive: each time outside of layers, of layers the most."""
    second: dict[Place, tuple[int, ...]]
    """Secondary partitions that each run leaves behind."""
    beside: dict[int, int]
    """Whole while backward runs the module of a parameter outside of layers, by its id."""


_kept: dict[Hashable, Gathered] = {}
"""By all that decides it, with positions in place of ids: plans for a run mostly change something else."""
MOST_KEPT = 16


def gathered_bytes(
    parameters: Sequence[Parameter], zero: Zero, wire: Wire, *, recomputes: bool, leaves: bool
) -> Gathered:
    """What is gathered for every layer kind."""
    seen = tuple(
        (p.name, p.shape, p.layer, p.stretch, p.multiplicity, p.requires_grad, p.embedding) for p in parameters
    )
    key = (seen, _limits(zero), _form(wire, zero, parameters), recomputes, leaves)
    found = _kept.get(key)
    if found is None:
        found = _gathered(parameters, zero, wire, recomputes=recomputes, leaves=leaves)
        positions = {id(parameter): position for position, parameter in enumerate(parameters)}
        found = found._replace(beside={positions[one]: size for one, size in found.beside.items()})
        while len(_kept) >= MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = found
    return found._replace(beside={id(parameters[position]): size for position, size in found.beside.items()})


def _limits(zero: Zero) -> Hashable:
    """What of ZeRO's settings decides what is gathered when."""
    return (
        zero.parameter_persistence_threshold,
        zero.prefetch_bucket_size,
        zero.max_live_parameters,
        zero.max_reuse_distance,
    )


def _form(wire: Wire, zero: Zero, parameters: Sequence[Parameter]) -> Hashable:
    """What of the form in which parameters travel tells: not among how many ranks, where all have equal parts."""
    plain = not wire.packed and not wire.partitioned
    even = plain and not any(p.numel % wire.world for p in parameters if p.numel > zero.parameter_persistence_threshold)
    return (replace(wire, world=1) if even else wire).key


def _gathered(parameters: Sequence[Parameter], zero: Zero, wire: Wire, *, recomputes: bool, leaves: bool) -> Gathered:
    root, sizes = tree_of(parameters, leaves=leaves)
    order = [(False, module) for module in _forward(root)]
    forward = len(order)
    viewed = frozenset() if recomputes else frozenset(n for n, p in enumerate(in_order(parameters)) if len(p.shape) > 2)
    if not recomputes:
        mark(root, [p.requires_grad for p in in_order(parameters)], needed=False)
    order += [(True, module) for module in _backward(root, recomputes=recomputes) if module.differentiates]
    levels = Coordinator(zero, sizes, [module for _, module in order], wire, forward, viewed).levels()
    runs: dict[Place, list[list[Level]]] = {}
    beside: dict[int, int] = {}
    numbered = list(in_order(parameters))
    last: Place | None = None
    for (backward, module), level in zip(order, levels, strict=True):
        place = (backward, module.layer)
        if place != last or module.starts:
            runs.setdefault(place, []).append([])
        runs[place][-1].append(level)
        if place == (True, None):
            beside |= {id(numbered[parameter]): level.whole for parameter in module.parameters}
        last = place
    whole: dict[Place, tuple[tuple[int, int], ...]] = {}
    second: dict[Place, tuple[int, ...]] = {}
    for place, found in runs.items():
        most = [_most(run) for run in found]
        if place == (False, None):  # the head comes last, and with it most of what forward has behind the layers
            most[-1] = (found[-1][-1].whole, most[-1][1])
        highest = (max(most)[0], max(highest for _, highest in most))
        whole[place] = tuple(most) if place[1] is None else (highest,)
        made = tuple(sum(level.second for level in run) for run in found)
        if any(made):
            second[place] = made
    return Gathered(whole, second, beside)


def _most(run: Sequence[Level]) -> tuple[int, int]:
    return max(level.whole for level in run), max(level.highest for level in run)


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


def mark(module: Module, trains: Sequence[bool], *, needed: bool) -> bool:
    """Mark which outputs need a gradient, where the module's input `needed` one; whether this module's does."""
    shared = after = needed
    for child in module.children:
        shared = shared if child.beside else after
        after = mark(child, trains, needed=shared) or after
    module.differentiates = after or any(trains[parameter] for parameter in module.parameters)
    return module.differentiates


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
    names: dict[int, str] = {}
    adapted = {p.name.partition(".lora_")[0] for p in parameters if ".lora_" in p.name}
    for parameter in in_order(parameters):
        owner = _owner(parameter.name, blocks)
        owner += ".base_layer" if owner in adapted else ""  # peft 0.21 tuners/tuners_utils.py, BaseTunerLayer
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
                before = path[-1][1].children[-1:]
                child = Module(parameter.layer, leaf=owner in blocks and depth == len(parts))
                child.beside = bool(before) and (names.get(id(before[0]), ""), parts[depth - 1]) in BESIDE
                names[id(child)] = parts[depth - 1]
                path[-1][1].children.append(child)
                path.append((name, child))
        del path[len(parts) + 1 :]
        path[-1][1].parameters.append(len(sizes))
        embedding = len(sizes) if parameter.embedding and embedding is None else embedding
        sizes.append(parameter.numel)
    if embedding is not None and not any(p.layer is None and "head" in p.name for p in parameters):
        root.children.append(Module(None, [embedding]))
    return root, sizes
