"""Sheets and contexts made by hand."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import Candidate, Fact, FactValue, Link, Origin, Sheet
from vramlint.resolve import Context, resolve
from vramlint.resolve.run import Run
from vramlint.text import Document, Place, Span
from vramlint.values import Table

NEWEST = {"transformers": "5.23.0", "torch": "2.13.0", "peft": "0.21.2", "trl": "1.16.0", "deepspeed": "0.19.8"}


def place(line: int = 1, path: str = "train.py") -> Place:
    return Place(path, Span(line, 1, line, 9))


def written(name: str, *values: FactValue, key: str = "", conditions: tuple[str, ...] = ()) -> Fact:
    conditions = conditions or ("",) * len(values)
    candidates = tuple(
        Candidate(value, place(), condition) for value, condition in zip(values, conditions, strict=True)
    )
    return Fact(name, candidates, Origin.WRITTEN, key or name, "literal")


def unknown(name: str, reason: str = "argument of main") -> Fact:
    return Fact(name, (), Origin.UNKNOWN, name, "runtime", reason=reason)


def script(*facts: Fact, tables: tuple[tuple[str, Table], ...] = (), links: tuple[Link, ...] = ()) -> Sheet:
    kinds = (
        written("run_kind", "training"),
        written("loop", "trainer", key="SFTTrainer" if tables and tables[0][0] == "SFTConfig" else "Trainer"),
        written("objective", "sft"),
    )
    said = {fact.name for fact in facts}
    return Sheet("train.py", "python-script", (*facts, *(k for k in kinds if k.name not in said)), links, (), tables)


def files(contents: Mapping[str, str], **settings: object) -> Context:
    def load(path: str) -> Document | None:
        return Document.of(path, contents[path]) if path in contents else None

    def names(folder: str) -> tuple[str, ...]:
        prefix = "" if folder == "." else f"{folder}/"
        return tuple(p[len(prefix) :] for p in contents if p.startswith(prefix) and "/" not in p[len(prefix) :])

    return Context(load, names, **settings)  # type: ignore[arg-type]  # tests pass what the fields take


def run(sheet: Sheet, context: Context | None = None, **versions: str) -> Run:
    context = context or files({}, versions={**NEWEST, **versions})
    (found,) = resolve([sheet], context)
    return found


LLAMA = written("model", "meta-llama/Llama-2-7b-hf", key="pretrained_model_name_or_path")
