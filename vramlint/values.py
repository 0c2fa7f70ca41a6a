"""Located values: what every reader returns and every surface takes.

One small algebra serves JSON, YAML, TOML and Python. Data files use `Scalar`, `Items` and `Table`
only; a Python program also has names, calls, alternatives and things that only run time knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from vramlint.text import Document, Place

Plain = str | int | float | bool | None


COMMENT = "comment"
"""`Scalar.via` of words of a comment."""


class Scalar(Struct, frozen=True):
    """A known number, string, bool or null.

    `place` is where the value is *written* (the literal of an argparse default, not the line that uses
    it); None when no file writes it. `via` says by which road it came.
    """

    value: Plain
    place: Place | None = None
    via: str = "literal"
    """literal, module-constant, function-default, argparse-default, dataclass-default, click-default,
    computed, config-file, environment (also the default of a shell's `${X:-8}`), cli (a word of a command line), shell
    (written in the command itself), shell-variable (in an assignment; of `--lr=$LR` the place is that of the part
    behind `=`), comment."""


class Items(Struct, frozen=True):
    """A list, tuple or set."""

    values: tuple[Value, ...]
    place: Place | None = None


class Entry(Struct, frozen=True):
    """One `key: value` of a table; `key_place` covers the key as written."""

    key: str
    key_place: Place | None
    value: Value


class Table(Struct, frozen=True):
    """An object, mapping or dict literal, in written order. A later entry wins over an earlier one."""

    entries: tuple[Entry, ...]
    place: Place | None = None

    def get(self, *path: str) -> Value | None:
        """The value under nested keys, None when a key is absent or something on the way is no table."""
        entry = self.entry(*path)
        return entry.value if entry else None

    def entry(self, *path: str) -> Entry | None:
        """The entry under nested keys."""
        for item in reversed(self.entries):
            if item.key == path[0]:
                if len(path) == 1:
                    return item
                return item.value.entry(*path[1:]) if isinstance(item.value, Table) else None
        return None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


class Name(Struct, frozen=True):
    """A qualified name that stands for itself: `torch.bfloat16`, `transformers.Trainer`."""

    qualified: str
    place: Place | None = None


class Unknown(Struct, frozen=True):
    """A value that only run time knows, and why ("positional argument of main", "environment variable X")."""

    reason: str
    place: Place | None = None
    prefix: str = ""
    """The text that it surely begins with, where it is a word of a command line: `--output_dir=` of
    `--output_dir=$OUT`."""
    suffix: str = ""
    """The text that it surely ends with: `/src/train.py` of `$ROOT/src/train.py`."""


class Option(Struct, frozen=True):
    """One possible value and the source text of the undecided condition under which it holds."""

    value: Value
    condition: str = ""


class Alternatives(Struct, frozen=True):
    """The values of a branch that could not be decided. At least two, never nested."""

    options: tuple[Option, ...]
    place: Place | None = None


class Keyword(Struct, frozen=True):
    """A keyword argument. `name_place` covers the `name` token, None if it came through `**kwargs`."""

    name: str
    value: Value
    name_place: Place | None = None


class Call(Struct, frozen=True):
    """A call that the program makes.

    `callee` is qualified through imports and aliases: `transformers.TrainingArguments`,
    `transformers.AutoModelForCausalLM.from_pretrained`. For a method of a value it is the bare method
    name behind a dot (`.gradient_checkpointing_enable`) and `receiver` is the value.
    For a class defined in the file that extends a library class, `callee` is the library class.
    """

    callee: str
    args: tuple[Value, ...]
    keywords: tuple[Keyword, ...]
    place: Place
    receiver: Value | None = None
    bases: tuple[str, ...] = ()
    """For classes of the analysed code: all qualified base names, nearest first."""
    kind: str = ""
    """For classes of the analysed code: the class's own name."""
    conditions: tuple[str, ...] = ()
    """Source text of the undecided branches that this call stands in; empty when it surely runs."""
    open_keywords: bool = False
    """True when a `**mapping` could not be seen through: absent keywords are then unknown, not default."""
    hidden: Unknown | None = None
    """Why a file of settings that may give further keywords can't be read."""
    from_command_line: bool = False
    """True when a command-line parser builds the object (`HfArgumentParser`): `keywords` hold the file's own
    defaults, what is absent has the library's, and the command line may override any of them."""
    bindings: tuple[Keyword, ...] = ()
    """Attributes assigned to the result later on (`args.fp16 = True`, `model.config.use_cache = False` as
    `config.use_cache`), in order; they override keywords."""
    owner: Value | None = None
    """Whose attribute the receiver is, where it is one: `model` of `model.bert.pooler.requires_grad_(False)`."""
    path: str = ""
    """Which attribute: `bert.pooler`."""
    decided: tuple[Place, ...] = ()
    """Where the settings are written that decided the innermost branch that this call stands in."""
    entered: Place | None = None
    """Of a call in another module: the call in the program's own file that led to it."""
    loops: tuple[Place, ...] = ()
    """What the loops around it go over, outermost first."""

    def argument(self, name: str, position: int | None = None) -> Value | None:
        """The value for parameter `name`: later attribute assignment, keyword, or positional argument."""
        for keyword in reversed((*self.keywords, *self.bindings)):
            if keyword.name == name:
                return keyword.value
        if position is not None and position < len(self.args):
            return self.args[position]
        return None


PATCHED = ".__set__"
"""Ends the callee of a `Call` that stands for a function of a library being replaced: its arguments are the texts of
those of the program that may have taken its place."""

Value = Scalar | Items | Table | Name | Unknown | Alternatives | Call


class Cut(Struct, frozen=True):
    """Where a program brings tokens to one length: rows of joined samples, or samples that it cuts or fills alone."""

    length: Value
    place: Place
    """The function that cuts."""
    joined: bool
    """Samples are joined before they are cut."""
    conditions: tuple[str, ...] = ()
    """Source text of the undecided branches in which it is used."""
    mapped: bool = True
    """It is mapped over a data set; else it is part of a class of data sets."""


class Decision(Struct, frozen=True):
    """What settings decided: a side of a branch, an operand, a value of a table."""

    by: tuple[Place, ...]
    """Where the settings' values are written."""
    taken: tuple[Place, ...] = ()
    """What they selected: statements, an expression, where its value is written."""
    skipped: frozenset[str] = frozenset()
    """What the other side would have called, assigned, passed or named: `get_peft_model`, `load_in_4bit`."""


class Passed(Struct, frozen=True):
    """A value that is passed on under a keyword, or as a call's first argument, on another line than it stands on."""

    value: Place
    name: str
    """The keyword, empty for a first argument."""
    places: tuple[Place, ...]


class Program(Struct, frozen=True):
    """What a Python file does, as far as it can be known without running it."""

    path: str
    calls: tuple[Call, ...]
    """All calls that may run, in execution order, functions inlined where they are called; a function that
    nothing in the file calls is evaluated once with its defaults (its undefaulted parameters are unknown)."""
    imports: tuple[str, ...] = ()
    """Qualified names of everything imported."""
    constants: tuple[Entry, ...] = ()
    """Module-level names with their final values."""
    settings: tuple[Entry, ...] = ()
    """Command-line settings of the program: argparse / fire / click / dataclass fields with their defaults."""
    cuts: tuple[Cut, ...] = ()
    """Where it brings tokens to one length."""
    decisions: tuple[Decision, ...] = ()
    passed: tuple[Passed, ...] = ()
    files: tuple[tuple[str, Place], ...] = ()
    """Data files that the program loads, and where their paths are written."""
    searches: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What a search over settings varies: its name there, and the values tried, as `name = value`."""


class Invocation(Struct, frozen=True):
    """How a program is started: the command line and the environment that it finds."""

    arguments: tuple[Value, ...]
    """What stands behind the program's own name, one value a word: a `Scalar` of text with its place in the launcher,
    `Alternatives`, of which an option that is `Items` stands for its several words or none, or an `Unknown`, which may
    also stand for several words or none."""
    environment: tuple[Entry, ...] = ()
    """Variables that the launcher sets, the last of a name wins."""
    place: Place | None = None


class Command(Struct, frozen=True):
    """A command that a shell script, a job file or a notebook runs."""

    words: tuple[Value, ...]
    """The program and its arguments after expansion, as `Invocation.arguments`. A word's place is where its value is
    *written* (the assignment `MODEL=…`), not where `$MODEL` stands."""
    word_places: tuple[Place, ...]
    """Where each word stands in the command."""
    place: Place
    environment: tuple[Entry, ...] = ()
    """Variables exported so far and those assigned in front of the command."""
    folder: Value | None = None
    """The working directory after `cd`, relative to that in which the script starts; None: that one itself."""
    conditions: tuple[str, ...] = ()
    """Source text of the undecided branches that it stands in."""
    label: str = ""
    """Which turn of a loop (`MODEL=gpt2`), empty outside of loops."""


class WrittenFile(Struct, frozen=True):
    """A file that a script writes itself, by a heredoc, `echo … > file` or `jq … > file`."""

    name: Value
    document: Document | None
    """Its text at the very place where the script holds it: the script's document, all else blanked. None where only
    run time knows what it is."""
    place: Place
    after: int = 0
    """How many of the shell's commands come before it: of several files of one name a command finds the last that was
    written before it."""


class Shell(Struct, frozen=True):
    """What a shell script does, as far as it can be known without running it."""

    path: str
    commands: tuple[Command, ...]
    """In execution order, functions inlined where they are called, loops over known words unrolled."""
    files: tuple[WrittenFile, ...] = ()
    headers: tuple[Entry, ...] = ()
    """Options in `#SBATCH`, `#PBS`, `#$` and `#BSUB` comments: `--gres` -> `gpu:h100:4`."""


def plain(value: Value | None) -> object:
    """The Python object behind a wholly known value: scalars, lists, dicts; names as their string.

    Raises:
        ValueError: part of the value is unknown, alternative or a call.
    """
    match value:
        case Scalar():
            return value.value
        case Items():
            return [plain(item) for item in value.values]
        case Table():
            return {entry.key: plain(entry.value) for entry in value.entries}
        case Name():
            return value.qualified
        case _:
            raise ValueError("not wholly known")


class Problem(Struct, frozen=True):
    """A file, or part of it, that could not be read: a syntax error, a duplicate key, a wrong encoding."""

    kind: str
    """syntax-error, unreadable-file, unknown-form, duplicate-key, json-extension, not-utf8, too-large, empty-file,
    bad-directive, bad-setting"""
    message: str
    place: Place


class Reading(Struct, frozen=True):
    """The outcome of reading one data file: a tree, or None with the problems that prevented it."""

    root: Value | None
    problems: tuple[Problem, ...] = field(default=())
