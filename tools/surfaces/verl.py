"""verl: the YAML of its package composed as Hydra does, `verl.tsv` (RL), `verl-sft.tsv` and `verl-sft-engine.tsv`."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tools.surfaces.rows import COLUMNS, rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree
from vramlint.readers.yaml import read_yaml
from vramlint.text import Document
from vramlint.values import plain

_RELEASES = {
    "0.1": "",
    "0.2": "",
    "0.3.0": "v0.3.0.post1",
    "0.4.0": "",
    "0.4.1": "",
    "0.5.0": "",
    "0.6.0": "",
    "0.6.1": "",
    "0.7.0": "",
    "0.8.0": "",
    "0.9.0": "",
}
"""Releases whose keys differ, and tags that are not called like them."""
_RENAMED = {
    "critic.model.fsdp_config": "critic.fsdp",
    "reward_manager": "reward.reward_manager",
    "actor_rollout_ref.rollout.skip_rollout": "actor_rollout_ref.rollout.skip.enable",
    "actor_rollout_ref.rollout.skip_dump_dir": "actor_rollout_ref.rollout.skip.dump_dir",
}
"""What a key, or what stands in a table, is called now."""
_FOLDER = "verl/trainer/config"
_REFERENCE = re.compile(r"^\$\{(?:oc\.select:)?\s*([\w.]+)\s*(?:,\s*(.*))?\}$")
_CHOICE = re.compile(r"\$\{(\w+)\}")
"""Within the name of a file, the file that is taken of another group."""
_GLOBAL = "# @package _global_"
"""What a file of a group says whose keys stand at the top."""
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_OPEN_WORDS = """
    apply_chat_template_kwargs engine_kwargs extra fused_kernel_options init_params kw_args mixed_precision
    override_config override_ddp_config override_mcore_model_config override_optimizer_config
    override_transformer_config ray_init reward_kwargs sandbox_fusion tool_config wrap_policy
"""
_OPEN = frozenset(_OPEN_WORDS.split())
"""Tables that hand on whatever stands in them."""
_FSDP = tuple(
    f"{part}.fsdp_config"
    for part in ("actor_rollout_ref.actor", "actor_rollout_ref.ref", "critic.model", "reward_model.model")
)
_HYDRA = ("hydra", "defaults", "config_path", "config_name", "config_dir")
_OUTSIDE = ("recipe/", "verl/experimental/", "examples/")
_TYPES = {bool: "bool", int: "int", float: "float", str: "str", list: "list", type(None): "any"}

_PROGRAMS = {
    "verl": "RL trainers (verl.trainer.main_ppo, recipes, verl.experimental)",
    "verl-sft": "verl.trainer.fsdp_sft_trainer",
    "verl-sft-engine": "verl.trainer.sft_trainer",
}
"""Tables, and whose keys they hold."""

Config = dict[str, Any]


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys of all trainers at one state."""
    found = {"verl": _rl(tree), "verl-sft": _sft(tree, "sft_trainer.yaml"), "verl-sft-engine": _engines(tree)}
    return {table: keys for table, keys in found.items() if keys}


def make(states: States) -> Mapping[str, str]:
    """The tables over all releases."""
    lasting: dict[str, Key] = {}
    releases: dict[str, list[tuple[str, Keys]]] = {table: [] for table in _PROGRAMS}
    for release, tag in _RELEASES.items():
        for table, found in read(states.revision(tag) if tag else states.release(release)).items():
            keys = dict(found)
            if table == "verl":  # keys of recipes live on in a repository of their own
                keys = lasting | keys
                lasting |= {name: key for name, key in keys.items() if key.note.startswith(_OUTSIDE)}
            releases[table].append((release, keys))
    source = "github.com/volcengine/verl, releases 0.1 to 0.9.0 (from PyPI since 0.8.0)"
    tables: dict[str, str] = {}
    for table, program in _PROGRAMS.items():
        heading = (
            f"Keys of verl's {program} and their defaults, made by tools/surfaces/verl.py.",
            f"Composed from {_FOLDER} of {source}; of keys that several engines have, the default is FSDP's.",
            COLUMNS,
        )
        tables[table_file(table)] = text_of(heading, rows_of(releases[table], _renamed(releases[table])))
    return tables


def _renamed(releases: Iterable[tuple[str, Keys]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in (key for _, keys in releases for key in keys):
        for old, new in _RENAMED.items():
            if key == old or key.startswith(f"{old}."):
                found[key] = f"{new}{key.removeprefix(old)}"
    return found


def _load(tree: Tree, path: str) -> Config | None:
    text = tree.text(path)
    root = read_yaml(Document.of(path, text)).root if text else None
    found = plain(root) if root is not None else None
    return found if isinstance(found, dict) else None


def _compose(tree: Tree, path: str, chosen: Mapping[str, str] | None = None) -> Config | None:
    """A file with what its defaults list takes from others, as Hydra puts them together.

    Args:
        tree: the package.
        path: of the file.
        chosen: groups and the file that is taken of each, over what the lists say.
    """
    own = _load(tree, path)
    if own is None:
        return None
    root: Config = {}
    merged = False
    listed = [item if isinstance(item, str) else next(iter(item.items())) for item in own.pop("defaults", None) or []]
    pairs = [(str(group), name) for group, name in (item for item in listed if not isinstance(item, str))]
    choices = {
        **{group: name for group, name in pairs if not group.startswith("override ")},
        **{group.removeprefix("override "): name for group, name in pairs if group.startswith("override ")},
        **(chosen or {}),
    }
    for item in listed:
        if item == "_self_":
            _merge(root, own)
            merged = True
            continue
        group = item if isinstance(item, str) else str(item[0])
        name = None if isinstance(item, str) else choices.get(group)
        if (name is None and not isinstance(item, str)) or group.startswith("override "):
            continue
        folder, _, package = group.partition("@")
        file = folder if name is None else f"{folder}/{_CHOICE.sub(lambda word: str(choices.get(word[1])), str(name))}"
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), f"{file}.yaml"))
        part = _compose(tree, target, choices)
        if part is not None:
            place = package or ("" if name is None or _GLOBAL in tree.text(target) else posixpath.basename(folder))
            _merge(_at(root, place), part)
    if not merged:
        _merge(root, own)
    return root


def _at(root: Config, package: str) -> Config:
    for part in filter(None, package.split(".")):
        root = root.setdefault(part, {})
    return root


def _merge(below: Config, above: Config) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _flat(tree: Config, above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; a table itself has the empty dict, and one that is open a key `name.*`."""
    for key, value in tree.items():
        if key == "_target_":
            continue
        path = f"{above}{key}"
        if isinstance(value, dict):
            yield path, {}
            if not value:
                yield f"{path}.*", None
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _typed(tree: Config) -> dict[str, Key]:
    values = dict(_flat(tree))
    found: dict[str, Key] = {}
    for path, value in values.items():
        note = ""
        if isinstance(value, dict):
            found[path] = Key("table")
            continue
        if isinstance(value, str) and (match := _REFERENCE.match(value)):
            note = f"as {match[1].strip('.')}"
        resolved = _resolved(value, path, values, 0)
        if resolved == "???":
            resolved, note = None, "must be given"
        if isinstance(resolved, dict):
            found[path] = Key("table", "", note)
            continue
        open_end = resolved is None or isinstance(resolved, list)
        found[path] = Key(_TYPES.get(type(resolved), "any"), "" if open_end else json.dumps(resolved), note)
    return found


def _resolved(value: object, path: str, values: Config, depth: int) -> object:
    """What a reference comes to where nobody says otherwise."""
    match = _REFERENCE.match(value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str) and _FLOAT.fullmatch(value):
            return float(value)  # YAML 1.1 wants a point in it, OmegaConf does not
        return None if isinstance(value, str) and "${" in value else value
    name = match[1]
    name = f"{path.rpartition('.')[0]}{name}" if name.startswith(".") else name
    if name in values and depth < 8 and not isinstance(values[name], dict):
        return _resolved(values[name], name, values, depth + 1)
    root = read_yaml(Document.of("x.yaml", f"a: {match[2]}\n")).root if match[2] else None
    inner = plain(root) if root is not None else None
    return inner.get("a") if isinstance(inner, dict) else None


def _rl(tree: Tree) -> dict[str, Key]:
    keys = _typed(_compose(tree, f"{_FOLDER}/ppo_trainer.yaml") or {})
    others = {"Megatron": _compose(tree, f"{_FOLDER}/ppo_megatron_trainer.yaml")}
    for name in ("torchtitan", "veomni"):
        if tree.text(f"{_FOLDER}/model_engine/{name}.yaml"):
            others[name] = _compose(tree, f"{_FOLDER}/ppo_trainer.yaml", {"model_engine": name})
    for title, config in others.items():
        for path, key in _typed(config or {}).items():
            keys.setdefault(path, key._replace(note="; ".join(filter(None, (key.note, title)))))
    for file in tree.paths():
        if not (file.startswith(_OUTSIDE) and "/config/" in file and file.endswith(".yaml")) or "sft" in file:
            continue
        config = _load(tree, file) or {}
        if {"actor_rollout_ref", "algorithm", "trainer"} & set(config):
            inner = {key: value for key, value in config.items() if key not in ("defaults", "hydra")}
            for path, key in _typed(inner).items():
                keys.setdefault(path, Key(key.type, "", posixpath.dirname(file).removesuffix("/config")))
    for path in (*(f"{name}.mixed_precision" for name in _FSDP if name in keys), "ray_kwargs.ray_init"):
        keys[path] = Key("table")
    for path in ("custom_reward_function.reward_kwargs", "reward_model.reward_kwargs"):
        keys[path] = Key("table")
    keys.pop("data.custom_cls.*", None)
    return _opened(keys)


def _sft(tree: Tree, name: str) -> dict[str, Key]:
    config = _compose(tree, f"{_FOLDER}/{name}")
    return _opened(_typed(config)) if config is not None else {}


def _engines(tree: Tree) -> dict[str, Key]:
    """The SFT trainer over engines: `engine` and `optim` may be those of FSDP, Megatron or VeOmni."""
    keys = _sft(tree, "sft_trainer_engine.yaml")
    for group in ("engine", "optim") if keys else ():
        for name in ("megatron", "veomni", "torchtitan", "automodel"):
            config = _compose(tree, f"{_FOLDER}/{group}/{name}.yaml")
            for path, key in _typed({group: config} if config else {}).items():
                keys.setdefault(path, Key(key.type, key.default, name))
    return _opened(keys) if keys else {}


def _opened(keys: dict[str, Key]) -> dict[str, Key]:
    """With what Hydra itself takes, and the insides of tables that are handed on."""
    for path in list(keys):
        if path.rpartition(".")[2] in _OPEN:
            keys[f"{path}.*"] = Key("any")
    keys |= dict.fromkeys(_HYDRA, Key("any", "", "Hydra"))
    keys["hydra.*"] = Key("any", "", "Hydra")
    return keys


SOURCE = Source("verl", ("verl",), "volcengine/verl", read, make)
