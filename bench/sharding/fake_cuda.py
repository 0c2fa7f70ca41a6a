"""What a CPU build of torch needs so that libraries take fake tensors for a GPU's: streams, events, switches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import _flat_param
from torch.utils._python_dispatch import _disable_current_modes

from bench.sharding.kernels import attention

TRACING = ("is_fake_tensor", "is_tracing", "is_torchdynamo_compiling")
"""Questions by which transformers tells tracing from running: it builds other masks then."""
_REGISTERED: list[Any] = []


class Event:
    """A CUDA event that has always happened."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.cuda_event = 0

    def record(self, stream: Any = None) -> Event:
        """Nothing to wait for."""
        return self

    def wait(self, stream: Any = None) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """It has happened."""
        return True

    def elapsed_time(self, _: Any) -> float:
        """Milliseconds."""
        return 0.0


class Stream:
    """A CUDA stream on which everything happens at once."""

    device = torch.device("cuda", 0)
    device_index = 0
    device_type = 1

    def __init__(self, *_: Any, **__: Any) -> None:
        self.stream_id = self.cuda_stream = id(self)

    def wait_stream(self, stream: Any) -> None:
        """Nothing to wait for."""

    def wait_event(self, event: Any) -> None:
        """Nothing to wait for."""

    def record_event(self, event: Any = None) -> Event:
        """An event that has happened."""
        return event or Event()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """All is done."""
        return True

    def is_capturing(self) -> bool:
        """No graph is captured."""
        return False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        return None


DEFAULT = Stream()


@contextlib.contextmanager
def on_stream(_: Any) -> Iterator[None]:
    """torch.cuda.stream."""
    yield


def install() -> None:
    """Patch torch and transformers; once per process, after the libraries are imported."""
    _kernels()
    _cuda()
    _foreach()
    fake_tensor.init_gpu_context = lambda _: None
    fake_tensor.FakeTensorMode.avoid_device_init = property(lambda _: True)
    for module in [m for m in list(sys.modules.values()) if getattr(m, "__name__", "").startswith("transformers")]:
        for name in TRACING:
            if name in vars(module):
                setattr(module, name, lambda *_, **__: False)
    torch.nn.Module._apply = _apply
    _data()
    _meshes()
    _flat_param._data_ptr_allocated = lambda tensor: tensor.untyped_storage().nbytes() > 0


def _data() -> None:
    """Assigning `data` of another device moves a tensor there, of fake tensors too."""
    data = torch.Tensor.data

    def assign(tensor: Any, value: Any) -> None:
        data.__set__(tensor, value)
        if isinstance(value, FakeTensor):
            tensor.fake_device = value.fake_device

    FakeTensor.data = property(data.__get__, assign)
    FakeTensor.data_ptr = _address


def _address(tensor: Any) -> int:
    """An address that tells tensors apart as real ones do: FSDP asks whether a parameter is its own shard."""
    storage = tensor.untyped_storage()
    return int(storage._cdata) + tensor.storage_offset() * tensor.element_size() if storage.nbytes() else 0


def _meshes() -> None:
    """Meshes are made of real tensors, whatever modes are on."""
    for name in ("__init__", "__getitem__", "_create_sub_mesh", "_get_all_submeshes", "_flatten"):
        original = getattr(DeviceMesh, name, None)
        if original is None:
            continue

        def real(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            with _disable_current_modes():
                return _original(*args, **kwargs)

        setattr(DeviceMesh, name, real)


def _kernels() -> None:
    """Kernels that a CPU build has for CPU tensors only: without them autograd takes composite formulas.

    They are never called, fake tensors stop before them.
    """
    library = torch.library.Library("aten", "IMPL")
    for name in ("silu_backward", "mish_backward", "native_channel_shuffle"):
        library.impl(name, lambda *args: torch.empty_like(args[0]), "CUDA")
    _REGISTERED.append(library)
    attention.__name__ = "scaled_dot_product_attention"  # by which context_parallel puts its own in its place
    torch.nn.functional.scaled_dot_product_attention = attention
    torch._C._nn.scaled_dot_product_attention = attention


def _cuda() -> None:
    from torch.amp import autocast_mode

    cuda = torch.cuda
    autocast_mode.torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    answers: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
        "current_device": 0,
        "device_count": 1,
        "get_device_capability": (8, 0),
        "synchronize": None,
        "empty_cache": None,
        "set_device": None,
        "manual_seed": None,
        "manual_seed_all": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "memory_reserved": 0,
        "max_memory_reserved": 0,
        "mem_get_info": (1 << 40, 1 << 40),
        "memory_stats": {},
        "get_device_properties": SimpleNamespace(total_memory=1 << 40, multi_processor_count=108, name="null"),
        "current_stream": DEFAULT,
        "default_stream": DEFAULT,
        "get_rng_state": None,
        "set_rng_state": None,
        "_lazy_init": None,
    }
    for name, answer in answers.items():
        setattr(cuda, name, lambda *_, _answer=answer, **__: _answer)
    for name in ("range_push", "range_pop", "mark"):
        setattr(cuda.nvtx, name, lambda *_, **__: None)
    cuda.Stream, cuda.Event, cuda.stream = Stream, Event, on_stream
    cuda.StreamContext = on_stream
    torch.Stream, torch.Event = Stream, Event
    torch.Tensor.record_stream = lambda *_: None
    torch.accelerator.current_stream = lambda *_: DEFAULT
    torch.accelerator.synchronize = lambda *_: None
    torch.utils.checkpoint.get_device_states = lambda *_: ([], [])
    torch.utils.checkpoint.set_device_states = lambda *_, **__: None


def _foreach() -> None:
    from torch.optim import optimizer
    from torch.utils import _foreach_utils

    clip = torch.nn.utils.clip_grad
    for module in (optimizer, _foreach_utils, clip):
        kinds = getattr(module, "_foreach_supported_types", None)
        if kinds is not None and FakeTensor not in kinds:
            kinds.append(FakeTensor)
    _foreach_utils._get_foreach_kernels_supported_devices = lambda: ["cuda", "cpu"]
    _foreach_utils._has_foreach_support = clip._has_foreach_support = lambda *_, **__: True


def _apply(self: Any, function: Any, recurse: bool = True) -> Any:
    """nn.Module._apply without swap_tensors, which refuses fake tensors that have weak references."""
    if recurse:
        for module in self.children():
            module._apply(function)
    for name, parameter in list(self._parameters.items()):
        if parameter is None:
            continue
        with torch.no_grad():
            moved = function(parameter)
        if moved is not parameter:
            self._parameters[name] = torch.nn.Parameter(moved.detach(), parameter.requires_grad)
    for name, buffer in list(self._buffers.items()):
        if buffer is not None:
            self._buffers[name] = function(buffer)
    return self
