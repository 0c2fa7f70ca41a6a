"""Settings of a DeepSpeed JSON that DeepSpeed refuses together, and offloading that offloads nothing.

Read from deepspeed 0.19: runtime/config.py (_do_error_check), runtime/zero/config.py (offload_ratio_check),
runtime/engine.py (_configure_basic_optimizer, _configure_zero_optimizer), runtime/zero/stage_1_and_2.py (__init__).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from vramlint.facts import Remark, Repair
from vramlint.text import Place
from vramlint.values import Entry, Scalar, Table, Value

_ZERO = "zero_optimization"
_OPEN = object()
"""A value that only run time knows; it equals nothing."""

_ONE_BIT = ("onebitadam", "zerooneadam", "onebitlamb")


class _Settings(Struct, frozen=True):
    """The plain values of a configuration, by dotted keys."""

    table: Table

    def at(self, key: str, default: object = None) -> object:
        """The value, `default` where it is not given, something that equals nothing where it is not plain."""
        value = self.table.get(*key.split("."))
        if value is None:
            return default
        return value.value if isinstance(value, Scalar) else _OPEN

    def stage(self) -> object:
        """The ZeRO stage that the configuration has by itself; a `zero_optimization` that is no table says none."""
        zero = self.table.get(_ZERO)
        return self.at(f"{_ZERO}.stage", 0) if zero is None or isinstance(zero, Table) else _OPEN

    def offloads(self, key: str) -> bool:
        """Whether the block of that name puts something elsewhere than on the GPU."""
        return self.at(f"{_ZERO}.{key}.device") in ("cpu", "nvme")


class _Refusal(Struct, frozen=True):
    """A setting that does not go with others."""

    key: str
    refused: Callable[[object], bool]
    """Which values of the key."""
    beside: Callable[[_Settings], bool]
    """Next to what."""
    why: str


def _on(value: object) -> bool:
    return value is True


def _present(_value: object) -> bool:
    return True


def _partial(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value < 1


def _at_stage(*stages: int) -> Callable[[_Settings], bool]:
    return lambda settings: settings.stage() in stages


def _always(_settings: _Settings) -> bool:
    return True


def _lacks_bf16_masters(settings: _Settings) -> bool:
    return settings.at("bf16.bf16_master_weights_and_grads", False) is False


def _lacks_path(block: str) -> Callable[[_Settings], bool]:
    return lambda settings: settings.stage() == 3 and settings.at(f"{_ZERO}.{block}.nvme_path") is None


_REFUSALS = (
    _Refusal(
        "optimizer.params.max_grad_norm",
        _present,
        _always,
        "is no parameter of DeepSpeed's optimizers and raises an error; the clipping bound is `gradient_clipping`",
    ),
    _Refusal(
        f"{_ZERO}.offload_optimizer.ratio",
        _partial,
        _at_stage(0, 1, 2),
        "below 1 (a part of the states stays on the GPU) is refused below ZeRO stage 3",
    ),
    _Refusal(f"{_ZERO}.legacy_stage1", _on, _always, "is refused: DeepSpeed dropped that ZeRO stage 1 in 0.5.9"),
    _Refusal(f"{_ZERO}.elastic_checkpoint", _on, _at_stage(3), "is refused at ZeRO stage 3"),
    _Refusal(
        "bf16.bf16_optimizer_states",
        _on,
        _lacks_bf16_masters,
        "is refused without `bf16_master_weights_and_grads`, which drops the float32 master weights",
    ),
    _Refusal(
        "bf16.bf16_master_weights_and_grads",
        _on,
        _at_stage(0),
        "is refused without ZeRO: it needs stage 1, 2 or 3",
    ),
    _Refusal(
        "fp16.fp16_master_weights_and_grads",
        _on,
        _at_stage(0),
        "is refused without ZeRO: it needs stage 1, 2 or 3",
    ),
    _Refusal(
        "gradient_allreduce_op", lambda value: value == "sum", _at_stage(3), 'of "sum" is refused at ZeRO stage 3'
    ),
    _Refusal(f"{_ZERO}.compute_grad_norm", lambda value: value is False, _at_stage(3), "cannot be off at ZeRO stage 3"),
    _Refusal(
        f"{_ZERO}.zero_quantized_gradients",
        _on,
        lambda settings: settings.stage() == 3 and settings.at(f"{_ZERO}.reduce_scatter", True) is False,
        "is refused with `reduce_scatter` off",
    ),
    _Refusal(
        "optimizer.type",
        lambda value: str(value).lower() in _ONE_BIT,
        _at_stage(1, 2, 3),
        "names an optimizer that compresses its own communication, which is refused with ZeRO",
    ),
    _Refusal(
        f"{_ZERO}.offload_optimizer.device",
        lambda value: value == "nvme",
        _lacks_path("offload_optimizer"),
        'of "nvme" needs `nvme_path`, the folder to swap to',
    ),
    _Refusal(
        f"{_ZERO}.offload_param.device",
        lambda value: value == "nvme",
        _lacks_path("offload_param"),
        'of "nvme" needs `nvme_path`, the folder to swap to',
    ),
)


def refused_settings(table: Table) -> Iterator[Remark]:
    """A remark for every setting with which `deepspeed.initialize` ends in an error."""
    settings = _Settings(table)
    for refusal in _REFUSALS:
        entry = table.entry(*refusal.key.split("."))
        place = _place(entry)
        if entry is None or place is None or not isinstance(entry.value, Scalar):
            continue
        if refusal.refused(entry.value.value) and refusal.beside(settings):
            yield Remark("refused-setting", refusal.key, f"{refusal.key} {refusal.why}", place, vocabulary="deepspeed")


def idle_offloads(table: Table) -> Iterator[Remark]:
    """A remark for every offload block by which nothing leaves the GPU, or leaves it for another place than written.

    `{"device": "none"}` says that nothing is meant to; keys that only stage 3 reads are remarked on with the others of
    their kind.
    """
    settings = _Settings(table)
    zero = table.get(_ZERO)
    stage = settings.stage()
    if not isinstance(zero, Table) or stage not in (0, 1, 2, 3):
        return
    for name, readers in (("offload_optimizer", (0, 1, 2, 3)), ("offload_param", (3,))):
        entry = zero.entry(name)
        place = _place(entry)
        if entry is None or place is None or stage not in readers:
            continue
        message = _idle(name, entry.value, settings, stage)
        if message:
            repair = _to_host(name, entry.value, stage)
            yield Remark("idle-offload", f"{_ZERO}.{name}", message, place, vocabulary="deepspeed", repair=repair)


def _to_host(name: str, block: Value, stage: object) -> Repair | None:
    """The block with the device that it goes to, or is meant to go to."""
    if stage == 0 or not isinstance(block, Table):
        return None
    unsaid = block.get("device") is None
    cost = "what is offloaded takes host memory, and the step time" if unsaid else ""
    return Repair(safe=not unsaid, put=((f"{_ZERO}.{name}.device", "cpu"),), cost=cost)


def _idle(name: str, block: Value, settings: _Settings, stage: object) -> str:
    if isinstance(block, Table) and block.get("device") is None:
        return f"{name} has no `device`, whose default is `none`: nothing is offloaded"
    if not settings.offloads(name):
        return ""
    if stage == 0:
        return f"{name} has no effect at ZeRO stage 0: nothing is offloaded"
    if settings.at(f"{_ZERO}.{name}.device") == "nvme" and stage in (1, 2):
        return f"{name} goes to host memory at ZeRO stage {stage}, not to NVMe: only stage 3 swaps to a disk"
    return ""


def _place(entry: Entry | None) -> Place | None:
    if entry is None:
        return None
    return entry.key_place or getattr(entry.value, "place", None)
