"""Megatron-LM's flags over the releases of megatron-core.

They are the options of the parsers of its programs, and fields of the dataclasses that `ArgumentGroupFactory` makes
options of (megatron/training/argument_utils.py).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping

from tools.surfaces.dataclass_keys import default, initialised
from tools.surfaces.rows import rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree

_NAME = "megatron"
_RELEASES = {
    "2.5": "v2.5",
    **{f"0.{minor}": f"core_v0.{minor}.0" for minor in range(4, 20)},
    "0.20": "HEAD",
}
"""Megatron-LM's last release under a number of its own, those of megatron-core, and the state after them."""
_ARGUMENTS = ("megatron/arguments.py", "megatron/training/arguments.py")
"""The parser of the training programs; of options that others have too, its default holds."""
_NO_PROGRAMS = ("tests/", ".github/", "scripts/")
_FACTORY = "ArgumentGroupFactory"
_FLAG = Key("flag", "false")
_SWITCHES = ("store_true", "store_false")
_RENAMED = {
    "checkpoint_num_layers": "recompute_num_layers",
    "cuda_graph_scope": "cuda_graph_modules",
    "distribute_checkpointed_activations": "distribute_saved_activations",
    "layernorm_epsilon": "norm_epsilon",
    "moe_extended_tp": "expert_tensor_parallel_size",
}
"""Options that went and what does the same now; read by hand."""


def make(states: States) -> Mapping[str, str]:
    """The table `frameworks/megatron.tsv`."""
    heading = (
        "Megatron-LM's flags by release of megatron-core (NVIDIA/Megatron-LM, tags core_v0.4.0 to core_v0.19.0 and "
        "d98e8a6, which is 0.20; rows",
        "without `since` are of v2.5 already): megatron/training/arguments.py, the dataclasses that its "
        "ArgumentGroupFactory turns into flags, and",
        "the programs beside it. Without dashes in front, `_` for `-`; the default of a switch is that it is not "
        "given.",
        "key\tsince\tuntil\trenamed_to\ttype\tdefault\tnote",
    )
    releases = [(release, flags(states.revision(revision))) for release, revision in _RELEASES.items()]
    return {table_file(_NAME): text_of(heading, rows_of(releases, _RENAMED, types=False))}


def read(tree: Tree) -> Mapping[str, Keys]:
    """The flags at one state."""
    found = flags(tree)
    return {_NAME: found} if found else {}


def flags(tree: Tree) -> dict[str, Key]:
    """Every flag that a program of one state takes."""
    found: dict[str, Key] = {}
    modules = dict(_programs(tree))
    for path, module in modules.items():
        if path not in _ARGUMENTS:
            for name, key in _options(module):
                held = found.setdefault(name, key)
                if held.default != key.default:  # each program has its own
                    found[name] = held._replace(default="")
    for path in _ARGUMENTS:
        if path in modules:
            found |= dict(_options(modules[path]))
            found |= dict(_made(modules[path], tree))
    return found


def _programs(tree: Tree) -> Iterator[tuple[str, ast.Module]]:
    for path, text in tree.files("**/*.py"):
        if not path.startswith(_NO_PROGRAMS) and ("add_argument" in text or _FACTORY in text):
            try:
                yield path, ast.parse(text, path)
            except SyntaxError as problem:  # of a newer Python than this
                print(f"{path}:{problem.lineno}: not read: {problem.msg}", file=sys.stderr)


def _options(module: ast.Module) -> Iterator[tuple[str, Key]]:
    for node in ast.walk(module):
        if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"):
            continue
        given = {item.arg: item.value for item in node.keywords}
        key, both = _option(given), "BooleanOptionalAction" in ast.unparse(given.get("action", node.func))
        for item in node.args:
            if isinstance(item, ast.Constant) and isinstance(item.value, str) and item.value.startswith("--"):
                name = item.value[2:].replace("-", "_")
                yield name, key
                if both:
                    yield f"no_{name}", _FLAG


def _option(given: Mapping[str | None, ast.expr]) -> Key:
    if getattr(given.get("action"), "value", "") in _SWITCHES:
        return _FLAG
    kind = given.get("type")
    return Key(ast.unparse(kind) if kind is not None else "str", _said(given.get("default")))


def _said(value: ast.expr | None) -> str:
    """A default as JSON; of lists nothing: their words stand apart on the command line."""
    found = default(value)
    return "" if found.startswith("[") else found


def _made(module: ast.Module, tree: Tree) -> Iterator[tuple[str, Key]]:
    """The flags of every dataclass that a factory is given."""
    known: dict[str, ast.ClassDef] = {}
    for node in ast.walk(module):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == _FACTORY and node.args):
            continue
        known = known or _classes(tree)
        excluded = next((item.value for item in node.keywords if item.arg == "exclude"), None)
        names = _texts(excluded, module)
        for item in _fields(getattr(node.args[0], "id", ""), known):
            if getattr(item.target, "id", "") not in names:
                yield from _field(item)


def _classes(tree: Tree) -> dict[str, ast.ClassDef]:
    return {
        node.name: node
        for pattern in ("megatron/core/**/*.py", "megatron/training/**/*.py")
        for path, text in tree.files(pattern)
        if "@dataclass" in text
        for node in ast.parse(text, path).body
        if isinstance(node, ast.ClassDef)
    }


def _texts(node: ast.expr | None, module: ast.Module) -> frozenset[str]:
    """The texts in a list, written there or under a name of its own."""
    if isinstance(node, ast.Name):
        name = node.id
        found = (item.value for item in ast.walk(module) if isinstance(item, ast.Assign) and _names(item, name))
        node = next(found, None)
    return (
        frozenset(str(item.value) for item in ast.walk(node) if isinstance(item, ast.Constant)) if node else frozenset()
    )


def _names(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)


def _fields(name: str, known: Mapping[str, ast.ClassDef]) -> Iterator[ast.AnnAssign]:
    """The fields of a dataclass, those of its bases first."""
    node = known.get(name)
    if node is None:
        return
    for base in reversed(node.bases):
        yield from _fields(base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", ""), known)
    yield from (
        item
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and initialised(item)
    )


def _field(item: ast.AnnAssign) -> Iterator[tuple[str, Key]]:
    """The flags of one field: of a switch that is on by default, those that turn it off.

    What `metadata["argparse_meta"]` says goes before what is made of the annotation.
    """
    meta = _meta(item.value)
    name, kind = ast.unparse(item.target), ast.unparse(item.annotation)
    said = _said(meta.get("default", item.value))
    if kind == "bool" and "type" not in meta:
        key, names = _FLAG, [name] if default(item.value) != "true" else [f"no_{name}", f"disable_{name}"]
    else:
        key, names = Key(ast.unparse(meta["type"]) if "type" in meta else kind, said), [name]
    written = meta.get("arg_names")
    if written is not None:
        names = [text.lstrip("-").replace("-", "_") for text in ast.literal_eval(written)]
    yield from ((title, key) for title in names)


def _meta(value: ast.expr | None) -> dict[str, ast.expr]:
    """The keywords of add_argument that a field states."""
    for node in ast.walk(value) if isinstance(value, ast.Call) else ():
        if isinstance(node, ast.Dict):
            for key, inner in zip(node.keys, node.values, strict=True):
                if getattr(key, "value", None) == "argparse_meta" and isinstance(inner, ast.Dict):
                    return {
                        str(getattr(word, "value", "")): said
                        for word, said in zip(inner.keys, inner.values, strict=True)
                    }
    return {}


SOURCE = Source("", ("megatron",), "NVIDIA/Megatron-LM", read, make)
