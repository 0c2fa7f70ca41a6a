"""torchtune: keys that its recipes read, its builders of models, and what its packaged configurations say."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tools.surfaces.declared import json_of, literal
from tools.surfaces.rows import COLUMNS, Row, lines_of, rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree
from vramlint.readers.yaml import read_yaml
from vramlint.text import Document
from vramlint.values import plain


def _words(text: str) -> list[str]:
    return text.split()


_RELEASES = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0")
"""Tagged releases whose recipes differ; what the checkout holds is the next one."""
_NEXT = "0.7.0"
_KEYS_HEADING = (
    "Keys that torchtune's recipes read (recipes/**/*.py, recipes/configs, torchtune/training of 0.1.0 to 0.7.0).",
    COLUMNS,
)
_BUILDERS_HEADING = (
    "Builders of models (torchtune 0.7 models/*/_model_builders.py, _component_builders.py): name without lora_",
    "and qlora_, family, the component builder that it calls, its arguments (of the language model)",
)
_CONFIGS_HEADING = (
    "Packaged configurations (torchtune 0.7 _recipe_registry.py, recipes/configs): name, recipes, keys that decide",
    "memory as JSON of dotted keys",
)
_TABLES = _words("""
model tokenizer checkpointer ref_checkpointer teacher_checkpointer ref_policy_checkpointer value_checkpointer
reward_checkpointer dataset dataset_val datasets optimizer optimizer_in_bwd loss kd_loss lr_scheduler
metric_logger profiler teacher_model policy_model reward_and_value_model quantizer dataloader early_exit_loss
layer_dropout inference orchestration postprocessing training reward_functions compile tensor_parallel_plan
mp_policy recipe_checkpoint
""")
"""Keys with a component or a table below them, whose own keys are the component's."""
_ELSEWHERE = {
    "config": "read by the command line",
    "recipe": "",
    "name": "used by other keys of the packaged configurations",
    "base_model_path": "used by other keys of the packaged configurations",
    "checkpoint_dir": "used by other keys of the packaged configurations",
    "checkpoint_files": "used by other keys of the packaged configurations",
}
_ALWAYS = ("config", "recipe", "checkpoint_dir", "checkpoint_files", "mp_policy", "recipe_checkpoint")
"""Keys that no recipe reads by their name."""
_KEPT = _words("""
batch_size batch_size_val gradient_accumulation_steps dtype optimizer_in_bwd enable_activation_checkpointing
enable_activation_offloading ac_mode ac_option compile clip_grad_norm fsdp_cpu_offload
fsdp_reshard_after_forward custom_sharded_layers tensor_parallel_dim context_parallel_dim
data_parallel_shard_dim data_parallel_replicate_dim enable_fp8_training fp8_recipe_name forward_batch_size
ppo_batch_size ppo_epochs grpo_samples num_steps max_generated_tokens kd_ratio fake_quant_after_n_steps
low_cpu_ram run_val_every_n_steps
""")
_KEPT_TABLES = _words("""
model teacher_model policy_model reward_and_value_model optimizer loss kd_loss quantizer dataset dataset_val
tokenizer early_exit_loss layer_dropout
""")
_LEFT_OUT = ("lr", "weight_decay", "path", "merges_file", "source", "split", "column_map", "betas", "partition")


def _yaml(text: str) -> dict[str, Any]:
    root = read_yaml(Document.of("config.yaml", text)).root
    found = plain(root) if root is not None else {}
    return found if isinstance(found, dict) else {}


def _read_keys(text: str) -> Iterator[tuple[str, str]]:
    """Keys of `cfg` that a recipe reads, with the default of `cfg.get` as JSON."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr="get"), args=[ast.Constant(value=str(key)), *rest]):
                if prefix := _path(owner):
                    yield ".".join((*prefix.split(".")[1:], key)), json_of(rest[0] if rest else None)
            case ast.Attribute(attr=attribute) if attribute not in ("get", "keys", "pop", "items"):
                if (path := _path(node)) and path.startswith("cfg.") and path.count(".") == 1:
                    yield path.removeprefix("cfg."), ""


def _path(node: ast.expr) -> str:
    """`cfg.model` of an attribute; empty for anything else than cfg."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id == "cfg":
        return ".".join(["cfg", *reversed(names)])
    return "cfg" if names and names[-1] in ("_cfg", "cfg") and len(names) == 1 else ""


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys of one state."""
    defaults: dict[str, str] = {}
    sources = [*tree.files("recipes/**.py"), *tree.files("torchtune/training/**.py")]
    for path, text in sources:
        if path.endswith(("generate.py", "eleuther_eval.py", "quantize.py")) or "/generate_v2" in path:
            continue
        for key, default in _read_keys(text):
            if "." not in key:
                defaults[key] = defaults.get(key) or default
    for _, text in tree.files("recipes/configs/**.yaml"):
        for key in _yaml(text):
            defaults.setdefault(key, "")
    for key in _ALWAYS if sources else ():
        defaults.setdefault(key, "")
    return {"torchtune": {key: _typed(key, default) for key, default in defaults.items()}}


def _typed(key: str, default: str) -> Key:
    kind = "table" if key in _TABLES else {"true": "bool", "false": "bool"}.get(default, "")
    return Key(kind, default, _ELSEWHERE.get(key, ""))


def make(states: States) -> Mapping[str, str]:
    """The three tables."""
    trees = {release: states.release(release) for release in _RELEASES} | {_NEXT: states.revision("HEAD")}
    rows = rows_of([(release, read(tree)["torchtune"]) for release, tree in trees.items()])
    inside: list[Row] = [(f"{key}.*", "", "", "", "", "", "arguments of the component") for key in _TABLES]
    newest = trees[_NEXT]
    return {
        table_file("torchtune"): text_of(_KEYS_HEADING, [*rows, *inside]),
        table_file("torchtune_builders"): lines_of(_BUILDERS_HEADING, builders([*trees.values()][1:])),
        table_file("torchtune_configs"): lines_of(_CONFIGS_HEADING, configs(newest)),
    }


def builders(trees: Iterable[Tree]) -> list[str]:
    """Lines of the table of builders: name, the component builder that it calls, its arguments as JSON."""
    found: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for tree in trees:
        found |= _builders(tree)
    rows = []
    for name, (family, component, said) in sorted(found.items()):
        kept = {key: value for key, value in said.items() if value is not None}
        rows.append(f"{name}\t{family}\t{component}\t{json.dumps(kept, separators=(',', ':'))}")
    return rows


def _builders(tree: Tree) -> dict[str, tuple[str, str, dict[str, Any]]]:
    components = _components(tree)
    found = {name: (family, name, dict(parameters)) for name, (family, parameters) in components.items()}
    for path, text in tree.files("torchtune/models/**_model_builders.py"):
        family = path.split("/")[2]
        for node in ast.parse(text).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)) if other in found:
                    found[name] = found[other]
            call = _made(node)
            if not isinstance(node, ast.FunctionDef) or call is None:
                continue
            component = getattr(call.func, "id", "")
            if component not in components:
                continue  # no language model
            parameters, constants = components[component][1], _constants(node)
            names = list(parameters)
            given: dict[str, object] = {names[index]: _value(value, constants) for index, value in enumerate(call.args)}
            given |= {item.arg: _value(item.value, constants) for item in call.keywords if item.arg}
            found[node.name] = (family, component, {**parameters, **given})
    return found


def _components(tree: Tree) -> dict[str, tuple[str, dict[str, Any]]]:
    """Functions that make a model from its sizes: family and parameters with their defaults."""
    found = {}
    for path, text in tree.files("torchtune/models/**_component_builders.py"):
        family = path.split("/")[2]
        for node in ast.parse(text).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith(("lora_", "qlora_")):
                continue
            parameters = _parameters(node)
            if {"vocab_size", "num_layers", "embed_dim"} <= parameters.keys() and family not in ("clip", "t5"):
                found[node.name] = (family, parameters)
    return found


def _made(node: ast.stmt) -> ast.Call | None:
    """The call that makes the language model of a builder."""
    if not isinstance(node, ast.FunctionDef) or node.name.startswith(("lora_", "qlora_")):
        return None
    returned = next((item.value for item in node.body if isinstance(item, ast.Return)), None)
    return _decoder(node) or (returned if isinstance(returned, ast.Call) else None)


def _decoder(node: ast.FunctionDef) -> ast.Call | None:
    """The call that builds the language model of a model that has an encoder too."""
    for item in node.body:
        match item:
            case ast.Assign(targets=[ast.Name(id="decoder")], value=ast.Call() as call):
                return call
    return None


def _constants(node: ast.FunctionDef) -> dict[str, Any]:
    """Names that a function gives a literal, its parameters by their defaults among them."""
    assigned = {
        target.id: value
        for item in node.body
        if isinstance(item, ast.Assign)
        for target in item.targets
        if isinstance(target, ast.Name) and (value := literal(item.value)) is not None
    }
    return {**_parameters(node), **assigned}


def _parameters(node: ast.FunctionDef) -> dict[str, Any]:
    """The parameters of a function and their defaults, None where there is none."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return {argument.arg: literal(default) for argument, default in pairs}


def _value(node: ast.expr, constants: Mapping[str, Any]) -> object:
    return constants.get(node.id) if isinstance(node, ast.Name) else literal(node)


def configs(tree: Tree) -> list[str]:
    """Lines of the table of packaged configurations: name, recipes, what they say as JSON of dotted keys."""
    recipes: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for node in ast.walk(tree.module("torchtune/_recipe_registry.py")):
        match node:
            case ast.Call(func=ast.Name(id="Recipe"), keywords=keywords):
                given = {item.arg: item.value for item in keywords}
                for call in getattr(given["configs"], "elts", ()):
                    named = {item.arg: str(literal(item.value)) for item in call.keywords}
                    recipes.setdefault(named["name"], []).append(str(literal(given["name"])))
                    files[named["name"]] = named["file_path"]
    rows = []
    for name in sorted(recipes):
        if all(recipe in ("generate", "eleuther_eval", "quantize") or "generate" in recipe for recipe in recipes[name]):
            continue
        text = tree.text(f"recipes/configs/{files[name]}")
        if not text:  # the registry has names whose files are gone
            continue
        said = _flat(_yaml(text))
        rows.append(f"{name}\t{','.join(recipes[name])}\t{json.dumps(said, separators=(',', ':'))}")
    return rows


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {key: config[key] for key in _KEPT if config.get(key) is not None}
    for table in _KEPT_TABLES:
        inner = config.get(table)
        if isinstance(inner, Mapping):
            said |= {
                f"{table}.{key}": value for key, value in inner.items() if value is not None and key not in _LEFT_OUT
            }
    return said


SOURCE = Source("torchtune", ("torchtune", "recipes"), "pytorch/torchtune", read, make)
