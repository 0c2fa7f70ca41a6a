"""torchtitan: keys of its TOML files, the sizes behind `[model] name` and `flavor`, and what its registries say."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tools.surfaces.declared import json_of, literal
from tools.surfaces.rows import COLUMNS, lines_of, rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree
from vramlint.surfaces.frameworks.torchtitan_registry import functions_of, in_older_words, made
from vramlint.text import Document
from vramlint.values import Items, Scalar, Table, Value

_LAST = "238fa9953"
"""The last state that was read with TOML files; they went with pull request 2386 of February 2026."""
_RELEASES: Mapping[str, str] = {
    "0.0.1": "324784142",
    "0.0.2": "473674acf",
    "0.1.0": "v0.1.0",
    "0.2.0": "v0.2.0",
    "0.2.1": "v0.2.1",
    "0.2.2": _LAST,
}
"""Releases and the commits that stand for them. Before 0.1 the keys are an argument parser's."""
_REGISTRIES = "b5bcd76c6"
"""The state whose Python registries are read."""
_SAID = re.compile(
    r"(?:model\.(?:name|flavor|converters)|loss\.type|optimizer\.name|lora\.(?:rank|alpha|target_modules)"
    r"|activation_checkpoint\.(?:mode|selective_ac_option)|compile\.(?:enable|components)"
    r"|parallelism\.\w+(?:_degree|_forward)|training\.(?:max_context_length|num_tokens_\w+|dtype|enable_cpu_offload"
    r"|mixed_precision_param)|validation\.enable)"
)
"""What is kept of a registry's configurations: their keys that facts are read from."""
_KEYS_HEADING = (
    "Keys of torchtitan's TOML files (torchtitan/config_manager.py, config/job_config.py and the job_config.py of",
    "models and experiments, 0.0.1 to 0.2.2).",
    COLUMNS,
)
_FLAVORS_HEADING = (
    "Flavors of torchtitan's models (torchtitan 0.1.0, 0.2.0 and 0.2.2 models/*/__init__.py, model/args.py):",
    "model, flavor, arguments with their defaults as JSON",
)
_REGISTRIES_HEADING = (
    f"Configurations of torchtitan's registries (*/config_registry.py at commit {_REGISTRIES}): module, function,",
    "what it says by the keys of the TOML files and of TrainingConfig, as JSON",
)
_KINDS = {"true": "bool", "false": "bool"}
_FILES = ("torchtitan/config_manager.py", "torchtitan/config/job_config.py")
_RENAMED: Mapping[str, str] = {
    "training.batch_size": "training.local_batch_size",
    "training.compile": "compile.enable",
    "training.data_parallel_degree": "parallelism.data_parallel_shard_degree",
    "training.data_parallel_shard_degree": "parallelism.data_parallel_shard_degree",
    "training.data_parallel_replicate_degree": "parallelism.data_parallel_replicate_degree",
    "training.tensor_parallel_degree": "parallelism.tensor_parallel_degree",
    "training.enable_async_tensor_parallel": "parallelism.enable_async_tensor_parallel",
    "training.fsdp_reshard_after_forward": "parallelism.fsdp_reshard_after_forward",
    "training.disable_loss_parallel": "parallelism.disable_loss_parallel",
    "training.warmup_steps": "lr_scheduler.warmup_steps",
    "experimental.pipeline_parallel_degree": "parallelism.pipeline_parallel_degree",
    "experimental.pipeline_parallel_schedule": "parallelism.pipeline_parallel_schedule",
    "experimental.context_parallel_degree": "parallelism.context_parallel_degree",
    "experimental.enable_async_tensor_parallel": "parallelism.enable_async_tensor_parallel",
    "optimizer.fused": "optimizer.implementation",
    "checkpoint.enable_checkpoint": "checkpoint.enable",
    "memory_estimation.enabled": "memory_estimation.enable",
    "model.tokenizer_path": "model.hf_assets_path",
    "float8.enable_float8_linear": "model.converters",
    "float8.enable_fsdp_float8_all_gather": "quantize.linear.float8.enable_fsdp_float8_all_gather",
    "float8.precompute_float8_dynamic_scale_for_fsdp": (
        "quantize.linear.float8.precompute_float8_dynamic_scale_for_fsdp"
    ),
    "float8.filter_fqns": "quantize.linear.float8.filter_fqns",
    "float8.recipe_name": "quantize.linear.float8.recipe_name",
}


def _fields(tree: ast.Module) -> dict[str, dict[str, ast.AnnAssign]]:
    """The annotated fields of every class of a module."""
    return {
        node.name: {
            item.target.id: item
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def _keys_of(classes: Mapping[str, Mapping[str, ast.AnnAssign]], name: str, above: str) -> Iterator[tuple[str, str]]:
    """Dotted keys below a dataclass and their defaults as JSON."""
    for field, item in classes.get(name, {}).items():
        factory = _factory(item.value)
        if factory in classes:
            yield from _keys_of(classes, factory, f"{above}{field}.")
            continue
        yield f"{above}{field}", json_of(item.value)


def _factory(node: ast.expr | None) -> str:
    match node:
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            made = next((item.value for item in keywords if item.arg == "default_factory"), None)
            return made.id if isinstance(made, ast.Name) else ""
    return ""


def _arguments(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Options of an argument parser, `--training.batch_size`, and their defaults as JSON."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=[ast.Constant(value=str(name)), *_]):
                given = {item.arg: item.value for item in node.keywords}
                stores = literal(given.get("action")) == "store_true"
                yield name.removeprefix("--"), json_of(given.get("default")) or ("false" if stores else "")


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys of one state."""
    defaults: dict[str, str] = {}
    for path in (*_FILES, *tree.paths("torchtitan/**/job_config.py")):
        module = tree.module(path)
        classes = _fields(module)
        found = _keys_of(classes, "JobConfig", "") if "JobConfig" in classes else iter(())
        for key, default in (*found, *_arguments(module)):
            if "." in key and not key.startswith("."):
                defaults.setdefault(key, default)
    return {"torchtitan": {key: Key(_KINDS.get(default, ""), default) for key, default in defaults.items()}}


def make(states: States) -> Mapping[str, str]:
    """The three tables."""
    releases = [(release, read(states.revision(state))["torchtitan"]) for release, state in _RELEASES.items()]
    return {
        table_file("torchtitan"): text_of(_KEYS_HEADING, rows_of(releases, _RENAMED)),
        table_file("torchtitan_flavors"): lines_of(
            _FLAVORS_HEADING, flavors(states.revision(state) for state in ("v0.1.0", "v0.2.0", _LAST))
        ),
        table_file("torchtitan_registries"): lines_of(_REGISTRIES_HEADING, registries(states.revision(_REGISTRIES))),
    }


def flavors(trees: Iterable[Tree]) -> list[str]:
    """Lines of the table of flavors: model, flavor, arguments of the model with their defaults as JSON."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for tree in trees:
        paths = tree.paths("torchtitan/**")
        shared = [path for path in paths if path.endswith(("/moe.py", "/moe_args.py", "protocols/model.py"))]
        for path in paths:
            folder, _, name = path.rpartition("/")
            if name != "__init__.py" or not folder.startswith(("torchtitan/models/", "torchtitan/experiments/")):
                continue
            own = [
                other for other in paths if other.startswith(f"{folder}/") and other.endswith(("args.py", "model.py"))
            ]
            classes: dict[str, dict[str, ast.AnnAssign]] = {}
            for other in (*shared, *own):
                classes |= _fields(tree.module(other))
            for model, flavor, arguments in _registered(tree.module(path), folder, classes):
                found[model, flavor] = arguments
    return [
        f"{model}\t{flavor}\t{json.dumps(arguments, separators=(',', ':'))}"
        for (model, flavor), arguments in sorted(found.items())
    ]


def _registered(
    tree: ast.Module, folder: str, classes: Mapping[str, Mapping[str, ast.AnnAssign]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Entries of a module's table from flavors to arguments."""
    model = folder.rpartition("/")[2]
    for node in tree.body:
        match node:
            case ast.Assign(value=ast.Dict(keys=names, values=values)):
                for name, value in zip(names, values, strict=True):
                    if (
                        isinstance(value, ast.Call)
                        and name is not None
                        and getattr(value.func, "id", "").endswith("Args")
                    ):
                        said = _made(value, classes)
                        if "dim" in said or "n_layers" in said:
                            yield model, str(literal(name)), said


def _made(call: ast.Call, classes: Mapping[str, Mapping[str, ast.AnnAssign]]) -> dict[str, Any]:
    """What a call of a dataclass gives, over the defaults of the class."""
    name = getattr(call.func, "id", "")
    said: dict[str, Any] = {}
    for field, item in classes.get(name, {}).items():
        value = literal(item.value)
        if value is not None:
            said[field] = value
        elif _factory(item.value) in classes and "rope" not in field:
            said[field] = _made(ast.Call(ast.Name(_factory(item.value)), [], []), classes)
    for keyword in call.keywords:
        if keyword.arg is None or "rope" in keyword.arg:
            continue
        if isinstance(keyword.value, ast.Call):
            said[keyword.arg] = _made(keyword.value, classes)
        elif (value := literal(keyword.value)) is not None:
            said[keyword.arg] = value
    return said


def registries(tree: Tree) -> list[str]:
    """Lines of registries: module, function, what it says as JSON; without those that cannot be followed."""
    rows = []
    for path, text in tree.files("torchtitan/**/config_registry.py"):
        document = Document.of(path, text)
        module = path.removesuffix(".py").replace("/", ".")
        for name, table in made(document, functions_of(document)).items():
            said = {key: value for key, value in _said_by(in_older_words(table), "") if _SAID.fullmatch(key)}
            if "model.flavor" in said:
                rows.append(f"{module}\t{name}\t{json.dumps(said, separators=(',', ':'))}")
    return sorted(rows)


def _said_by(table: Table, above: str) -> Iterator[tuple[str, Any]]:
    for entry in table:
        value: Value = entry.value
        if isinstance(value, Table):
            yield from _said_by(value, f"{above}{entry.key}.")
        elif isinstance(value, Scalar):
            yield f"{above}{entry.key}", value.value
        elif isinstance(value, Items):
            yield f"{above}{entry.key}", [item.value for item in value.values if isinstance(item, Scalar)]


SOURCE = Source("torchtitan", ("torchtitan",), "pytorch/torchtitan", read, make)
