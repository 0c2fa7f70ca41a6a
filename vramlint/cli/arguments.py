"""Commands and their options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from vramlint import __version__
from vramlint.cli.errors import UsageError, did_you_mean
from vramlint.sizes import parse_limit, parse_size

COMMANDS = MappingProxyType(
    {
        "check": "check files and folders (what `vramlint PATHS` does)",
        "explain": "everything known about the run in one file, and where each value comes from",
        "fit": "the cheapest changes with which the runs in one file fit their GPU",
        "diff": "what a change does to the peaks of all runs",
        "rule": "list the rules, or print one",
        "gpus": "list the GPUs of the catalog",
        "models": "list the models of the catalog",
        "init": "look at a repository, and write its settings, hook and workflow",
    }
)
LEVELS = ("error", "warning", "info")
CHECK_FORMATS = ("full", "concise", "json", "sarif", "github")
TEXT_FORMATS = ("text", "json")
DIFF_FORMATS = ("text", "json", "markdown")

MAXIMIZED = ("micro-batch", "seq-len", "lora-rank")

_TAKES_VALUE = frozenset(
    {
        "--allow",
        "--apply",
        "--baseline",
        "--color",
        "--config",
        "--fail-on",
        "--format",
        "--gpu",
        "--gpus-per-node",
        "--headroom",
        "--ignore",
        "--job",
        "--max-increase",
        "--maximize",
        "--nodes",
        "--nvme",
        "--output-file",
        "--ram",
        "--select",
        "--stdin-filename",
        "--timeline",
        "--why-not",
        "-o",
    }
)
"""Options whose next word is their value, so that it isn't taken for a command."""


def find_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command that the first positional argument names, and the other arguments.

    Without one, or when a file of that name exists, it is `check`.
    """
    skip = False
    for position, word in enumerate(arguments):
        if skip or (word.startswith("-") and word != "-"):
            if word == "--":
                break
            skip = not skip and word in _TAKES_VALUE
            continue
        if word in COMMANDS and not os.path.isfile(word):
            return word, [*arguments[:position], *arguments[position + 1 :]]
        break
    return "check", list(arguments)


def parse(command: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command.

    Raises:
        UsageError: an unknown option, a missing or a wrong value.
    """
    parser = _PARSERS[command]()
    options, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        word = unknown[0].partition("=")[0]
        if not word.startswith("-"):
            raise UsageError(f"unexpected argument {word!r}")
        known = [option for action in parser._actions for option in action.option_strings]
        raise UsageError(f"unknown option {word!r}{did_you_mean(word, known)}")
    return options


_Help = argparse.RawDescriptionHelpFormatter
_UNASKED = partial(_Help, width=80)
"""Formats nothing, but is made for every option that is added: without a width it would ask for the terminal's, with
`shutil`, which imports all that unpacks archives."""


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        self.formatter_class = _Help
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _parser(command: str, description: str, usage: str) -> _Parser:
    parser = _Parser(
        prog="vramlint" if command == "check" else f"vramlint {command}",
        description=description,
        usage=usage,
        allow_abbrev=False,
        formatter_class=_UNASKED,
    )
    parser.add_argument("-V", "--version", action="version", version=f"vramlint {__version__}")
    parser.add_argument(
        "--color",
        type=one_of(("auto", "always", "never")),
        default="auto",
        metavar="WHEN",
        help="auto, always or never",
    )
    return parser


def one_of(choices: Iterable[str]) -> Callable[[str], str]:
    """An argparse type that takes one of `choices` and suggests the nearest for anything else."""
    known = tuple(choices)

    def convert(text: str) -> str:
        if text in known:
            return text
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}{did_you_mean(text, known)}")

    return convert


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if 0 < value <= 1:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is no part between 0 and 1, such as 0.9")


def _size(text: str) -> str:
    if parse_size(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512GiB")
    return text


def _limit(text: str) -> str:
    if parse_limit(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1GiB and no part such as 5%")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _check() -> _Parser:
    commands = "\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())
    parser = _parser(
        "check",
        f"Tell whether LLM training runs fit their GPUs, without running them.\n\ncommands:\n{commands}",
        "vramlint [COMMAND] [OPTIONS] [PATHS]",
    )
    parser.epilog = "exit status: 0 clean, 1 findings at or above --fail-on, 2 wrong usage or an internal error"
    parser.add_argument("paths", nargs="*", metavar="PATHS", help="files and folders, - for standard input; default: .")
    _hardware(parser)
    _settings(parser)
    group = parser.add_argument_group("what to report")
    group.add_argument(
        "--select",
        type=_words,
        action="extend",
        metavar="RULES",
        help="only these rules: codes, names, code prefixes, ALL",
    )
    group.add_argument("--ignore", type=_words, action="extend", metavar="RULES", help="all but these rules")
    group.add_argument(
        "--fail-on",
        type=one_of(LEVELS),
        default=None,
        metavar="LEVEL",
        help="lowest severity that gives exit status 1; default: warning",
    )
    group.add_argument("--strict", action="store_true", help="exit status 1 for jobs that cannot be judged, too")
    group.add_argument("--exit-zero", action="store_true", help="exit with 0 even when something was found")
    group.add_argument("--baseline", metavar="FILE", help="leave out the findings that this file knows")
    group.add_argument(
        "--write-baseline",
        action="store_true",
        help="write all findings down as known: in --baseline, that of the settings, or vramlint-baseline.json",
    )
    group = parser.add_argument_group("fixes")
    for name, text in (
        ("--fix", "make the fixes that leave the training's result as it is"),
        ("--unsafe-fixes", "with --fix make those too that may change it; without, count them"),
    ):
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)
    group.add_argument(
        "--diff", action="store_true", help="write nothing, show what --fix would; exit status 1 if that is anything"
    )
    group.add_argument("--fix-only", action="store_true", help="make fixes, and say nothing of what is left")
    group.add_argument("--exit-non-zero-on-fix", action="store_true", help="exit status 1 when anything was fixed")
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "--format", type=one_of(CHECK_FORMATS), default="full", metavar="FORMAT", help=", ".join(CHECK_FORMATS)
    )
    group.add_argument(
        "-o", "--output-file", metavar="FILE", help="write the findings there instead of standard output"
    )
    group.add_argument("--stdin-filename", metavar="NAME", help="the name under which standard input is read")
    group.add_argument(
        "--force-exclude",
        action="store_true",
        help="treat named files like found ones: leave out what is excluded or trains nothing",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="no summary")
    group.add_argument("-v", "--verbose", action="store_true", help="say which files were read")
    return parser


def _explain() -> _Parser:
    parser = _parser(
        "explain",
        "Print every fact about a run with its origin, and what its memory is made of.",
        "vramlint explain [OPTIONS] FILE",
    )
    parser.add_argument(
        "path", metavar="FILE", help="a script, DeepSpeed JSON or TrainingArguments file; - for standard input"
    )
    _hardware(parser)
    _settings(parser)
    parser.add_argument(
        "--format", type=one_of(TEXT_FORMATS), default="text", metavar="FORMAT", help=", ".join(TEXT_FORMATS)
    )
    parser.add_argument("-o", "--output-file", metavar="FILE", help="write there instead of standard output")
    parser.add_argument(
        "--timeline",
        metavar="FILE",
        help="write every allocation of the step as a trace for Perfetto or chrome://tracing",
    )
    parser.add_argument("--stdin-filename", metavar="NAME", help="the name under which standard input is read")
    return parser


def _fit() -> _Parser:
    parser = _parser(
        "fit",
        "Look for the cheapest changes with which the runs in a file fit their GPU: those that leave the training's\n"
        "result as it is first, then those after which a step takes least longer, then the fewest edits.",
        "vramlint fit [OPTIONS] FILE",
    )
    parser.epilog = "exit status: 0 it fits, or a plan does; 1 none does; 2 wrong usage or an internal error"
    parser.add_argument("path", metavar="FILE", help="a script or configuration; - for standard input")
    _hardware(parser, several=True)
    _settings(parser)
    group = parser.add_argument_group("what to look for")
    group.add_argument("--headroom", type=_fraction, metavar="PART", help="part of the memory to use; default: 0.95")
    group.add_argument(
        "--allow",
        type=_words,
        action="extend",
        metavar="CHANGES",
        help="changes that plans leave alone otherwise: seq-len, lora, qlora, gpus",
    )
    group.add_argument("--job", metavar="NAME", help="only this job, where the file has several")
    group.add_argument(
        "--maximize", type=one_of(MAXIMIZED), metavar="SETTING", help=f"its largest value: {', '.join(MAXIMIZED)}"
    )
    group.add_argument("--why-not", metavar="CHANGE", help="what a change would save: 8bit-adam, flash-attention, …")
    group = parser.add_argument_group("input and output")
    group.add_argument("--apply", type=_positive, metavar="N", help="make the edits of plan N")
    group.add_argument("--diff", action="store_true", help="show the edits of plan 1, or of --apply's, make none")
    group.add_argument(
        "--format", type=one_of(TEXT_FORMATS), default="text", metavar="FORMAT", help=", ".join(TEXT_FORMATS)
    )
    group.add_argument("-o", "--output-file", metavar="FILE", help="write there instead of standard output")
    group.add_argument("--stdin-filename", metavar="NAME", help="the name under which standard input is read")
    return parser


def _diff() -> _Parser:
    parser = _parser(
        "diff",
        "Compare the peaks of all runs before and after a change, and say what each rise comes from.",
        "vramlint diff [OPTIONS] BASE[..HEAD] [PATHS]\n       vramlint diff [OPTIONS] OLD NEW",
    )
    parser.epilog = (
        "BASE alone is compared with the files as they are; BASE...HEAD begins where the two parted.\n"
        "exit status: 0, or 1 where a peak rises by more than --max-increase; 2 wrong usage or an internal error"
    )
    parser.add_argument(
        "paths", nargs="+", metavar="BASE[..HEAD] [PATHS]", help="revisions of git, or two files or folders"
    )
    _hardware(parser)
    _settings(parser)
    group = parser.add_argument_group("what to report")
    group.add_argument(
        "--max-increase", type=_limit, metavar="SIZE", help="what a peak may rise by: 512MiB, 5%%, 0; default: anything"
    )
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "--format", type=one_of(DIFF_FORMATS), default="text", metavar="FORMAT", help=", ".join(DIFF_FORMATS)
    )
    group.add_argument("-o", "--output-file", metavar="FILE", help="write there instead of standard output")
    return parser


def _rule() -> _Parser:
    parser = _parser(
        "rule",
        "List the rules, print the page of one, or check rules of your own against their form and their examples.",
        "vramlint rule [OPTIONS] [NAME]\n       vramlint rule --check FILE...",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("name", nargs="?", metavar="NAME", help="code or name: VRAM101, exceeds-gpu-memory")
    choice.add_argument("--check", nargs="+", metavar="FILE", help="rule files, or folders with them")
    parser.add_argument(
        "--format", type=one_of(TEXT_FORMATS), default="text", metavar="FORMAT", help=", ".join(TEXT_FORMATS)
    )
    _settings(parser)
    return parser


def _catalog(command: str) -> Callable[[], _Parser]:
    def build() -> _Parser:
        parser = _parser(
            command,
            f"List the {command.replace('gpus', 'GPUs')} that vramlint knows.",
            f"vramlint {command} [OPTIONS] [PATTERN]",
        )
        parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="part of a name, or a glob")
        parser.add_argument(
            "--format", type=one_of(TEXT_FORMATS), default="text", metavar="FORMAT", help=", ".join(TEXT_FORMATS)
        )
        return parser

    return build


def _init() -> _Parser:
    parser = _parser(
        "init",
        "Look at a repository: which jobs it has, on which hardware. Then write a settings section, the\n"
        "pre-commit hook and a GitHub workflow. Files that are there are only added to.",
        "vramlint init [OPTIONS] [FOLDER]",
    )
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="the repository; default: .")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be written")
    parser.add_argument("--no-hook", dest="hook", action="store_false", help="leave pre-commit's configuration alone")
    parser.add_argument("--no-workflow", dest="workflow", action="store_false", help="write no GitHub workflow")
    _hardware(parser)
    _settings(parser)
    return parser


def _hardware(parser: _Parser, *, several: bool = False) -> None:
    group = parser.add_argument_group("hardware")
    if several:
        text = "the GPU, and how many: rtx3090, h100x8, 24GiB; several, each with the price of its hour: h100x8@2.50"
        group.add_argument("--gpu", type=_words, action="extend", metavar="NAME[xN]", help=text)
    else:
        group.add_argument("--gpu", metavar="NAME[xN]", help="the GPU, and how many: rtx3090, a100-80gb, h100x8, 24GiB")
    group.add_argument("--gpus-per-node", type=_positive, metavar="N", help="GPUs of one machine")
    group.add_argument("--nodes", type=_positive, metavar="N", help="machines of the run")
    group.add_argument("--ram", type=_size, metavar="SIZE", help="host memory of one machine: 512GiB")
    group.add_argument("--nvme", type=_size, metavar="SIZE", help="NVMe of one machine for offloading: 2TiB")


def _settings(parser: _Parser) -> None:
    group = parser.add_argument_group("settings")
    group.add_argument("--config", metavar="FILE", help="a vramlint.toml or pyproject.toml; default: the nearest one")
    group.add_argument("--isolated", action="store_true", help="read no settings file")


_PARSERS: Mapping[str, Callable[[], _Parser]] = MappingProxyType(
    {
        "check": _check,
        "explain": _explain,
        "fit": _fit,
        "diff": _diff,
        "rule": _rule,
        "gpus": _catalog("gpus"),
        "models": _catalog("models"),
        "init": _init,
    }
)
