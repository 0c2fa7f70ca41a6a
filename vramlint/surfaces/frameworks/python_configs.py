"""Configurations that are Python files: module-level names with dicts and objects of a framework, never executed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Link, Recognised, Sheet
from vramlint.patterns import lazy
from vramlint.surfaces.launch.framework_programs import PROGRAM, FrameworkProgram
from vramlint.text import Document, Place
from vramlint.values import Call, Entry, Invocation, Items, Keyword, Name, Program, Reading, Scalar, Table, Value


class PythonConfig(Struct, frozen=True):
    """The configuration that a Python file is."""

    recognised: Recognised
    table: Table
    """Module-level names; an object is the table of its arguments, `type` the class."""
    files: tuple[tuple[str, Place | None], ...] = ()
    """Files of the same vocabulary that it loads below, and where they are named."""

    def sheet(self, path: str, invocation: Invocation | None = None) -> Sheet:
        """The sheet of its run.

        Args:
            path: the Python file.
            invocation: how it is started; sections of the configuration that it overrides are on top.
        """
        from vramlint.surfaces.frameworks.reading import file_sheet
        from vramlint.surfaces.launch.options import options_table
        from vramlint.surfaces.overlay import overlaid

        kind, table, files = self.recognised.kind, self.table, self.files
        if invocation is not None:
            given = tuple([entry for entry in options_table(invocation) if isinstance(entry.value, Table)])
            table = overlaid(table, Table(given, invocation.place))
            files = tuple(FrameworkProgram(kind, _FILES).files(invocation)) or files
        links = tuple(Link(kind, target, place) for target, place in files)
        return replace(file_sheet(path, table, kind), links=links, recognised=self.recognised)


class _Marks(Struct, frozen=True):
    """How such a file of one framework is told."""

    package: str
    """What it imports from."""
    names: tuple[str, ...]
    """Module-level names that it has, all of them."""
    classes: tuple[str, ...]
    """Or classes of which it makes an object that it keeps under a name."""


_MARKS: Mapping[str, _Marks] = MappingProxyType(
    {
        "xtuner": _Marks("xtuner", ("model", "train_dataloader"), ("TrainerConfig", "RLTrainerConfig")),
    }
)


def python_config(program: Program) -> PythonConfig | None:
    """The configuration that a program is; None for any other program."""
    names = {entry.key for entry in program.constants}
    classes = {_class(entry.value) for entry in program.constants if isinstance(entry.value, Call)}
    for kind, marks in _MARKS.items():
        if not any(name.partition(".")[0] == marks.package for name in program.imports):
            continue
        made = next((name for name in marks.classes if any(found.endswith(name) for found in classes)), "")
        if made or names.issuperset(marks.names):
            shown = f"`{made}`" if made else ", ".join(f"`{name}`" for name in marks.names)
            why = f"by what it imports from {marks.package} and its {shown}"
            return PythonConfig(Recognised(kind, 0.95, why), constants_table(program.constants))
    return _dumped(program)


def _dumped(program: Program) -> PythonConfig | None:
    """The configuration that a run has written down (mmengine.Config.dump): no imports, classes by their dotted names.

    It lies in the folder of the run's checkpoints, and is taken as a configuration again.
    """
    names = {entry.key: entry.value for entry in program.constants}
    for kind, marks in _MARKS.items():
        first = names.get(marks.names[0])
        made = first.get("type") if isinstance(first, Table) else None
        if not (names.keys() >= set(marks.names) and isinstance(made, Scalar)):
            continue
        if str(made.value).partition(".")[0] == marks.package:
            why = f"by the class of its `{marks.names[0]}`, {made.value}"
            return PythonConfig(Recognised(kind, 0.95, why), constants_table(program.constants))
    return None


_RECIPES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("megatron-bridge", lazy(r"^megatron\.bridge\.recipes\.(?:\w+\.)*(\w+_config)$"), "recipe"),
    ("nemo", lazy(r"^nemo\.collections\.\w+\.(?:recipes\.)?(\w+\.(?:pretrain|finetune)_recipe)$"), "factory"),
)
"""Frameworks with functions that make a whole configuration, how these are called, and the key for their name."""


def recipe_config(program: Program) -> PythonConfig | None:
    """The configuration of a program that makes a recipe and sets attributes of it; None for any other.

    Of several recipes it is the one that a function that trains is given, else the first.
    """
    given = [item.value for call in program.calls if _trains(call) for item in call.keywords if item.name == "config"]
    given += [call.args[0] for call in program.calls if _trains(call) and call.args]
    calls = [*(value for value in given if isinstance(value, Call)), *program.calls]
    for call in calls:
        for kind, pattern, key in _RECIPES:
            found = pattern.match(call.callee)
            if found is None:
                continue
            entries = [Entry(word.name, word.name_place, _plain(word.value, word.name_place)) for word in _said(call)]
            named = Entry(key, None, Scalar(found[1], call.place))
            recognised = Recognised(kind, 0.95, f"by its recipe `{found[1]}`")
            return PythonConfig(recognised, Table((named, *entries), call.place), tuple(_files(program)))
    return None


_ENTRIES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("llama-factory", lazy(r"^llamafactory\.(?:\w+\.)*(run_exp)$"), "llamafactory-cli train"),
    ("ms-swift", lazy(r"^swift\.(?:\w+\.)*(sft|pt|rlhf)_main$"), "swift {}"),
    ("ms-swift-megatron", lazy(r"^swift\.(?:\w+\.)*megatron_(sft|pt|rlhf)_main$"), "megatron {}"),
)
"""Frameworks whose training is a function of one argument, how it is called, and the command that does the same."""


def entry_config(program: Program) -> PythonConfig | None:
    """The configuration of a program that hands all of it to a framework's own function; None for any other.

    None also for one that does so several times, and for `run_exp()`, which reads the command line.
    """
    found = {call.place: made for call in program.calls if (made := _entered(call)) is not None}
    return next(iter(found.values())) if len(found) == 1 else None


def _entered(call: Call) -> PythonConfig | None:
    for kind, pattern, command in _ENTRIES:
        named = pattern.match(call.callee)
        given = call.argument("args", 0)
        if named is None or not isinstance(given, (Table, Call)):
            continue
        started = Entry(PROGRAM, None, Scalar(command.format(named[1]), call.place))
        if isinstance(given, Table):
            entries = given.entries
        else:
            entries = tuple([Entry(word.name, word.name_place, word.value) for word in _said(given)])
        recognised = Recognised(kind, 0.95, f"by its call of `{call.callee.rpartition('.')[2]}`")
        return PythonConfig(recognised, Table((*entries, started), given.place))
    return None


_FILES = ("config_file", "config")
"""Options of such programs that name a file of overrides."""


def _files(program: Program) -> Iterator[tuple[str, Place | None]]:
    """Files of overrides that the program's own settings name."""
    for entry in program.settings:
        value = entry.value
        if entry.key in _FILES and isinstance(value, Scalar) and str(value.value).endswith((".yaml", ".yml")):
            yield str(value.value), value.place


def _trains(call: Call) -> bool:
    return call.callee.rpartition(".")[2] in ("pretrain", "finetune", "distill")


def _said(call: Call) -> list[Keyword]:
    """Arguments and attributes of a recipe, but for whole sections that other code makes."""
    words = (*call.keywords, *call.bindings)
    return [word for word in words if "." in word.name or not isinstance(word.value, Call)]


def _class(call: Call) -> str:
    """The class of an object, also where the project has the library itself."""
    return call.kind or call.callee.rpartition(".")[2]


def constants_table(constants: Iterable[Entry]) -> Table:
    """Module-level names as a table. Their keys have no places: any other names may stand beside them."""
    return Table(tuple([Entry(entry.key, None, _plain(entry.value, entry.key_place)) for entry in constants]))


def _plain(value: Value, at: Place | None) -> Value:
    """A value as a data file would have it; what stands for a name is its dotted path, at the key `at`."""
    match value:
        case Name(qualified=qualified):
            return Scalar(qualified, at or value.place)
        case Table():
            entries = [Entry(item.key, None, _plain(item.value, item.key_place)) for item in value]
            return Table(tuple(entries), value.place or at)
        case Items():
            return Items(tuple([_plain(item, at) for item in value.values]), value.place or at)
        case Call():
            given = (*value.keywords, *value.bindings)
            kind = Entry("type", None, Scalar(_class(value), value.place))
            return _nested(
                (kind, *(Entry(word.name, None, _plain(word.value, word.name_place)) for word in given)), value
            )
    return value


def _nested(entries: tuple[Entry, ...], call: Call) -> Table:
    """The arguments of an object; attributes that it is given later, `text_config.ep_size`, under their dots."""
    from vramlint.surfaces.launch.options import nested
    from vramlint.surfaces.overlay import overlaid

    table = Table((), call.place)
    for entry in entries:
        table = overlaid(table, nested(entry.key, None, entry.value))
    return table


def read_python(document: Document) -> Reading:
    """The module-level names of a file as the tree of a data file."""
    from vramlint.readers.python import read_program

    program, problems = read_program(document, {})
    return Reading(constants_table(program.constants) if program is not None else None, problems)
