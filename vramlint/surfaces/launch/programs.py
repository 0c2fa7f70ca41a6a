"""Where a command line ends: Python with a script or a module, and tools that train by themselves."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.launch import grammars
from vramlint.surfaces.launch.clis import CLIS, MODULES, Cli, config_links, tool_of
from vramlint.surfaces.launch.counts import count
from vramlint.surfaces.launch.presets import preset_of
from vramlint.surfaces.launch.ranks import NODES, PER_NODE, WORLD, every_visible
from vramlint.surfaces.launch.road import Ranks, Road, number_of
from vramlint.surfaces.launch.starters import accelerate, torchrun
from vramlint.surfaces.launch.words import Line, Parsed, Word, after, canonical, looks_like_program, named, parse
from vramlint.surfaces.numbers import by_default, devices, renamed, times
from vramlint.values import Scalar

_PYTHON = lazy(r"(?:python|pypy)[\d.]*w?(?:\.exe|\.sh)?$|ipython3?$|pythonw$")
_NO_TRAINING = lazy(
    r"(?:pip|venv|virtualenv|http|pytest|unittest|build|twine|json|ensurepip|compileall|timeit|site|sysconfig|zipfile|tarfile"
    r"|black|isort|ruff|mypy|flake8|pylint|pre_commit|ipykernel|jupyter|jupyterlab|notebook|nltk|wheel|setuptools|piptools"
    r"|pip_tools|uv|conda|vllm|sglang|tensorboard|lm_eval|lighteval|evalplus|huggingface_hub|gdown|wget|grpc_tools|cython"
    r"|streamlit|gradio|uvicorn|gunicorn|flask|django|sphinx|mkdocs|datasets|bitsandbytes|xformers|spacy|torch\.utils)(?:\.|$)"
)
"""Modules that `python -m` runs and that train nothing."""

_MODULE = lazy(r"-[bBdEiIOqsSuvx]*m")
"""`-m`, also behind other letters: `-um`."""
_NO_PROGRAM = lazy(r"-$|-[a-zA-Z]*c$|-[hV]|--version|--help")
"""Options of Python after which no script follows: a program in a word, on standard input, or none."""

_NO_SCRIPTS = frozenset({"setup.py", "conftest.py", "manage.py"})
_STARTS: dict[str, str] = {
    "torch.distributed.run": "torchrun",
    "torch.distributed.launch": "torchrun",
    "accelerate.commands.launch": "accelerate-launch",
    "deepspeed.launcher.runner": "deepspeed",
    "composer.cli.launcher": "composer",
}
"""Modules that are launchers."""

_AROUND = frozenset(
    (
        "debugpy",
        "pdb",
        "ipdb",
        "cProfile",
        "profile",
        "trace",
        "coverage",
        "kernprof",
        "memory_profiler",
        "scalene",
        "viztracer",
        "mpi4py",
        "torch.utils.bottleneck",
        "line_profiler",
        "memray",
        "pudb",
        "runpy",
    )
)
"""Modules that run the script behind them under their own eyes."""


def is_python(word: Word) -> bool:
    """Whether a word names the interpreter."""
    return _PYTHON.match(named(word)) is not None


def python(road: Road) -> Iterator[Road]:
    """What `python …` runs: the end of the road, or a launcher that is a module."""
    line = road.line
    at = 1
    while at < len(line):
        text = line[at].text
        if text is None and not line[at].program:
            if not any(looks_like_program(word.program) or word.text == "-m" for word in line[at + 1 :]):
                return
        elif text is None:
            yield from script(road, line[at:], line[0])
            return
        elif flag := _MODULE.match(text):
            yield from _module(road, line, at, text[flag.end() :])
            return
        elif _NO_PROGRAM.match(text):
            return
        elif text in ("-W", "-X", "-Q"):
            at += 1
        elif not text.startswith("-") and text:
            yield from script(road, line[at:], line[0])
            return
        at += 1


def _with_launcher(road: Road, name: str, word: Word) -> Road:
    return road if road.launcher is not None else road._replace(launcher=(name, word))


def _module(road: Road, line: Line, at: int, glued: str) -> Iterator[Road]:
    rest = line[at:] if glued else line[at + 1 :]
    if not rest:
        return
    name = glued or rest[0].text
    if name in _STARTS:
        yield road._replace(line=(Word(Scalar(_STARTS[name], rest[0].written), rest[0].place), *rest[1:]))
    elif name in _AROUND:
        found = next((index for index, word in enumerate(rest) if index and looks_like_program(word.program)), None)
        if found is not None:
            yield from script(road, rest[found:], line[0])
    else:
        yield from module(_with_launcher(road, "python", line[0]), rest, name)


def script(road: Road, line: Line, interpreter: Word | None = None) -> Iterator[Road]:
    """The script at the head of `line`, run by Python itself where an interpreter is given."""
    road = _with_launcher(road, "python", interpreter) if interpreter is not None else road
    name = line[0].program
    if posixpath.basename(name) in _NO_SCRIPTS:
        return
    yield _linked(road, name, line[1:]).ends("script", line[0], name, line[1:])


def module(road: Road, line: Line, name: str | None = None) -> Iterator[Road]:
    """The module at the head of `line`."""
    text = name if name is not None else line[0].text
    if text is None:
        yield road.ends("module", line[0], "", line[1:])
    elif text in MODULES:
        yield from tool(road, line, MODULES[text])
    elif not _NO_TRAINING.match(text):
        yield _linked(road, text, line[1:]).ends("module", line[0], text, line[1:])


def _linked(road: Road, program: str, arguments: Line) -> Road:
    """With the configuration that a tool's own script or module is given."""
    found = tool_of(program)
    return road._replace(links=(*road.links, *config_links(found[0], arguments))) if found else road


def tool(road: Road, line: Line, name: str) -> Iterator[Road]:
    """A tool that trains by itself, if its subcommand does.

    Args:
        road: what was found so far.
        line: from the tool's own name on.
        name: of the tool.
    """
    cli = CLIS[name]
    if len(line) < 2 or line[1].text not in cli.commands:
        return
    taken = 3 if name == "nemo" else 2
    program = " ".join([name, *[word.text or "" for word in line[1:taken]]])
    arguments = line[taken:]
    alone = road.launcher is None
    road = _with_launcher(road, name, line[0])
    if name == "tune":
        parsed = parse(arguments, grammars.TUNE, inner=False)
        arguments = parsed.rest
        if not arguments:
            return
        # a recipe of the project's own is read by its configuration too
        program, arguments = f"{program} {arguments[0].text or arguments[0].program}".strip(), arguments[1:]
        road = torchrun(parsed, road)
    elif name == "axolotl" and alone:
        road, arguments = _of_axolotl(road, arguments)
    elif name == "trl" and alone:
        road, arguments = _through_accelerate(road, arguments)
    elif alone:
        road = _of_environment(road, arguments, cli, name)
    links = config_links(name, arguments)
    yield road._replace(links=(*road.links, *links)).ends("command", line[1], program, arguments)


_TRAINERS_OWN = frozenset(
    (
        "gradient_accumulation_steps",
        "debug",
        "fsdp_min_num_params",
        "fsdp_transformer_layer_cls_to_wrap",
        "log_dir",
        "env",
        "help",
        "fp16",
        "bf16",
        "role",
        "module",
        "quiet",
        "tee",
        "use_cpu",
    )
)
"""Flags of accelerate's that the trainer's arguments have too, and take first."""


def _through_accelerate(road: Road, line: Line) -> tuple[Road, Line]:
    """`trl` and `axolotl` hand flags of `accelerate launch` on to it (trl 1.9 cli/commands/training.py)."""
    taken = grammars.ACCELERATE
    given: list[tuple[str, Word]] = []
    kept: list[Word] = []
    at = 0
    while at < len(line):
        word = line[at]
        text = word.text or ""
        head, equals, _ = text.partition("=")
        name = canonical(head) if head.startswith("--") else ""
        own = name in _TRAINERS_OWN or name not in taken.values | taken.flags | {"accelerate_config"}
        if own:
            kept.append(word)
        elif equals or name in taken.flags or at + 1 == len(line):
            given += parse((word,), taken, inner=False).repeated
        else:
            given.append((name, line[at + 1]))
            at += 1
        at += 1
    given_options = dict(given)
    preset = given_options.pop("accelerate_config", None)
    table = preset_of(preset) if preset is not None else None
    if preset is not None and table is None:
        given_options["config_file"] = preset
    if table is not None:
        given_options.setdefault("config_file", Word(Scalar(""), line[0].place))
        road = road._replace(tables=(*road.tables, ("accelerate", table)))
    return accelerate(Parsed(given_options, tuple(kept)), road), tuple(kept)


def _of_axolotl(road: Road, line: Line) -> tuple[Road, Line]:
    """`axolotl train CONFIG --launcher torchrun -- --nproc_per_node=2`: words behind `--` are the launcher's.

    axolotl 0.18 cli/main.py and cli/utils/train.py; accelerate unless it is told otherwise.
    """
    dashes = next((index for index, word in enumerate(line) if word.text == "--"), len(line))
    own, handed = line[:dashes], line[dashes + 1 :]
    launcher = _options(own).get("launcher")
    starts = launcher.text if launcher is not None else "accelerate"
    if starts == "torchrun":
        return torchrun(parse(handed, grammars.TORCHRUN, inner=False), road), own
    if starts == "accelerate":
        road, kept = _through_accelerate(road, (*own, *handed))
        return road, tuple([word for word in kept if word in own])
    return road, own


_TORCHRUN_IF_ASKED = ("swift", "megatron")
"""Tools that start torchrun where NPROC_PER_NODE or NNODES is set, and else one process (swift cli/main.py)."""


def _of_environment(road: Road, arguments: Line, cli: Cli, name: str) -> Road:
    """Processes that a tool starts as NPROC_PER_NODE and NNODES, or its own options, say."""
    per_node: Fact | None = None
    nodes: Fact | None = None
    options = _options(arguments)
    for key, variable in (("devices", "NPROC_PER_NODE"), ("num_nodes", "NNODES")):
        entry = road.variable(variable)
        fact = PER_NODE if key == "devices" else NODES
        found = number_of(fact, entry) if entry is not None else None
        word = options.get(key)
        if name == "litgpt" and word is not None and word.text != "auto":
            found = count(fact, word, f"--{key}", devices if "," in (word.text or "") else None)
        per_node, nodes = (found, nodes) if key == "devices" else (per_node, found)
    if per_node is None and cli.every_gpu:
        per_node = every_visible(road, name, "NPROC_PER_NODE", road.launcher[1] if road.launcher else None)
    if name in _TORCHRUN_IF_ASKED and per_node is None:
        if nodes is None:
            return road._replace(launcher=("python", road.launcher[1])) if road.launcher else road
        per_node = by_default(PER_NODE, 1, "torchrun starts one process a machine unless NPROC_PER_NODE says otherwise")
    if per_node is None:
        return road
    machines = nodes or by_default(NODES, 1, f"{name} runs on one machine unless NNODES says otherwise")
    return road._replace(ranks=Ranks(times(WORLD, per_node, machines), renamed(per_node, PER_NODE), machines))


def _options(arguments: Line) -> dict[str, Word]:
    found: dict[str, Word] = {}
    for index, word in enumerate(arguments):
        head, equals, _ = (word.text or "").partition("=")
        if not head.startswith("--"):
            continue
        if equals:
            found[canonical(head)] = after(word, len(head) + 1)
        elif index + 1 < len(arguments):
            found[canonical(head)] = arguments[index + 1]
    return found
