"""The model catalog: published checkpoints and the keys of their config.json that decide memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint.catalog.lines import lines
from vramlint.job import ConfigValue

_FILE = "models.tsv"


class ModelRow(NamedTuple):
    """One model of the catalog, under one of its names."""

    id: str
    """The id that was looked up, as the hub spells it."""
    model_type: str
    architecture: str
    """The class that config.json names, or its equivalent in transformers for code that is only on the hub."""
    config: Mapping[str, ConfigValue]
    """Keys of config.json under their hub names, with what transformers resolves for the absent ones."""
    same_as: str = ""
    """The id of the row that describes the same network; empty when it is `id` itself."""
    dtype: str | None = None
    """dtype of the checkpoint."""
    dtype_status: str = "unknown"
    """stated: a copy of config.json says so (or that of a sibling of the same organisation with the same
    architecture); family: inferred from related checkpoints; unknown."""
    quantization: str = ""
    """How the checkpoint is quantized already: `nf4` for bitsandbytes mirrors. Then `dtype` is that of the rest."""
    parameter_count: int | None = None
    """Exact number of parameters of `architecture`, tied tensors once."""
    embedding_parameters: int | None = None
    head_parameters: int | None = None
    """Parameters of an untied lm_head, 0 when it is tied."""
    head_tied: bool | None = None
    body_parameters: int | None = None
    """Parameters of the headless class (BertModel for BertForMaskedLM), where the two differ."""
    buffer_elements: int = 0
    """Elements of persistent buffers."""
    components: Mapping[str, ConfigValue] = MappingProxyType({})
    """For diffusion pipelines: the parts, each with class, params and config."""
    checked: str = ""
    """exact count, dims in n sources, rounded count, class defaults, unverified."""
    sources: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    """Sources that disagree: `source: key value-there`."""
    note: str = ""


def find_model(name: str) -> ModelRow | None:
    """The catalog's row for a hub id or one of its aliases, ignoring case; None when the catalog lacks it."""
    found = _payload(name.strip())
    return _row(*found) if found else None


def find_model_by_last_part(path: str) -> tuple[ModelRow, ...]:
    """The models whose id ends in the last part of a local path, distinct networks only.

    `/data/models/Llama-2-7b-hf/` finds `meta-llama/Llama-2-7b-hf` and none of its mirrors. Several rows come
    back when different networks share the name; ids that stand for themselves come before mirrors.
    """
    last = path.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    found: dict[tuple[str, str], ModelRow] = {}
    for name, owner, payload in lines(_FILE).starting_with(last) if last else ():
        row = _row(_id(name, owner), json.loads(payload))
        network = (row.same_as or row.id, row.quantization)
        if network not in found or (found[network].same_as and not row.same_as):
            found[network] = row
    return tuple(sorted(found.values(), key=lambda row: (row.same_as != "", row.id.lower())))


def nearest_models(name: str, count: int = 3) -> tuple[str, ...]:
    """Ids that resemble `name`. Scans the keys of the whole catalog."""
    from vramlint.catalog.nearest import nearest

    ids = [_id(last, owner) for last, owner, _ in lines(_FILE)]
    if "/" in name:
        return nearest(name, ids, count)
    by_last = {known.rpartition("/")[2]: known for known in reversed(ids)}
    return tuple(by_last[last] for last in nearest(name, by_last, count))


def all_models() -> Iterator[ModelRow]:
    """Every row that describes a network of its own (no aliases), sorted by the last part of its id."""
    for name, owner, payload in lines(_FILE):
        data = json.loads(payload)
        if "same" not in data:
            yield _row(_id(name, owner), data)


def model_names() -> Iterator[str]:
    """Every id of the catalog, aliases included."""
    return (_id(name, owner) for name, owner, _ in lines(_FILE))


def _id(name: str, owner: str) -> str:
    return f"{owner}/{name}" if owner else name


def _payload(name: str) -> tuple[str, dict[str, object]] | None:
    """The id as the file spells it and its JSON."""
    owner, _, last = name.rpartition("/")
    for found_name, found_owner, payload in lines(_FILE).starting_with(last, owner):
        return _id(found_name, found_owner), json.loads(payload)
    return None


def _row(name: str, data: Mapping[str, object]) -> ModelRow:
    own = data
    if "same" in own:
        target = _payload(str(own["same"]))
        if target is None:
            raise LookupError(f"{_FILE}: {name} points to {own['same']}, which is absent")
        data = target[1]
    counts = data.get("parameters")
    counts = counts if isinstance(counts, dict) else {}
    return ModelRow(
        id=name,
        model_type=str(data["type"]),
        architecture=str(data["architecture"]),
        config={**_mapping(data.get("config")), **_mapping(own.get("config"))},
        same_as=str(own.get("same", "")),
        dtype=None if data.get("dtype") is None else str(data["dtype"]),
        dtype_status=_dtype_status(name, own, data),
        quantization=str(own.get("quantization", data.get("quantization", ""))),
        parameter_count=counts.get("total"),
        embedding_parameters=counts.get("embeddings"),
        head_parameters=counts.get("head"),
        head_tied=counts.get("head_tied"),
        body_parameters=counts.get("body"),
        buffer_elements=_integer(data.get("buffers")),
        components=_mapping(data.get("components")),
        checked=str(data.get("checked", "")),
        sources=_strings(data.get("sources")),
        conflicts=_strings(data.get("conflicts")),
        note=str(own.get("note", data.get("note", ""))),
    )


def _dtype_status(name: str, own: Mapping[str, object], data: Mapping[str, object]) -> str:
    """An alias of another organisation may have been saved in another dtype, so it only inherits a likelihood."""
    status = str(data.get("dtype_status", "unknown"))
    if status != "stated" or "same" not in own:
        return status
    original = str(own["same"]).rpartition("/")[0].lower()
    return "stated" if name.rpartition("/")[0].lower() in (original, "") else "family"


def _mapping(value: object) -> Mapping[str, ConfigValue]:
    return {key: _frozen(item) for key, item in value.items()} if isinstance(value, dict) else {}


def _frozen(value: object) -> ConfigValue:
    match value:
        case dict():
            return _mapping(value)
        case list():
            return tuple(_frozen(item) for item in value)
        case str() | int() | float() | None:
            return value
        case _:
            raise TypeError(f"unexpected JSON value {value!r}")


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0
