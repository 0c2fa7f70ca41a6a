"""Hand-written training loops: `.backward()`, Accelerate, autocast, DataLoader, clipping, DeepSpeed's engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from vramlint.facts import Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.accelerators import accelerator_facts, accelerators, splits_batches
from vramlint.surfaces.convert import CONVERTERS, dtype
from vramlint.surfaces.draft import Draft, Drawn, by_setting, conditional, derived, draw, stated, unknown
from vramlint.surfaces.lightning import device_facts, fabric_of
from vramlint.surfaces.lineage import last, leads_to_model
from vramlint.surfaces.litgpt import connected
from vramlint.surfaces.optimizers import is_optimizer, made_by_hand
from vramlint.surfaces.sharded import bucket_view, flags_of, second_version, sharded_facts
from vramlint.surfaces.trainers import deepspeed_of
from vramlint.values import Call, Scalar, Unknown, Value

_CLIPS = ("clip_grad_norm_", "clip_grad_norm", "clip_gradients")
_PARALLEL = {
    "DistributedDataParallel": "ddp",
    "DataParallel": "dataparallel",
    "FullyShardedDataParallel": "fsdp",
    "fully_shard": "fsdp",
}
"""Wrappers of torch.nn.parallel and torch.distributed.fsdp to the strategy that they make."""
_SECOND = "fully_shard"
_EVERY = "operator.mod"
"""The call as which the reader records `(step + 1) % args.accumulate`."""
_EACH_STEP = lazy(r"%|sync_gradients|is_accumulating|accumul")
"""Tests under which the optimizer steps, and not every batch."""
_STARTERS = (
    ("multiprocessing.spawn", "nprocs"),
    ("accelerate.notebook_launcher", "num_processes"),
    ("launchers.notebook_launcher", "num_processes"),
)
"""Functions that start the processes of a script, and the parameter that counts them; it is their third."""


def is_loop(calls: Sequence[Call], *, has_settings: bool) -> bool:
    """Whether the program trains by hand: a backward pass, and an optimizer of its own or settings to run with.

    A library's trainer also has a backward pass, but gets its optimizer and settings from elsewhere.
    """
    if not any(last(call.callee) == "backward" for call in calls):
        return False
    if _engines(calls) or any(map(is_optimizer, calls)):
        return True
    driven = has_settings or bool(accelerators(calls)) or fabric_of(calls) is not None
    return driven and any(call.callee == ".step" for call in calls)


def loop_facts(calls: Sequence[Call], named: Mapping[str, Value]) -> Draft:
    """Facts of a hand-written loop.

    Args:
        calls: the program's calls.
        named: all settings and constants of the program; one about accumulation keeps the number of steps open.
    """
    draft = Draft()
    accelerator = next(iter(accelerators(calls)), None)
    fabric = fabric_of(calls)
    autocast = [call for call in calls if last(call.callee) in {"autocast", "custom_autocast"}]
    draft.put(_loop_kind(calls, accelerator, fabric, autocast))
    if accelerator is not None:
        accelerator_facts(draft, accelerator)
    if fabric is not None:
        draft.join(device_facts(fabric))
    draft.take(parallel_facts(calls))
    if accelerator is None:
        draft.take(_precision(autocast))
    draft.take(loader_facts(calls, named, split=accelerator is not None and splits_batches(accelerator)))
    draft.take((*made_by_hand(calls), _clipping(calls)))
    _engine(draft, calls, named)
    draft.put(_accumulation(calls, named))
    return draft


def _loop_kind(calls: Sequence[Call], accelerator: Call | None, fabric: Call | None, autocast: Sequence[Call]) -> Fact:
    backward = next(call for call in calls if last(call.callee) == "backward")
    kind = "accelerate" if accelerator else "fabric" if fabric else "plain" if autocast else "script"
    return stated("loop", kind, backward.place, "backward")


def _precision(autocast: Sequence[Call]) -> Iterable[Drawn]:
    """`bf16` and `fp16` from autocast contexts, or neither when there are none."""
    contexts = [call for call in autocast if not _is_false(call.argument("enabled"))]
    if not contexts:
        for name in ("bf16", "fp16"):
            yield derived(name, False, "the loop has no autocast")
        return
    call = contexts[0]
    enabled = call.argument("enabled")
    if isinstance(enabled, Unknown):
        word: Drawn = unknown("bf16", enabled.reason, "enabled", enabled.place or call.place)
    else:
        value = call.argument("dtype", 1 if last(call.callee, 2) != "amp.autocast" else None)
        word = stated("bf16", "float16", call.place, "autocast")
        word = draw("bf16", value, dtype, "dtype", call.place) if value is not None else word
    if isinstance(word, Fact):
        every = all(item.conditions for item in contexts)
        for flag in flags_of(word, {"bf16": "bfloat16", "fp16": "float16"}):
            yield conditional(flag, call.conditions if every else ())


def _is_false(value: Value | None) -> bool:
    return isinstance(value, Scalar) and value.value is False


def _accumulation(calls: Sequence[Call], named: Mapping[str, Value]) -> Drawn:
    """How many backwards an optimizer's step has: by the test that it stands under, else one."""
    name = "gradient_accumulation_steps"
    steps = [(at, call) for at, call in enumerate(calls) if call.callee == ".step" and not _is_schedule(call.receiver)]
    test = re.compile("%") if accelerators(calls) else _EACH_STEP  # an Accelerator counts by itself
    for at, call in steps:
        tests = [condition for condition in call.conditions if test.search(condition)]
        if not tests:
            continue
        before = [item for item in calls[:at] if item.callee == _EVERY]
        asks = all("(" in condition and "%" not in condition for condition in tests)  # an engine at_boundary()
        if asks or not before:
            return unknown(name, "the loop steps after several batches", "step", call.place)
        return draw(name, before[-1].args[1], CONVERTERS["count"], "%", before[-1].place)
    if any("accum" in word.lower() for word in named) or _engines(calls):
        return None
    place = next((call.place for _, call in steps), None)
    every = derived(name, 1, "the loop steps after every backward", place)
    if accelerators(calls):
        return replace(every, origin=Origin.ASSUMED, reason=f"{every.reason}, unless accelerate's configuration waits")
    return every


def _is_schedule(receiver: Value | None) -> bool:
    """Whether it is a schedule of the learning rate that steps."""
    if not isinstance(receiver, Call):
        return False
    name = last(receiver.callee)
    return "lr_scheduler" in receiver.callee or "schedule" in name.lower() or name.endswith("LR")


def loader_facts(calls: Sequence[Call], named: Mapping[str, Value], *, split: bool = False) -> Iterable[Drawn]:
    """The batch size of the loader that shuffles, or of the first; another loader's is the evaluation's.

    Args:
        calls: the program's calls.
        named: its settings.
        split: the processes share every batch.
    """
    yield from connected(calls)
    if any(call.argument("training_data", 3) is not None for call in _engines(calls)):
        return  # the engine makes the loader, of the size that its configuration says
    loaders = list({call.place: call for call in calls if _loads(call)}.values())
    if not loaders:
        return
    training = next((call for call in loaders if _is_true(call.argument("shuffle", 2))), None)
    training = training or next((call for call in loaders if call.argument("sampler") is not None), loaders[0])
    if split:
        yield unknown(
            "micro_batch_size", "the processes share every batch (split_batches)", "batch_size", training.place
        )
    yield _batch("micro_batch_size", training, named)
    for call in loaders:
        if call is not training:
            yield _batch("eval_micro_batch_size", call, named)
            return


def _loads(call: Call) -> bool:
    """A loader of torch or torchdata, or one that ColossalAI makes with its keywords (colossalai.utils 0.1 to 0.3)."""
    return last(call.callee) in ("DataLoader", "StatefulDataLoader") or call.callee in _MADE_LOADERS


_MADE_LOADERS = ("colossalai.utils.get_dataloader", "colossalai.legacy.utils.get_dataloader")
"""Their arguments by position are a sampler's: `batch_size` goes on to the DataLoader by its keyword."""


def _batch(name: str, loader: Call, named: Mapping[str, Value]) -> Drawn:
    value = loader.argument("batch_size", None if loader.callee in _MADE_LOADERS else 1)
    sampler = loader.argument("batch_sampler")
    if value is None and isinstance(sampler, Call):
        value = sampler.argument("batch_size", 1 if last(sampler.callee) == "BatchSampler" else None)
    if value is None:
        if loader.open_keywords or loader.argument("batch_sampler") is not None:
            return unknown(name, "the loader's batch size cannot be seen", "batch_size", loader.place)
        return stated(name, 1, loader.place, "batch_size")
    return draw(name, by_setting(value, named), CONVERTERS["count"], "batch_size", loader.place)


def _is_true(value: Value | None) -> bool:
    return isinstance(value, Scalar) and value.value is True


def _clipping(calls: Sequence[Call]) -> Drawn:
    """The bound of the gradients' norm; a condition that the backward stands under too is no other case."""
    stepping = {item for call in calls if last(call.callee) == "backward" for item in call.conditions}
    for call in calls:
        if last(call.callee) in _CLIPS:
            position = 1 if last(call.callee) != "clip_gradients" else None
            value = call.argument("max_norm", position)
            if value is not None:
                drawn = draw("max_grad_norm", value, CONVERTERS["number"], "max_norm", call.place)
                held = tuple([item for item in call.conditions if not (item in stepping or _EACH_STEP.search(item))])
                return conditional(drawn, held) if isinstance(drawn, Fact) else drawn
    return derived("max_grad_norm", 0, "the loop doesn't clip gradients")


def _engines(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls that make a DeepSpeed engine, whose steps count batches by themselves."""
    return tuple(call for call in calls if last(call.callee, 2) == "deepspeed.initialize")


def _engine(draft: Draft, calls: Sequence[Call], named: Mapping[str, Value]) -> None:
    """`deepspeed.initialize`: its configuration is an argument, or the setting that its parser adds."""
    for call in _engines(calls):
        draft.put(stated("parallelism", "deepspeed", call.place, "deepspeed.initialize"))
        config = call.argument("config") or call.argument("config_params")
        setting = named.get("deepspeed_config")
        if config is not None:
            deepspeed_of(draft, config, "config", call.place)
        elif setting is not None and not (isinstance(setting, Scalar) and setting.value is None):
            deepspeed_of(draft, setting, "deepspeed_config", call.place)
        else:
            draft.put(unknown("deepspeed_config", "command line: --deepspeed_config", "deepspeed_config", call.place))


def parallel_facts(calls: Sequence[Call]) -> Iterable[Drawn]:
    """The strategy of a wrapper that the program puts around the model itself, and how FSDP shards it."""
    for call in calls:
        strategy = _PARALLEL.get(last(call.callee))
        if strategy and call.callee.startswith("torch."):
            facts = (stated("parallelism", strategy, call.place, last(call.callee)), bucket_view(call))
            found = sharded_facts(call) if strategy == "fsdp" else ()
            if last(call.callee) == _SECOND:
                found = second_version(call, found, [other for other in calls if other.callee == call.callee])
            for drawn in (*facts, *found):
                yield conditional(drawn, call.conditions) if isinstance(drawn, Fact) else drawn
            return


def launched_by_script(calls: Sequence[Call]) -> Drawn:
    """The number of processes of a script that starts them, or sets `os.environ["WORLD_SIZE"]`, outside of branches."""
    for call in calls:
        if call.conditions:
            continue
        if call.callee == "os.environ.__setitem__" and call.args[0] == Scalar("WORLD_SIZE", call.args[0].place):
            value = call.args[1]
            if isinstance(value, Scalar) and str(value.value).isdecimal():
                return stated("world_size", int(str(value.value)), value.place or call.place, "WORLD_SIZE")
        for name, parameter in _STARTERS:
            count = call.argument(parameter, 2) if last(call.callee, 2) == name else None
            if isinstance(count, Scalar) and isinstance(count.value, int) and count.value > 0:
                return stated("world_size", count.value, count.place or call.place, parameter)
    return None


def _wrapped(call: Call) -> Value | None:
    """What goes through a call that only puts something around it."""
    return call.args[0] if call.args and last(call.callee) in {"get_peft_model", "prepare", "compile"} else None


def maker(calls: Sequence[Call]) -> Call | None:
    """The call that makes what the optimizer gets the parameters of, where it is of a library that is not followed."""
    for call in filter(is_optimizer, calls):
        for given in (*call.args, *(keyword.value for keyword in call.keywords)):
            made = given
            while isinstance(made, Call) and (inner := made.receiver or _wrapped(made)) is not None:
                made = inner
            if isinstance(made, Call) and "." in made.callee.lstrip("."):
                return made
    return None


def trained_model(calls: Sequence[Call]) -> Value | None:
    """The model whose parameters the optimizer gets, or which Accelerate or DeepSpeed prepares."""
    for call in calls:
        if is_optimizer(call) or last(call.callee) in {"prepare", "initialize"}:
            for value in (*call.args, *(keyword.value for keyword in call.keywords)):
                if leads_to_model(value):
                    return value
    return None
