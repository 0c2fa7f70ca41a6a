"""Programs that start another program: what each takes for itself, and what it says about the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.catalog.instances import gpus_of
from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.launch import grammars
from vramlint.surfaces.launch.counts import count
from vramlint.surfaces.launch.road import Road, assignment
from vramlint.surfaces.launch.words import Grammar, Line, Parsed, Word, after, grammar, looks_like_program, parse
from vramlint.surfaces.numbers import devices, whole
from vramlint.values import Entry, Scalar

Effect = Callable[[Parsed, Road], Road]

_ENTRY = "entrypoint"
"""The option that names the program which a container starts in place of its image's."""


def _nothing(parsed: Parsed, road: Road) -> Road:
    return road


class Wrapper(Struct, frozen=True):
    """A program that starts the one behind it."""

    options: Grammar = grammar()
    positionals: int = 0
    """Words of its own behind the options: a duration, an image, a host."""
    effect: Effect = _nothing
    """What it says about the run."""
    separator: bool = False
    """Only what stands behind `--` is another program."""


def peel(line: Line, road: Road, wrapper: Wrapper) -> Road | None:
    """The road without one wrapper; None where the wrapper starts nothing.

    Args:
        line: the words behind the wrapper's own name.
        road: what was found so far.
        wrapper: how to read it.
    """
    parsed = parse(line, wrapper.options)
    if _ENTRY in parsed.options and _ENTRY in wrapper.options.values:
        parsed = parse(line, wrapper.options, inner=False)  # the program is known, so the next word is the image
    rest = parsed.rest
    if wrapper.separator and not parsed.separated:
        at = next((index for index, word in enumerate(rest) if word.text == "--"), None)
        if at is None:
            return None
        rest = rest[at + 1 :]
    else:
        rest = rest if _are_unknown(parsed) else rest[wrapper.positionals :]
        rest = rest[1:] if rest and rest[0].text == "--" else rest
    if rest and "module" in parsed.options and "module" in wrapper.options.flags:
        flag = parsed.options["module"]
        rest = (Word(Scalar("python"), flag.place), Word(Scalar("-m"), flag.place), *rest)
    if _ENTRY in parsed.options and _ENTRY in wrapper.options.values:
        entry = parsed.options[_ENTRY]
        rest = (entry, *rest) if entry.text != "" else rest  # an empty one leaves the program to the words
    return wrapper.effect(parsed, road)._replace(line=rest) if rest else None


def _are_unknown(parsed: Parsed) -> bool:
    """Whether the wrapper's own words are those that only run time knows: `docker run $IMAGE python train.py`."""
    follows = parsed.rest[0].text if parsed.rest else None
    return parsed.open is not None and follows is not None and (follows[:1] == "-" or looks_like_program(follows))


def variables(words: Iterable[Word]) -> tuple[Entry, ...]:
    """The assignments `NAME=value` among words."""
    return tuple([entry for word in words if (entry := assignment(word))])


def _environment(*options: str) -> Effect:
    def effect(parsed: Parsed, road: Road) -> Road:
        given = variables(word for name, word in parsed.repeated if name in options)
        return road._replace(environment=(*road.environment, *given))

    return effect


def _docker(parsed: Parsed, road: Road) -> Road:
    road = _environment("env")(parsed, road)
    gpus = parsed.options.get("gpus")
    if gpus is None or gpus.text is None:
        return road
    text = gpus.text.strip("\"'")
    if text.startswith("device="):
        return road._replace(visible=count("gpus_per_node", after(gpus, gpus.text.index("=") + 1), "--gpus", devices))
    return road if text == "all" else road._replace(visible=count("gpus_per_node", gpus, "--gpus", whole))


def _sky(parsed: Parsed, road: Road) -> Road:
    road = _environment("env")(parsed, road)
    gpus, nodes = parsed.options.get("gpus"), parsed.options.get("num_nodes")
    if gpus is not None:
        road = accelerators(gpus, "--gpus", road)
    return road._replace(nodes=count("nodes", nodes, "--num-nodes")) if nodes else road


def accelerators(word: Word, key: str, road: Road) -> Road:
    """What `A100:8` grants; a name alone is one device."""
    text = word.text
    if text is None:
        return road._replace(visible=count("gpus_per_node", word, key))
    name, colon, _ = text.partition(":")
    number = after(word, len(name) + 1) if colon else Word(Scalar("1", word.written), word.place)
    return road._replace(visible=count("gpus_per_node", number, key), gpu=gpu_called(name, word, key, "sky"))


def gpu_called(name: str, word: Word, key: str, vocabulary: str = "") -> Fact | None:
    """The declared device, several where the name fits several; None where the catalog has none of that name."""
    found = gpus_of(name, vocabulary)
    candidates = tuple([Candidate(gpu, word.written) for gpu in found])
    return Fact("gpu", candidates, Origin.WRITTEN, key, "cli") if found else None


_PLAIN = Wrapper()
_CONDA = Wrapper(grammars.CONDA)
_DOCKER = Wrapper(grammars.DOCKER, 1, _docker)
_SINGULARITY = Wrapper(grammars.SINGULARITY, 1, _environment("env"))
_SKY = Wrapper(grammars.SKY, 0, _sky)
_PROFILER = Wrapper(grammar("o output t trace w s sample c d y k f e n format", "l v q"))
_RUN = Wrapper(grammar("e environment manifest_path n name project p path python"))

WRAPPERS: Mapping[str, Wrapper] = MappingProxyType(
    {
        "nohup": _PLAIN,
        "setsid": _PLAIN,
        "command": _PLAIN,
        "builtin": _PLAIN,
        "unbuffer": _PLAIN,
        "catchsegv": _PLAIN,
        "!": _PLAIN,
        "exec": Wrapper(grammar("a", "c l")),
        "time": Wrapper(grammar("f format o output", "p v a portability verbose append")),
        "timeout": Wrapper(grammar("k kill_after s signal", "v verbose preserve_status foreground"), 1),
        "sudo": Wrapper(grammar("u g h p C D R T user group host prompt chdir", "E S n b H i k preserve_env")),
        "nice": Wrapper(grammar("n adjustment", glued="n123456789")),
        "ionice": Wrapper(grammar("c class n classdata p pid", "t", glued="cn")),
        "stdbuf": Wrapper(grammar("i o e input output error", glued="ioe")),
        "chrt": Wrapper(grammar("", "b f i o r"), 1),
        "taskset": Wrapper(grammar("", "c cpu_list a all_tasks"), 1),
        "numactl": Wrapper(
            grammar(
                "N m C i p cpunodebind membind physcpubind interleave preferred cpubind", "l localalloc", glued="NmCip"
            )
        ),
        "xvfb-run": Wrapper(grammar("n s e f w server_num server_args", "a auto_servernum")),
        "conda run": _CONDA,
        "mamba run": _CONDA,
        "micromamba run": _CONDA,
        "uv run": Wrapper(grammars.UV),
        "uv tool run": Wrapper(grammars.UV),
        "uvx": Wrapper(grammars.UV),
        "poetry run": _RUN,
        "pipenv run": _RUN,
        "pixi run": _RUN,
        "pdm run": _RUN,
        "rye run": _RUN,
        "hatch run": _RUN,
        "docker run": _DOCKER,
        "docker exec": _DOCKER,
        "docker container run": _DOCKER,
        "docker compose run": _DOCKER,
        "docker compose exec": _DOCKER,
        "docker-compose run": _DOCKER,
        "docker-compose exec": _DOCKER,
        "podman run": _DOCKER,
        "podman exec": _DOCKER,
        "nvidia-docker run": _DOCKER,
        "nvidia-docker exec": _DOCKER,
        "singularity exec": _SINGULARITY,
        "singularity run": _SINGULARITY,
        "apptainer exec": _SINGULARITY,
        "apptainer run": _SINGULARITY,
        "enroot start": Wrapper(grammar("e env m mount c conf", "r root w rw"), 1, _environment("e", "env")),
        "shifter": Wrapper(grammar("image module volume env e V", "")),
        "ray job submit": Wrapper(grammars.RAY),
        "ray submit": Wrapper(grammar("cluster_name", "start stop screen tmux"), 1),
        "sky launch": _SKY,
        "sky exec": Wrapper(grammars.SKY, 1, _sky),
        "sky jobs launch": _SKY,
        "sky spot launch": _SKY,
        "oumi distributed": _PLAIN,
        "kubectl exec": Wrapper(grammar("n namespace c container", "i t it stdin tty"), separator=True),
        "runai submit": Wrapper(grammar("g gpu name image i p project"), separator=True),
        "gantry run": Wrapper(grammar("gpus workspace cluster name budget priority"), separator=True),
        "nsys profile": _PROFILER,
        "ncu": _PROFILER,
        "nvprof": _PROFILER,
        "py-spy record": Wrapper(grammar("o output d duration r rate f format", "s n i"), separator=True),
        "memray run": _PROFILER,
        "kernprof": _PROFILER,
        "coverage run": Wrapper(
            grammar("rcfile source data_file omit include context concurrency", "a p branch append")
        ),
        "scalene": _PROFILER,
        "viztracer": _PROFILER,
        "strace": Wrapper(grammar("e o p s", "f c")),
        "gdb": Wrapper(grammar("ex x", "args batch q")),
        "cuda-memcheck": _PROFILER,
        "compute-sanitizer": _PROFILER,
    }
)
"""Wrappers by their name and the subcommands that make them one."""
