"""Strategies of PyTorch Lightning and Fabric: by their registered name, or as an object.

lightning 2.5: pytorch/strategies, fabric/strategies, and the names that each registers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Draft, Drawn, draw, options, stated, unknown
from vramlint.surfaces.lineage import last
from vramlint.surfaces.sharded import bucket_view, sharded_facts
from vramlint.surfaces.trainers import deepspeed_of
from vramlint.text import Place
from vramlint.values import Call, Entry, Plain, Scalar, Table, Unknown, Value

_NAMES: tuple[tuple[str, str], ...] = (
    (r"ddp(?!_sharded|_fully)", "ddp"),
    (r"dp$", "dataparallel"),
    (r"fsdp|ddp_fully_sharded", "fsdp"),
    (r"deepspeed", "deepspeed"),
    (r"single_device$", "none"),
)
"""How a strategy's registered name begins, and how its GPUs share the work."""

_BY_HAND = "ModelParallelStrategy"
_MESHES = (("data_parallel_size", "data_parallel_shard"), ("tensor_parallel_size", "tensor_parallel"))
"""Its arguments in their order, and the facts that they say."""

_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "DDPStrategy": "ddp",
        "DDPSpawnStrategy": "ddp",
        "DataParallelStrategy": "dataparallel",
        "FSDPStrategy": "fsdp",
        "DDPFullyShardedNativeStrategy": "fsdp",
        _BY_HAND: "fsdp",
        "DeepSpeedStrategy": "deepspeed",
        "SingleDeviceStrategy": "none",
    }
)

_OFFLOADED = ("fsdp_cpu_offload", "fsdp_native_full_shard_offload")
"""Names of FSDPStrategy(cpu_offload=True)."""

_BUCKETS: Mapping[str, int] = MappingProxyType(
    {"allgather_bucket_size": 200_000_000, "reduce_bucket_size": 200_000_000, "sub_group_size": 1_000_000_000_000}
)
"""What DeepSpeedStrategy puts into the configuration that it makes, elements."""
_STAGE = 2
_NAME = lazy(r"deepspeed(?:_stage_(\d))?(_offload)?(_nvme)?$")


class _Zero(Struct, frozen=True):
    """The parameters of DeepSpeedStrategy that decide memory."""

    stage: Value
    offload_optimizer: Value
    offload_parameters: Value
    optimizer_device: Value
    parameters_device: Value
    sizes: Mapping[str, Value]
    place: Place | None


def strategy_facts(draft: Draft, value: Value | None, dtype: str) -> None:
    """Put how the GPUs share the work into the draft; nothing for `auto`, which depends on their number.

    Args:
        draft: takes the facts, and the DeepSpeed configuration that the strategy makes.
        value: the argument `strategy`, None where none is given.
        dtype: the 16-bit dtype of the trainer's `precision`, empty without one: a DeepSpeed engine casts to it.
    """
    if value is None:
        return
    known = options(value)
    if len(known) != 1 or isinstance(value, Unknown):
        reason = value.reason if isinstance(value, Unknown) else "the strategy is decided at run time"
        draft.put(unknown("parallelism", reason, "strategy", value.place))
        return
    match value:
        case Scalar(value=str(name)):
            _named(draft, name, value, dtype)
        case Call():
            _object(draft, value, dtype)


def _named(draft: Draft, name: str, value: Scalar, dtype: str) -> None:
    found = next((way for pattern, way in _NAMES if re.match(pattern, name)), None)
    if found is None:
        return
    draft.put(stated("parallelism", found, value.place, "strategy", value.via))
    if found == "fsdp":
        sharding = "full_shard offload" if name in _OFFLOADED else "full_shard"
        draft.put(stated("fsdp", sharding, value.place, "strategy", value.via))
    match = _NAME.match(name)
    if match:
        offload, device = bool(match[2]), "nvme" if match[3] else "cpu"
        stage = int(match[1] or _STAGE)
        zero = _Zero(
            Scalar(stage, value.place),
            Scalar(offload, value.place),
            Scalar(offload and stage == 3, value.place),
            Scalar(device, value.place),
            Scalar(device, value.place),
            {},
            value.place,
        )
        draft.tables.append(("deepspeed", _configuration(zero, dtype)))


def _object(draft: Draft, call: Call, dtype: str) -> None:
    way = _CLASSES.get(last(call.callee))
    if way is None:
        return
    draft.put(stated("parallelism", way, call.place, last(call.callee)))
    if way == "ddp":
        draft.put(bucket_view(call))
    if way == "fsdp":
        draft.take(sharded_facts(call))
    if last(call.callee) == _BY_HAND:
        draft.take(_meshed(call))
    if way == "deepspeed":
        config = call.argument("config")
        if config is not None:
            deepspeed_of(draft, config, "config", call.place)
        else:
            draft.tables.append(("deepspeed", _configuration(_zero(call), dtype)))


def _meshed(call: Call) -> Iterable[Drawn]:
    """What ModelParallelStrategy divides: without sizes, the matrices among all GPUs of a machine.

    lightning 2.5 pytorch/strategies/model_parallel.py, setup_environment. How, `configure_model` of the module says.
    """
    yield stated("fsdp_version", 2, call.place, _BY_HAND)
    for position, (argument, fact) in enumerate(_MESHES):
        value = call.argument(argument, position)
        if value is not None and not (isinstance(value, Scalar) and value.value == "auto"):
            yield draw(fact, value, CONVERTERS["count"], argument, call.place)
    shares = call.argument("tensor_parallel_size", 1)
    if not (isinstance(shares, Scalar) and shares.value == 1):
        place = (shares.place if shares is not None else None) or call.place
        yield stated("divided_by", "lightning", place, "tensor_parallel_size")


def _zero(call: Call) -> _Zero:
    partitions = call.argument("zero_optimization", 1)

    def given(name: str, otherwise: Plain) -> Value:
        return call.argument(name) or Scalar(otherwise, call.place, "library")

    off = isinstance(partitions, Scalar) and partitions.value is False
    return _Zero(
        Scalar(0, partitions.place or call.place) if partitions is not None and off else given("stage", _STAGE),
        given("offload_optimizer", False),
        given("offload_parameters", False),
        given("offload_optimizer_device", "cpu"),
        given("offload_params_device", "cpu"),
        {name: value for name in _BUCKETS if (value := call.argument(name)) is not None},
        call.place,
    )


def _configuration(zero: _Zero, dtype: str) -> Table:
    """The DeepSpeed configuration that the strategy makes of its parameters (_create_default_config)."""
    place = zero.place
    section = [Entry("stage", None, zero.stage)]
    section += _offload("offload_optimizer", zero.offload_optimizer, zero.optimizer_device, place)
    section += _offload("offload_param", zero.offload_parameters, zero.parameters_device, place)
    section += [
        Entry(name, None, zero.sizes.get(name, Scalar(size, place, "library"))) for name, size in _BUCKETS.items()
    ]
    whole = [Entry("zero_optimization", None, Table(tuple(section), place))]
    switch = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype)
    if switch:
        whole.append(Entry(switch, None, Table((Entry("enabled", None, Scalar(True, place)),), place)))
    return Table(tuple(whole), place)


def _offload(key: str, flag: Value, device: Value, place: Place | None) -> Iterable[Entry]:
    if isinstance(flag, Scalar) and flag.value is True:
        yield Entry(key, None, Table((Entry("device", None, device),), flag.place or place))
    elif not isinstance(flag, Scalar):
        yield Entry(key, None, Table((Entry("device", None, Unknown("decided at run time", place)),), place))
