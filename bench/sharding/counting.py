"""A dispatch mode that follows every storage from its birth to its death, on the device and on the host.

A storage counts from the operator that makes it until Python's last reference to it is gone, which is what
torch.cuda.memory_allocated counts, whatever streams still use it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.utils._python_dispatch import TorchDispatchMode

from bench.gpu.meter import Counters
from bench.sharding.kernels import TEMPORARIES

BLOCK = 512
"""Bytes to which the caching allocator rounds."""
IN_PLACE_WITHOUT_MODE = frozenset(
    {
        "aten.index_put.default",
        "aten._unsafe_index_put.default",
        "aten.scatter_add.default",
        "aten.scatter.src",
        "aten.scatter.value",
        "aten.index_add.default",
    }
)
"""Functional variants that autograd takes instead of the in-place ones only because the tensors are of a subclass."""


class Pool:
    """Bytes of one kind of memory."""

    __slots__ = ("highest", "peak", "peak_requested", "requested", "rounded")

    def __init__(self) -> None:
        self.rounded = self.requested = self.peak = self.peak_requested = self.highest = 0

    def add(self, size: int) -> None:
        """Take `size` bytes, or give them back if it is negative."""
        self.requested += size
        self.rounded += (size + BLOCK - 1) // BLOCK * BLOCK if size >= 0 else -((BLOCK - 1 - size) // BLOCK * BLOCK)
        self.peak = max(self.peak, self.rounded)
        self.peak_requested = max(self.peak_requested, self.requested)
        self.highest = max(self.highest, self.requested)


class Storages(TorchDispatchMode):
    """Counts storages; `device` is "cuda" for fake tensors, "cpu" for real ones in a process without a GPU."""

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self.device = device
        self.pools: dict[str, Pool] = {"device": Pool(), "pageable": Pool(), "pinned": Pool()}
        self.live: dict[int, tuple[weakref.ref[Any], str, int]] = {}
        self.pinned: set[int] = set()
        self.flags: Callable[[str], bool] = lambda source: not source.startswith(("aten.any", "aten.isinf"))
        """Answer to a question that depends on values, by the operator that made the boolean."""
        self.rows_of: Callable[[Any], int] = lambda tensor: tensor.numel()
        """Rows that `nonzero` of a tensor finds."""
        self.scalars: Callable[[Any], float] = lambda tensor: 0.0 if tensor.dtype == torch.uint8 else 1.0
        self.at_peak: list[tuple[int, str, tuple[int, ...], str]] | None = None
        self.sources: dict[int, tuple[str, tuple[int, ...]]] = {}
        self.watch, self.top = False, 0
        """Whether what is alive at the highest of all points is wanted, and that point."""
        self.blind = 0
        self._unique: tuple[int, int] | None = None
        self._calibrating = False

    # ------------------------------------------------------------------ the gauge of bench.gpu.meter

    def now(self) -> Counters:
        """What is held on the device."""
        pool = self.pools["device"]
        return Counters(pool.rounded, pool.requested)

    def restart(self) -> None:
        """Peaks become what is held now."""
        for pool in self.pools.values():
            pool.peak, pool.peak_requested = pool.rounded, pool.requested

    def peaks(self) -> Counters:
        """The highest since the last restart."""
        pool = self.pools["device"]
        return Counters(pool.peak, pool.peak_requested)

    # ------------------------------------------------------------------ storages

    def count(self, tensor: Any, heir: int | None = None, source: str = "") -> None:
        """Count the storage of `tensor`, if it is new; with `heir` it takes the place of that one."""
        if isinstance(tensor, DTensor):
            tensor = tensor._local_tensor
        kind = "device" if tensor.device.type == self.device else "pageable"
        if tensor.device.type not in {self.device, "cpu"}:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self.live.get(key)
        if known is not None and known[0]() is not None:
            self.resized(key, storage)
            return
        if kind == "pageable" and key in self.pinned:
            kind = "pinned"
        size = storage.nbytes()
        if heir is not None and heir in self.live:
            reference, of, inherited = self.live[heir]
            self.live[heir] = (reference, of, 0)
            kind, size = of, inherited
        else:
            self._take(kind, size, source, tuple(tensor.shape))
        self.live[key] = (weakref.ref(storage, lambda reference: self._dead(key, reference)), kind, size)
        self.sources[key] = (source, tuple(tensor.shape))

    def _take(self, kind: str, size: int, source: str, shape: tuple[int, ...]) -> None:
        pool = self.pools[kind]
        pool.add(size)
        if self.watch and kind == "device" and pool.rounded > self.top:
            self.top = pool.rounded
            self.at_peak = [
                (n, *self.sources.get(k, ("?", ())), "") for k, (_, of, n) in self.live.items() if of == kind
            ]
            self.at_peak.append((size, source, shape, "new"))

    def _dead(self, key: int, reference: Any) -> None:
        known = self.live.get(key)
        if known is not None and known[0] is reference:
            del self.live[key]
            self.pinned.discard(key)
            self.pools[known[1]].add(-known[2])

    def resized(self, key: int, storage: Any) -> None:
        """Take note of what `resize_` made of a known storage."""
        reference, kind, size = self.live[key]
        now = storage.nbytes()
        if now != size and size:
            self.pools[kind].add(-size)
        if now != size:
            if now:
                self._take(kind, now, "resize_", self.sources.get(key, ("", ()))[1])
            self.live[key] = (reference, kind, now)

    def follow_resizes(self) -> None:
        """See resizes of storages that pass by the dispatcher, by which FSDP frees and gathers flat parameters."""
        resize = torch.UntypedStorage.resize_

        def seen(storage: Any, size: int) -> Any:
            out = resize(storage, size)
            if storage._cdata in self.live:
                self.resized(storage._cdata, storage)
            return out

        torch.UntypedStorage.resize_ = seen

    def overlook_propagation(self) -> None:
        """Do not count what DTensor's propagation of shapes makes: fake tensors of full size."""
        propagate = ShardingPropagator._propagate_tensor_meta_non_cached

        def unseen(propagator: Any, schema: Any) -> Any:
            self.blind += 1
            try:
                return propagate(propagator, schema)
            finally:
                self.blind -= 1

        ShardingPropagator._propagate_tensor_meta_non_cached = unseen

    def pin(self, tensor: Any) -> Any:
        """The tensor, as pinned host memory."""
        key = tensor.untyped_storage()._cdata
        self.pinned.add(key)
        known = self.live.get(key)
        if known is not None and known[1] == "pageable":
            reference, kind, size = known
            self.pools[kind].add(-size)
            self.pools["pinned"].add(size)
            self.live[key] = (reference, "pinned", size)
        return tensor

    # ------------------------------------------------------------------ operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it makes."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # its own dispatch comes first, and ends in operators on local tensors
        kwargs = kwargs or {}
        if self.blind:
            return func(*args, **kwargs)
        if func is torch.ops.prim.device.default:
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        name = str(func)
        answer = self._answer(name, args)
        if answer is not None:
            return answer
        if func is torch.ops._c10d_functional.wait_tensor.default and self.device != "cpu":
            return args[0]  # the kernel gives back what it waits for, torch's function for fake tensors a new one
        if func.namespace == "c10d" and self.device != "cpu":
            return _collective(func, args)
        pinned = kwargs.pop("pin_memory", None) if self.device != "cpu" else None
        heir = self._heir(name, args)
        out = func(*args, **kwargs)
        found = list(_tensors(out))
        for tensor in found:
            if pinned:
                self.pinned.add(tensor.untyped_storage()._cdata)
            self.count(tensor, heir, name)
            if tensor.dtype == torch.bool and tensor.dim() == 0:
                tensor._made_by = name
        if name.startswith(("inductor.resize_storage", "aten.set_")) or ".resize_" in name:
            for tensor in _tensors(args):
                if tensor.untyped_storage()._cdata in self.live:
                    self.resized(tensor.untyped_storage()._cdata, tensor.untyped_storage())
        temporary = TEMPORARIES.get(name) if self.device == "cuda" else None
        if temporary is not None:
            sizes = temporary(args)
            for size in sizes:
                self._take("device", size, f"{name} inside", ())
            for size in sizes:
                self.pools["device"].add(-size)
        return out

    def _answer(self, name: str, args: Any) -> Any:
        """The answer of operators that need values, which fake tensors have not."""
        if self.device == "cpu":
            return None
        if name == "aten._local_scalar_dense.default":
            if args[0].dtype == torch.bool:
                return self.flags(getattr(args[0], "_made_by", ""))
            return self.scalars(args[0])
        if name == "aten.nonzero.default":
            tensor = args[0]
            out = torch.empty((self.rows_of(tensor), tensor.dim()), dtype=torch.int64, device=tensor.device)
            self.count(out, None, name)
            return out
        if name == "aten.is_pinned.default":
            return args[0].untyped_storage()._cdata in self.pinned
        if name in {"aten._pin_memory.default", "aten.pin_memory.default"}:
            out = torch.empty_like(args[0])
            self.pinned.add(out.untyped_storage()._cdata)
            self.count(out, None, name)
            return out
        if name == "aten.record_stream.default":
            return ()
        return None

    def _heir(self, name: str, args: Any) -> int | None:
        """The storage that autograd would reuse for the sum, were the tensors no subclass."""
        if name != "aten.add.Tensor" and name not in IN_PLACE_WITHOUT_MODE:
            return None
        if torch.is_grad_enabled() or _called_by_python():
            return None
        first = args[0]
        if name != "aten.add.Tensor":
            return int(first.untyped_storage()._cdata)
        second = args[1]
        if not isinstance(second, torch.Tensor) or first.shape != second.shape or first.dtype != second.dtype:
            return None
        if not first.dim():
            return None
        counts = first._use_count(), torch._C._storage_Use_Count(first.untyped_storage()._cdata)
        if self._calibrating:
            self._unique = self._unique or counts
        return int(first.untyped_storage()._cdata) if counts == self._unique and _dense(first) else None

    def calibrate(self) -> None:
        """Learn how a gradient looks that nobody but the autograd engine holds."""
        layer = torch.nn.Linear(8, 8, device=self.device)
        given = torch.empty(4, 8, device=self.device, requires_grad=True)
        self._calibrating = True
        with self:
            hidden = given * 2.0
            (layer(hidden) + hidden).sum().backward()
        self._calibrating = False


def _collective(func: Any, args: Any) -> Any:
    """What a collective returns: its outputs, unchanged, and work that is done."""
    returns = len(func._schema.returns)
    if not returns:
        return None
    if func is torch.ops.c10d.allreduce_.default:  # DDP's reducer takes the sum from the future
        future: Any = torch.futures.Future()
        future.set_result(list(args[0]))
        return args[0], torch._C._distributed_c10d._create_work_from_future(future).boxed()
    work = torch._C._distributed_c10d.FakeWork().boxed()
    return work if returns == 1 else (args[0], work)


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _dense(tensor: Any) -> bool:
    """Whether elements lie without gaps, in whatever order of dimensions."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _called_by_python() -> bool:
    """Whether the operator was called by Python code and not by the autograd engine."""
    frame: Any = sys._getframe(3)
    while frame is not None and frame.f_code.co_name in {"_fn", "inner", "wrapper", "__torch_dispatch__"}:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name != "_engine_run_backward"


def route_evenly(config: Any, storages: Storages) -> None:
    """Routing is taken to be even over the experts, of which the loop asks for one number after the other.

    A mask of experts has a place more, for tokens that go to none (transformers 5.23, …Experts.forward).
    """
    chosen = getattr(config, "num_experts_per_tok", None)
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    if not chosen or not experts:
        return
    turn = iter(range(1 << 60))

    def rows(tensor: Any) -> int:
        count = int(tensor.numel())
        if tensor.dim() == 2 and tensor.shape[0] == chosen:
            return -(-count // int(experts))
        return min(count, int(experts)) if tensor.shape == (experts + 1,) else count

    storages.rows_of = rows
    storages.scalars = lambda t: next(turn) % experts if t.dtype == torch.int64 else float(t.dtype != torch.uint8)
