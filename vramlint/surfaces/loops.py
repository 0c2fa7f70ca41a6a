"""Hand-written training loops: `.backward()`, Accelerate, autocast, DataLoader, clipping, DeepSpeed's engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS, dtype
from vramlint.surfaces.draft import Arguments, Draft, Drawn, conditional, derived, distinct, draw, stated, unknown
from vramlint.surfaces.lineage import last, leads_to_model
from vramlint.surfaces.optimizers import is_optimizer, made_by_hand
from vramlint.surfaces.trainers import deepspeed_of
from vramlint.values import Call, Scalar, Value

_ACCELERATOR = "Accelerator"
_CLIPS = ("clip_grad_norm_", "clip_grad_norm")
_PARALLEL = {
    "DistributedDataParallel": "ddp",
    "DataParallel": "dataparallel",
    "FullyShardedDataParallel": "fsdp",
    "fully_shard": "fsdp",
}
"""Wrappers of torch.nn.parallel and torch.distributed.fsdp to the strategy that they make."""


def is_loop(calls: Sequence[Call], *, has_settings: bool) -> bool:
    """Whether the program trains by hand: a backward pass, and an optimizer of its own or settings to run with.

    A library's trainer also has a backward pass, but gets its optimizer and settings from elsewhere.
    """
    if not any(last(call.callee) == "backward" for call in calls):
        return False
    if any(is_optimizer(call) or last(call.callee, 2) == "deepspeed.initialize" for call in calls):
        return True
    return has_settings and any(call.callee == ".step" for call in calls)


def accelerators(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The `Accelerator(…)` objects of the program."""
    made = (call for call in calls if last(call.callee) == _ACCELERATOR and call.callee.startswith("accelerate"))
    return tuple({call.place: call for call in made}.values())


def loop_facts(calls: Sequence[Call], names: Iterable[str]) -> Draft:
    """Facts of a hand-written loop.

    Args:
        calls: the program's calls.
        names: all settings and constants of the program; one about accumulation keeps the number of steps open.
    """
    draft = Draft()
    accelerator = next(iter(accelerators(calls)), None)
    autocast = [call for call in calls if last(call.callee) in {"autocast", "custom_autocast"}]
    draft.put(_loop_kind(calls, accelerator, autocast))
    if accelerator is not None:
        _accelerate(draft, accelerator)
    _precision(draft, accelerator, autocast)
    for drawn in (*_batches(calls), *made_by_hand(calls), _clipping(calls)):
        draft.put(drawn)
    _engine(draft, calls)
    if "gradient_accumulation_steps" not in draft.facts and not any("accum" in name.lower() for name in names):
        step = next((call for call in calls if call.callee == ".step"), None)
        place = step.place if step else None
        draft.put(derived("gradient_accumulation_steps", 1, "the loop steps after every backward", place))
    return draft


def _loop_kind(calls: Sequence[Call], accelerator: Call | None, autocast: Sequence[Call]) -> Fact:
    backward = next(call for call in calls if last(call.callee) == "backward")
    kind = "accelerate" if accelerator else "plain" if autocast else "script"
    return stated("loop", kind, backward.place, "backward")


def _accelerate(draft: Draft, accelerator: Call) -> None:
    arguments = Arguments.of(accelerator)
    steps = arguments.find("gradient_accumulation_steps")
    if steps is not None:
        draft.put(draw(steps.name, steps.value, CONVERTERS["count"], steps.name, steps.name_place))
    plugin = arguments.value("deepspeed_plugin")
    if isinstance(plugin, Call):
        _deepspeed_plugin(draft, plugin)
    if arguments.value("fsdp_plugin") is not None:
        draft.put(stated("parallelism", "fsdp", accelerator.place, "fsdp_plugin"))


def _deepspeed_plugin(draft: Draft, plugin: Call) -> None:
    draft.put(stated("parallelism", "deepspeed", plugin.place, "deepspeed_plugin"))
    arguments = Arguments.of(plugin)
    config = arguments.value("hf_ds_config")
    if config is not None:
        deepspeed_of(draft, config, "hf_ds_config", plugin.place)
    for key, fact, convert in (
        ("zero_stage", "zero_stage", "count"),
        ("offload_optimizer_device", "offload_optimizer", "device"),
        ("offload_param_device", "offload_parameters", "device"),
        ("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    ):
        keyword = arguments.find(key)
        if keyword is not None:
            draft.put(draw(fact, keyword.value, CONVERTERS[convert], key, keyword.name_place))


def _precision(draft: Draft, accelerator: Call | None, autocast: Sequence[Call]) -> None:
    """`bf16` and `fp16` from `mixed_precision=`, from autocast contexts, or neither when there are none.

    An Accelerator without `mixed_precision` takes it from its launcher, so nothing is said then.
    """
    given = accelerator.argument("mixed_precision") if accelerator is not None else None
    if given is not None:
        word = draw("bf16", given, CONVERTERS["text"], "mixed_precision")
        if isinstance(word, Fact):
            _two_flags(draft, word, {"bf16": "bf16", "fp16": "fp16"})
        return
    contexts = [call for call in autocast if call.argument("enabled") != Scalar(False)]
    if contexts:
        call = contexts[0]
        value = call.argument("dtype", 1 if last(call.callee, 2) != "amp.autocast" else None)
        word = (
            draw("bf16", value, dtype, "dtype", call.place)
            if value is not None
            else stated("bf16", "float16", call.place, "autocast")
        )
        if isinstance(word, Fact):
            _two_flags(draft, word, {"bf16": "bfloat16", "fp16": "float16"})
    elif accelerator is None:
        for name in ("bf16", "fp16"):
            draft.put(derived(name, False, "the loop has no autocast"))


def _two_flags(draft: Draft, word: Fact, meaning: dict[str, str]) -> None:
    for name, on in meaning.items():
        if word.origin is Origin.UNKNOWN:
            draft.put(unknown(name, word.reason, word.key))
            continue
        candidates = distinct(Candidate(item.value == on, item.place, item.condition) for item in word.candidates)
        draft.put(Fact(name, candidates, Origin.WRITTEN, word.key, word.via))


def _batches(calls: Sequence[Call]) -> Iterable[Drawn]:
    """The batch size of the loader that shuffles, or of the first; another loader's is the evaluation's."""
    loaders = list({call.place: call for call in calls if last(call.callee) == "DataLoader"}.values())
    if not loaders:
        return
    training = next((call for call in loaders if _is_true(call.argument("shuffle", 2))), None)
    training = training or next((call for call in loaders if call.argument("sampler") is not None), loaders[0])
    yield _batch("micro_batch_size", training)
    for call in loaders:
        if call is not training:
            yield _batch("eval_micro_batch_size", call)
            return


def _batch(name: str, loader: Call) -> Drawn:
    value = loader.argument("batch_size", 1)
    if value is None:
        if loader.open_keywords or loader.argument("batch_sampler") is not None:
            return unknown(name, "the loader's batch size cannot be seen", "batch_size", loader.place)
        return stated(name, 1, loader.place, "batch_size")
    return draw(name, value, CONVERTERS["count"], "batch_size", loader.place)


def _is_true(value: Value | None) -> bool:
    return isinstance(value, Scalar) and value.value is True


def _clipping(calls: Sequence[Call]) -> Drawn:
    for call in calls:
        if last(call.callee) in _CLIPS:
            value = call.argument("max_norm", 1)
            if value is not None:
                drawn = draw("max_grad_norm", value, CONVERTERS["number"], "max_norm", call.place)
                return conditional(drawn, call.conditions) if isinstance(drawn, Fact) else drawn
    return derived("max_grad_norm", 0, "the loop doesn't clip gradients")


def _engine(draft: Draft, calls: Sequence[Call]) -> None:
    for call in calls:
        if last(call.callee, 2) != "deepspeed.initialize":
            continue
        draft.put(stated("parallelism", "deepspeed", call.place, "deepspeed.initialize"))
        config = call.argument("config") or call.argument("config_params")
        if config is not None:
            deepspeed_of(draft, config, "config", call.place)


def parallel_facts(calls: Sequence[Call]) -> Iterable[Drawn]:
    """The strategy of a wrapper that the program puts around the model itself."""
    for call in calls:
        strategy = _PARALLEL.get(last(call.callee))
        if strategy and call.callee.startswith("torch."):
            yield conditional(stated("parallelism", strategy, call.place, last(call.callee)), call.conditions)
            return


def launched_by_script(calls: Sequence[Call]) -> Drawn:
    """The number of processes of a script that sets `os.environ["WORLD_SIZE"]` by itself, outside of any branch."""
    for call in calls:
        if call.callee == "os.environ.__setitem__" and call.args[0] == Scalar("WORLD_SIZE", call.args[0].place):
            value = call.args[1]
            if isinstance(value, Scalar) and str(value.value).isdecimal() and not call.conditions:
                return stated("world_size", int(str(value.value)), value.place or call.place, "WORLD_SIZE")
    return None


def trained_model(calls: Sequence[Call]) -> Value | None:
    """The model whose parameters the optimizer gets, or which Accelerate or DeepSpeed prepares."""
    for call in calls:
        if is_optimizer(call) or last(call.callee) in {"prepare", "initialize"}:
            for value in (*call.args, *(keyword.value for keyword in call.keywords)):
                if leads_to_model(value):
                    return value
    return None
