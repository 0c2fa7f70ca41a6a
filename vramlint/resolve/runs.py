"""One joined sheet to one Run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.frameworks import CUSTOM, FRAMEWORKS, RECIPES
from vramlint.catalog.keys import LIBRARIES, lineage
from vramlint.catalog.litgpt_models import MODEL_TYPE as LITGPT
from vramlint.catalog.unsloth import KERNELS
from vramlint.facts import Candidate, Fact, FactValue, Origin, Remark, Sheet
from vramlint.job import Job, Libraries
from vramlint.resolve.assume import in_words
from vramlint.resolve.board import Board, Setting, by_default
from vramlint.resolve.checks import deepspeed_key_remarks, key_remarks
from vramlint.resolve.context import Context, started_in
from vramlint.resolve.defaults import DEEPSPEED_KEYS, any_default
from vramlint.resolve.drafts import DRAFT, draft_facts, draft_network
from vramlint.resolve.gpus import by_gpu
from vramlint.resolve.jobs import job_of, thinned
from vramlint.resolve.kept_layers import KEPT_LAYERS, are_open, with_kept_layers
from vramlint.resolve.lengths import declared_longest
from vramlint.resolve.links import Joined
from vramlint.resolve.network import Network, changed, counted_network, find_network, network_of, why_unfound
from vramlint.resolve.omissions import with_omissions
from vramlint.resolve.run import Run, Version
from vramlint.resolve.shares import GPT_NEOX, PLANNED, follows_plan
from vramlint.resolve.steps import SPANNING
from vramlint.resolve.worlds import Worlds, merged, settled
from vramlint.surfaces.models import FROZEN_BY_HAND
from vramlint.text import Place
from vramlint.values import Alternatives, Name, Option, Scalar, Table

_TRAINING_ARGUMENTS = "TrainingArguments"
_CONFIGURATIONS = ("deepspeed-json", "accelerate-config")
"""Kinds of files that say how a run shares its model, whatever it trains."""


def run_of(joined: Joined, versions: tuple[Version, ...], context: Context) -> Run:
    """The run that one joined sheet describes, its facts settled and its jobs built."""
    sheet = joined.sheet
    setting = _setting(joined, versions, context)
    remarks = (*sheet.remarks, *joined.remarks, *_key_remarks(joined, setting))
    started = (sheet.started.path,) if sheet.started else ()
    named = tuple(dict.fromkeys((sheet.path, *filter(None, (joined.deepspeed_path,)))))
    paths = tuple(dict.fromkeys((*started, *named, *joined.further, *sheet.sources)))
    facts = by_gpu(_declared(joined, context), context.gpu)
    run = Run(
        name=_name(sheet, named),
        path=paths[0],
        paths=paths,
        kind=_kind(sheet, facts),
        facts=(),
        jobs=(),
        unresolved=(),
        open_facts=(),
        gpu=context.gpu,
        gpu_origin=context.gpu_origin,
        ram=context.ram,
        nvme=context.nvme,
        versions=versions,
        remarks=tuple(dict.fromkeys(remarks)),
        launched=sheet.started is not None or bool(sheet.label),
        anchor=_anchor(facts),
        framework=sheet.kind if sheet.kind in FRAMEWORKS else "",
        recognised=sheet.recognised,
    )
    if sheet.kind in _CONFIGURATIONS:
        return replace(run, facts=_with_deepspeed_defaults(Board(setting, facts)))
    if run.kind != "training":
        return replace(run, facts=tuple(facts.values()))
    found = {name: find_network(name, sheet.path, context, started_in(sheet)) for name in _model_names(facts)}
    configs = (network.source for network in found.values() if network and network.source.endswith("config.json"))
    run = replace(run, paths=tuple(dict.fromkeys((*run.paths, *configs))))
    networks = {name: changed(network, sheet) for name, network in found.items()}
    if DRAFT in facts:
        target = next(iter(networks.values()), None)
        draft = draft_network(facts, target, sheet.path, context, started_in(sheet))
        facts, networks = draft_facts(facts, draft), dict.fromkeys(networks, draft)
    own = _written_network(sheet) or counted_network(facts, sheet.path)
    # sizes that the configuration states, and classes that are no model of transformers, are nearer than a name
    if own is not None and (sheet.kind in FRAMEWORKS or own.model_type == LITGPT):
        networks = dict.fromkeys(networks, own)
    strange = [name for name, network in networks.items() if network is None]
    if strange and own is None and DRAFT not in facts:
        facts["model"] = replace(facts["model"], reason="; ".join(map(why_unfound, strange)))
    elif "model" in facts and not facts["model"].candidates:
        facts["model"] = replace(facts["model"], reason=in_words(facts["model"].reason))
    board = Board(setting, facts, own)
    worlds = settled(board, networks)
    return _complete(run, worlds, joined)


def _name(sheet: Sheet, named: Sequence[str]) -> str:
    """`train.py + ds.json`, and the launcher in front: `run.sh:12 runs train.py`; the trial behind: `[batch=8]`."""
    trial = f" [{sheet.label}]" if sheet.label else ""
    return _plain_name(sheet, named) + trial


def _plain_name(sheet: Sheet, named: Sequence[str]) -> str:
    program = " + ".join((sheet.path, *(path.rpartition("/")[2] for path in named[1:])))
    if sheet.started is None:
        return program
    own = sheet.started.path == sheet.path  # a command of a library: nothing of it lies in the project
    return sheet.started.name + program.removeprefix(sheet.path) if own else f"{sheet.started.name} runs {program}"


def _with_deepspeed_defaults(board: Board) -> tuple[Fact, ...]:
    """Such a file by itself: DeepSpeed's defaults filled in, `"auto"` left, for no trainer is there to fill it."""
    for name in DEEPSPEED_KEYS:
        found = any_default(board, name) if board.is_missing(name) else None
        if found:
            board.facts[name] = found
    if board.setting.deepspeed and board.is_missing("offload_parameters"):
        key, value = DEEPSPEED_KEYS["offload_parameters"]
        board.facts["offload_parameters"] = by_default(
            "offload_parameters", value, board.setting.label("deepspeed"), key
        )
    flags = [fact for name in ("bf16", "fp16") if (fact := board.facts.get(name)) is not None]
    on = [fact for fact in flags if fact.value is True][-1:] or [fact for fact in flags if fact.value == "auto"]
    if on:
        value = "auto" if on[0].value == "auto" else f"{on[0].name}-mixed"
        said = replace(on[0], name="precision", candidates=(Candidate(value, on[0].place),))
        board.facts["precision"] = replace(said, also=(*said.also, *(item.place for item in on[1:] if item.place)))
    elif flags and all(fact.value is False for fact in flags):
        board.facts["precision"] = replace(flags[0], name="precision", candidates=(Candidate("fp32", flags[0].place),))
    return merged(Worlds((board,), {}))


def _complete(run: Run, worlds: Worlds, joined: Joined) -> Run:
    told = (_unsimulated(worlds, fact) for fact in merged(worlds))
    facts = with_kept_layers(tuple(with_omissions(tuple(told), joined.sheet.left_out)))
    jobs: tuple[Job, ...] = thinned([job for board in worlds.boards if (job := job_of(board, run.gpu))])
    return replace(
        run,
        facts=facts,
        jobs=jobs,
        unresolved=_unresolved(facts, jobs, joined),
        open_facts=tuple(fact.name for fact in facts if _spans(fact)),
    )


def _setting(joined: Joined, versions: tuple[Version, ...], context: Context) -> Setting:
    sheet = joined.sheet
    return Setting(
        path=sheet.path,
        libraries=Libraries(**{version.library: version.version for version in versions}),
        trainer=_trainer(joined),
        trl=_trl(joined),
        deepspeed=joined.deepspeed is not None,
        deepspeed_optimizer=joined.deepspeed_optimizer,
        host_optimizer=not _keeps_its_optimizer(joined.deepspeed),
        string_model=_is_string_model(joined),
        launched=_is_launched(sheet),
        recipe=sheet.kind.startswith("training-args"),
        command=sheet.kind == "training-args-cli" or _has_no_dtype(sheet),
        evaluates=any(_evaluates(table) for _, table in sheet.tables),
        from_config=_is_fresh(joined),
        framework=sheet.kind in FRAMEWORKS,
        world_size=context.world_size,
        nodes=context.nodes,
    )


def _is_launched(sheet: Sheet) -> bool:
    """Whether it is a file for programs that launchers start, and none is seen."""
    if sheet.kind not in FRAMEWORKS or sheet.started is not None:
        return sheet.kind.startswith("training-args")
    from vramlint.surfaces.frameworks import framework_of

    return framework_of(sheet.kind).launched


def _keeps_its_optimizer(deepspeed: Table | None) -> bool:
    value = deepspeed.get("zero_force_ds_cpu_optimizer") if deepspeed is not None else None
    return isinstance(value, Scalar) and value.value is False


def _has_no_dtype(sheet: Sheet) -> bool:
    """Whether a recipe of a project around TRL leaves its ModelConfig the dtype; null is an answer."""
    if sheet.recognised is None or sheet.recognised.kind not in RECIPES:
        return False
    return not any(table.entry(key) for _, table in sheet.tables for key in ("dtype", "torch_dtype"))


_OTHER_TABLES = ("deepspeed", "fsdp", "model-config", "config-overrides", "LoraConfig", "BitsAndBytesConfig")
"""Tables of a sheet that don't hold the trainer's arguments."""


def _trainer(joined: Joined) -> str:
    """The class of the trainer's arguments, which decides their defaults."""
    if joined.sheet.kind.startswith("training-args"):
        return _trl(joined) or _TRAINING_ARGUMENTS
    loop = joined.facts.get("loop")
    if loop is None or loop.value != "trainer":
        return ""
    names = (_known_class(name) for name, _ in joined.sheet.tables)
    arguments = (name for name in names if _TRAINING_ARGUMENTS in [owner for _, owner in lineage(name)])
    return next(arguments, _TRAINING_ARGUMENTS)


def _known_class(name: str) -> str:
    """The class itself, or the one that it is a variant of by its name: `AsyncGRPOConfig` of `GRPOConfig`."""
    if name in LIBRARIES or not name.endswith("Config"):
        return name
    variants = (known for known, library in LIBRARIES.items() if library == "trl" and name.endswith(known))
    return max(variants, key=len, default=name)


def _trl(joined: Joined) -> str:
    """The config class of the TRL trainer; the surface names the trainer as the key of `loop`."""
    if joined.sheet.kind.startswith("training-args"):
        return next((name for name, _ in joined.sheet.tables if LIBRARIES.get(name) == "trl"), "")
    loop = joined.facts.get("loop")
    name = _known_class(f"{loop.key.removesuffix('Trainer')}Config") if loop and loop.key.endswith("Trainer") else ""
    return name if LIBRARIES.get(name) == "trl" else ""


def _is_string_model(joined: Joined) -> bool:
    """TRL's trainer gets the id, not a model: the surface then says `model` under the key of that name."""
    model = joined.facts.get("model")
    return _trl(joined) != "" and model is not None and model.key == "model"


def _evaluates(table: Table) -> bool:
    """Whether arguments of a trainer ask for evaluation during training, on one path at least."""
    for key in ("eval_strategy", "evaluation_strategy", "eval_on_start"):
        value = table.get(key)
        options = value.options if isinstance(value, Alternatives) else (Option(value),) if value else ()
        for option in options:
            match option.value:
                case Scalar(value=None | False | "no"):
                    continue
                case Scalar() | Name():
                    return not (isinstance(option.value, Name) and option.value.qualified.endswith(".NO"))
    return False


def _is_fresh(joined: Joined) -> bool:
    objective = joined.facts.get("objective")
    fresh = any(name == "model-config" for name, _ in joined.sheet.tables)
    counted = "parameters" in joined.facts
    return fresh or counted or (objective is not None and objective.value == "pretrain")


def _written_network(sheet: Sheet) -> Network | None:
    """The network of a config that the script itself writes."""
    table = next((table for name, table in sheet.tables if name == "model-config"), None)
    return network_of(table, sheet.path) if table else None


def _key_remarks(joined: Joined, setting: Setting) -> tuple[Remark, ...]:
    sheet = joined.sheet
    mixed = sheet.kind.startswith("training-args")
    found = list(key_remarks(sheet.tables, setting, mixed=mixed, replaced=sheet.replaced))
    if joined.deepspeed is not None:
        found += deepspeed_key_remarks(joined.deepspeed, setting)
    return tuple(found)


def _declared(joined: Joined, context: Context) -> dict[str, Fact]:
    """The files' facts; settings stand in where these are silent, say what only run time knows or merely bound it."""
    facts = dict(joined.facts)
    for fact in context.facts:
        own = facts.get(fact.name)
        if own is None or own.origin is Origin.UNKNOWN or declared_longest(own, fact, facts):
            facts[fact.name] = fact
    return facts


def _kind(sheet: Sheet, facts: dict[str, Fact]) -> str:
    if sheet.kind in ("fsdp-json", "model-config", "peft", *_CONFIGURATIONS):
        return "data"
    if sheet.kind.startswith("training-args"):
        return "training" if "model" in facts else "data"
    kinds = [item.value for item in facts["run_kind"].candidates] if "run_kind" in facts else []
    return next((kind for kind in ("training", "inference") if kind in kinds), "library")


def _anchor(facts: dict[str, Fact]) -> Place | None:
    """Where the run is made: the trainer, or the call that shows what kind of run it is."""
    named = (facts.get(name) for name in ("loop", "run_kind"))
    return next((fact.place for fact in named if fact and fact.place), None)


def _model_names(facts: dict[str, Fact]) -> tuple[str, ...]:
    fact = facts.get("model")
    return tuple(item.value for item in fact.candidates if isinstance(item.value, str)) if fact else ()


_SPLITS = {
    "tensor_parallel": "every matrix",
    "context_parallel": "every sequence",
    "pipeline_parallel": "the layers",
    "expert_parallel": "the experts",
}
_ASSUMED_AWAY = ("micro_batch_size", "sequence_length")


def _splits(divided_by: FactValue, sequences: FactValue) -> frozenset[str]:
    """Degrees of `_SPLITS` that no simulation follows; of torchtitan's meshes the estimate itself says what is not."""
    shared = frozenset() if sequences is None else frozenset({"context_parallel"})
    return frozenset(_SPLITS) - _SEEN.get(str(divided_by), frozenset()) - shared


_SEEN: Mapping[str, frozenset[str]] = MappingProxyType(
    {"dtensor": frozenset(_SPLITS), GPT_NEOX: frozenset({"tensor_parallel", "pipeline_parallel"})}
)
"""Degrees that are, by what divides the model."""


def _word(facts: Sequence[Fact], name: str) -> FactValue:
    return next((fact.value for fact in facts if fact.name == name), None)


def _unsimulated(worlds: Worlds, fact: Fact) -> Fact:
    """`parallelism` with the reason where GPUs share what the simulator does not split."""
    if fact.name != "parallelism" or fact.value == "megatron":
        return fact
    boards = [board for board in worlds.boards if not follows_plan(board)]
    said = {
        name
        for board in boards
        for name in _splits(board.value("divided_by"), board.value("sequence_sharing"))
        if name in board.facts and board.value(name) not in (0, 1)
    }
    said |= {"tensor_parallel" for board in boards if board.value("divided_by") in PLANNED}
    shares = [f"GPUs share {what} ({name})" for name, what in _SPLITS.items() if name in said]
    return replace(fact, reason=f"{' and '.join(shares)}, which is not simulated") if shares else fact


def _unresolved(facts: Sequence[Fact], jobs: Sequence[Job], joined: Joined) -> tuple[str, ...]:
    """What keeps the figure from being worth its digits: no model, a size that was made up, ZeRO that isn't seen."""
    found = [] if jobs else ["model"]
    found += [fact.name for fact in facts if fact.name in _ASSUMED_AWAY and fact.origin is Origin.ASSUMED]
    tuning = joined.facts.get("tuning")
    if tuning is not None and tuning.reason.startswith(FROZEN_BY_HAND):
        found.append("tuning")
    shared = next((fact for fact in facts if fact.name == "parallelism"), None)
    meshes = [job.parallelism.mesh for job in jobs]
    planned = bool(meshes) and all(mesh is not None and mesh.form != "titan" for mesh in meshes)
    split = frozenset() if planned else _splits(_word(facts, "divided_by"), _word(facts, "sequence_sharing"))
    if (
        (shared is not None and not shared.candidates)
        or (
            (shared is None or shared.value != "megatron")
            and any(fact.name in split and fact.value not in (0, 1) for fact in facts)
        )
        or (shared is not None and shared.value == "device_map" and _several(facts))
        or (_word(facts, "divided_by") in PLANNED and _several(facts) and not planned)
    ):
        found.append("parallelism")
    config = joined.facts.get("deepspeed_config")
    if joined.deepspeed_missing or (config is not None and not config.candidates and joined.deepspeed is None):
        found.append("deepspeed_config")
    if joined.accelerate_missing:
        found.append("accelerate_config")
    if joined.sheet.replaced and not (jobs and all(KERNELS in job.kernels for job in jobs)):
        found.append("attention_implementation")
    if are_open(facts):
        found.append(KEPT_LAYERS)
    if joined.sheet.kind == CUSTOM:  # how its GPUs share the model, the program that reads it decides too
        found.append("loop")
        found += ["parallelism"] if shared is not None and shared.origin is Origin.ASSUMED else []
    network = joined.facts.get("model_class")
    if network is not None and not network.candidates:
        found.append("model_class")
    return tuple(found)


def _several(facts: Sequence[Fact]) -> bool:
    """Whether the run surely has more than one GPU; which layers a device map gives to each is not simulated."""
    world = next((fact for fact in facts if fact.name == "world_size"), None)
    return world is not None and isinstance(world.value, int) and world.value > 1


def _spans(fact: Fact) -> bool:
    return fact.name in SPANNING and len(fact.candidates) > 1 and fact.origin is not Origin.DERIVED
