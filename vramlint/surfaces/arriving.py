"""Weights that move to the GPU as they were loaded, and that the program casts or shards there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from vramlint.facts import Fact
from vramlint.surfaces.convert import CONVERTERS, Outcome, device_map, dtype
from vramlint.surfaces.draft import Arguments, Drawn, draw, stated
from vramlint.surfaces.lineage import Lineage, last
from vramlint.surfaces.loading import cast_of
from vramlint.values import Call, Unknown, Value

_DTYPES = ("dtype", "torch_dtype")
"""Keywords of `from_pretrained` for the dtype in which the weights are loaded."""
_SHARDERS = ("FullyShardedDataParallel", "fully_shard")
_CPU = ("cpu", "meta")
_OWN_DEVICE = "attribute device of "
"""Why nobody knows the value of `accelerator.device` or `args.device`: it is the process's device all the same."""


def arrival_facts(way: Lineage, calls: Sequence[Call]) -> Iterable[Drawn]:
    """What happens to a model after it moved to the GPU.

    `cast_on_device` where it is cast, with the dtype that it had before, if that is said; `sharded_on_device` where
    FSDP shards it. `Module.to` and its like replace one parameter after the other, so that the whole model is there in
    the dtype in which it was loaded (torch 2.13 nn/modules/module.py, _apply); FSDP shards one unit after the other.

    Args:
        way: how the model was made.
        calls: of the program, in the order in which it makes them.
    """
    root = way.root
    if not isinstance(root, Call):
        return
    there, done = _is_on_device(root.argument("device_map")), False
    before: Fact | None = None
    for call in _done_to(root, calls):
        if any(test not in root.conditions for test in call.conditions):
            return  # whether it is done, only run time knows
        if _shards(call):
            if there:
                yield stated("sharded_on_device", True, call.place, last(call.callee))
            return
        cast = cast_of(call)
        if cast is not None and there and not done:
            yield stated("cast_on_device", True, call.place, cast.key)
            yield _as_loaded(root) if before is None else replace(before, name="arrival_dtype")
            done = True
        before = cast or before
        there = there or _moves(call)


def _done_to(root: Call, calls: Sequence[Call]) -> Iterator[Call]:
    """The methods of the model itself that are called, one on what the other returns too, and what shards it."""
    own = {root.place}
    for call in calls:
        given = call.args[0] if call.args and _shards(call) else call.receiver
        if isinstance(given, Call) and given.place in own:
            own.add(call.place)
            yield call


def _shards(call: Call) -> bool:
    return call.callee.startswith("torch.") and last(call.callee) in _SHARDERS


def _as_loaded(root: Call) -> Drawn:
    arguments = Arguments.of(root)
    keyword = next(filter(None, map(arguments.find, _DTYPES)), None)
    if keyword is None:
        return None
    return draw("arrival_dtype", keyword.value, CONVERTERS["dtype"], keyword.name, keyword.name_place)


def _moves(call: Call) -> bool:
    if call.callee == ".cuda":
        return True
    if call.callee != ".to":
        return False
    device = call.argument("device", 0)
    return device is not None and isinstance(dtype(device), Outcome) and _is_on_device(device)


def _is_on_device(device: Value | None) -> bool:
    """Whether all of a model goes to a GPU that a device, or a device map, names."""
    if device is None:
        return False
    if isinstance(device, Unknown):
        return device.reason.startswith(_OWN_DEVICE)
    if isinstance(device, Call) and device.callee == "torch.device":
        return _is_on_device(device.argument("device", 0))
    word = device_map(device)
    return isinstance(word, str) and not word.startswith(_CPU)
