"""OpenRLHF: the options that each of its programs declares, `openrlhf-<program>.tsv`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping

from tools.surfaces.rows import COLUMNS, rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree
from vramlint.catalog.versions import Version, version_of

_FIRST = (0, 2, 0)
_PACKAGED = ("0.11.1", "0.11.2")
"""Releases on PyPI after the last tag that was read."""
_PROGRAMS = {
    "sft": "sft",
    "dpo": "dpo",
    "rm": "rm",
    "kto": "kto",
    "kd": "kd",
    "prm": "prm",
    "ppo_ray": "ppo",
    "ppo": "ppo-local",
}
"""Programs, `train_<name>.py`, and what their tables are called."""
_RENAMED = {
    "save_path": "ckpt.output_dir",
    "save_steps": "ckpt.save_steps",
    "save_hf_ckpt": "ckpt.save_hf",
    "disable_ds_ckpt": "ckpt.disable_ds",
    "logging_steps": "logger.logging_steps",
    "eval_steps": "eval.steps",
    "ckpt_path": "ckpt.path",
    "max_ckpt_num": "ckpt.max_num",
    "max_ckpt_mem": "ckpt.max_mem",
    "load_checkpoint": "ckpt.load_enable",
    "use_ds_universal_ckpt": "ds.use_universal_ckpt",
    "micro_train_batch_size": "train.micro_batch_size",
    "train_batch_size": "train.batch_size",
    "deepcompile": "ds.deepcompile",
    "seed": "train.seed",
    "full_determinism": "train.full_determinism_enable",
    "zero_stage": "ds.zero_stage",
    "param_dtype": "ds.param_dtype",
    "bf16": "param_dtype",
    "flash_attn": "attn_implementation",
    "zpg": "ds.zpg",
    "adam_offload": "ds.adam_offload",
    "attn_implementation": "ds.attn_implementation",
    "use_liger_kernel": "ds.use_liger_kernel",
    "grad_accum_dtype": "ds.grad_accum_dtype",
    "overlap_comm": "ds.overlap_comm",
    "disable_fast_tokenizer": "data.disable_fast_tokenizer",
    "dataloader_num_workers": "data.dataloader_num_workers",
    "ds_tensor_parallel_size": "ds.tensor_parallel_size",
    "max_epochs": "train.max_epochs",
    "aux_loss_coef": "model.aux_loss_coef",
    "nll_loss_coef": "model.nll_loss_coef",
    "beta": "model.beta",
    "ipo": "model.ipo_enable",
    "label_smoothing": "model.label_smoothing",
    "pretrain_mode": "model.pretrain_mode_enable",
    "learning_rate": "adam.lr",
    "l2": "adam.weight_decay",
    "adam_betas": "adam.betas",
    "ring_attn_size": "ds.ring_attn_size",
    "ring_head_stride": "ds.ring_attn_head_stride",
    "load_in_4bit": "ds.load_in_4bit",
    "lora_rank": "ds.lora.rank",
    "lora_alpha": "ds.lora.alpha",
    "target_modules": "ds.lora.target_modules",
    "lora_dropout": "ds.lora.dropout",
    "packing_samples": "ds.packing_samples",
    "dataset": "data.dataset",
    "dataset_probs": "data.dataset_probs",
    "eval_dataset": "eval.dataset",
    "dataset_split": "data.dataset_split",
    "eval_split": "eval.split",
    "max_samples": "data.max_samples",
    "multiturn": "data.multiturn",
    "input_key": "data.input_key",
    "output_key": "data.output_key",
    "input_template": "data.input_template",
    "apply_chat_template": "data.apply_chat_template",
    "tokenizer_chat_template": "data.tokenizer_chat_template",
    "max_len": "data.max_len",
    "prompt_key": "data.prompt_key",
    "chosen_key": "data.chosen_key",
    "rejected_key": "data.rejected_key",
    "use_wandb": "logger.wandb.key",
    "wandb_org": "logger.wandb.org",
    "wandb_group": "logger.wandb.group",
    "wandb_project": "logger.wandb.project",
    "wandb_run_name": "logger.wandb.run_name",
    "use_tensorboard": "logger.tensorboard_dir",
    "ref_pretrain": "ref.model_name_or_path",
    "ref_offload": "ref.offload",
}
"""What options without dots are called since 0.10.2; of options that were renamed before, what they became then."""
_RENAMED_RL = {
    "ref_num_nodes": "ref.num_nodes",
    "ref_num_gpus_per_node": "ref.num_gpus_per_node",
    "reward_num_nodes": "reward.num_nodes",
    "reward_num_gpus_per_node": "reward.num_gpus_per_node",
    "actor_num_nodes": "actor.num_nodes",
    "actor_num_gpus_per_node": "actor.num_gpus_per_node",
    "critic_num_nodes": "critic.num_nodes",
    "critic_num_gpus_per_node": "critic.num_gpus_per_node",
    "colocate_all_models": "train.colocate_all",
    "colocate_actor_ref": "train.colocate_actor_ref",
    "colocate_critic_reward": "train.colocate_critic_reward",
    "vllm_num_engines": "vllm.num_engines",
    "vllm_tensor_parallel_size": "vllm.tensor_parallel_size",
    "vllm_sync_backend": "vllm.sync_backend",
    "vllm_enable_sleep": "vllm.enable_sleep",
    "enforce_eager": "vllm.enforce_eager",
    "enable_prefix_caching": "vllm.enable_prefix_caching",
    "vllm_gpu_memory_utilization": "vllm.gpu_memory_utilization",
    "deepspeed_enable_sleep": "ds.enable_sleep",
    "use_dynamic_batch": "train.dynamic_batch_enable",
    "train_max_tokens_per_gpu": "train.max_tokens_per_gpu",
    "rollout_max_tokens_per_gpu": "rollout.max_tokens_per_gpu",
    "rollout_batch_size": "rollout.batch_size",
    "micro_rollout_batch_size": "rollout.micro_batch_size",
    "n_samples_per_prompt": "rollout.n_samples_per_prompt",
    "generate_max_len": "rollout.max_new_tokens",
    "init_kl_coef": "algo.kl.init_coef",
    "kl_estimator": "algo.kl.estimator",
    "use_kl_loss": "algo.kl.use_loss",
    "advantage_estimator": "algo.advantage.estimator",
    "pretrain": "actor.model_name_or_path",
    "reward_pretrain": "reward.model_name_or_path",
    "critic_pretrain": "critic.model_name_or_path",
    "remote_rm_url": "reward.remote_url",
    "agent_func_path": "train.agent_func_path",
    "prompt_data": "data.prompt_dataset",
    "prompt_data_probs": "data.prompt_probs",
    "gradient_checkpointing": "actor.gradient_checkpointing_enable",
    "gradient_checkpointing_use_reentrant": "actor.gradient_checkpointing_reentrant",
    "actor_learning_rate": "actor.adam.lr",
    "critic_learning_rate": "critic.adam.lr",
    "normalize_reward": "reward.normalize_enable",
    "async_train": "train.async_enable",
    "num_episodes": "train.num_episodes",
    "ref_reward_offload": "ref.offload",
    "eps_clip": "actor.eps_clip",
    "eps_clip_low_high": "actor.eps_clip_low_high",
    "value_clip": "critic.value_clip",
    "dynamic_filtering": "algo.dynamic_filtering_enable",
    "dynamic_filtering_reward_range": "algo.dynamic_filtering_range",
    "label_key": "data.label_key",
    "prompt_split": "data.prompt_split",
    "policy_loss_type": "actor.policy_loss_type",
    "top_p": "rollout.top_p",
    "temperature": "rollout.temperature",
}
_RENAMED_ELSE = {
    "pretrain": "model.model_name_or_path",
    "gradient_checkpointing": "model.gradient_checkpointing_enable",
    "gradient_checkpointing_use_reentrant": "model.gradient_checkpointing_reentrant",
}


def read(tree: Tree) -> Mapping[str, Keys]:
    """The options of every program at one state."""
    found = {f"openrlhf-{name}": _options(tree, program) for program, name in _PROGRAMS.items()}
    return {table: keys for table, keys in found.items() if keys}


def make(states: States) -> Mapping[str, str]:
    """The tables over all releases."""
    trees = [(".".join(map(str, release)), states.revision(tag)) for release, tag in _tags(states)]
    trees += [(release, states.release(release)) for release in _PACKAGED if release not in dict(trees)]
    tables: dict[str, str] = {}
    for program, name in _PROGRAMS.items():
        releases = [(release, _options(tree, program)) for release, tree in trees]
        there = [index for index, (_, keys) in enumerate(releases) if keys]
        last = releases[: there[-1] + 1]  # a program that is gone keeps the options of its last release
        renamed = _RENAMED | (_RENAMED_RL if program == "ppo_ray" else _RENAMED_ELSE)
        heading = (
            f"Options of openrlhf.cli.train_{program} and their defaults, made by tools/surfaces/openrlhf.py.",
            f"From github.com/OpenRLHF/OpenRLHF, openrlhf/cli/train_{program}.py (examples/ before 0.4), "
            f"releases {releases[there[0]][0]} to {last[-1][0]}.",
            COLUMNS,
        )
        tables[table_file(f"openrlhf-{name}")] = text_of(heading, rows_of(last, renamed))
    return tables


def _tags(states: States) -> list[tuple[Version, str]]:
    """The last tag of every release, the oldest first."""
    found: dict[Version, str] = {}
    for tag in states.tags():
        release = version_of(tag.removeprefix("v").partition(".post")[0])
        if release >= _FIRST:
            found[release] = tag
    return sorted(found.items())


def _options(tree: Tree, program: str) -> dict[str, Key]:
    for folder in ("openrlhf/cli", "examples"):
        text = tree.text(f"{folder}/train_{program}.py")
        if text:
            return dict(options(ast.parse(text), {}))
    return {}


def options(node: ast.AST, loop: Mapping[str, str]) -> Iterator[tuple[str, Key]]:
    """The options that `add_argument` declares below a node, with underscores.

    Args:
        node: of the program.
        loop: variables of the loops around it, as in `for prefix in ("actor", "critic")`.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.For) and isinstance(child.target, ast.Name):
            turns = _literal(child.iter)
            if isinstance(turns, list | tuple):
                for turn in turns:
                    yield from options(child, {**loop, child.target.id: str(turn)})
                continue
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr == "add_argument":
            yield from _declared(child, loop)
        yield from options(child, loop)


def _declared(call: ast.Call, loop: Mapping[str, str]) -> Iterator[tuple[str, Key]]:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    action = str(_literal(keywords["action"])) if "action" in keywords else ""
    default = (
        _default(keywords["default"])
        if "default" in keywords
        else {"store_true": False, "store_false": True}.get(action)
    )
    kind = keywords.get("type")
    name = kind.id if isinstance(kind, ast.Name) else "bool" if action.startswith("store_") else "str"
    open_end = default is None or isinstance(default, list | tuple)
    key = Key("list" if "nargs" in keywords else name, "" if open_end else json.dumps(default))
    for argument in call.args:
        option = _text(argument, loop)
        if option.startswith("--"):
            yield option.removeprefix("--").replace("-", "_"), key


def _default(node: ast.expr) -> object:
    """A literal, or the number in `int(1e8)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int" and node.args:
        inner = _literal(node.args[0])
        return int(inner) if isinstance(inner, int | float) else None
    return _literal(node)


def _literal(node: ast.expr) -> object:
    try:
        found: object = ast.literal_eval(node)
    except ValueError:
        return None
    return found


def _text(node: ast.expr, loop: Mapping[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts = (
        str(part.value)
        if isinstance(part, ast.Constant)
        else loop.get(part.value.id, "")
        if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
        else ""
        for part in node.values
    )
    return "".join(parts)


SOURCE = Source("openrlhf", ("openrlhf",), "OpenRLHF/OpenRLHF", read, make)
