"""A TSV of measurements that projects published next to their configs, each held against what vramlint reads there.

Columns: framework, repo, commit, measured_in, config, gpu, n_gpus, metric, value, unit, note. A config is looked for in
`<root>/<owner>__<repo>/<config>`, `<root>/<framework>/<owner>__<repo>/<config>` and the folder that the framework's
copies lie in otherwise; the estimate is that of `vramlint explain` for it. What the note says of the file, such as its
place, its card or the samples that were seen, is put into words by the tables of `published_notes`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from bench import published_notes as notes
from bench.published_rows import Skip, libraries_of
from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.catalog.gpus import find_gpu
from vramlint.cli import disk
from vramlint.discovery.forms import form_of
from vramlint.engine.selection import RuleSet
from vramlint.facts import Fact, Origin
from vramlint.findings import JobReport
from vramlint.job import Gpu
from vramlint.settings import Settings

Line = Mapping[str, str]
_ASSUMED_AWAY = ("model", "micro_batch_size", "sequence_length")
"""Facts without which a figure is of another run, if they are only assumed."""


class Figure(Struct, frozen=True):
    """One published figure, and the run that it is of as vramlint reads it."""

    id: str
    group: str
    metric: str
    """allocated, active, reserved, unknown or verdict; after `loading`, what was there before the first step."""
    low: float = 0.0
    """Bytes; of a rounded figure the least that it stands for."""
    high: float = 0.0
    verdict: str = ""
    """fit or oom, of lines that say no more."""
    run: JobReport | None = None
    bounded: str = ""
    """Why the run needs less than what is simulated, in the step alone; empty where it does not."""
    skipped: str = ""
    """Why there is nothing to compare."""
    bound: bool = False
    """The samples are shorter than the length that the files say, by how much nobody knows."""
    gpu: Gpu | None = None
    last_rank: bool = False
    """It is the last rank's, whichever needs the most."""


def figures_of_table(path: Path, root: Path) -> Iterator[Figure]:
    """The figures of every line of the table, in its order; what is not of one GPU is skipped.

    Args:
        path: the TSV.
        root: the folder of the configs.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        for number, line in enumerate(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), 2):
            yield from _figures(line, root, number)


def _figures(line: Line, root: Path, number: int) -> Iterator[Figure]:
    metric = next((name for pattern, name in notes.METRICS if re.search(pattern, line["metric"])), "unknown")
    figure = Figure(f"{number}:{line['config']}", line["framework"], metric)
    try:
        machine = notes.MACHINES.get(line["gpu"])
        if machine is not None and re.search(notes.SEVERAL_MACHINES, line["config"]):
            raise Skip("how many machines the run is on is not said")
        if line["n_gpus"] != "1" and (machine is None or line["n_gpus"] != "?"):
            raise Skip("the run is on several GPUs")
        named = f"{line['framework']} {line['config']}"
        reason = notes.meaning(notes.UNSURE, line["note"]) or notes.meaning(notes.CONTRADICTED, named)
        if reason:
            raise Skip(reason)
        figure = replace(figure, gpu=_gpu(line), last_rank=re.search(notes.LAST_RANK, line["metric"]) is not None)
        figure = replace(figure, run=_run(line, _config(line, root), figure.gpu))
        figure = replace(figure, bounded=_bounded(figure.run))
        figure = replace(figure, bound=_is_bound(line, figure.run))
    except Skip as reason:
        yield replace(figure, skipped=str(reason))
        return
    measured = _measured(figure, line)
    yield replace(measured, skipped=figure.bounded)
    if _is_stored_unknown(figure.run):
        return
    if figure.bound and figure.gpu is not None and not measured.verdict and not figure.bounded:
        yield replace(figure, id=f"{figure.id} on its card", metric="verdict", verdict="fit")
    before = re.search(notes.BEFORE, line["note"])
    if before:
        size = float(before[1]) * notes.UNITS[line["unit"]]
        loaded = replace(figure, id=f"{figure.id} before training", metric="loading", low=size, high=size, bound=False)
        yield replace(loaded, skipped=_WIDENED if _is_widened(figure.run) else "")


def _measured(figure: Figure, line: Line) -> Figure:
    if line["value"] == "OOM":
        return replace(figure, metric="verdict", verdict="oom")
    unit = notes.UNITS[line["unit"]]
    if re.search(notes.CARD, line["note"]):
        card = find_gpu(f"{round(float(line['value']))}GB")
        return replace(figure, metric="verdict", verdict="fit", gpu=card if isinstance(card, Gpu) else figure.gpu)
    low, high = _stands_for(line["value"], notes.meaning(notes.ROUNDED, line["metric"]) is not None)
    return replace(figure, low=low * unit, high=high * unit)


def _stands_for(text: str, rounded: bool) -> tuple[float, float]:
    """The range that a figure as it is written stands for: half a unit of its last digit to both sides."""
    value = float(text)
    half = 0.5 * 10.0 ** -len(text.partition(".")[2]) if rounded else 0.0
    return value - half, value + half


def _gpu(line: Line) -> Gpu | None:
    """The card, with the memory that torch saw where the note says it."""
    card, _ = notes.MACHINES.get(line["gpu"], (line["gpu"], 1))
    name = re.sub(r"(\d+) GB card", r"\1GB", card)
    found = find_gpu(name) if name not in ("", "?") else None
    seen = re.search(r"card ([\d.]+)", line["note"])
    if not isinstance(found, Gpu):
        return None
    return replace(found, usable_bytes=int(float(seen[1]) * 2**30)) if seen else found


def _gpus(line: Line) -> int:
    """GPUs of the run; 0 where the files say how many."""
    pattern, alone = notes.ONE_MACHINE
    if line["gpu"] == "dgx_gb200" and re.search(pattern, line["config"]):
        return alone
    return notes.MACHINES.get(line["gpu"], ("", 0))[1]


def _config(line: Line, root: Path) -> Path:
    if line["config"] in ("", "?"):
        raise Skip("no config is named")
    if " with " in line["config"]:
        raise Skip("the config was run with other values than it has")
    folder = line["repo"].replace("/", "__")
    places = (root / folder, root / line["framework"] / folder, *root.glob(f"{line['framework']}*/{folder}"))
    config = line["config"].partition(" (")[0]
    for place in places:
        if (place / config).is_file():
            return place / config
    for place in places:  # a table may write names in lower case
        for found in place.glob(f"{Path(config).parts[0]}/**/{Path(config).name}"):
            if found.relative_to(place).as_posix().lower() == config.lower():
                return found
    raise Skip("the config is not beside the table")


def _is_stored_unknown(run: JobReport | None) -> bool:
    """Whether it is not known which weights of an architecture are quantized."""
    if run is None or run.high is None or (run.high.method == "simulated" and not run.high.stand_in):
        return False
    return _value(run, "quantization_bits") not in (None, 16) or _fact(run, "fake_quantization") is not None


_WIDENED = "weights are widened once they are loaded, and which tensors leave what behind is not known"


def _is_widened(run: JobReport | None) -> bool:
    """Whether Unsloth widens a model to train all of it that is bounded only.

    Each float16 tensor gives way to one of twice its size, so that its segment stays and serves no other.
    """
    if run is None or run.high is None or run.high.method == "simulated":
        return False
    return (_value(run, "tuning"), _value(run, "load_dtype"), _value(run, "fp16")) == ("full", "float32", True)


def _bounded(run: JobReport | None) -> str:
    """Why the figure of a step is only a bound where loading is known: kernels of others run its layers."""
    return _plain(run.reason) if run is not None and run.status == "unresolved" else ""


def _run(line: Line, config: Path, gpu: Gpu | None) -> JobReport:
    """The training run of the file; of several the one of the model in the note.

    Raises:
        Skip: there is none, or it is not simulated as it is.
    """
    runs = [
        job
        for job in _read(
            str(config), _parameters(line), f"{line['framework']} {line['config']}", gpu.id if gpu else "", _gpus(line)
        )
        if job.kind == "training"
    ]
    named = re.search(r"model ([^;]+)", line["note"])
    wanted = [job for job in runs if named and _value(job, "model") == named[1]] or runs
    if not wanted:
        raise Skip("no training run is found in the file")
    run = wanted[0]
    if run.low is None or run.high is None:
        raise Skip(_plain(run.reason) or "no job could be built")
    if "quantization_skip_modules" in run.unresolved:
        raise Skip("which layers the checkpoint keeps in 16 bits is not known")
    if "parallelism" in run.unresolved:
        raise Skip("how the GPUs share the model is not simulated")
    if run.status == "unresolved" and set(run.unresolved) - {"attention_implementation"}:
        raise Skip(_plain(run.reason))
    assumed = [name for name in _ASSUMED_AWAY if (fact := _fact(run, name)) and fact.origin is Origin.ASSUMED]
    if assumed:
        raise Skip(f"the file does not say: {', '.join(assumed)}")
    return run


def _parameters(line: Line) -> tuple[tuple[str, bytes], ...]:
    """What the note says of the parameters of the run, as the file that would hold them."""
    name = notes.PARAMETERS.get(line["framework"])
    if name is None:
        return ()
    said = dict(re.findall(r"(\w+) ([^;]+)", line["note"]))
    found = {key: notes.plain(said[word]) for word, key in notes.WORDS.items() if said.get(word, "?") != "?"}
    return ((name, json.dumps(found).encode()),)


@cache
def _read(
    config: str, parameters: tuple[tuple[str, bytes], ...], named: str, gpu: str, gpus: int
) -> Sequence[JobReport]:
    """The jobs of a file. `parameters` are files that would lie beside it, where nothing there says more."""
    folder = Path(config).parent
    alone = not any(file.is_file() for file in notes.instead_of(folder))
    virtual = {str(folder / name): data for name, data in parameters} if alone else {}

    def load(path: str) -> bytes | None:
        found = disk.load(path)
        return virtual.get(os.path.normpath(path)) if found is None else found

    data = notes.as_run(named, disk.load(config) or b"")
    file = SourceFile(config, form_of(config) or "yaml", data, explicit=True)
    around = Surroundings(
        load, disk.names, disk.repository, Hardware(gpu, gpus or None), disk.around, os.path.abspath, True, alone=True
    )
    settings = Settings(versions=versions_of(named) or printed_versions(data))
    return lint((file,), settings, RuleSet(()), around).jobs


def versions_of(named: str) -> Mapping[str, str]:
    """The versions that a line's run used, by its framework and config; empty where nothing says them.

    Where only the month is known, those that were out.
    """
    framework, month = named.partition(" ")[0], notes.meaning(notes.WRITTEN, named)
    if month is None:
        return notes.VERSIONS.get(framework, {})
    return notes.AXOLOTL[month] if framework == "axolotl" else _released(month)


def _released(month: str) -> dict[str, str]:
    known = libraries_of({"date": month})
    return {name: ".".join(map(str, getattr(known, name))) for name in notes.DATED}


def printed_versions(notebook: bytes) -> Mapping[str, str]:
    """The versions that a notebook ran with, as its outputs tell them; Unsloth prints them when it loads a model.

    Releases of its first year name only torch: transformers is then that of the month.
    """
    text = notebook.decode(errors="replace")
    release = re.search(notes.RELEASE, text)
    if release is None:
        return {}
    found = _released(f"{release[1]}-{int(release[2]):02}")
    del found["torch"]  # the banner of every release has it
    for name, pattern in notes.PRINTED.items():
        printed = re.search(pattern, text)
        if printed:
            found[name] = printed[1]
    return found


def _is_bound(line: Line, run: JobReport | None) -> bool:
    """Whether real samples of unknown lengths were trained on, shorter than the bound that the files give."""
    if run is None or line["framework"] in notes.REACHED:
        return False
    return not any(_value(run, name) is True for name in ("packing", "pad_to_maximum"))


def _fact(run: JobReport, name: str) -> Fact | None:
    return next((fact for fact in run.facts if fact.name == name), None)


def _value(run: JobReport, name: str) -> object:
    fact = _fact(run, name)
    return fact.value if fact is not None else None


def _plain(reason: str) -> str:
    """A reason without what it says of one file alone."""
    return re.sub(r"[^ ]*/[^ :]*", "…", re.sub(r" \([^()]*\)", "", reason.partition(";")[0]))
