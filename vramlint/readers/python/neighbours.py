"""Other modules of the script's own project: found when they are imported, read as far as their names are used."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cached_property

from vramlint.readers.python.lazy import Module, Pending
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Object, Scope
from vramlint.readers.python.outline import STAR
from vramlint.readers.python.parts import Parts, parts
from vramlint.text import Document
from vramlint.values import Name

_LIBRARY_WORDS = """
    PIL absl accelerate adam_mini apex apollo_torch badam bitsandbytes came_pytorch click composer datasets deepspeed
    diffusers einops evaluate fairscale fastai fire flash_attn flax galore_torch heavyball huggingface_hub hydra jax
    jsonargparse keras liger_kernel lightning lightning_fabric lomo_optim matplotlib mlflow modal nltk numpy omegaconf
    optimum pandas peft pydantic pydantic_settings pytorch_lightning pytorch_optimizer ray requests rich safetensors
    sagemaker schedulefree scipy sentence_transformers simple_parsing sklearn tensorflow timm tokenizers torch
    torch_optimizer torchao torchvision tqdm transformer_engine transformers trl typer tyro unsloth vllm wandb xformers
    yaml
"""
_LIBRARIES = frozenset(_LIBRARY_WORDS.split())
"""What these names mean is known, also in the repositories that they come from."""

_LIBRARY_MODULES = frozenset(f"litgpt.{name}" for name in ("adapter", "adapter_v2", "api", "data", "lora", "model"))
"""Modules of which the same is true, though not of their whole package."""

_OF_SOME_VERSIONS = """
    aifc asynchat asyncore audioop binhex cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib
    ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib tomllib uu xdrlib
"""
STANDARD_LIBRARY = sys.stdlib_module_names.union(_OF_SOME_VERSIONS.split())
"""Modules that some Python from 3.10 to 3.13 brings: files mean the same whichever of them reads them."""

MOST_MODULES = 48
"""Modules that are read for one script."""


def import_module(machine: Machine, name: str) -> Module | None:
    """The module of the project behind an imported name, None for libraries."""
    if name not in machine.neighbours:
        machine.neighbours[name] = None if _is_foreign(name) else _find(machine, name)
    return machine.neighbours[name]


def import_package(machine: Machine, name: str) -> Module | None:
    """What `import a.b.c` binds to `a`: the package, or a folder without `__init__.py` that holds the module."""
    top = name.partition(".")[0]
    found = import_module(machine, top)
    if found is not None or top == name or import_module(machine, name) is None:
        return found

    def member(path: str) -> Object | None:
        return import_module(machine, path) or _folder(path, member)

    return _folder(top, member)


def _folder(path: str, member: Callable[[str], Object | None]) -> Module:
    return Module(path, "", lambda name: member(f"{path}.{name}"), lambda _, __: None)


def import_member(machine: Machine, module: str, name: str) -> Object | Pending | None:
    """What `from module import name` gives where that is a module of the project: an object that is not read yet."""
    home = import_module(machine, module)
    dotted = f"{module}{name}" if module.endswith(".") else f"{module}.{name}"
    if home is None:
        return import_module(machine, dotted)

    def resolve() -> Object:
        found: Object | None = home.member(name)
        return Name(dotted) if found is None else found

    return Pending(resolve) if not machine.path else resolve()


def absolute(home: Module | None, module: str) -> str:
    """The name of a module by which the script could import it, for an import written in `home`."""
    tail = module.lstrip(".")
    dots = len(module) - len(tail)
    if home is None or not dots:
        return module
    package = home.package
    lead = len(package) - len(package.lstrip("."))
    parts = package[lead:].split(".") if package[lead:] else []
    up = dots - 1
    kept = parts[: len(parts) - up] if up <= len(parts) else []
    lead += max(0, up - len(parts)) if lead else 0
    return "." * lead + ".".join((*kept, *([tail] if tail else ())))


def home_of(scope: Scope) -> Module | None:
    """The module of the project in which code stands, None for the script itself."""
    while scope.parent is not None:
        scope = scope.parent
    return scope.home


def _is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _LIBRARIES or module in _LIBRARY_MODULES or top in STANDARD_LIBRARY


def _find(machine: Machine, name: str) -> Module | None:
    document = machine.modules(name)
    if document is None or document.path == machine.source.document.path:
        return None
    same = machine.neighbours_by_path.get(document.path)
    if same is not None:
        return same
    if len(machine.neighbours_by_path) >= MOST_MODULES:
        return None
    made = _Neighbour(machine, name, document).module
    machine.neighbours_by_path[document.path] = made
    return made


class _Neighbour:
    """One module: its text, and the statements of it that have not run yet."""

    def __init__(self, machine: Machine, name: str, document: Document) -> None:
        self._machine = machine
        self._document = document
        self._parts: Parts | None = None
        self._waiting: dict[str, list[int]] = {}
        self._done: set[int] = set()
        self._limit = sys.maxsize
        self._asked: set[str] = set()
        self.module = Module(name, document.path, self.member, self.assign)
        self._scope = machine.new_scope(None, "module")
        self._scope.home = self.module
        self._scope.define = self.define

    def member(self, name: str) -> Object | None:
        """The object that the module binds to a name; a submodule; or what its star imports give."""
        found = self._scope.find(name)
        if found is None and name not in self._asked:
            self._asked.add(name)
            found = import_module(self._machine, f"{self.module.name}.{name}") or self._starred(name)
            self._asked.discard(name)
        return found

    def assign(self, name: str, value: Object) -> None:
        """`module.name = value`."""
        self.define(name)
        self._machine.journal.put(self._scope.state, name, value)

    def define(self, name: str) -> None:
        """Run the statements that bind a name, as far as the module has come."""
        made = self._parts
        if made is None:
            if name not in self._document.text and "import *" not in self._document.text:
                return
            made = self._read()
        waiting = self._waiting.get(name)
        while waiting and waiting[0] < self._limit:
            index = waiting.pop(0)
            if index not in self._done:
                self._done.add(index)
                self._run(made, index)

    def _read(self) -> Parts:
        made = self._parts = parts(self._document)
        for index, statement in enumerate(made.outline):
            for name in statement.names:
                self._waiting.setdefault(name, []).append(index)
        return made

    def _run(self, made: Parts, index: int) -> None:
        machine = self._machine
        if not machine.may_read(made.outline[index].size):
            return
        machine.add_source(made)
        limit, self._limit = self._limit, index
        try:
            with machine.apart():
                machine.execute(made.nodes(index), self._scope)
        finally:
            self._limit = limit

    @cached_property
    def _has_stars(self) -> bool:
        return re.search(r"import\s*\*", self._document.text) is not None

    def _starred(self, name: str) -> Object | None:
        if name.startswith("_") or not self._has_stars:
            return None
        self.define(STAR)
        return starred(self._machine, self._scope, name)


def starred(machine: Machine, scope: Scope, name: str) -> Object | None:
    """What `from … import *` statements of a module give a name: the project's own modules come first."""
    foreign = None
    for module in reversed(scope.stars):
        home = import_module(machine, module)
        if home is None:
            foreign = foreign or Name(f"{module}.{name}")
            continue
        found: Object | None = home.member(name)
        if found is not None:
            return found
    return foreign
