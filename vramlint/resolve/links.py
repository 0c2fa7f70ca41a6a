"""Joining the files of one run: DeepSpeed, FSDP and Accelerate configurations into the script that is run with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, FactValue, Link, Origin, Remark, Repair, Sheet, passed_on, seconded
from vramlint.resolve.accelerate import configuration_of, merged
from vramlint.resolve.alternatives import CONTRADICTING, Alternative, choices_of, either, remarks_of
from vramlint.resolve.context import Context, candidates, started_in
from vramlint.resolve.defaults import DEEPSPEED_KEYS
from vramlint.resolve.missing import missing, unseen_fact
from vramlint.resolve.overruled import fsdp_beside_deepspeed, trainer_remarks, twice_checkpointed, unfilled_autos
from vramlint.resolve.recipes import Recipe, with_recipe
from vramlint.surfaces.deepspeed import deepspeed_facts, deepspeed_sheet
from vramlint.surfaces.frameworks import FRAMEWORKS, framework_of
from vramlint.surfaces.fsdp_config import trainer_facts
from vramlint.values import Scalar, Table

_STEPS = "gradient_accumulation_steps"
_SHARED = ("micro_batch_size", "gradient_accumulation_steps", "max_grad_norm", "bf16", "fp16")
"""Facts that both the trainer's arguments and the DeepSpeed configuration say. The Hugging Face Trainer wants them
equal (transformers 5.23.0, integrations/deepspeed.py, HfTrainerDeepSpeedConfig.trainer_config_finalize)."""

_MEASURES = {
    "micro_batch_size": "micro batch size",
    "gradient_accumulation_steps": "gradient accumulation",
    "max_grad_norm": "gradient clipping bound",
    "bf16": "bf16",
    "fp16": "fp16",
}


class Joined(NamedTuple):
    """A sheet together with the DeepSpeed configuration that is in force."""

    sheet: Sheet
    facts: Mapping[str, Fact]
    remarks: tuple[Remark, ...] = ()
    deepspeed: Table | None = None
    """The configuration itself, for the check of its keys."""
    deepspeed_path: str = ""
    """The file that it stands in; empty for a dict in the script."""
    deepspeed_optimizer: bool = False
    deepspeed_missing: bool = False
    """The files name a DeepSpeed configuration that can't be read."""
    accelerate_missing: bool = False
    """Nobody knows what Accelerate is told, and the run leaves it to Accelerate how the model is shared."""
    further: tuple[str, ...] = ()
    """Other files that are part of the run: of Accelerate, of FSDP."""


def join(sheet: Sheet, others: Mapping[str, Sheet], context: Context) -> Joined:
    """The sheet with what the files that it names add.

    Args:
        sheet: of a script, of TrainingArguments, or of a configuration by itself.
        others: sheets of files that are read anyway, by path.
        context: file access for the rest.
    """
    recipe = _with_framework(sheet, context) if sheet.kind in FRAMEWORKS else with_recipe(sheet, context)
    sheet = recipe.sheet
    joined = with_fsdp(_with_deepspeed(sheet, others, context), context)
    joined = joined._replace(remarks=(*recipe.remarks, *joined.remarks), further=(*recipe.paths, *joined.further))
    shards = joined.deepspeed is not None or joined.deepspeed_missing or _shards(joined.facts)
    named = joined.facts.get("accelerate_config")
    configuration = configuration_of(sheet, context)
    unseen = named is not None and not (
        configuration and (configuration.path or _shards(_by_name(configuration.sheet)))
    )
    if unseen and not shards and is_accelerated(joined.facts, sheet):
        link = next((link for link in sheet.links if link.kind == "accelerate"), None)
        reason = unseen_fact("accelerate_config", sheet, link) if link is not None else {}
        joined = joined._replace(accelerate_missing=True, facts={**joined.facts, **reason})
    if configuration is None:
        return joined
    said = configuration.sheet
    facts = merged(joined.facts, said, trainer=has_trainer(sheet), shards=shards)
    name = "activation_checkpointing"
    twice = twice_checkpointed(joined.facts.get(name), said.get(name), trainer=has_trainer(sheet) and not shards)
    both = fsdp_beside_deepspeed(joined.facts, said, trainer=has_trainer(sheet))
    joined = joined._replace(
        facts=facts,
        remarks=(*joined.remarks, *configuration.remarks, *said.remarks, *twice, *both),
        further=(*joined.further, *filter(None, (configuration.path,))),
    )
    parallelism = facts.get("parallelism")
    if shards or parallelism is None or parallelism.value != "deepspeed":
        return joined
    found = _deepspeed_of(joined, said, others, context)
    return found._replace(facts=_all_the_way(found.facts, sheet, configuration.path))


def _with_framework(sheet: Sheet, context: Context) -> Recipe:
    from vramlint.resolve.frameworks import with_framework  # scripts of the libraries themselves never need it

    return with_framework(sheet, context)


def _all_the_way(facts: Mapping[str, Fact], sheet: Sheet, between: str) -> dict[str, Fact]:
    """The facts of a file that Accelerate's names, with the place where that one is named in turn."""
    place = next((link.place for link in sheet.links if link.kind == "accelerate"), None)
    if place is None or not between:
        return dict(facts)
    return {
        name: replace(fact, through=(*fact.through, place))
        if fact.through and fact.through[-1].path == between
        else fact
        for name, fact in facts.items()
    }


def _by_name(sheet: Sheet) -> dict[str, Fact]:
    return {fact.name: fact for fact in sheet.facts}


def _shards(facts: Mapping[str, Fact]) -> bool:
    """Whether the run itself says how it shares the model."""
    parallelism, fsdp = facts.get("parallelism"), facts.get("fsdp")
    return (parallelism is not None and parallelism.origin is Origin.WRITTEN) or (
        fsdp is not None and fsdp.value not in (None, False, "")
    )


def _deepspeed_of(joined: Joined, said: Sheet, others: Mapping[str, Sheet], context: Context) -> Joined:
    """With the DeepSpeed configuration that Accelerate is given, or builds from its own keys."""
    link = next((link for link in said.links if link.kind == "deepspeed"), None)
    if link is None:
        table = _table(said)
        return joined._replace(deepspeed=table, deepspeed_optimizer=_has_optimizer(table))
    found = _linked(joined.sheet, dict(joined.facts), link, others, context, beside=said.path)
    return found._replace(remarks=(*joined.remarks, *found.remarks), further=joined.further)


def _with_deepspeed(sheet: Sheet, others: Mapping[str, Sheet], context: Context) -> Joined:
    facts = {fact.name: fact for fact in sheet.facts}
    if sheet.kind == "deepspeed-json":
        table = _table(sheet)
        return Joined(sheet, facts, (), table, sheet.path, _has_optimizer(table))
    if sheet.kind == "accelerate-config":
        return _deepspeed_of(Joined(sheet, facts), sheet, others, context)
    inline = _table(sheet)
    if inline is not None:
        found, remarks = deepspeed_facts(inline, via="")
        return _merge(sheet, facts, Sheet(sheet.path, "deepspeed-json", found, remarks=remarks), inline, "")
    links = [link for link in sheet.links if link.kind == "deepspeed"]
    if len(links) > 1 and (choices := choices_of(facts.get("deepspeed_config"), links)):
        return _one_of(sheet, facts, choices, others, context)
    return _linked(sheet, facts, links[0], others, context) if links else Joined(sheet, facts)


def _one_of(
    sheet: Sheet,
    facts: dict[str, Fact],
    choices: Sequence[tuple[str, Link]],
    others: Mapping[str, Sheet],
    context: Context,
) -> Joined:
    """With one of several configurations, whichever the program chooses; what is unknown of one is unknown."""
    found = [_linked(sheet, dict(facts), link, others, context) for _, link in choices]
    defaults = {name: value for name, (_, value) in DEEPSPEED_KEYS.items()}
    alternatives = [
        Alternative(condition, one.facts, defaults, one.remarks)
        for (condition, _), one in zip(choices, found, strict=True)
    ]
    further = tuple(dict.fromkeys(one.deepspeed_path for one in found[1:] if one.deepspeed_path))
    return found[0]._replace(
        facts=either(alternatives),
        remarks=remarks_of(alternatives),
        deepspeed_optimizer=any(one.deepspeed_optimizer for one in found),
        deepspeed_missing=any(one.deepspeed_missing for one in found),
        further=further,
    )


def _table(sheet: Sheet) -> Table | None:
    return next((table for name, table in sheet.tables if name == "deepspeed"), None)


def _has_optimizer(table: Table | None) -> bool:
    return table is not None and table.get("optimizer", "type") is not None


def _linked(
    sheet: Sheet,
    facts: dict[str, Fact],
    link: Link,
    others: Mapping[str, Sheet],
    context: Context,
    *,
    beside: str = "",
) -> Joined:
    for path in candidates(beside or sheet.path, link, context, started_in(sheet)):
        other = others.get(path)
        if other is not None and other.kind == "deepspeed-json":
            return _merge(sheet, facts, _reached(other, link), _table(other), path)
        document = context.load(path)
        if document is None:
            continue
        from vramlint.readers.json import read_json

        reading = read_json(document)
        problems = tuple(
            Remark(problem.kind, path, problem.message, problem.place, vocabulary="deepspeed")
            for problem in reading.problems
        )
        if not isinstance(reading.root, Table):
            return Joined(sheet, facts, problems, deepspeed_missing=True)
        other = deepspeed_sheet(path, reading.root)
        joined = _merge(sheet, facts, _reached(other, link), reading.root, path)
        return joined._replace(remarks=(*problems, *joined.remarks))
    shipped = framework_of(sheet.kind).deepspeed if sheet.kind in FRAMEWORKS else None
    table = shipped(link.target) if shipped is not None else None
    if table is not None:
        found, said = deepspeed_facts(table, via="library")
        other = Sheet(sheet.path, "deepspeed-json", tuple(_shipped(fact, link) for fact in found), remarks=said)
        return _merge(sheet, facts, _reached(other, link), table, "")
    where = "beside this file or in the current folder"
    reason = "a DeepSpeed configuration is named"
    shared = Fact("parallelism", (Candidate("deepspeed", link.place),), Origin.DERIVED, via="derived", reason=reason)
    facts = {"parallelism": shared} | facts | unseen_fact("deepspeed_config", sheet, link)
    return Joined(sheet, facts, missing(sheet, link, "DeepSpeed configuration", where), deepspeed_missing=True)


def _shipped(fact: Fact, link: Link) -> Fact:
    """A fact of a file that comes with a framework: it points where the file is named."""
    candidates = tuple([replace(item, place=item.place or link.place) for item in fact.candidates])
    return replace(fact, candidates=candidates)


def _reached(other: Sheet, link: Link) -> Sheet:
    """What the file says that is named by `link`."""
    return replace(other, facts=tuple(passed_on(other.facts, link.place)))


def _merge(sheet: Sheet, facts: dict[str, Fact], other: Sheet, table: Table | None, path: str) -> Joined:
    trainer = has_trainer(sheet)
    remarks = [*other.remarks, *(trainer_remarks(facts, table) if trainer and table is not None else ())]
    filled = is_accelerated(facts, sheet)
    if _runs_the_engine(facts, sheet) and table is not None:
        remarks += unfilled_autos(table)
    merged = dict(facts)
    if not filled and {fact.name for fact in other.facts} & {"global_batch_size", _STEPS} == {"global_batch_size"}:
        merged.pop(_STEPS, None)  # the engine counts by itself: train_batch_size / (micro batch size · GPUs)
    for fact in other.facts:
        own = facts.get(fact.name)
        fills = filled or (sheet.kind in FRAMEWORKS and own is not None)
        if fact.value == "auto" and fills and fact.name in (*_SHARED, "global_batch_size"):
            continue  # the value of the trainer's arguments, or of Accelerate's loader, which is put there
        if fact.name in _SHARED and own is not None and trainer:
            remark = _disagreement(own, fact)
            remarks += [remark] if remark else []
            merged[fact.name] = seconded(own, fact)
            continue
        if fact.name == "micro_batch_size" and own is not None and own.key == "batch_size" and own.candidates:
            continue  # the program's own loader makes the batches; the engine only counts with the other number
        merged[fact.name] = fact
    return Joined(sheet, merged, tuple(remarks), table, path, _has_optimizer(table))


def _runs_the_engine(facts: Mapping[str, Fact], sheet: Sheet) -> bool:
    """Whether a script hands the configuration to `deepspeed.initialize` itself, in a loop of its own."""
    loop, shared = facts.get("loop"), facts.get("parallelism")
    own = loop is not None and loop.known and loop.value in ("script", "plain")
    return sheet.kind == "python-script" and own and shared is not None and shared.key == "deepspeed.initialize"


def has_trainer(sheet: Sheet) -> bool:
    """Whether the Trainer of transformers, or one of its subclasses, runs the loop."""
    trained = any(fact.name == "loop" and fact.value == "trainer" for fact in sheet.facts)
    return trained or sheet.kind.startswith("training-args")


def with_fsdp(joined: Joined, context: Context) -> Joined:
    """With the `fsdp_config` of the Trainer's arguments, a table or a file."""
    sheet = joined.sheet
    tables: list[tuple[Table, str, Link | None]] = [(table, "", None) for name, table in sheet.tables if name == "fsdp"]
    remarks: list[Remark] = []
    for link in sheet.links:
        if link.kind == "fsdp":
            table, path, said = _fsdp_file(sheet, link, context)
            tables += [(table, path, link)] if table is not None else []
            remarks += said
    facts = dict(joined.facts)
    for table, path, named in tables:
        for drawn in trainer_facts(table, facts.get("fsdp"), inline=not path):
            if isinstance(drawn, Remark):
                remarks.append(drawn)
            elif drawn is not None and _says_already(facts, drawn):
                own = has_trainer(sheet) and not _offloads_instead(facts)
                remarks += twice_checkpointed(facts.get(drawn.name), drawn, trainer=own)
            elif drawn is not None:
                facts |= {fact.name: fact for fact in passed_on((drawn,), named.place if named is not None else None)}
    paths = [path for _, path, _ in tables if path]
    return joined._replace(facts=facts, remarks=(*joined.remarks, *remarks), further=(*joined.further, *paths))


def _says_already(facts: Mapping[str, Fact], fact: Fact) -> bool:
    """Whether the arguments switch the same thing on, which is nearer at hand than a file that they name."""
    own = facts.get(fact.name)
    return own is not None and own.value is True and fact.value is True


def _offloads_instead(facts: Mapping[str, Fact]) -> bool:
    """Whether activations wait on the host, which takes the place of the Trainer's checkpointing (axolotl 0.18)."""
    offloading = facts.get("activation_offloading")
    return offloading is not None and offloading.value not in (None, False)


def _fsdp_file(sheet: Sheet, link: Link, context: Context) -> tuple[Table | None, str, list[Remark]]:
    from vramlint.readers.json import read_json

    for path in candidates(sheet.path, link, context, started_in(sheet)):
        document = context.load(path)
        if document is None:
            continue
        reading = read_json(document)
        said = [Remark(item.kind, path, item.message, item.place, vocabulary="fsdp") for item in reading.problems]
        return (reading.root if isinstance(reading.root, Table) else None), path, said
    return None, "", list(missing(sheet, link, "FSDP configuration"))


def is_accelerated(facts: Mapping[str, Fact], sheet: Sheet) -> bool:
    """Whether Accelerate prepares the model: in the Trainer, or in a loop of its own."""
    loop = facts.get("loop")
    return has_trainer(sheet) or (loop is not None and loop.value == "accelerate")


def _disagreement(own: Fact, fact: Fact) -> Remark | None:
    if own.origin is not Origin.WRITTEN or not own.known or not fact.known:
        return None
    place = fact.place
    if place is None or own.value == fact.value:
        return None
    what = _MEASURES[fact.name]
    message = f"{what} is {_word(fact.value)} here but {_word(own.value)} in the trainer's arguments ({own.key})"
    repair = Repair(safe=False, value=Scalar("auto"), cost="the trainer's arguments decide")
    return Remark(CONTRADICTING, fact.key, message, place, vocabulary="deepspeed", repair=repair)


def _word(value: FactValue) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
