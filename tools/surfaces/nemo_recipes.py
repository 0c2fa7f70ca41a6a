"""NeMo 2's recipes: what their functions give by default, of the keys that decide memory."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from tools.surfaces.recipe_programs import flattened, made, recipe_lines
from tools.surfaces.rows import lines_of
from tools.surfaces.source import Source
from tools.surfaces.trees import Tree
from vramlint.values import Call, Value

_FILES = "nemo/collections/*/recipes/*.py"
_FOLLOWED = r"nemo\.collections\.(?:\w+\.recipes\.[\w.]+|llm\.peft)"
"""Not the packages of recipes themselves: they import every recipe."""
_PRETRAIN, _FINETUNE = "pretrain_recipe", "finetune_recipe"
_FULL = ":none"
"""Recipes without an adapter. One that has one all the same raises; the reader goes on where nothing is raised."""
_WITHOUT = "peft_scheme"
"""The parameter that leaves the adapter out."""
_KEPT = re.compile(
    r"data\.(?:global_batch_size|micro_batch_size|seq_length)"
    r"|model\.config\.(?:type|cross_entropy_loss_fusion|mtp_num_layers|recompute_(?:granularity|method|modules|num_layers)"
    r"|cpu_offloading|cpu_offloading_num_layers|gradient_accumulation_fusion|moe_token_dispatcher_type"
    r"|(?:first|last)_pipeline_num_layers|num_layers_in_(?:first|last)_pipeline_stage"
    r"|account_for_(?:embedding|loss)_in_pipeline_split)|model\.id"
    r"|optim\.config\.(?:optimizer|use_distributed_optimizer)|peft\.(?:alpha|dim|target_modules|type)"
    r"|trainer\.(?:devices|num_nodes|plugins\.precision)"
    r"|trainer\.strategy\.(?:(?:tensor_model|pipeline_model|context|expert_model|expert_tensor)_parallel_size"
    r"|sequence_parallel|virtual_pipeline_model_parallel_size|pipeline_model_parallel_layout"
    r"|num_layers_in_(?:first|last)_pipeline_stage|account_for_(?:embedding|loss)_in_pipeline_split"
    r"|ddp\.use_distributed_optimizer)"
)
_LENGTH = re.compile(r"_\d+k$")
"""The end of the name of a recipe that is another one for longer samples."""
_CHECKPOINT = "resume.restore_config.path"
_ON_HUB = "nemo://"


def whole(tree: Tree) -> Mapping[str, str]:
    """The table `frameworks/nemo_recipes.tsv`."""
    heading = (
        "Recipes of NeMo 2 (NVIDIA/NeMo, nemo/collections/*/recipes): what `pretrain_recipe()` and `finetune_recipe()` "
        "give by default, with `:none` without an",
        "adapter, of the keys that decide memory (JSON); `model.id` is the checkpoint that the recipe starts from, or "
        "its sibling does. `same`: as another one.",
    )
    recipes: dict[str, Mapping[str, object]] = {}
    starts: dict[str, object] = {}
    for path in sorted(tree.paths(_FILES), key=len):  # llama3_8b in front of llama3_8b_16k, which takes from it
        module, stem = tree.module(path), path.rpartition("/")[2].removesuffix(".py")
        calls = _calls(module, path.removesuffix(".py").replace("/", "."))
        values = made(tree, _FOLLOWED, {name: call for name, (_, call) in calls.items()})
        own = {calls[name][0]: said for name, value in values.items() if (said := _said(value))}
        own = {name: said for name, said in own.items() if not (name.endswith(_FULL) and "peft.type" in said)}
        stated = (said["model.id"] for said in own.values() if "model.id" in said)
        start = next(
            iter((*stated, *(starts[name] for name in (_LENGTH.sub("", stem), *_imported(module)) if name in starts))),
            None,
        )
        if start:
            starts[stem] = start
        recipes |= {name: {**({"model.id": start} if start else {}), **said} for name, said in own.items()}
    return {"frameworks/nemo_recipes.tsv": lines_of(heading, recipe_lines(recipes))}


def _calls(module: ast.Module, name: str) -> dict[str, tuple[str, str]]:
    """Calls by a name for each, with what the table calls them."""
    stem = name.rpartition(".")[2]
    found: dict[str, tuple[str, str]] = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name in (_PRETRAIN, _FINETUNE):
            title = f"{stem}.{node.name}"
            found[node.name] = (title, f"{name}:{node.name}()")
            if node.name == _FINETUNE:
                takes = any(argument.arg == _WITHOUT for argument in (*node.args.args, *node.args.kwonlyargs))
                words = f"({_WITHOUT}=None)" if takes else "()"
                found["without"] = (f"{title}{_FULL}", f"{name}:{node.name}{words}")
    return found


def _imported(module: ast.Module) -> list[str]:
    """The other recipes that a module imports."""
    return [
        item.name
        for node in module.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith(".recipes")
        for item in node.names
    ]


def _said(value: Value) -> dict[str, object]:
    if not isinstance(value, Call):
        return {}
    keys: dict[str, object] = {}
    for word in (*value.keywords, *value.bindings):
        keys = {key: said for key, said in keys.items() if not f"{key}.".startswith(f"{word.name}.")}
        keys |= flattened(word.value, f".{word.name}")
    start = keys.get(_CHECKPOINT)
    if isinstance(start, str) and start.startswith(_ON_HUB) and start != _ON_HUB:
        keys["model.id"] = start.removeprefix(_ON_HUB)
    kept = {key: said for key, said in keys.items() if _KEPT.fullmatch(key) and said is not None}
    return {key: said for key, said in kept.items() if said is not False or "account_for_" not in key}


SOURCE = Source("", ("nemo",), "NVIDIA/NeMo", whole=whole)
