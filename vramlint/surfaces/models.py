"""The model of a run: which it is, how it is loaded and what of it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from vramlint.facts import Fact
from vramlint.surfaces.adapters import Adapter, adapter_facts, adapters_of, attached, tuning_fact
from vramlint.surfaces.arriving import arrival_facts
from vramlint.surfaces.casts import eight_bit_floats, part_casts
from vramlint.surfaces.checkpointing import checkpointing_facts, switch_facts
from vramlint.surfaces.draft import Arguments, Draft, Drawn, conditional, derived, stated, unknown
from vramlint.surfaces.freezing import freezes, frozen_parameters
from vramlint.surfaces.inactive import inactive_adapter
from vramlint.surfaces.lineage import Lineage, calls_until, model_class
from vramlint.surfaces.litgpt import is_litgpt, litgpt_network, lora_keywords
from vramlint.surfaces.loading import (
    cast_of,
    inline_config,
    loading_facts,
    mapping_facts,
    model_fact,
    objective_of,
)
from vramlint.surfaces.loops import maker, parallel_facts
from vramlint.surfaces.overrides import config_overrides, open_override, resized
from vramlint.surfaces.saving import saving_facts
from vramlint.surfaces.unsloth import attaching_facts, mixed_precision, trains_in_full
from vramlint.text import Place
from vramlint.values import Call, Scalar, Table, Unknown, Value

FROZEN_BY_HAND = "parameters are frozen by hand"
"""Why it is not known what is trained; a frozen part keeps less for backward than any estimate here says."""


def read_model(
    draft: Draft,
    calls: Sequence[Call],
    ways: Sequence[Lineage],
    *,
    adapters: Sequence[Adapter] = (),
    table: Table | None = None,
    settings: Mapping[str, Value],
    until: Place | None = None,
) -> None:
    """Put all facts of the model into the draft.

    Args:
        draft: holds what the trainer's arguments say.
        calls: all calls of the program.
        ways: how the trained model may have been made.
        adapters: what the trainer itself attaches (`peft_config`).
        table: `model_init_kwargs`, or the trainer's own keywords of loading.
        settings: the program's settings, for adapter settings that have no effect.
        until: where training starts; what is assigned to the model's attributes below is for afterwards.
    """
    ways = [_before(way, until) for way in ways] if until else ways
    read = [_loaded(way, calls_until(calls, until)) for way in ways]
    if table is not None:
        for part in read:
            part.take(mapping_facts(table))
    if read:
        roots = {way.root.place for way in ways}
        draft.join(Draft.merged(read, [way.condition if len(roots) > 1 else "" for way in ways]))
    else:
        made = maker(calls)
        reason = (
            f"made by {made.kind or made.callee}(…)"
            if made is not None
            else "no call loads a model that can be followed"
        )
        draft.put(unknown("model", reason, place=made.place if made is not None else None))
    chain = tuple(wrapper for way in ways for wrapper in way.wrappers)
    wrapped = tuple(adapter for way in ways for adapter in adapters_of(way))
    given = next((adapter for adapter in adapters if adapter.method not in {"", "full"}), None)
    if given is not None and not wrapped:
        draft.put(stated("adapter_by_trainer", True, given.place, "peft_config"))
    whole = bool(ways) and all(trains_in_full(way.root) for way in ways)
    found = wrapped or tuple(adapters) or (() if whole else attached(calls))
    _tuning(draft, calls, ways, found, settings)
    checkpointing_facts(draft, calls, chain)
    for way in ways:
        draft.take(attaching_facts(way.root, way.wrappers))
    draft.take(mixed_precision(draft, [way.root for way in ways]))
    draft.take(switch_facts(calls))
    draft.take(parallel_facts(calls))
    draft.take(saving_facts(calls))
    draft.take(resized(calls))
    draft.take(part_casts(calls))
    draft.take(eight_bit_floats(calls, settings))


def _before(way: Lineage, until: Place) -> Lineage:
    """The way without attributes that are assigned after training (`model.config.use_cache = True`)."""
    return way._replace(root=_assigned_before(way.root, until)) if isinstance(way.root, Call) else way


def _assigned_before(call: Call, until: Place) -> Call:
    kept = tuple(item for item in call.bindings if item.name_place is None or item.name_place < until)
    keywords = tuple(
        replace(item, value=_assigned_before(item.value, until)) if isinstance(item.value, Call) else item
        for item in call.keywords
    )
    return replace(call, bindings=kept, keywords=keywords)


def loads(calls: Sequence[Call], training: Call | None = None) -> tuple[Lineage, ...]:
    """The models that the program loads, for when no value leads from one to the training.

    Several that surely load different models leave it open which is trained. What is loaded after the call that
    trains is not it.
    """
    end = next((index for index, call in enumerate(calls) if call is training), len(calls))
    return _loads(calls[:end]) or _loads(calls)


def _loads(calls: Sequence[Call]) -> tuple[Lineage, ...]:
    made = {call.place: call for call in calls if model_class(call)}
    ways = tuple(Lineage(call, (), " and ".join(call.conditions)) for call in made.values())
    facts = [model_fact(way) for way in ways]
    ids = {tuple(item.value for item in fact.candidates) for fact in facts if fact is not None}
    sure = [way for way in ways if not way.condition]
    if len(ids) > 1 and len(sure) > 1:
        return (Lineage(Unknown("several models are loaded")),)
    return ways


def common_objective(ways: Sequence[Lineage]) -> str:
    """What the models' classes say is optimised, empty when they don't agree."""
    words = {objective_of(way) for way in ways} - {""}
    return words.pop() if len(words) == 1 else ""


def followed(ways: Sequence[Lineage]) -> bool:
    """Whether some way leads to a call or a name that says which model it is."""
    return any(isinstance(way.root, (Call, Scalar)) for way in ways)


def _loaded(way: Lineage, calls: Sequence[Call]) -> Draft:
    draft = Draft()
    draft.put(model_fact(way))
    draft.take(_casts_in_place(way, calls))
    draft.take(arrival_facts(way, calls))
    draft.take(loading_facts(way))
    if isinstance(way.root, Call) and is_litgpt(way.root):
        _own_class(draft, way.root, calls)
        return draft
    config = inline_config(way)
    if config is not None:
        draft.tables.append(("model-config", config))
    changed = config_overrides(way)
    if changed is not None:
        still_open = open_override(changed)
        draft.tables.append(("config-overrides", changed))
        if still_open is not None:
            draft.replace(still_open)
    return draft


def _own_class(draft: Draft, made: Call, calls: Sequence[Call]) -> None:
    """What litgpt makes of a model by its name, which is no model of transformers."""
    network = litgpt_network(made, calls)
    if network is not None:
        draft.tables.append(("model-config", network))
    if lora_keywords(made):
        draft.put(derived("adapter_library", "litgpt", "litgpt's own layers", made.place))


def _casts_in_place(way: Lineage, calls: Sequence[Call]) -> Iterable[Drawn]:
    """`model.half()` as a statement, on the model itself and not on a part of it."""
    if not isinstance(way.root, Call):
        return
    own = {way.root.place, *(wrapper.place for wrapper in way.wrappers)}
    found: list[Fact] = []
    for call in calls:
        if isinstance(call.receiver, Call) and call.receiver.place in own and call.place not in own:
            cast = cast_of(call)
            if cast is not None:
                # in the branch that makes the model, the branch is no condition
                found.append(conditional(cast, tuple([t for t in call.conditions if t not in way.root.conditions])))
    sure = all(not item.condition for fact in found for item in fact.candidates)
    yield from found[-1:] if sure else found


def _tuning(
    draft: Draft,
    calls: Sequence[Call],
    ways: Sequence[Lineage],
    adapters: Sequence[Adapter],
    settings: Mapping[str, Value],
) -> None:
    bits = draft.facts.get("quantization_bits")
    frozen = frozen_parameters(calls, ways) if any(freezes(call) for call in calls) else ()
    if adapters:
        bare = [way for way in ways if not adapters_of(way)]
        mixed = [*adapters]
        if bare and len(bare) < len(ways):
            mixed += [Adapter("full", condition=way.condition) for way in bare]
        draft.put(tuning_fact(mixed, bits))
        draft.take(adapter_facts(adapters))
    elif not followed(ways):
        reasons = (way.root.reason for way in ways if isinstance(way.root, Unknown))
        draft.put(unknown("tuning", next(reasons, "the model cannot be followed")))
    elif frozen is None:
        draft.put(unknown("tuning", FROZEN_BY_HAND))
    else:
        if frozen:
            place = next(call.place for call in calls if freezes(call))
            draft.put(stated("frozen_parameters", frozen, place, "requires_grad"))
        draft.put(tuning_fact((), bits))
    if draft.facts["tuning"].value == "full":
        inactive_adapter(draft, settings)


def loading_keywords(trainer: Call) -> Table | None:
    """`quantization_config=` given to the trainer itself, which loads the model by name."""
    arguments = Arguments.of(trainer)
    keyword = arguments.find("quantization_config")
    if keyword is None:
        return None
    return Table(tuple(entry for entry in arguments.table() if entry.key == keyword.name), trainer.place)
