"""Keep the catalog's data files in order: `python -m tools.catalog sort | check | add`.

python -m tools.catalog sort
python -m tools.catalog check
python -m tools.catalog add owner/name --config config.json --parameters 7241732096 --source "owner/name@revision"
python -m tools.catalog add mirror/name --same owner/name
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vramlint.catalog import gpu_rows
from vramlint.catalog.lines import DATA, column_names
from vramlint.catalog.versions import version_of


@dataclass(frozen=True, slots=True)
class Form:
    """How the lines of one data file look."""

    keys: int
    """The first columns that identify and sort a line."""
    columns: int
    versioned: int | None = None
    """A column of release numbers that sorts behind the keys."""


FORMS = {
    "attention_kernels.tsv": Form(1, 3),
    "deepspeed_keys.tsv": Form(1, 7),
    "defaults.tsv": Form(2, 7, versioned=2),
    "gpu_spellings.tsv": Form(2, 4),
    "gpus.tsv": Form(1, len(gpu_rows.COLUMNS)),
    "accelerators.tsv": Form(2, 4),
    "instances.tsv": Form(1, 4),
    "keys.tsv": Form(2, 6),
    "litgpt_models.tsv": Form(1, 4),
    "mig.tsv": Form(2, 4),
    "models.tsv": Form(2, 3),
    "optimizers.tsv": Form(1, 2),
    "tensor_plans.tsv": Form(1, 2),
    "unsloth.tsv": Form(1, 2),
}

DTYPES = ("float32", "bfloat16", "float16", "float8")
_MODEL_KEYS = {
    "type",
    "architecture",
    "config",
    "components",
    "dtype",
    "dtype_status",
    "parameters",
    "checked",
    "buffers",
    "quantization",
    "sources",
    "conflicts",
    "note",
}
_ALIAS_KEYS = {"same", "config", "quantization", "note"}
_NOT_ABOUT_MEMORY = re.compile(
    r"(_token_id|_token_ids|_token_index)$|^_|^transformers_version$|^auto_map$|^id2label$|^label2id$"
)


def sort_key(line: str, form: Form) -> tuple[bytes, tuple[int, ...], str]:
    """What a line is sorted by: its key columns in lower case, then the release, then the rest."""
    columns = line.split("\t")
    key = ("\t".join(columns[: form.keys]) + "\t").lower().encode()
    release = version_of(columns[form.versioned]) if form.versioned is not None else ()
    return key, release, line


def split(content: str) -> tuple[list[str], list[str]]:
    """The comment lines at the top and the records."""
    every = content.splitlines()
    first = next((index for index, line in enumerate(every) if not line.startswith("#")), len(every))
    return every[:first], [line for line in every[first:] if line]


def sorted_content(content: str, form: Form) -> str:
    """The file as it should be."""
    comments, records = split(content)
    return "\n".join([*comments, *sorted(records, key=lambda line: sort_key(line, form))]) + "\n"


def problems(name: str, content: str) -> Iterator[str]:
    """What is wrong with the data file `name`, one sentence each."""
    form = FORMS[name]
    if content != sorted_content(content, form):
        yield f"{name}: not sorted, or blank lines; run `python -m tools.catalog sort`"
    _, records = split(content)
    seen: set[object] = set()
    for line in records:
        columns = line.split("\t")
        if len(columns) != form.columns:
            yield f"{name}: {len(columns)} columns where {form.columns} belong: {line[:60]}"
            continue
        identity = sort_key(line, form)[:2] if form.versioned is None else (*sort_key(line, form)[:2], columns[4])
        if identity in seen:
            yield f"{name}: twice: {columns[0]} {columns[1]}"
        seen.add(identity)
    if name in _CHECKS:
        rows = [tuple(line.split("\t")) for line in records]
        yield from (f"{name}: {problem}" for problem in _CHECKS[name](rows))


Rows = list[tuple[str, ...]]


def _check_models(rows: Rows) -> Iterator[str]:
    own = {(f"{owner}/{last}" if owner else last): json.loads(data) for last, owner, data in rows}
    for name, data in own.items():
        if "same" in data:
            target = own.get(data["same"])
            if target is None or "same" in target:
                yield f"{name}: `same` must name a row of its own, not {data['same']}"
            if set(data) - _ALIAS_KEYS:
                yield f"{name}: unknown {sorted(set(data) - _ALIAS_KEYS)}"
            continue
        if set(data) - _MODEL_KEYS:
            yield f"{name}: unknown {sorted(set(data) - _MODEL_KEYS)}"
        if not data.get("type") or not data.get("architecture") or not (data.get("config") or data.get("components")):
            yield f"{name}: type, architecture and config are needed"
        if ("dtype" in data) != ("dtype_status" in data) or data.get("dtype", DTYPES[0]) not in DTYPES:
            yield f"{name}: dtype must be one of {DTYPES}, with dtype_status"
        total = data.get("parameters", {}).get("total")
        if total is not None and not (isinstance(total, int) and total > 0):
            yield f"{name}: parameters.total must be a count"
        if not data.get("checked") or not (data.get("sources") or data.get("note")):
            yield f"{name}: checked is needed, and sources or a note that says why there are none"


def _check_optimizers(rows: Rows) -> Iterator[str]:
    own = {name: json.loads(data) for name, data in rows}
    for name, data in own.items():
        target = own.get(data.get("same", data.get("base", name)))
        if target is None or ("same" in target and "same" in data):
            yield f"{name}: points to an absent row"
        if "same" not in data and not (data.get("source") and data.get("verified")):
            yield f"{name}: source and verified are needed"


def _check_gpus(rows: Rows) -> Iterator[str]:
    for row in rows:
        cells = dict(zip(gpu_rows.COLUMNS, row, strict=True))
        if cells["bf16"] not in ("native", "emulated", "no"):
            yield f"{cells['id']}: bf16 is native, emulated or no"
        if cells["memory_status"] not in ("verified", "recalled", "nominal"):
            yield f"{cells['id']}: memory_status is verified, recalled or nominal"


def _check_defaults(rows: Rows) -> Iterator[str]:
    for row in rows:
        try:
            json.loads(row[3])
        except ValueError:
            yield f"{row[1]}: the value {row[3]!r} is no JSON"
        if not row[5]:
            yield f"{row[1]}: a source is needed"


_CHECKS: dict[str, Callable[[Rows], Iterator[str]]] = {
    "models.tsv": _check_models,
    "optimizers.tsv": _check_optimizers,
    "gpus.tsv": _check_gpus,
    "defaults.tsv": _check_defaults,
}


def all_problems() -> list[str]:
    """Everything that is wrong with the data files."""
    found = [problem for name in FORMS for problem in problems(name, (DATA / name).read_text(encoding="utf-8"))]
    if column_names((DATA / "gpus.tsv").read_bytes()) != gpu_rows.COLUMNS:
        found.append("gpus.tsv: the columns are not those that vramlint.catalog.gpu_rows reads")
    return found


def sort() -> list[str]:
    """Sort every file; the names of those that changed."""
    changed = []
    for name, form in FORMS.items():
        before = (DATA / name).read_text(encoding="utf-8")
        after = sorted_content(before, form)
        if after != before:
            (DATA / name).write_text(after, encoding="utf-8")
            changed.append(name)
    return changed


def model_line(name: str, config: dict[str, object], parameters: int | None, source: str) -> str:
    """A line for a model from its config.json."""
    owner, _, last = name.rpartition("/")
    architectures = config.get("architectures")
    dtype = config.get("dtype", config.get("torch_dtype"))
    left_out = {"architectures", "dtype", "torch_dtype", "model_type"}
    kept = {key: value for key, value in config.items() if key not in left_out and not _NOT_ABOUT_MEMORY.search(key)}
    row: dict[str, object] = {
        "type": config["model_type"],
        "architecture": architectures[0] if isinstance(architectures, list) and architectures else "",
        "config": kept,
    }
    if dtype:
        row.update(dtype=dtype, dtype_status="stated")
    row.update(parameters={"total": parameters} if parameters else {}, checked="unverified", sources=[source])
    return f"{last}\t{owner}\t{_json(row)}"


def add(arguments: argparse.Namespace) -> None:
    """Write one more line into models.tsv."""
    if arguments.same:
        owner, _, last = arguments.name.rpartition("/")
        line = f"{last}\t{owner}\t{_json({'same': arguments.same})}"
    else:
        config = json.loads(Path(arguments.config).read_text(encoding="utf-8"))
        line = model_line(arguments.name, config, arguments.parameters, arguments.source)
    with (DATA / "models.tsv").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 when `check` finds something."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.catalog", description="Keep the catalog's data files in order."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sort", help="sort every data file")
    commands.add_parser("check", help="say what is wrong with them")
    adding = commands.add_parser("add", help="add a model or another name of one")
    adding.add_argument("name", help="hub id")
    what = adding.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="path of its config.json")
    what.add_argument("--same", help="hub id of the row that describes the same network")
    adding.add_argument("--parameters", type=int, help="exact number of parameters")
    adding.add_argument("--source", default="its config.json", help="where the config comes from")
    parsed = parser.parse_args(arguments)
    if parsed.command == "add":
        add(parsed)
    if parsed.command in ("add", "sort"):
        for name in sort():
            print(f"sorted {name}")
    found = [] if parsed.command == "sort" else all_problems()
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
