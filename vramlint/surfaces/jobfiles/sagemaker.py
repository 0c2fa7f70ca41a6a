"""SageMaker: estimators and model trainers, whose hyperparameters become a command line."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Call, Command, Entry, Items, Option, Program, Scalar, Table, Unknown, Value

_ESTIMATORS = frozenset(("HuggingFace", "PyTorch", "Estimator"))
_TRAINER = "ModelTrainer"


def workloads(document: Document, program: Program) -> tuple[Workload, ...]:
    """One workload per estimator with a program of its own."""
    found: list[Workload] = []
    for call in program.calls:
        if not call.callee.startswith("sagemaker."):
            continue
        kind = call.callee.rsplit(".", 1)[1]
        if kind in _ESTIMATORS and call.argument("git_config") is None:
            later = tuple(_set_later(program, call))
            found += _workload(document, call, call.argument("entry_point"), call.argument("source_dir"), call, later)
        elif kind == _TRAINER:
            source = call.argument("source_code")
            if isinstance(source, Call):
                entry, folder = source.argument("entry_script"), source.argument("source_dir")
                found += _workload(document, call, entry, folder, call.argument("compute"), ())
    return tuple(found)


def _set_later(program: Program, estimator: Call) -> Iterator[Entry]:
    """`estimator.set_hyperparameters(lr=…)`."""
    for call in program.calls:
        receiver = call.receiver
        if call.callee == ".set_hyperparameters" and isinstance(receiver, Call) and receiver.place == estimator.place:
            yield from (Entry(keyword.name, keyword.name_place, keyword.value) for keyword in call.keywords)


def _workload(
    document: Document,
    call: Call,
    entry: Value | None,
    folder: Value | None,
    machine: Value | None,
    later: tuple[Entry, ...],
) -> Iterator[Workload]:
    if entry is None or (isinstance(entry, Scalar) and not isinstance(entry.value, str)):
        return
    facts = tuple(_machine(machine)) if isinstance(machine, Call) else ()
    words = (*_launcher(call, entry, facts), entry, *_arguments(call.argument("hyperparameters"), later))
    places = tuple(word.place or call.place for word in words)
    variables = call.argument("environment")
    environment = variables.entries if isinstance(variables, Table) else ()
    known = isinstance(folder, Unknown) or (isinstance(folder, Scalar) and isinstance(folder.value, str))
    folder = folder if known else None
    command = Command(words, places, call.place, environment, folder, call.conditions)
    yield Workload(document.path, "", (command,), facts)


def _machine(machine: Call) -> Iterator[Fact]:
    yield from hardware.machine(machine.argument("instance_type"), "instance_type")
    yield from hardware.count("nodes", machine.argument("instance_count"), "instance_count")


def _launcher(call: Call, entry: Value, facts: tuple[Fact, ...]) -> list[Value]:
    """The words in front of the program.

    SageMaker's own launchers (torchrun, mpirun, smddprun) all start a process per GPU on every machine; that is said
    in torchrun's words.
    """
    spread = call.argument("distribution") or call.argument("distributed")
    if isinstance(entry, Scalar) and str(entry.value).endswith(".sh"):
        return [Scalar("bash", entry.place)]
    if not _is_spread(spread):
        return [Scalar("python", entry.place)]
    place = spread.place if spread is not None else None
    found = {fact.name: fact for fact in facts}
    return [
        Scalar("torchrun", place),
        *_option("--nnodes", found.get("nodes"), place),
        *_option("--nproc_per_node", found.get("gpus_per_node"), place),
    ]


def _is_spread(spread: Value | None) -> bool:
    if isinstance(spread, Call):
        return True
    if not isinstance(spread, Table):
        return False
    tables = [entry.value for entry in spread if isinstance(entry.value, Table)]
    tables += [inner.value for table in tables for inner in table if isinstance(inner.value, Table)]
    return any(isinstance(on := table.get("enabled"), Scalar) and bool(on.value) for table in tables)


def _option(name: str, fact: Fact | None, place: Place | None) -> list[Value]:
    if fact is None or not fact.candidates:
        return [Scalar(name, place), Unknown(fact.reason if fact is not None else "the machine is not given", place)]
    values = [Scalar(str(candidate.value), candidate.place) for candidate in fact.candidates]
    value = values[0] if len(values) == 1 else Alternatives(tuple(Option(each) for each in values))
    return [Scalar(name, place), value]


def _arguments(value: Value | None, later: tuple[Entry, ...]) -> Iterator[Value]:
    """`--key value` for every hyperparameter, as SageMaker's toolkit hands them on."""
    if value is not None and not isinstance(value, Table) and not (isinstance(value, Scalar) and value.value is None):
        reason = value.reason if isinstance(value, Unknown) else "hyperparameters that only run time knows"
        yield Unknown(reason, value.place)
    table = value if isinstance(value, Table) else Table(())
    last = {entry.key: entry for entry in (*table, *later)}
    for entry in last.values():
        yield Scalar(f"--{entry.key}", entry.key_place)
        yield _text(entry.value)


def _text(value: Value) -> Value:
    match value:
        case Scalar():
            text = str(value.value)
            quoted = len(text) > 1 and text[0] == text[-1] == '"'  # people quote what has blanks in it
            return Scalar(text[1:-1] if quoted else text, value.place, value.via)
        case Alternatives(options=options):
            return Alternatives(tuple(Option(_text(option.value), option.condition) for option in options), value.place)
        case Unknown():
            return value
        case Items(values=values) if all(isinstance(item, Scalar) for item in values):
            return Scalar(str([item.value for item in values if isinstance(item, Scalar)]), value.place)
        case Call(callee=callee):
            return Unknown(f"result of {callee.lstrip('.')}(…)", value.place)
        case _:
            return Unknown("a hyperparameter that is no text", value.place)
