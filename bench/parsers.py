"""Edited files in the frameworks' own parsers: what took a file before an edit must take it afterwards.

    python bench/parsers.py --root FOLDER [--list FILE] [--gpu NAME …] [--environments DIR] [--allow-all] [--json]

Every file under `--root` (or of those that a list names, a line each and relative to it) that some framework's parser
can read is fixed with `--fix --unsafe-fixes`, and the first two plans of `vramlint fit` are made, in memory. Each
distinct text that comes of it is given to that parser, and so is the text before. Frameworks are installed from PyPI
into environments of their own (`asking/environments.toml`), kept with `--environments`. Counted by parser: `edited`
texts, those `asked`, `refused_before` (not the edit's doing), `accepted` (no error, and no name unknown to the parser
but those that were unknown before), `refused`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a script: `bench` is found beside this file's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tomli

from bench.edited import Edited, edited
from bench.projects import listed
from vramlint.discovery import decode
from vramlint.discovery.forms import form_of
from vramlint.readers.json import read_json
from vramlint.readers.toml import read_toml
from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.recognising import recognise
from vramlint.text import Document
from vramlint.values import Table

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / "bench" / "asking" / "environments.toml"
GPUS = ("rtx3090",)
COUNTS = ("edited", "asked", "refused_before", "accepted")
READERS = {"json": read_json, "yaml": read_yaml, "toml": read_toml}


class Asked(NamedTuple):
    """Who is asked about a file."""

    module: str
    """Of `bench/asking`, and the name of its environment."""
    kind: str


CODE = {
    "python": Asked("hugging_face", "calls"),
    "notebook": Asked("hugging_face", "cells"),
    "shell": Asked("hugging_face", "flags"),
}
"""By form."""
COMMANDS = {
    "swift sft": Asked("swift", "flags"),
    "swift pt": Asked("swift", "flags"),
    "swift rlhf": Asked("swift", "flags"),
    "verl.trainer.main_ppo": Asked("verl", "flags"),
}
"""By what a shell script starts."""
_ARGUMENTS = Asked("hugging_face", "arguments")
VOCABULARIES = {
    "accelerate-config": Asked("hugging_face", "machine"),
    "deepspeed-json": Asked("hugging_face", "engine"),
    **dict.fromkeys(("trl", "alignment-handbook", "open-r1", "training-args-json", "training-args-yaml"), _ARGUMENTS),
    "axolotl": Asked("axolotl", "arguments"),
    "llama-factory": Asked("llama_factory", "arguments"),
    "litgpt": Asked("litgpt", "arguments"),
    "ms-swift": Asked("swift", "arguments"),
    "torchtitan": Asked("torchtitan", "arguments"),
    "torchtune": Asked("torchtune", "arguments"),
}
"""By the vocabulary of a data file."""


def asked_of(path: Path) -> Asked | None:
    """The parser of a file; None where there is none."""
    form = form_of(path.name)
    reader = READERS.get(form)
    if form == "shell":
        text = path.read_text(encoding="utf-8", errors="replace")
        return next((asked for words, asked in COMMANDS.items() if words in text), CODE["shell"])
    if reader is None:
        return CODE.get(form)
    document = decode(str(path), path.read_bytes(), form)
    root = reader(document).root if isinstance(document, Document) else None
    told = recognise(str(path), root) if isinstance(root, Table) else None
    return VOCABULARIES.get(told.kind) if told is not None else None


def python_of(name: str, folder: Path) -> Path:
    """The Python of a framework's environment, which is made where it is not there yet.

    Raises:
        subprocess.CalledProcessError: something cannot be installed.
    """
    python = folder / name / "bin" / "python"
    if python.exists():
        return python
    table = tomli.loads(ENVIRONMENTS.read_text(encoding="utf-8"))[name]
    subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True, capture_output=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    for more in (table["requirements"], ["--no-deps", *table["alone"]] if "alone" in table else []):
        if more:
            subprocess.run([*install, *more], check=True, capture_output=True, text=True)
    return python


def questions(paths: Sequence[Path], gpus: Sequence[str], root: Path, *, everything: bool) -> Iterator[dict[str, Any]]:
    """What is asked about every edited text."""
    seen: set[tuple[str, str]] = set()
    parsers: dict[str, Asked | None] = {}
    for path in paths:
        if parsers.setdefault(str(path), asked_of(path)) is None:
            continue
        for gpu in gpus:
            for item in edited(path, gpu, everything=everything):
                who = parsers.setdefault(item.path, asked_of(Path(item.path)))
                if who is not None and (item.path, item.after) not in seen:
                    seen.add((item.path, item.after))
                    yield _question(item, who, root)
        print(f"{path}: {len(seen)} texts", file=sys.stderr, flush=True)


def _question(item: Edited, who: Asked, root: Path) -> dict[str, Any]:
    return {
        "module": who.module,
        "kind": who.kind,
        "id": f"{item.path}: {item.by}",
        "root": str(root),
        **item._asdict(),
    }


def ask(python: Path, module: str, asked: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The answers of a framework's parser, by the id of the question; a process that ends early leaves some out."""
    command = [str(python), "-m", "bench.asking", module]
    done = subprocess.run(command, input=json.dumps(asked), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{module}: {done.stderr.strip()[-2000:]}", file=sys.stderr)
    return {answer["id"]: answer for line in done.stdout.splitlines() for answer in [json.loads(line)]}


def measure(found: Sequence[Mapping[str, Any]], environments: Path) -> dict[str, Any]:
    """What each parser says of all its questions."""
    report: dict[str, Any] = {}
    for module in sorted({question["module"] for question in found}):
        mine = [question for question in found if question["module"] == module]
        try:
            answers = ask(python_of(module, environments), module, mine)
        except subprocess.CalledProcessError as error:
            said = str(error.stderr or error).strip().splitlines()
            report[module] = {"edited": len(mine), "skipped": said[-1] if said else "pip failed"}
            continue
        for kind in sorted({question["kind"] for question in mine}):
            named = [question["id"] for question in mine if question["kind"] == kind]
            report[f"{module} {kind}"] = tally(named, answers)
    return report


def tally(names: Sequence[str], answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of some questions, and every refusal with its reason."""
    counts = Counter(edited=len(names))
    refused, before = {}, {}
    for name in names:
        answer = answers.get(name)
        if answer is None:
            refused[name] = "no answer"
        elif answer["before"]["error"]:
            before[name] = answer["before"]["error"]
        elif answer["before"]["asked"] == answer["after"]["asked"] == 0:
            continue
        else:
            counts["asked"] += 1
            new = set(answer["after"]["unknown"]) - set(answer["before"]["unknown"])
            why = answer["after"]["error"] or (f"not known: {', '.join(sorted(new))}" if new else "")
            refused |= {name: why} if why else {}
            counts["accepted"] += not why
    counts["refused_before"] = len(before)
    return {**{name: counts[name] for name in COUNTS}, "refused": refused, "before": before}


def show(report: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table, and every refusal."""
    print(f"{'parser':<28}" + "".join(f"{name:>16}" for name in (*COUNTS, "refused")))
    for name, row in report.items():
        if "skipped" in row:
            print(f"{name:<28} skipped: {row['skipped']}")
            continue
        cells = [*(row[count] for count in COUNTS), len(row["refused"])]
        print(f"{name:<28}" + "".join(f"{cell:>16}" for cell in cells))
    for title in ("refused", "before"):
        for name, row in report.items():
            for which, why in row.get(title, {}).items():
                print(f"{title}: {name}: {which}: {' '.join(why.split())}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exits 1 when a parser refuses what an edit left."""
    parser = argparse.ArgumentParser(description="Edited files in the frameworks' own parsers.")
    parser.add_argument("--root", type=Path, required=True, help="folder of projects")
    parser.add_argument("--list", type=Path, help="only the files of this list")
    parser.add_argument("--gpu", action="append", help=f"default: {', '.join(GPUS)}")
    parser.add_argument("--environments", type=Path, help="keep the environments there")
    parser.add_argument("--allow-all", action="store_true", help="make the plans that change what is trained, too")
    parser.add_argument("--questions", type=Path, help="keep the edited texts there, or take them from there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    if options.questions is not None and options.questions.exists():
        found = json.loads(options.questions.read_text(encoding="utf-8"))
    else:
        names = listed(options.list, root) if options.list is not None else ()
        paths = [root / project / path for project, path in names] or sorted(filter(_readable, root.rglob("*")))
        found = list(questions(paths, options.gpu or GPUS, root, everything=options.allow_all))
        if options.questions is not None:
            options.questions.write_text(json.dumps(found), encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(found, (options.environments or Path(scratch)).resolve())
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)
    return int(any(row.get("refused") for row in report.values()))


def _readable(path: Path) -> bool:
    return path.is_file() and bool(form_of(path.name)) and ".git" not in path.parts


if __name__ == "__main__":
    sys.exit(main())
