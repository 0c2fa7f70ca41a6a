"""Which network a model name means: the catalog's row, or the config.json beside the files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.catalog.litgpt_models import MODEL_TYPE as LITGPT
from vramlint.catalog.litgpt_models import parameter_count
from vramlint.catalog.models import find_model, find_model_by_last_part
from vramlint.facts import Link
from vramlint.patterns import lazy
from vramlint.resolve.context import Context, candidates
from vramlint.resolve.quantized_names import Named, quantized_name
from vramlint.surfaces.model_config import config_values
from vramlint.values import Table

if TYPE_CHECKING:
    from vramlint.catalog.models import ModelRow
    from vramlint.facts import Fact, Sheet
    from vramlint.job import ConfigValue


_TOKENIZER_BOUNDS = MappingProxyType({"t5": 512})
"""Tokens to which the tokenizers of an architecture without positions truncate: `model_max_length` in
tokenizer_config.json of t5-small to t5-11b and flan-t5-small to flan-t5-xxl."""


class Network(Struct, frozen=True):
    """A model as far as it is known, and where it is known from."""

    model_type: str
    config: Mapping[str, ConfigValue] = field(default_factory=dict)
    source: str = ""
    """`model catalog: meta-llama/Llama-2-7b-hf`, or the path of a config.json."""
    parameter_count: int | None = None
    dtype: str | None = None
    """dtype of the checkpoint."""
    dtype_status: str = "unknown"
    """stated, family (likely), unknown."""
    quantization: str = ""
    """nf4, int8, gptq … for a checkpoint that is quantized already."""

    @property
    def hidden_size(self) -> int | None:
        """The width that transformers fills DeepSpeed's `"auto"` buckets with."""
        sizes = self.config.get("hidden_sizes")
        if isinstance(sizes, tuple) and sizes:
            return max(size for size in sizes if isinstance(size, int))
        return self.integer("hidden_size", "n_embd", "d_model")

    @property
    def positions(self) -> int | None:
        """The longest sequence that the model was made for, in tokens."""
        found = self.integer("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
        return found or _TOKENIZER_BOUNDS.get(self.model_type)

    def integer(self, *names: str) -> int | None:
        """The first of these config keys that is a number, at the top or in the text part."""
        text = self.config.get("text_config")
        for config in (self.config, text if isinstance(text, Mapping) else {}):
            for name in names:
                value = config.get(name)
                if isinstance(value, int) and not isinstance(value, bool):
                    return value
        return None


_CACHED = lazy(r"(?:^|/)models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)")
"""A folder of huggingface_hub's cache (huggingface_hub file_download.py, repo_folder_name)."""
_CONVERTED = lazy(r"[-_](?:hf|mcore)/*$", re.IGNORECASE)
"""How people call the folder of a checkpoint that they converted to the form of Hugging Face or of Megatron."""
_DOT = "___"
"""What ModelScope's cache writes for a dot: `Qwen2___5-7B-Instruct` (modelscope hub/snapshot_download.py)."""


def find_network(name: str, path: str, context: Context, started: Sequence[str] = ()) -> Network | None:
    """The network behind a hub id or a path, as seen from the file `path` and from the folders it is started in.

    By id; then by a config.json in a folder of that name; then by the last part of the path, where all models that
    bear that name are one network. A name may say that the weights are quantized.
    """
    row = find_model(name)
    if row:
        return _from_row(row)
    link = Link("model-directory", name)
    for folder in candidates(path, link, context, started):
        network = read_network(f"{folder.rstrip('/')}/config.json", context)
        if network:
            return network
    cached = _CACHED.search(name)
    row = find_model(f"{cached['owner']}/{cached['name']}") if cached else None
    if row:
        return _from_row(row)
    plain = name.replace(_DOT, ".")
    rows = find_model_by_last_part(plain) or find_model_by_last_part(_CONVERTED.sub("", plain))
    configs = [dict(row.config) for row in rows]
    if rows and all(config == configs[0] for config in configs):
        return _from_row(rows[0])
    named = quantized_name(name)
    base = find_network(named.base, path, context, started) if named else None
    return _as_quantized(base, named) if base and named else None


def why_unfound(name: str) -> str:
    """Why no network is known for a name that `find_network` did not find, for people."""
    if name.startswith("…"):
        return f"only run time knows where {name} begins, and no model of the catalog has the name of that folder"
    if not _is_id(name):
        return f"{name} is neither a model of the catalog nor a folder with a config.json"
    if len({str(dict(row.config)) for row in find_model_by_last_part(name)}) > 1:
        return f"{name} may be any of several models of the catalog, and no config.json lies beside the files"
    return f"{name} is not in the model catalog, and no config.json lies beside the files"


def _is_id(name: str) -> bool:
    """Whether a name has the form of an id of the hub, `owner/name`, and not of a path."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def read_network(path: str, context: Context) -> Network | None:
    """The network of a config.json, None when there is no such file or it can't be read."""
    document = context.load(path)
    if document is None:
        return None
    from vramlint.readers.json import read_json

    root = read_json(document).root
    return network_of(root, path) if isinstance(root, Table) else None


def network_of(table: Table, source: str) -> Network:
    """The network that a config.json describes."""
    config = config_values(table)
    dtype = config.get("torch_dtype") or config.get("dtype")
    quantization = config.get("quantization_config")
    return Network(
        model_type=str(config.get("model_type") or ""),
        config=config,
        source=source,
        parameter_count=parameter_count(config) if config.get("model_type") == LITGPT else None,
        dtype=dtype.removeprefix("torch.") if isinstance(dtype, str) else None,
        dtype_status="stated" if isinstance(dtype, str) else "unknown",
        quantization=_quantization(quantization) if isinstance(quantization, Mapping) else "",
    )


_ALIASES = (
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
)
"""Names that the config of gpt2 and its kin takes for its own (transformers 5.23, attribute_map of models/gpt2)."""


def changed(network: Network | None, sheet: Sheet) -> Network | None:
    """The network with the keys of its config that the script sets itself; its parameters then are another number."""
    table = next((table for name, table in sheet.tables if name == "config-overrides"), None)
    if network is None or table is None:
        return network
    config = dict(network.config)
    for key, value in config_values(table).items():
        own = next((alias for name, alias in _ALIASES if name == key and alias in config and name not in config), key)
        below = config.get(own)
        config[own] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return network if config == network.config else replace(network, config=config, parameter_count=None)


def counted_network(facts: Mapping[str, Fact], path: str) -> Network | None:
    """A model of the files' own of which only the number of parameters is known, or a part of it."""
    fact = next(
        (fact for name in ("parameters", "parameters_at_least") if (fact := facts.get(name)) and fact.known), None
    )
    if fact is None or not isinstance(fact.value, int):
        return None
    return Network(model_type="", source=path, parameter_count=fact.value)


def stored_number(network: Network | None, *keys: str) -> int | None:
    """The first of `keys` that a quantized checkpoint's config gives as a number."""
    stored = network.config.get("quantization_config") if network else None
    values = [stored.get(key) for key in keys] if isinstance(stored, Mapping) else []
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _quantization(config: Mapping[str, ConfigValue]) -> str:
    if config.get("load_in_4bit"):
        return str(config.get("bnb_4bit_quant_type") or "fp4")
    if config.get("load_in_8bit"):
        return "int8"
    return str(config.get("quant_method") or "")


_DENOISERS = ("unet", "transformer")
"""Parts of a diffusion pipeline that are trained; the others are frozen, or make their output beforehand."""


def _from_row(row: ModelRow) -> Network:
    trained = next((part for name in _DENOISERS if isinstance(part := row.components.get(name), Mapping)), None)
    if trained is not None and isinstance(count := trained.get("params"), int):
        row = row._replace(parameter_count=count)
    return Network(
        model_type=row.model_type,
        config=row.config,
        source=f"model catalog: {row.id}",
        parameter_count=row.parameter_count,
        dtype=row.dtype,
        dtype_status=row.dtype_status,
        quantization=row.quantization,
    )


_GROUP = 128
"""Elements that share a scale, AutoGPTQ's and AutoAWQ's usual choice and that of Qwen's own checkpoints."""


def _as_quantized(network: Network, named: Named) -> Network:
    """The network of the base as the quantized name stores it; nobody states the dtype of its other weights."""
    source = f"{network.source}, quantized as its name says"
    if named.method == "nf4":
        return replace(network, quantization="nf4", source=source)
    if named.method == "fp8":
        return replace(network, quantization="fp8", source=source, dtype="bfloat16", dtype_status="family")
    stored = {"bits": named.bits, "group_size": _GROUP}
    config = {**network.config, "quantization_config": stored}
    return replace(
        network, config=config, quantization=named.method, source=source, dtype="float16", dtype_status="family"
    )
