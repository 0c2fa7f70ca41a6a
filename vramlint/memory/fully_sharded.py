"""FSDP as torch runs it: flat parameters of units that are gathered, computed with and reduced one by one.

Follows torch 2.13 torch/distributed/fsdp/{_runtime_utils,_flat_param}.py (the FullyShardedDataParallel that accelerate
1.x and Lightning Fabric wrap) in the order in which the process allocates, which is what `memory_allocated` counts:

- forward gathers a unit before it runs and frees it behind it; the root's parameters stay until its backward is over;
- backward gathers a unit again, and the one before it in advance (BACKWARD_PRE). Where a reentrant checkpoint runs the
  wrapped layer, the outputs of the first forward need no gradient, so the hooks that prefetch are not there;
- what comes before is the unit whose forward ended before (_exec_order_utils.py, handles_post_forward_order): of a
  layer its own last adapter, where adapters are units of their own; the layer before comes with its first one's;
- a unit's gradient is one flat tensor, concatenated when its last parameter's has come, reduced to this rank's share
  in the communication dtype and cast to the dtype of the share;
- without synchronisation (`no_sync`) the flat gradients stay as they are;
- with offloaded parameters the reduced share stays on the device until the backward is over (_saved_grad_shard);
- a unit with frozen and trainable parameters is one flat parameter that trains: its gradient is of its full size;
- a frozen unit goes when the gradient of its input has come, after the unit before it was gathered for the same
  gradient (_register_post_backward_reshard_only_hook);
- a frozen unit that a reentrant checkpoint runs again, as a checkpoint inside of it does not, registers its hook on
  the layer's input, and with the hook that input and its gradient live until the whole backward is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from vramlint.job import DTYPE_BYTES
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.tensor import Gradients, LayerId, Node, Parameter, Storage, Tensor

POST = "post-backward"
"""The stream that reduces gradients."""


class Unit(Struct, frozen=True):
    """One module that FSDP wraps. Sizes are bytes; those of a layer are one layer's."""

    gathered: int
    """All its parameters as they are gathered."""
    trained: int
    """How many of them train."""
    converted: int = 0
    """What is made of this rank's share to be gathered: in the dtype of communication, or on the device."""


class Units(Struct, frozen=True):
    """How a model is divided, and by how much."""

    by_layer: Mapping[LayerId | None, Unit]
    """The root under None."""
    world: int
    prefetches: bool
    """Backward gathers the next unit in advance."""
    retains_inputs: bool
    """The inputs of frozen layers and their gradients outlive the layer's backward."""
    separate: bool
    """Every trainable module is a unit of its own (PEFT's wrap policy), not its layer."""
    synchronises_every: int
    """Backwards between two reductions."""
    widens: bool
    """Shares and their gradients are float32 under 16-bit computation."""
    keeps: bool = False
    """SHARD_GRAD_OP: layers stay gathered from forward until their gradients are reduced."""
    wraps: bool = True
    """Every layer is a unit; else the root is the only one."""
    offloads: bool = False
    """Reduced gradients go to the host."""
    trained: Sequence[Parameter] = ()
    """The parameters that train."""

    def first(self) -> frozenset[int]:
        """Of every layer the trainable parameter that forward used first, by its id."""
        used: dict[LayerId | None, Parameter] = {}
        for p in self.trained:
            before = used.get(p.layer)
            if p.used is not None and (before is None or before.used is None or p.used < before.used):
                used[p.layer] = p
        return frozenset(id(p) for layer, p in used.items() if layer is not None)


def drop_all(recorder: Recorder, arrived: list[tuple[Parameter, Tensor]]) -> None:
    """Free gradients, those of layers that one stands for as often as they came."""
    while arrived:
        parameter, gradient = arrived.pop()
        if gradient.storage is not None and parameter.multiplicity > 1:
            gradient.storage.released = True
            recorder.free(gradient.storage.index, parameter.multiplicity)


class FullySharded:
    """The units of one process while it runs."""

    def __init__(self, units: Units, recorder: Recorder) -> None:
        self.units = units
        self.recorder = recorder
        self.backward = False
        self._alternates = False
        """The unit that runs is a group of layers."""
        self._last: Sequence[LayerId | None] = ()
        self._before: Sequence[LayerId | None] = (None,)
        """What backward comes to next."""
        self._first: frozenset[int] = frozenset()
        """Parameters with whose gradients the layer before is gathered."""
        self._ahead: Storage | None = None
        """The layer that was gathered before any ran backward."""
        self._root: Storage | None = None
        self._layer: list[Storage] = []
        self._kept: dict[LayerId | None, Storage] = {}
        self._arrived: dict[LayerId | None, list[tuple[Parameter, Tensor]]] = {}
        self._unreduced: dict[LayerId | Parameter | None, Storage] = {}
        self._backwards = 0
        self._offloaded: list[tuple[Parameter, Tensor]] = []
        """Reduced gradients whose copies on the host are taken at the end of the backward."""

    # ------------------------------------------------------------------ parameters

    def leaves(self) -> None:
        """The unit that ran is over: it goes when the next one is gathered."""

    def enter(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        """Gather the unit that runs now, one of `layers`, and in backward the one `before` it; free the others."""
        follows = self.backward and self.units.separate and bool(self._layer)
        self._layer.clear()
        self._ahead = None
        if self._root is None:
            self._root = self._gather((None,))
        if None in layers:
            return
        self._last, self._before = layers, before
        self._alternates = len(layers) > 1
        if self.units.keeps and self._stays(layers):
            return
        ahead = self.backward and self.units.prefetches and not self.units.separate and None not in before
        wanted = (layers, before) if ahead else (layers,)
        # its gradient comes to a frozen unit's output, and gathers it, before it comes to the next one's input
        behind = self._gather(layers) if follows else None
        gathered = [self._gather(names) for names in wanted]
        del behind
        self._layer = [storage for storage in gathered if storage is not None]

    def _stays(self, layers: Sequence[LayerId | None]) -> bool:
        """Whether the unit that runs is one that forward has kept, or keeps now."""
        if not self.backward:
            storage = self._gather(layers)
            if storage is not None:
                self._kept[layers[0]] = storage
        return layers[0] in self._kept

    def _gather(self, layers: Sequence[LayerId | None]) -> Storage | None:
        """The largest of `layers`."""
        units = [self.units.by_layer[layer] for layer in layers if layer in self.units.by_layer]
        unit = max(units, key=lambda unit: unit.gathered, default=None)
        if unit is None or not unit.gathered:
            return None
        share = self._new(unit.converted, "share to gather", stream="pre-unshard") if unit.converted else None
        full = self._new(unit.gathered, "all-gather", stream="unshard")
        del share
        return full

    def _new(self, nbytes: int, operator: str, component: str = "gathered parameters", stream: str = "") -> Storage:
        storage = Storage(self.recorder, nbytes, Label(operator, component, "uint8", (nbytes,)))
        if stream:
            self.recorder.streams[storage.index] = stream
        return storage

    # ------------------------------------------------------------------ gradients

    def take(self, parameter: Parameter, gradients: Gradients) -> bool:
        """A parameter's gradient, handed over in `gradients`, is complete: it is taken.

        The last of its unit's makes them one tensor and reduces it.
        """
        unit = parameter.layer if self.units.wraps else None
        arrived = [] if self.units.separate else self._arrived.setdefault(unit, [])
        gradient = gradients.pop()
        if gradient is not None and gradient.storage is not None:
            self.recorder.labels[gradient.storage.index].component = "gradients"
            arrived.append((parameter, gradient))
        del gradient
        if self.units.separate:
            if id(parameter) in self._first and None not in self._before:
                ahead = self._gather(self._before)
                self._layer += [ahead] if ahead is not None else []
            self._reduce(parameter, arrived)
        elif len(arrived) == self.units.by_layer[unit].trained:
            self._reduce(unit, self._arrived.pop(unit))
        return True

    def _reduce(self, key: LayerId | Parameter | None, arrived: list[tuple[Parameter, Tensor]]) -> None:
        owner, gradient = arrived[0]
        width = DTYPE_BYTES[gradient.dtype]
        del gradient
        elements = owner.numel if isinstance(key, Parameter) else self.units.by_layer[key].gathered // width
        flat = self._new(elements * width, "flat gradient", "gradients")
        drop_all(self.recorder, [] if self.units.wraps else arrived)
        arrived.clear()
        if key is None:
            self._root = None
        elif not isinstance(key, Parameter) and not self._alternates:
            self._layer[:1] = []
            self._kept.pop(key, None)
        flat = self._unreduced.pop(key, flat)
        if (self._backwards + 1) % self.units.synchronises_every:
            self._unreduced[key] = flat
            return
        share = -(-elements // self.units.world)
        reduced = Tensor((share,), "bfloat16", flat)
        if self.units.world > 1:
            reduced = Tensor((share,), "bfloat16", self._new(share * width, "reduce-scatter", "gradients", POST))
        if self.units.widens and width < 4:
            reduced = Tensor((share,), "float32", self._new(share * 4, "reduced gradient", "gradients", POST))
        if self.units.offloads:
            self._offloaded.append((owner, reduced))
        elif owner.grad is None:
            owner.grad = reduced  # else it is added to the one of the micro-batch before
        del flat

    def backward_starts(self) -> None:
        """The outermost backward begins: the root's hook gathers the unit that forward ran last."""
        self.backward = True
        self._layer.clear()
        if self.units.prefetches and not self._kept:
            self._ahead = self._gather(self._last)
            self._first = self.units.first() if self.units.separate else frozenset()

    def runs(self, node: Node) -> None:
        """A node of the graph runs: units follow the layers alone."""

    def stepped(self) -> None:
        """The optimizer has used the gradients, which are the parameters' own."""

    def finish(self) -> None:
        """The whole backward is over."""
        self.backward = False
        self._backwards += 1
        drop_all(self.recorder, self._offloaded)
        self._root = self._ahead = None
        self._layer.clear()
        self._kept.clear()
