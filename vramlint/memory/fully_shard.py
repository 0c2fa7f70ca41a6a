"""FSDP 2 as torch runs it: groups of parameters that are gathered, computed with and reduced one by one.

Follows torch 2.13 torch/distributed/fsdp/_fully_shard/{_fsdp_param_group,_fsdp_collectives,_fsdp_state}.py in the order
in which the process allocates:

- a gather makes one flat buffer and copies out of it into the parameters; in forward the buffer lives until the next
  group has arrived, so the group that runs has its parameters and that buffer (wait_for_unshard, all_gather_state);
- in backward the buffer goes with the copy, and the buffer of the group before is filled in advance;
- gradients of a group are copied into one buffer, which lives until the next group's are; what is reduced from it is
  this rank's share, cast to the dtype of the stored parameters; the gradient of the group's last parameter lives until
  that is done, bound to the variable of a loop (foreach_reduce);
- a group whose inputs need no gradient (embedding, root) is reduced when the whole backward is over;
- without synchronisation gradients stay whole, in the dtype of the reduction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from vramlint.memory.fully_sharded import drop_all
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.tensor import Gradients, LayerId, Node, Parameter, Storage, Tensor

Key = LayerId | tuple[int, int, str] | str
EMBEDDING, TAIL, ROOT = "embedding", "tail", "root"
"""Groups outside the layers: the token embedding; final norm and head; what no other group has."""
EXPERTS = "experts"
"""Ends the key of a layer's experts, where fewer ranks share them than the layer."""


class Group(Struct, frozen=True):
    """What `fully_shard` was called with once. Sizes are bytes; those of a layer are one layer's."""

    gathered: int
    """All its parameters as they are computed with, rows padded to the ranks."""
    cast: int
    """What is made of this rank's share to be gathered: in the dtype of computation, or on the device."""
    trained: int
    """How many of its parameters train."""
    reduced: int
    """Their gradients in the dtype of the reduction."""
    width: int
    """Bytes of an element that is reduced."""
    grown: int = 1
    """How many times wider the stored parameters are than what is reduced; 1 where no cast follows."""
    ranks: int = 1
    """Those that share it."""
    inner: bool = False
    """By another dimension than the first, which takes a copy on either way (chunks put together)."""


class Groups(Struct, frozen=True):
    """How a model is divided, and by how much."""

    by_key: Mapping[Key, Group]
    of: Mapping[str, Key]
    """Group of every parameter by its name and layer number."""
    last: Mapping[Key, str]
    """The parameter whose gradient a group's reduction holds to its end."""
    world: int
    keeps: bool
    """Layers stay gathered from forward to backward."""
    ends: bool
    """Final norm and head are a group of their own, gathered behind the layers."""
    synchronises_every: int
    """Backwards between two reductions."""
    offloads: bool = False
    replicated: bool = False
    """Ranks that replicate the shards reduce once more, out of a buffer that is kept until the backward is over."""
    times: Mapping[Key, int] = field(default_factory=dict)
    """How many layers a traced one stands for."""
    twins: bool = False
    """The embedding's gradient is added to the head's, whose weight it shares."""
    staged: bool = False
    """They are those of a pipeline's stages."""
    prefetches: bool = False
    """Layers say themselves what is gathered in advance (set_modules_to_forward_prefetch)."""
    retains_inputs: bool = False
    """The inputs of frozen layers outlive the layer's backward: never, as of `Units`."""


def name_of(parameter: Parameter) -> str:
    """The name by which `Groups.of` knows a parameter."""
    return f"{parameter.layer}.{parameter.name}"


class FullyShard:
    """The groups of one process while it runs."""

    def __init__(self, units: Groups, recorder: Recorder) -> None:
        self.units = units
        self.recorder = recorder
        self.backward = False
        self._parameters: dict[Key, Storage] = {}
        self._buffer: Storage | None = None
        """What the group that runs was gathered into, in forward."""
        self._ahead: Storage | None = None
        """What the next group of backward is gathered into."""
        self._running: Key | None = None
        self._last: Sequence[LayerId | None] = ()
        """The layers that forward ran last."""
        self._reduction: Storage | None = None
        """The input of the reduction before."""
        self._arrived: dict[Key, list[tuple[Parameter, Tensor]]] = {}
        self._unreduced: dict[Key, dict[str, Storage]] = {}
        self._replicas: list[Storage] = []
        self._backwards = 0

    # ------------------------------------------------------------------ parameters

    def leaves(self) -> None:
        """The unit that ran is over: it goes when the next one is gathered."""

    def enter(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        """Gather the group that runs now, one of `layers`, and in backward the one `before` it."""
        if self.backward:
            self._enter_backward(layers, before)
            return
        self._leave()
        if None not in layers:
            self._last = layers
            self._forward(self._largest(layers))
        elif not self._last:
            for key in (ROOT, TAIL if self._tied else EMBEDDING):
                self._forward(key)
        elif self.units.ends:
            self._forward(TAIL)

    @property
    def _tied(self) -> bool:
        """The head shares the embedding's weight, so they are in one group."""
        return EMBEDDING not in self.units.by_key

    def _leave(self) -> None:
        """Free the parameters of the group that ran, if it is one that is sharded again."""
        if self._running is not None and self._running not in {ROOT, TAIL} and not self._stays(self._running):
            self._parameters.pop(self._running, None)
        self._running = None

    def _stays(self, key: Key) -> bool:
        return self.units.keeps or key in {ROOT, TAIL}

    def _forward(self, key: Key | None) -> None:
        if key is None or key not in self.units.by_key or key in self._parameters:
            return
        buffer = self._gather(key)
        self._parameters[key] = self._new(self.units.by_key[key].gathered, "all-gather copy")
        self._buffer, self._running = buffer, key

    def _enter_backward(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        if self._running is not None and not self.units.by_key[self._running].trained:
            self._parameters.pop(self._running, None)  # a frozen group goes with the gradient of its input
        outside = None in layers
        key = EMBEDDING if outside else self._largest(layers)
        if key is None or key not in self.units.by_key:
            return
        if key not in self._parameters:
            self._ahead = self._ahead or self._gather(key)
            self._parameters[key] = self._new(self.units.by_key[key].gathered, "all-gather copy")
        self._ahead = None
        self._running = key
        if not outside:
            self._prefetch(EMBEDDING if None in before else self._largest(before))

    def _prefetch(self, key: Key | None) -> None:
        if key is None or key not in self.units.by_key or (key in self._parameters and key != self._running):
            return
        if self._stays(key):
            return
        self._ahead = self._gather(key)

    def enter_experts(self, *, backward: bool = False) -> None:
        """Gather the running layer's experts, where they are a group of their own."""

    def leave_experts(self, *, backward: bool = False) -> None:
        """Its experts have run; backward, their inputs have their gradients."""

    def _experts_of(self, layers: Sequence[LayerId | None]) -> Key | None:
        keys = ((*layer, EXPERTS) for layer in layers if layer is not None)
        return next((key for key in keys if key in self.units.by_key), None)

    def returns(self) -> None:
        """The model's forward is over, and what it gathered last is let go (_fsdp_state.py, _post_forward)."""
        self._buffer = None

    def backward_starts(self) -> None:
        """The outermost backward begins: the root's outputs are the first to have a gradient."""
        self._leave()
        self._buffer = None
        self.backward = True
        if not self.units.ends:
            self._prefetch(self._largest(self._last))

    def runs(self, node: Node) -> None:
        """A node of the graph runs: the first one with a parameter of the last group brings that group's hook."""
        if self._running is None and self._ahead is None and self.units.ends and self.backward:
            weights = [edge[0] for edge in node.edges if edge is not None and isinstance(edge[0], Parameter)]
            if any(self.units.of.get(name_of(weight)) == TAIL for weight in weights):
                self._prefetch(self._largest(self._last))

    def _largest(self, layers: Sequence[LayerId | None]) -> Key | None:
        known = [layer for layer in layers if layer is not None and layer in self.units.by_key]
        return max(known, key=lambda layer: self.units.by_key[layer].gathered, default=None)

    def _gather(self, key: Key) -> Storage:
        group = self.units.by_key[key]
        share = self._new(group.cast, "share to gather", stream="all-gather copy-in") if group.cast else None
        buffer = self._new(group.gathered, "all-gather", stream="all-gather copy-in")
        del share
        return buffer

    def _new(self, nbytes: int, operator: str, component: str = "gathered parameters", stream: str = "") -> Storage:
        storage = Storage(self.recorder, nbytes, Label(operator, component, "uint8", (nbytes,)))
        if stream:
            self.recorder.streams[storage.index] = stream
        return storage

    # ------------------------------------------------------------------ gradients

    def take(self, parameter: Parameter, gradients: Gradients) -> bool:
        """A parameter's gradient, handed over in `gradients`, is complete and taken; the last of a group's reduces."""
        key = self.units.of[name_of(parameter)]
        arrived = self._arrived.setdefault(key, [])
        gradient = gradients.pop()
        if gradient is not None and gradient.storage is not None:
            self.recorder.labels[gradient.storage.index].component = "gradients"
            arrived.append((parameter, gradient))
        del gradient
        waits = key in {ROOT, EMBEDDING} or (key == TAIL and self._tied) or key[-1] == EXPERTS
        if not waits and len(arrived) == self.units.by_key[key].trained:
            self._reduce(key)
        return True

    def _reduce(self, key: Key) -> None:
        arrived = self._arrived.pop(key, [])
        self._divide(arrived)
        self._parameters.pop(key, None)
        if not arrived:
            return
        owner = arrived[0][0]
        if (self._backwards + 1) % self.units.synchronises_every:
            self._unreduced[key] = self._unreduced.pop(key, {}) or self._kept(arrived, self.units.by_key[key])
            self._drop(key, arrived)
            return
        kept = self._unreduced.pop(key, {})
        if kept:
            self._drop(key, arrived)
        self._scatter(key, owner, arrived, kept)

    def _scatter(
        self, key: Key, owner: Parameter, arrived: list[tuple[Parameter, Tensor]], kept: dict[str, Storage]
    ) -> None:
        """Reduce a group's gradients, those that came last and those that waited; `owner` has them from here on."""
        group = self.units.by_key[key]
        chunks = self._new(group.gathered // group.trained, "chunks", "gradients") if group.inner else None
        self._reduction = None
        self._reduction = self._new(group.reduced, "reduce-scatter input", "communication buffers")
        last = [kept.pop(self.units.last[key], None)]
        last += [gradient.storage for parameter, gradient in arrived if self._ends(key, parameter)]
        if group.ranks == 1:
            last.clear()  # no loop over the gradients, whose variable would hold it
        self._drop(key, arrived)
        kept.clear()
        del chunks
        share = group.reduced // group.ranks
        out = self._new(share, "reduce-scatter", "gradients", "reduce-scatter")
        if group.ranks == 1:  # the quotient by the factor, which torchtitan sets
            self._new(group.reduced, "div", "temporaries")
        if self.units.replicated and group.grown > 1:
            self._replicas.append(out)
        if group.grown > 1:
            out = self._new(share * group.grown, "reduced gradient", "gradients", "reduce-scatter")
        if owner.grad is None and not self.units.offloads and not (key == EMBEDDING and self.units.twins):
            owner.grad = Tensor(
                (share // group.width,), "float32" if group.width * group.grown == 4 else "bfloat16", out
            )
        del last

    def _divide(self, arrived: list[tuple[Parameter, Tensor]]) -> None:
        """Take this rank's part of gradients that DTensor made whole (_fsdp_param.py, _get_grad_inner_tensor)."""
        for number, (parameter, gradient) in enumerate(arrived):
            if parameter.whole_gradient:
                storage = self._new(gradient.nbytes, "part of a gradient", "gradients")
                arrived[number] = (parameter, Tensor(gradient.shape, gradient.dtype, storage))

    def _ends(self, key: Key, parameter: Parameter) -> bool:
        return key != ROOT and name_of(parameter) == self.units.last[key]

    def _kept(self, arrived: list[tuple[Parameter, Tensor]], group: Group) -> dict[str, Storage]:
        """Gradients that wait for a reduction, as they came or cast to its dtype."""
        kept: dict[str, Storage] = {}
        for number, (parameter, gradient) in enumerate(arrived):
            storage = gradient.storage
            if storage is not None and gradient.nbytes < gradient.numel * group.width:
                storage = self._new(gradient.numel * group.width, "gradient to reduce", "gradients")
                arrived[number] = (parameter, Tensor(gradient.shape, gradient.dtype, None))
            if storage is not None:
                kept[name_of(parameter)] = storage
        return kept

    def _drop(self, key: Key, arrived: list[tuple[Parameter, Tensor]]) -> None:
        """Free gradients, those of the root as often as they came, wherever the run is now."""
        if key == ROOT:
            drop_all(self.recorder, arrived)
        arrived.clear()

    def stepped(self) -> None:
        """The optimizer has used the gradients, which are the parameters' own."""

    def finish(self) -> None:
        """The whole backward is over."""
        for key in (ROOT, EMBEDDING, TAIL):
            self._reduce(key)
        self.backward = False
        self._backwards += 1
        self._ahead = self._buffer = self._reduction = self._running = None
        self._last = ()
        self._parameters.clear()
        self._arrived.clear()
        self._replicas.clear()
