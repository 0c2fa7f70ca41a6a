"""What a Python program says about its run.

Beside facts, a sheet of a program tells `resolve`:

- `tables`: all written arguments of the trainer under the name of their vocabulary: `training-arguments`, or the
  class of a TRL config (`SFTConfig`); empty when the trainer is given none. `deepspeed` and `fsdp` for inline
  dicts, `model-config` for a model built from a config in the script. `LoraConfig` and `BitsAndBytesConfig` as written.
  The trainer's own class for arguments that later releases lack.
- the fact `model` has the key `model` when the trainer loads it by name, `config` when fresh weights are made from
  that model's config, `pretrained_model_name_or_path` when a loader is given the name.
- a candidate with value None stands for a branch in which nothing is said, so that the default holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vramlint.catalog.keys import DROPPED
from vramlint.facts import Sheet
from vramlint.surfaces import lengths
from vramlint.surfaces.adapters import adapters_in
from vramlint.surfaces.attention_patches import replaced_attention
from vramlint.surfaces.deciding import left_out, named_at, with_reasons
from vramlint.surfaces.diffusion import denoiser, read_denoiser
from vramlint.surfaces.dimensions import dimensions, given_dict
from vramlint.surfaces.draft import Draft, Drawn, derived, stated, unknown
from vramlint.surfaces.environment import allocator_settings
from vramlint.surfaces.evaluating import evaluation_only
from vramlint.surfaces.freezing import freezes, reference_beside
from vramlint.surfaces.inactive import has_loop_settings, loop_settings
from vramlint.surfaces.lightning import fitted_model, fitting_trainer, trainer_facts
from vramlint.surfaces.lineage import calls_until, last, leads_to_model, lineages, package
from vramlint.surfaces.loading import loading_facts, model_fact
from vramlint.surfaces.loops import is_loop, launched_by_script, loader_facts, loop_facts, trained_model
from vramlint.surfaces.models import followed, loading_keywords, loads, read_model
from vramlint.surfaces.objectives import objective_fact, objective_of_run, reference_of
from vramlint.surfaces.optimizers import calls_of, made_by_hand, optimizer_fact, settings_of
from vramlint.surfaces.own_models import casts, loads_weights, own_model, own_module, trains_own_modules
from vramlint.surfaces.replaced_layers import fills_by_hand, quantized_layers, unseen_weights
from vramlint.surfaces.sentences import embeds, fitted, length_of, objective_of_loss
from vramlint.surfaces.setfit import setfit_trainers
from vramlint.surfaces.trainers import (
    argument_facts,
    arguments_of,
    is_training_arguments,
    model_of,
    trainer_keywords,
    trainers,
    training_place,
    unseen_arguments,
    unseen_trainers,
    vocabulary_of,
    written,
)
from vramlint.surfaces.unsloth import replaces_trl
from vramlint.text import Place
from vramlint.values import Call, Entry, Program, Table, Unknown, Value

KIND = "python-script"
MAX_RUNS = 12
"""Trainers of one file that are taken for alternatives of a run; a test suite makes more."""

_GENERATES = (".generate", "transformers.pipeline", "vllm.LLM", "transformers.pipelines.pipeline")
_CHECKED = ("peft.LoraConfig", "transformers.BitsAndBytesConfig")
_ENCODER_DECODER = ("seq2seq", "speech-seq2seq")
_TRAINERS = ("transformers", "trl")
"""Packages whose trainers take what their releases say; a subclass, or one that Unsloth replaces, may take more."""


def program_sheet(program: Program) -> Sheet:
    """The facts, links and remarks of a script; several trainers give several candidates where they differ."""
    made = (
        setfit_trainers(program.calls)
        or trainers(program.calls)
        or fitted(program.calls)
        or unseen_trainers(program.calls)
    )
    if len(made) > MAX_RUNS:
        draft = _other(program)
        reason = f"it makes {len(made)} trainers, which is no single run"
        draft.replace(derived("run_kind", "library", reason))
    elif (asked := evaluation_only(program.calls)) is not None:
        draft = _other(program)
        draft.replace(stated("run_kind", "inference", asked.place, last(asked.callee)))
    elif made:
        draft = Draft.merged([_trainer_run(trainer, program) for trainer in made])
        draft.put(stated("run_kind", "training", made[0].place, last(made[0].callee)))
    elif (fitting := fitting_trainer(program.calls)) is not None:
        draft = _lightning_run(fitting, program)
    elif is_loop(program.calls, has_settings=has_loop_settings(program)):
        draft = _loop_run(program)
    else:
        draft = _other(program)
    draft.put(launched_by_script(program.calls))
    draft.put(allocator_settings(program.calls))
    draft.put(replaced_attention(program.calls))
    draft.tables += _configs(program.calls)
    omitted = left_out(program)
    return Sheet(
        program.path,
        KIND,
        tuple(with_reasons(draft.facts.values(), program, omitted)),
        tuple(dict.fromkeys(named_at(draft.links, program))),
        tuple(dict.fromkeys(draft.remarks)),
        _once(draft.tables),
        left_out=omitted,
        replaced=replaces_trl(program.imports),
    )


def _configs(calls: Sequence[Call]) -> Iterable[tuple[str, Table]]:
    """Adapter and quantization configs of any run, so that their keys are checked."""
    for call in calls:
        if call.callee in _CHECKED:
            yield last(call.callee), written(call)


def _once(tables: Iterable[tuple[str, Table]]) -> tuple[tuple[str, Table], ...]:
    """Tables without repetition: alternative runs may share one."""
    kept: dict[tuple[str, object], tuple[str, Table]] = {}
    for name, table in tables:
        kept.setdefault((name, table.place or id(table)), (name, table))
    return tuple(kept.values())


def _settings(program: Program) -> dict[str, Value]:
    return {entry.key: entry.value for entry in program.settings}


def _trainer_run(trainer: Call, program: Program) -> Draft:
    calls, draft, settings = program.calls, Draft(), _settings(program)
    by_hand = trainer.argument("optimizers")
    if by_hand is not None:
        for drawn in (optimizer_fact(by_hand), *settings_of(calls_of(by_hand))):
            draft.put(drawn)
    given = arguments_of(trainer, calls)
    if given:
        draft.join(Draft.merged([_given(item) for item in given]))
    else:
        draft.tables.append((vocabulary_of(trainer), Table((), trainer.place)))
    draft.take(trainer_keywords(trainer))
    if package(trainer.callee) in _TRAINERS and not trainer.kind and not replaces_trl(program.imports):
        draft.tables += _dropped(trainer)
    draft.put(stated("loop", "trainer", trainer.place, last(trainer.callee)))
    model = model_of(trainer)
    ways = lineages(model) if model is not None else ()
    if not followed(ways):
        ways = loads(calls, trainer) or ways
    module = None if followed(ways) or model is None else own_module((), model)
    if module is not None:
        own_model(draft, calls, module)
    read_model(
        draft,
        calls,
        ways,
        adapters=adapters_in(trainer.argument("peft_config")),
        table=_init_kwargs(trainer, given),
        settings=settings,
        until=training_place(trainer, calls),
    )
    objective = objective_of_run(program, ways, trainer)
    draft.put(reference_of(trainer))
    if embeds(ways):
        draft.put(objective_of_loss(trainer))
        draft.take(length_of(ways))
    elif objective:
        draft.put(objective_fact(objective, trainer, ways, [item for item in given if isinstance(item, Call)]))
    _lengths(draft, program, settings, objective, training_place(trainer, calls))
    constants = {entry.key: entry.value for entry in program.constants}
    draft.put(lengths.setting_length(constants))
    return draft


def _dropped(trainer: Call) -> Iterable[tuple[str, Table]]:
    """The trainer's arguments that later releases lack, which tell that the program runs with an earlier one."""
    name = last(trainer.callee)
    _, ends = DROPPED.get(name, ("", {}))
    entries = tuple([entry for entry in written(trainer) if entry.key in ends])
    if entries:
        yield name, Table(entries, trainer.place)


def _given(item: Call | Unknown) -> Draft:
    if isinstance(item, Call):
        return argument_facts(item)
    draft = Draft()
    draft.take(unseen_arguments(item))
    return draft


def _init_kwargs(trainer: Call, given: Sequence[Call | Unknown]) -> Table | None:
    """Keywords with which the trainer loads the model that it got by name."""
    own = loading_keywords(trainer)
    sources: list[Call] = [trainer, *(item for item in given if isinstance(item, Call))]
    for source in sources:
        value = source.argument("model_init_kwargs")
        if value is None and source.hidden is not None:
            value = Table((Entry("dtype", None, source.hidden),), source.place)
        if isinstance(value, Table):
            return value if own is None else Table((*value.entries, *own.entries), value.place)
    return own


def _loop_run(program: Program) -> Draft:
    calls = program.calls
    named = {entry.key: entry.value for entry in program.constants} | _settings(program)
    draft = loop_facts(calls, named)
    backward = next(call for call in calls if last(call.callee) == "backward")
    draft.put(stated("run_kind", "training", backward.place, "backward"))
    loop_settings(draft, named)
    diffused = denoiser(calls)
    if diffused is not None:
        read_denoiser(draft, diffused, calls, named)
        return draft
    model = trained_model(calls)
    ways = lineages(model) if model is not None else loads(calls, backward)
    module = None if followed(ways) else own_module(calls)
    if module is not None:
        own_model(draft, calls, module)
    elif not followed(ways):
        draft.put(trains_own_modules(calls))
    given = given_dict(module)
    if not followed(ways) and dimensions(draft, () if given else calls, given or named):
        reason = "the model is made from dimensions that the files give"
        if not loads_weights(calls):
            draft.put(derived("objective", "pretrain", reason, backward.place))
        if not any(map(freezes, calls)):
            draft.put(derived("tuning", "full", reason))
    filled = fills_by_hand(calls, ways)
    draft.take(quantized_layers(calls))
    draft.put(unseen_weights(filled) if filled is not None else None)
    draft.put(reference_beside(calls, ways))
    read_model(draft, calls, ways, settings=named)
    if not followed(ways) and (module is None or casts(calls)):
        draft.drop_derived("bf16", "fp16")  # a model made elsewhere may cast by itself
        if module is not None and not {"bf16", "fp16"} & draft.facts.keys():
            draft.put(unknown("precision", "the program casts tensors by itself", "precision", module.place))
    objective = "sft" if filled is not None else objective_of_run(program, ways)
    if objective:
        draft.put(objective_fact(objective, backward, ways))
    _lengths(draft, program, named, objective)
    draft.put(lengths.setting_length(given))
    if followed(ways) or module is not None:
        _off_unless_enabled(draft)
    return draft


def _lightning_run(trainer: Call, program: Program) -> Draft:
    """A module that Lightning's Trainer fits: the loop is the library's, module and optimizer are the file's."""
    calls = program.calls
    named = {entry.key: entry.value for entry in program.constants} | _settings(program)
    draft = trainer_facts(trainer)
    draft.put(stated("run_kind", "training", trainer.place, last(trainer.callee)))
    draft.take((*loader_facts(calls, named), *made_by_hand(calls)))
    loop_settings(draft, named)
    model = fitted_model(trainer, calls)
    ways = lineages(model) if model is not None and leads_to_model(model) else loads(calls)
    module = None if followed(ways) else own_module(calls, model)
    if module is not None:
        own_model(draft, calls, module)
    read_model(draft, calls, ways, settings=named)
    objective = objective_of_run(program, ways)
    if objective:
        draft.put(objective_fact(objective, trainer, ways))
    _lengths(draft, program, named, objective)
    _off_unless_enabled(draft)
    return draft


def _off_unless_enabled(draft: Draft) -> None:
    """A loop that the files show whole checkpoints and compiles only what they say."""
    for name in ("activation_checkpointing", "torch_compile"):
        draft.put(derived(name, False, "nothing enables it"))


def _other(program: Program) -> Draft:
    """A program that trains nothing itself: inference, or a library."""
    draft = Draft()
    for call in filter(is_training_arguments, program.calls):
        read = argument_facts(call)
        draft.remarks += read.remarks
        draft.tables += read.tables
    generates = next((call for call in program.calls if call.callee in _GENERATES), None)
    if generates is None:
        draft.put(stated("run_kind", "library", None))
        if not program.calls and not program.imports:
            _bare_settings(draft, {entry.key: entry.value for entry in program.constants})
        return draft
    draft.put(stated("run_kind", "inference", generates.place, last(generates.callee)))
    for way in loads(program.calls)[:1]:
        draft.put(model_fact(way))
        draft.take(loading_facts(way))
    return draft


def _bare_settings(draft: Draft, constants: Mapping[str, Value]) -> None:
    """A file of assignments only, which another script executes over its own settings."""
    loop_settings(draft, constants)
    dimensions(draft, (), constants)
    draft.put(lengths.setting_length(constants))


def _lengths(
    draft: Draft, program: Program, settings: Mapping[str, Value], objective: str, until: Place | None = None
) -> None:
    """Sequence length from the surest source: the trainer's own, then the tokenizer's, then a setting by name."""
    calls, cuts = calls_until(program.calls, until), (*program.cuts, *lengths.rows_of_library(program.calls))
    encoder_decoder = objective in _ENCODER_DECODER
    sources: list[Drawn] = []
    if encoder_decoder:
        sources += lengths.tokenized_length(calls, settings, encoder_decoder=True)
        sources += lengths.encoder_decoder_pair(settings)
    else:
        sources += [lengths.cut_length(cuts, joined=True), lengths.pair_as_cut(lengths.setting_pair(settings), cuts)]
        sources += lengths.tokenized_length(calls, settings, encoder_decoder=False)
        sources.append(lengths.cut_length(cuts, joined=False))
    draft.take((*sources, lengths.model_max_length(calls), lengths.setting_length(settings)))
    draft.put(lengths.own_maximum(calls))
    draft.put(lengths.filled_rows(calls))
    draft.put(lengths.rows_packed(cuts, settings))
    draft.put(lengths.packing_fact(draft.facts.get("loop"), calls))
    draft.put(lengths.padding_fact(calls, draft.facts.get("packing")))
