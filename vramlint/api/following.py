"""What one launch of a program says, once the program is read with its command line."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile

from msgspec.structs import replace

from vramlint.api.atlas import Concerns
from vramlint.api.loading import Known, Recorder, with_written
from vramlint.api.starts import plain
from vramlint.api.trials import Searched, Trial, multirun
from vramlint.api.world import world_of
from vramlint.catalog.frameworks import FRAMEWORKS
from vramlint.discovery.forms import is_no_run
from vramlint.discovery.prefilter import hands_on, is_python_config, may_train
from vramlint.facts import Candidate, Fact, Sheet, Started
from vramlint.resolve.context import Context, ancestors, find_module
from vramlint.surfaces.launch import Launch, Workload, launched, sheet_of_command, sheet_of_options
from vramlint.surfaces.launch.framework_programs import framework_program
from vramlint.text import Document, Place
from vramlint.values import Command, Problem, Scalar, Value


class Follower:
    """Reads what one launch of a workload starts.

    Args:
        workload: the commands around it.
        launch: what is started, and how.
        context: file access, and the declared machine.
        known: answers to what the started script asks at run time.
        chosen: of a search over settings one trial; None: any.
    """

    def __init__(
        self, workload: Workload, launch: Launch, context: Context, known: Known, chosen: Trial | None = None
    ) -> None:
        self._workload = workload
        invocation, searched = multirun(launch.invocation)
        self._launch = launch = replace(launch, invocation=invocation)
        self._chosen = chosen
        self._searched: Searched = (*workload.searched, *searched)
        self._whole = context
        self._written = _written(workload)
        self._loaded = Recorder(with_written(context.load, self._written))
        self._context = replace(context, load=self._loaded)
        self._known = known
        self._folders = _folders(workload, launch, context)
        self._world = world_of(context, launch.facts, launch.invocation.environment)

        self._words = _words(launch.command)

    def sheet(self) -> tuple[Sheet | None, tuple[Problem, ...]]:
        """What the started program says; None when it trains nothing, or is a test."""
        if is_no_run(self._file_name()):
            return None, ()
        problems: tuple[Problem, ...] = ()
        sheet: Sheet | None = None
        own = framework_program(self._launch.program, self._launch.invocation)
        is_read = self._launch.kind != "command" and (own is None or own.stands_in)
        script = self._script() if is_read else None
        words = self._launch.invocation.arguments
        if script is not None and not self._known.idle.knows(script.path, words):
            sheet, problems = self._program(script)
            self._known.idle.note(script.path, words, trains=sheet is not None and _trains(sheet))
            if problems and not may_train("python", script.text.encode(errors="replace")):
                return None, ()
        if sheet is None or not _trains(sheet):
            elsewhere = sheet_of_command(self._launch) if script is None else None
            sheet = elsewhere or self._by_options(script) or sheet
        if sheet is None or not _trains(sheet):
            return None, problems
        return self._joined(sheet), problems

    def has_to_do_with(self, concerns: Concerns) -> bool:
        """Whether the started script, or what it is given, is asked for."""
        script = self._script() if self._launch.kind != "command" else None
        if script is not None and concerns.script(script):
            return True
        return any(concerns.word(repr(plain(word))) for word in self._launch.invocation.arguments)

    def script_path(self) -> str:
        """The path of the started script, empty where the project has none."""
        script = self._script() if self._launch.kind != "command" else None
        return "" if script is None else script.path

    def may_train(self) -> bool:
        """Whether it looks as if something trained, before anything is read."""
        script = self._script() if self._launch.kind != "command" else None
        if is_no_run(self._file_name()):
            return False
        return script is None or may_train("python", script.text.encode(errors="replace"))

    def trials(self, sheet: Sheet) -> Iterator[Sheet]:
        """The sheets of the trials, where the program or what starts it searches over settings; else the one sheet."""
        if not self._searched:
            yield sheet
            return
        from vramlint.api.trials import narrowed, sheets

        def read(trial: Trial) -> Sheet | None:
            invocation = self._launch.invocation
            words = tuple([narrowed(word, trial) for word in invocation.arguments])
            launch = replace(self._launch, invocation=replace(invocation, arguments=words))
            one, _ = Follower(self._workload, launch, self._whole, self._known, trial).sheet()
            return one and replace(one, started=sheet.started, sources=sheet.sources)

        yield from sheets(sheet, self._searched, read)

    def _file_name(self) -> str:
        """The last part of the program's path; a module's is its file's."""
        program = self._launch.program
        if self._launch.kind == "module":
            return f"{program.rpartition('.')[2]}.py"
        return "" if self._launch.kind == "command" else posixpath.basename(program)

    def _by_options(self, script: Document | None) -> Sheet | None:
        """What the options alone say, where they are a Trainer's."""
        if self._launch.kind == "command":
            return None
        program = self._launch.program or "the program"
        if script is None:
            return sheet_of_options(self._launch, f"{program} is not in the project")
        if not hands_on(script.text.encode(errors="replace")):
            return None
        return sheet_of_options(self._launch, f"{program} hands its training on to code that cannot be followed")

    def _script(self) -> Document | None:
        """The started file, where the project has it."""
        program = self._launch.program
        if self._launch.kind == "module":
            path = self._workload.path
            # of a package, `-m` runs its __main__
            return find_module(path, self._context, f"{program}.__main__") or find_module(path, self._context, program)
        return next(filter(None, map(self._context.load, _paths(program, self._folders))), None)

    def _program(self, script: Document) -> tuple[Sheet | None, tuple[Problem, ...]]:
        readings = self._known.readings
        program, problems = readings.read(
            script,
            self._known(script.path, self._world),
            lambda module: find_module(script.path, self._context, module),
            invocation=self._launch.invocation,
            files=self._file(script.path),
            chosen=self._chosen,
        )
        self._searched = (*self._searched, *(program.searches if program else ()))
        if program is not None and is_python_config(script.text.encode(errors="replace")):
            from vramlint.surfaces.frameworks.python_configs import entry_config, recipe_config

            config = recipe_config(program) or entry_config(program)
            if config is not None:
                return config.sheet(script.path, self._launch.invocation), problems
        return (readings.sheet(program) if program else None), problems

    def _file(self, script: str) -> Callable[[str], Document | None]:
        """Data files by the path as written: in the folder that the program is started in, else beside it."""
        places = (*self._folders, posixpath.dirname(script) or ".")
        return lambda path: next(filter(None, map(self._context.load, _paths(path, places))), None)

    def _joined(self, sheet: Sheet) -> Sheet:
        """The sheet with the facts, links and the name of its launcher."""
        sheet = launched(sheet, self._launch)
        command = self._launch.command
        self._look_at_configurations(sheet)
        return replace(
            sheet,
            facts=tuple(self._reached(_conditional(fact, command.conditions)) for fact in sheet.facts),
            started=Started(self._workload.path, "", command.place, self._folders, self._written, self._made()),
            sources=tuple(path for path in self._loaded.found if path not in (sheet.path, self._workload.path)),
        )

    def _look_at_configurations(self, sheet: Sheet) -> None:
        """Load the framework's files that the command names, which makes them part of this job."""
        for link in sheet.links:
            if link.kind == sheet.kind and link.kind in FRAMEWORKS:
                next(filter(None, map(self._loaded, _paths(link.target, self._folders))), None)

    def _made(self) -> frozenset[str]:
        """Names of the files that come into being before the program starts: `gen.py --out ds.json`, `sed … > ds.json`.

        A command that starts the same program only reads them.
        """
        own, program = self._launch.command, self._launch.program
        earlier = takewhile(lambda command: command.place != own.place, self._workload.commands)
        texts = (tuple(filter(None, map(_text, command.words))) for command in earlier)
        handled = (text for words in texts if not _starts(words, program) for text in words[1:])
        printed = (_text(file.name) for file in self._workload.files if file.document is None)
        return frozenset(_last_part(text) for text in (*handled, *printed) if text and text.endswith(_CONFIGURATIONS))

    def _reached(self, fact: Fact) -> Fact:
        """A fact that the started script says is reached through the command; of a variable's value a word is."""
        place = self._launch.program_place
        inside = fact.place is not None and fact.place.path == self._workload.path
        if inside:
            return replace(fact, also=(*fact.also, *self._words.get(fact.place, ())))
        return fact if place is None else replace(fact, through=(*fact.through, place))


def _words(command: Command) -> Mapping[Place | None, tuple[Place, ...]]:
    """Where in a command the values of variables stand, by the place where these are written."""
    found: dict[Place | None, tuple[Place, ...]] = {}
    for word, place in zip(command.words, command.word_places, strict=True):
        if word.place is not None and word.place.span.line != place.span.line:
            found[word.place] = (*found.get(word.place, ()), place)
    return found


def _conditional(fact: Fact, conditions: Sequence[str]) -> Fact:
    """A start in an undecided branch is a job of its own, so its facts hold; the run's kind says when it happens."""
    if fact.name != "run_kind" or not conditions:
        return fact
    condition = " and ".join(conditions)
    return replace(fact, candidates=tuple(Candidate(item.value, item.place, condition) for item in fact.candidates))


def _trains(sheet: Sheet) -> bool:
    kind = sheet.get("run_kind")
    return kind is not None and any(item.value == "training" for item in kind.candidates)


_CONFIGURATIONS = (".json", ".yaml", ".yml", ".toml", ".hjson")


def _written(workload: Workload) -> tuple[tuple[str, Document], ...]:
    return tuple(
        (_last_part(str(file.name.value)), file.document)
        for file in workload.files
        if isinstance(file.name, Scalar) and file.document is not None
    )


def _starts(words: Sequence[str], program: str) -> bool:
    """Whether a command is another start of a program, or of a tool: `llamafactory-cli train`."""
    return program in words or (" " in program and set(program.split()) <= set(words))


def _text(word: Value) -> str | None:
    return word.value if isinstance(word, Scalar) and isinstance(word.value, str) else None


def _last_part(path: str) -> str:
    """`ds.json` of `configs/ds.json` and of `--out=configs/ds.json`."""
    return path.replace("\\", "/").rpartition("/")[2].rpartition("=")[2]


def _folders(workload: Workload, launch: Launch, context: Context) -> tuple[str, ...]:
    """Where the command may run: where its `cd` leads from each folder that the launcher may be started in."""
    starts = tuple(dict.fromkeys((*ancestors(workload.path, context.root), ".")))
    folder = launch.command.folder
    if not (isinstance(folder, Scalar) and isinstance(folder.value, str)):
        return starts
    moved = (posixpath.normpath(posixpath.join(start, folder.value)) for start in (".", *starts))
    return tuple(dict.fromkeys((*moved, *starts)))


def _paths(target: str, folders: Sequence[str]) -> Iterator[str]:
    """Where a file named `target` may lie. The head of an absolute path is that of another machine: a container's."""
    target = target.replace("\\", "/")
    if posixpath.isabs(target):
        yield target
        parts = target.strip("/").split("/")
        tails = ["/".join(parts[index:]) for index in range(1, len(parts))]
    else:
        tails = [target]
    for tail in tails:
        for folder in folders:
            yield posixpath.normpath(posixpath.join(folder, tail))
