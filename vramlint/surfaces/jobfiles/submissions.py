"""Commands that hand a program to a service: `hf jobs uv run train.py`, `gcloud ai custom-jobs create`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Place
from vramlint.values import Command, Scalar, Value

_HF_OPTIONS = frozenset(
    (
        "--flavor",
        "--secrets",
        "-s",
        "--env",
        "-e",
        "--env-file",
        "--secrets-file",
        "--timeout",
        "--namespace",
        "--image",
        "--python",
        "-p",
        "--with",
        "--repo",
        "--token",
        "--volume",
        "-v",
        "--label",
        "-l",
        "--name",
    )
)
"""Options of `hf jobs run` and `hf jobs uv run` (huggingface_hub 1.x) that take a value."""


class _Word(Struct, frozen=True):
    value: Value
    place: Place

    @property
    def text(self) -> str:
        return str(self.value.value) if isinstance(self.value, Scalar) else ""


def submitted(path: str, commands: Sequence[Command]) -> tuple[Workload, ...]:
    """The programs that commands hand to a service, each on the machine that it is asked for."""
    found: list[Workload] = []
    for command in commands:
        words = [_Word(value, place) for value, place in zip(command.words, command.word_places, strict=True)]
        for start, read in _SERVICES.items():
            if tuple(word.text for word in words[: len(start)]) == start:
                found += read(path, command, words[len(start) :])
    return tuple(found)


def _hugging_face(image: bool) -> Callable[[str, Command, list[_Word]], Iterator[Workload]]:
    """What stands behind the options: `hf jobs run` names an image first and runs any command, `uv run` a script."""

    def read(path: str, command: Command, words: list[_Word]) -> Iterator[Workload]:
        facts: tuple[Fact, ...] = ()
        at = 0
        while at < len(words) and words[at].text.startswith("-"):
            name, equals, text = words[at].text.partition("=")
            value = Scalar(text, words[at].value.place) if equals else words[min(at + 1, len(words) - 1)].value
            if name == "--flavor":
                facts = hardware.machine(value, name)
            at += 2 if name in _HF_OPTIONS and not equals else 1
        rest = words[at + image :]
        python = [] if image or not rest else [_Word(Scalar("python", rest[0].place), rest[0].place)]
        yield from _workload(path, command, [*python, *rest], facts)

    return read


def _vertex(path: str, command: Command, words: list[_Word]) -> Iterator[Workload]:
    """`--worker-pool-spec=machine-type=…,accelerator-type=…,accelerator-count=8,local-package-path=.,script=train.py`."""
    given = dict(_options(words))
    pool = given.get("--worker-pool-spec")
    if pool is None:
        return
    place = pool.value.place
    pairs = (part.partition("=") for part in pool.text.split(","))
    spec: dict[str, Value] = {key: Scalar(text, place) for key, _, text in pairs}
    facts = hardware.one_of_each(
        (
            *hardware.gpu(spec.get("accelerator-type"), "accelerator-type", "gcp"),
            *hardware.count("gpus_per_node", spec.get("accelerator-count"), "accelerator-count"),
            *hardware.machine(spec.get("machine-type"), "machine-type"),
            *hardware.count("nodes", spec.get("replica-count"), "replica-count"),
        )
    )
    start: list[Value] = []
    if "script" in spec:
        start = [Scalar("python", place), spec["script"]]
    elif "python-module" in spec:
        start = [Scalar("python", place), Scalar("-m", place), spec["python-module"]]
    elif "--command" in given:
        start = _listed(given["--command"])
    arguments = _listed(given["--args"]) if "--args" in given else []
    folder = spec.get("local-package-path")
    moved = replace(command, folder=folder) if folder is not None else command
    if start:
        yield from _workload(path, moved, [_Word(value, pool.place) for value in (*start, *arguments)], facts)


def _listed(word: _Word) -> list[Value]:
    """The parts of a list with commas."""
    return [Scalar(part, word.value.place) for part in word.text.split(",")] if word.text else [word.value]


def _options(words: Sequence[_Word]) -> Iterator[tuple[str, _Word]]:
    """`--name=value` and `--name value`."""
    for word, following in zip(words, (*words[1:], None), strict=True):
        name, equals, text = word.text.partition("=")
        if name.startswith("--") and equals:
            yield name, _Word(Scalar(text, word.value.place), word.place)
        elif name.startswith("--") and following is not None:
            yield name, following


def _workload(path: str, command: Command, words: list[_Word], facts: tuple[Fact, ...]) -> Iterator[Workload]:
    if words:
        values, places = tuple(word.value for word in words), tuple(word.place for word in words)
        yield Workload(path, "", (replace(command, words=values, word_places=places),), facts)


_SERVICES: Mapping[tuple[str, ...], Callable[[str, Command, list[_Word]], Iterator[Workload]]] = MappingProxyType(
    {
        ("hf", "jobs", "run"): _hugging_face(True),
        ("hf", "jobs", "uv", "run"): _hugging_face(False),
        ("huggingface-cli", "jobs", "run"): _hugging_face(True),
        ("huggingface-cli", "jobs", "uv", "run"): _hugging_face(False),
        ("gcloud", "ai", "custom-jobs", "create"): _vertex,
        ("gcloud", "beta", "ai", "custom-jobs", "create"): _vertex,
    }
)
