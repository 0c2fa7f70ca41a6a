"""Training of diffusion models: which network of a pipeline trains, and at how many pixels.

diffusers 0.42: examples/text_to_image, examples/dreambooth; models/unets, models/transformers. The pipeline's other
networks (text encoders, VAE) are frozen in these programs unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.adapters import Adapter, adapter_facts, attached, tuning_fact
from vramlint.surfaces.checkpointing import checkpointing_facts
from vramlint.surfaces.convert import CONVERTERS, Outcome, dtype
from vramlint.surfaces.draft import Arguments, Draft, Drawn, derived, draw, is_absent, stated, unknown
from vramlint.surfaces.freezing import freezes
from vramlint.surfaces.keys import keys_saying
from vramlint.surfaces.lineage import last, package
from vramlint.surfaces.loading import cast_of
from vramlint.surfaces.loops import parallel_facts
from vramlint.values import Call, Keyword, Value

OBJECTIVE = "diffusion"
_DENOISER = lazy(r"(?:^UNet\w*|Transformer[23]DModel|^Transformer2DModel|Transformer)$")
"""Classes of diffusers that predict noise; the others (AutoencoderKL, ControlNetModel, schedulers) don't."""
_PROCESSOR = lazy(r"^(?:LoRA\w*AttnProcessor\w*|LoRALinearLayer|inject_trainable_lora\w*)$")
_SIZES = keys_saying("image_size", "diffusers")


def denoiser(calls: Sequence[Call]) -> Call | None:
    """The call that loads or makes the network of a diffusion pipeline that is trained."""
    return next(_denoisers(calls), None)


def _denoisers(calls: Sequence[Call]) -> Iterator[Call]:
    return (call for call in calls if package(call.callee) == "diffusers" and _is_denoiser(call))


def _is_denoiser(call: Call) -> bool:
    name = last(call.callee)
    if name in ("from_pretrained", "from_config"):
        name = call.callee.split(".")[-2]
    return _DENOISER.search(name) is not None


def read_denoiser(draft: Draft, made: Call, calls: Sequence[Call], settings: Mapping[str, Value]) -> None:
    """Put which pipeline it is, what of it trains and how large its images are into the draft.

    Args:
        draft: holds what the loop says.
        made: the call that loads the network.
        calls: all calls of the program.
        settings: the program's settings.
    """
    draft.put(stated("objective", OBJECTIVE, made.place, made.callee.split(".")[-2]))
    draft.put(_model(made))
    draft.take(_dtype(made, calls))
    for name in _SIZES:
        if name in settings and not is_absent(settings[name]):
            draft.put(draw("image_size", settings[name], CONVERTERS["count"], name))
            break
    adapters = [adapter for adapter in attached(calls) if adapter.method != "full"][:1]
    if not adapters and (adapters := _processors(calls)):
        draft.put(derived("adapter_cast", True, "processors make their layers in float32", adapters[0].place))
    draft.put(tuning_fact(adapters, None))
    draft.take(adapter_facts(adapters))
    if adapters:
        draft.put(_adapter_cast(adapters, calls))
    frozen = [_frozen(each, calls) for each in _denoisers(calls)]
    if not adapters and all(frozen) and frozen[0] is not None:  # else a student trains beside its teacher
        draft.put(stated("frozen_parameters", ("^",), frozen[0].place, "requires_grad"))
    checkpointing_facts(draft, calls, ())
    draft.take(parallel_facts(calls))
    for name in ("activation_checkpointing", "torch_compile"):
        draft.put(derived(name, False, "nothing enables it"))


def _processors(calls: Sequence[Call]) -> list[Adapter]:
    """LoRA before diffusers used PEFT: in processors of attention, whose layers alone are trained.

    diffusers 0.11 to 0.25, models/attention_processor.py, models/lora.py; and cloneofsimo/lora's own.
    """
    made = next((call for call in calls if _PROCESSOR.match(last(call.callee))), None)
    if made is None:
        return []
    rank = made.argument("rank")
    keywords = (Keyword("r", rank, made.place),) if rank is not None else ()
    return [Adapter("lora", Arguments(keywords, made.place), made.place)]


def _model(made: Call) -> Drawn:
    if last(made.callee) != "from_pretrained":
        return unknown("model", f"{last(made.callee)} makes fresh weights of a size of its own", "model", made.place)
    name = made.argument("pretrained_model_name_or_path", 0)
    if name is None:
        return unknown("model", "no name is given to from_pretrained", "model", made.place)
    return draw("model", name, CONVERTERS["text"], "pretrained_model_name_or_path", made.place)


def _adapter_cast(adapters: Sequence[Adapter], calls: Sequence[Call]) -> Fact:
    """Adapters are injected in the dtype of their base, and widened by diffusers' own function where it is called.

    peft 0.21 mapping.py, inject_adapter_in_model, beneath `add_adapter`; diffusers 0.40 training_utils.py.
    """
    cast = next((call for call in calls if last(call.callee) == "cast_training_params" and not call.conditions), None)
    if cast is not None:
        return stated("adapter_cast", True, cast.place, "cast_training_params")
    return derived("adapter_cast", False, "add_adapter leaves adapters in the dtype of their base", adapters[0].place)


def _frozen(made: Call, calls: Sequence[Call]) -> Call | None:
    """The call that freezes the whole network, as where a ControlNet or an embedding trains; None where parts train."""
    found: Call | None = None
    for call in calls:
        if last(call.callee) != "requires_grad_" or not _is_of(call, made):
            continue
        if not freezes(call) or call.conditions or call.path:
            return None
        found = call
    return found


def _is_of(call: Call, made: Call) -> bool:
    """Whether a call is of the network or of something in it."""
    holders = (call.receiver, call.owner)
    return any(isinstance(holder, Call) and holder.place == made.place for holder in holders)


def _dtype(made: Call, calls: Sequence[Call]) -> Iterable[Drawn]:
    """What it is cast to, or loaded in: float32 unless told otherwise (models/modeling_utils.py)."""
    for call in calls:
        if isinstance(call.receiver, Call) and call.receiver.place == made.place:
            yield cast_of(call)
    for key in ("torch_dtype", "dtype"):
        value = made.argument(key)
        if value is not None and not isinstance(dtype(value), Outcome):
            yield draw("load_dtype", value, CONVERTERS["dtype"], key, made.place)
    yield Fact("load_dtype", (Candidate("float32"),), Origin.DEFAULT, "torch_dtype", "library", "diffusers")
