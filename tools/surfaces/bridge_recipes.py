"""Megatron-Bridge's recipes: what their functions give by default, of the keys that decide memory."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tools.surfaces.recipe_programs import flattened, made, recipe_lines
from tools.surfaces.rows import lines_of
from tools.surfaces.trees import Tree
from vramlint.values import Call, Scalar, Value

_FILES = "megatron/bridge/recipes/**/*.py"
_KEPT = re.compile(
    r"dataset\.(?:enable_in_batch_packing|seq_length)|(?:ddp|dist)\.use_megatron_fsdp|ddp\.use_distributed_optimizer"
    r"|mixed_precision|mixed_precision\.(?:bf16|fp16|fp8|grad_reduce_in_fp32)"
    r"|model\.(?:(?:tensor_model|pipeline_model|context|expert_model|expert_tensor|virtual_pipeline_model)_parallel_size"
    r"|sequence_parallel|pipeline_model_parallel_layout|num_layers_in_(?:first|last)_pipeline_stage"
    r"|account_for_(?:embedding|loss)_in_pipeline_split|attention_backend|cross_entropy_loss_fusion|hf_model"
    r"|mtp_num_layers|recompute_(?:granularity|method|modules|num_layers)|seq_length|moe_token_dispatcher_type"
    r"|overlap_moe_expert_parallel_comm|fine_grained_activation_offloading|cpu_offloading)"
    r"|optimizer\.(?:optimizer|use_precision_aware_optimizer|main_(?:grads|params)_dtype|exp_avg(?:_sq)?_dtype"
    r"|optimizer_cpu_offload|optimizer_offload_fraction)|peft\.(?:alpha|dim|dropout|target_modules|type)"
    r"|train\.(?:global|micro)_batch_size"
)
_ON = frozenset(
    (
        "dataset.enable_in_batch_packing",
        "ddp.use_megatron_fsdp",
        "dist.use_megatron_fsdp",
        "optimizer.use_precision_aware_optimizer",
        "optimizer.optimizer_cpu_offload",
        "model.account_for_embedding_in_pipeline_split",
        "model.account_for_loss_in_pipeline_split",
        "model.overlap_moe_expert_parallel_comm",
        "model.fine_grained_activation_offloading",
        "model.cpu_offloading",
    )
)
"""Switches that are only told where they are on."""


_USUAL: Mapping[str, object] = {
    "model.moe_token_dispatcher_type": "alltoall",
    "optimizer.main_grads_dtype": "torch.float32",
    "optimizer.main_params_dtype": "torch.float32",
    "optimizer.exp_avg_dtype": "torch.float32",
    "optimizer.exp_avg_sq_dtype": "torch.float32",
    "optimizer.optimizer_offload_fraction": 1.0,
}
"""What is told only where it is otherwise."""


def whole(tree: Tree) -> Mapping[str, str]:
    """The table `frameworks/megatron-bridge_recipes.tsv`."""
    heading = (
        "Recipes of Megatron-Bridge (NVIDIA-NeMo/Megatron-Bridge@067f987, src/megatron/bridge/recipes): what their "
        "functions give by default, of the keys that",
        "decide memory (JSON). `same`: as another one.",
    )
    recipes: dict[str, Mapping[str, object]] = {}
    for path, names in _functions(tree):
        module = path.removesuffix(".py").replace("/", ".")
        values = made(tree, r"megatron\.bridge\.recipes(?:\.\w+)*", {name: f"{module}:{name}()" for name in names})
        recipes |= {name: said for name, value in values.items() if (said := _said(value))}
    others = dict(_aliases(tree))
    for name in others:
        target = name
        while target in others and target not in recipes:
            target = others[target]
        if target in recipes:
            recipes[name] = recipes[target]
    return {"frameworks/megatron-bridge_recipes.tsv": lines_of(heading, recipe_lines(recipes))}


def _functions(tree: Tree) -> Iterator[tuple[str, list[str]]]:
    """Files and the recipes that they define."""
    for path in tree.paths(_FILES):
        nodes = [node for node in tree.module(path).body if isinstance(node, ast.FunctionDef)]
        names = [node.name for node in nodes if _is_recipe(node.name) and not _needs(node.args)]
        if names and "/utils/" not in path:
            yield path, names


def _is_recipe(name: str) -> bool:
    return name.endswith("_config") and not name.startswith("_")


def _needs(arguments: ast.arguments) -> bool:
    return len(arguments.args) > len(arguments.defaults) or None in arguments.kw_defaults


def _aliases(tree: Tree) -> Iterator[tuple[str, str]]:
    """Other names of recipes, and those that they stand for."""
    for path in tree.paths(_FILES):
        for node in tree.module(path).body:
            if isinstance(node, ast.ImportFrom):
                yield from ((item.asname, item.name) for item in node.names if item.asname and _is_recipe(item.asname))
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
                yield from ((ast.unparse(to), node.value.id) for to in node.targets if _is_recipe(ast.unparse(to)))


def _said(value: Value) -> dict[str, object]:
    if not isinstance(value, Call):
        return {}
    keys: dict[str, object] = {}
    for word in (*value.keywords, *value.bindings):
        keys = {key: said for key, said in keys.items() if not f"{key}.".startswith(f"{word.name}.")}
        keys |= flattened(word.value, f".{word.name}")
        if word.name == "model" and (found := _checkpoint(word.value)):
            keys["model.hf_model"] = found
        if word.name == "mixed_precision" and (found := _precision(word.value)):
            keys |= _set_of(found) if any(key.startswith(_CHANGED) for key in keys) else {word.name: found}
    return {
        key: said
        for key, said in keys.items()
        if _KEPT.fullmatch(key) and said is not None and not (key in _ON and said is False) and said != _USUAL.get(key)
    }


_CHANGED = "mixed_precision.grad_reduce_in_fp32"


def _set_of(name: str) -> dict[str, object]:
    """A named set of precisions of which the recipe changes a part, as its parts."""
    kinds = {f"mixed_precision.{kind}": True for kind in ("bf16", "fp16") if name.startswith(kind)}
    return {**kinds, "mixed_precision.fp8": True} if re.search(r"fp[48]", name) else dict(kinds)


def _precision(value: Value) -> str:
    """The name of a set of precisions: a text, `bf16_mixed()` or `get_mixed_precision_config("bf16_mixed")`."""
    if isinstance(value, Call):
        name = value.callee.rpartition(".")[2]
        first = value.args[0] if value.args else None
        return name if name.endswith("_mixed") else _precision(first) if first is not None else ""
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""


def _checkpoint(value: Value) -> str:
    """The checkpoint in `AutoBridge.from_hf_pretrained(…).get_model_config()`."""
    while isinstance(value, Call):
        if value.callee.endswith("from_hf_pretrained") and value.args and isinstance(value.args[0], Scalar):
            return str(value.args[0].value)
        value = value.receiver if value.receiver is not None else Scalar(None)
    return ""
