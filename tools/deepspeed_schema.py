"""Writes vramlint/schemas/deepspeed-1.json, the JSON Schema of DeepSpeed's configuration, out of the catalog's keys.

python -m tools.deepspeed_schema            write it
python -m tools.deepspeed_schema --check    exit 1 if it is not what would be written

The schema says what `vramlint` says of a file by itself: keys that DeepSpeed does not know, and values of types that
it does not take. Draft 7, which every editor reads; `deprecationMessage` is VS Code's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from vramlint.catalog.deepspeed import DeepSpeedKey, all_deepspeed_keys
from vramlint.surfaces.deepspeed_keys import FREE, IGNORED
from vramlint.surfaces.deepspeed_types import is_validated

PATH = Path(__file__).resolve().parent.parent / "vramlint" / "schemas" / "deepspeed-1.json"
ADDRESS = "https://github.com/vramlint/vramlint/blob/main/vramlint/schemas/deepspeed-1.json"

Schema = dict[str, object]

AUTO: Schema = {"const": "auto"}
"""Left to Hugging Face's integration; in validated sections DeepSpeed itself drops it."""
NOTHING: Schema = {"type": "null"}
WHOLE = r"^\s*[-+]?[0-9]+(_[0-9]+)*(\.0+)?\s*$"
TRUTH = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[01]|[Oo][Nn]|[Oo][Ff][Ff]|[Yy][Ee][Ss]|[Nn][Oo]|[TtFfYyNn])$"
NUMBER = r"^\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"

PLAIN: Mapping[str, tuple[Sequence[Schema], str]] = MappingProxyType(
    {
        "bool": (({"type": "boolean"}, {"enum": [0, 1]}), TRUTH),
        "int": (({"type": "integer"},), WHOLE),
        "int bytes": (({"type": "integer"},), WHOLE),
        'int | "auto"': (({"type": "integer"},), WHOLE),
        "float": (({"type": "number"},), NUMBER),
        'float | "auto"': (({"type": "number"},), NUMBER),
    }
)
"""What types of plain values take, and strings that pydantic takes for them."""
LISTS: Mapping[str, Schema] = MappingProxyType(
    {
        "list[str]": {"type": "array", "items": {"type": "string"}},
        '"auto" | list[str]': {"type": "array", "items": {"type": "string"}},
        "list[int]": {"type": "array", "items": {"type": "integer"}},
        "list[float]": {"type": "array", "items": {"type": "number"}},
        "tuple": {"type": "array"},
    }
)
_SEVERAL = re.compile(r"(?:enum|list of) ([\w|]+)(.*)")
_NUMBERED = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?) elements")
_OPEN = "<"
"""How the name of a key begins that is the user's own."""


def main(arguments: Sequence[str]) -> int:
    """Write or check the schema; the exit status."""
    text = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    if "--check" not in arguments:
        PATH.write_text(text, encoding="utf-8", newline="\n")
        return 0
    if PATH.exists() and PATH.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PATH.name} is not what tools/deepspeed_schema.py writes")
    return 1


def schema() -> Schema:
    """The whole schema."""
    rows = {_path(row.key): row for row in all_deepspeed_keys()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ADDRESS,
        "title": "DeepSpeed configuration",
        "description": "Keys, types and defaults of a DeepSpeed JSON, read from deepspeed 0.19.8. "
        'The value "auto" is for the integrations of transformers and accelerate, which fill it in.',
        **_section("", rows),
    }


def _section(prefix: str, rows: Mapping[str, DeepSpeedKey]) -> Schema:
    """The schema of an object: what is directly inside of `prefix`, a dotted path that ends in a dot."""
    names = sorted({path[len(prefix) :].split(".")[0] for path in rows if path.startswith(prefix)})
    own = [name for name in names if not name.startswith(_OPEN)]
    found: Schema = {"type": "object"}
    properties: dict[str, object] = {name: _key(prefix + name, rows) for name in own}
    properties |= {
        name.removeprefix("stage3_"): _alias(name, properties[name]) for name in own if _has_alias(prefix, name)
    }
    if properties:
        found["properties"] = dict(sorted(properties.items()))
    wild = next((name for name in names if name.startswith(_OPEN)), None)
    if wild is not None:
        return {**found, "additionalProperties": _key(prefix + wild, rows)}
    if prefix.rstrip(".") in FREE:
        return found
    return {**found, "patternProperties": {IGNORED.pattern: {}}, "additionalProperties": False}


def _has_alias(prefix: str, name: str) -> bool:
    """Whether DeepSpeed's reader takes the key without its prefix too (runtime/zero/config.py, Field(alias=…))."""
    return prefix == "zero_optimization." and name.startswith("stage3_")


def _alias(name: str, of: object) -> object:
    return {**of, "description": f"The same as {name}."} if isinstance(of, dict) else of


def _key(path: str, rows: Mapping[str, DeepSpeedKey]) -> Schema:
    """The schema of one key."""
    row = rows.get(path)
    inner = any(other.startswith(f"{path}.") for other in rows)
    if row is None:
        return (
            {"anyOf": [_section(f"{path}.", rows), NOTHING]} if not path.endswith(">") else _section(f"{path}.", rows)
        )
    if row.status in ("rejected", "refused"):
        return {"description": _description(row), **({"not": {}} if row.status == "rejected" else {"const": False})}
    types = [_section(f"{path}.", rows)] if inner else _types(row, validated=is_validated(path))
    if inner and "bool" in row.type:
        types.append({"type": "boolean"})
    if not types:
        return _about(row)
    return {**_about(row), "anyOf": [*types, NOTHING, *([] if inner else [AUTO])]}


def _types(row: DeepSpeedKey, *, validated: bool) -> list[Schema]:
    """Schemas of which a value has to fulfil one; none where the type says too little to refuse anything."""
    if row.type in PLAIN:
        schemas, spelled = PLAIN[row.type]
        quoted: Schema = {"type": "string", "pattern": spelled}
        return [*schemas, quoted] if validated else [*schemas]
    if row.type in LISTS:
        return [LISTS[row.type]]
    if row.type == "object" or row.type.startswith("object "):
        return [{"type": "object"}]
    match = _SEVERAL.fullmatch(row.type)
    if match is None:
        return []
    words = match[1].split("|")
    values: list[object] = [int(word) if word.isdecimal() else word for word in words]
    if "any case" in match[2]:
        values = [spelled for word in words for spelled in (word, word.lower(), word.capitalize())]
    if row.type.startswith("list of "):
        return [{"type": "array", "items": {"enum": values}}]
    found: list[Schema] = [{"enum": values}]
    return [*found, {"type": "string"}] if "or " in match[2] else found


def _about(row: DeepSpeedKey) -> Schema:
    """What an editor shows of a key: its description, default and whether it goes."""
    found: Schema = {"description": _description(row)}
    default = _default(row.default_text)
    if default is not None:
        found["default"] = default
    if row.removed_in or row.status.startswith("deprecated") or row.status == "removed":
        found |= {"deprecated": True, "deprecationMessage": _farewell(row)}
    return found


def _description(row: DeepSpeedKey) -> str:
    said = row.memory if row.memory != "none" else ""
    parts = [
        f"{said[:1].upper()}{said[1:]}." if said else "",
        f"Default: {row.default_text}." if row.default_text not in ("", "-") else "",
        f"{row.changes[:1].upper()}{row.changes[1:]}." if row.changes else "",
        f"Since deepspeed {row.since}." if row.since != "0.1.0" else "",
        _farewell(row) if row.status != "current" else "",
    ]
    return " ".join(part for part in parts if part)


def _farewell(row: DeepSpeedKey) -> str:
    return f"{row.status[:1].upper()}{row.status[1:]}."


def _default(text: str) -> object:
    """The default as JSON, None where it is none or told in words."""
    elements = _NUMBERED.fullmatch(text)
    if elements is not None:
        return int(float(elements[1]))
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return found


def _path(key: str) -> str:
    """The dotted path of a key of the catalog, without the scheduler that takes it: `… [WarmupLR]`."""
    return key.split(" ", maxsplit=1)[0]


def keys(found: Schema) -> Iterable[str]:
    """All dotted paths that a schema has a description for."""
    pending: list[tuple[str, object]] = [("", found)]
    while pending:
        prefix, part = pending.pop()
        if not isinstance(part, dict):
            continue
        pending += ((prefix, option) for option in part.get("anyOf", ()))
        for name, inner in part.get("properties", {}).items():
            yield prefix + name
            pending.append((f"{prefix}{name}.", inner))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
