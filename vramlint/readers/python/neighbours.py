"""Settings, constants and helpers that a script imports from another file of its own project."""

from __future__ import annotations

import re
import sys

import libcst as cst

from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Class, Function, Object, Scope, Sequence
from vramlint.readers.python.source import parse
from vramlint.values import Scalar

_WANTED = re.compile(r"[A-Z]\w*(Arguments|Parameters|Options|Settings)|[A-Z][A-Z0-9_]*")
"""Names of dataclasses that hold settings of a run, and of constants. A `…Config` is often the model's own."""

_HELPER = re.compile(r"[a-z_]*(model|peft|lora|quant|arg|config|linear)[a-z_]*")
"""Names of functions that load or wrap a model, or gather what it is made with."""

_LIBRARY_WORDS = """
    accelerate bitsandbytes datasets deepspeed diffusers evaluate flash_attn huggingface_hub lightning numpy omegaconf
    pandas peft pydantic pytorch_lightning sklearn tokenizers torch torchvision transformers trl unsloth vllm wandb
"""
_LIBRARIES = frozenset(_LIBRARY_WORDS.split())

MOST = 8
"""Modules that are read for one script."""


def imported(machine: Machine, module: str, name: str) -> Object | None:
    """What `from module import name` gives, where the module is a file of the project and the name is of interest.

    Only imports, constants, dataclass fields and definitions of that file are evaluated: a function of it runs when
    the script calls it.
    """
    helper = _HELPER.fullmatch(name) is not None
    if not (helper or _WANTED.fullmatch(name)) or _is_foreign(module):
        return None
    scope = _scope(machine, module)
    found = scope.state.get(name) if scope else None
    if helper:
        return found if isinstance(found, Function) else None
    return found if isinstance(found, (Class, Scalar, Sequence)) else None


def _is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _LIBRARIES or top in sys.stdlib_module_names


def _scope(machine: Machine, module: str) -> Scope | None:
    if module in machine.neighbours or len(machine.neighbours) >= MOST:
        return machine.neighbours.get(module)
    machine.neighbours[module] = None
    document = machine.modules(module)
    source = parse(document)[0] if document else None
    if source is None:
        return None
    outer, machine.source = machine.source, source
    scope = machine.new_scope(None, "module")
    own = len(machine.functions)
    try:
        machine.sources.append(source)
        machine.execute([line for line in map(_of_interest, source.module.body) if line is not None], scope)
    finally:
        machine.source = outer
        del machine.functions[own:]  # what the script doesn't call is no part of it
    machine.neighbours[module] = scope
    return scope


def _of_interest(line: cst.CSTNode) -> cst.CSTNode | None:
    """The part of a statement that is evaluated, None where nothing of it is."""
    if isinstance(line, cst.SimpleStatementLine):
        kept = [item for item in line.body if isinstance(item, (cst.Import, cst.ImportFrom)) or _is_constant(item)]
        return line.with_changes(body=kept) if kept else None
    if isinstance(line, cst.ClassDef) and line.decorators and isinstance(line.body, cst.IndentedBlock):
        fields = [item for item in line.body.body if isinstance(item, cst.SimpleStatementLine)]
        return line.with_changes(body=line.body.with_changes(body=fields))
    return line if isinstance(line, cst.FunctionDef) else None


def _is_constant(item: cst.BaseSmallStatement) -> bool:
    plain = (cst.SimpleString, cst.Integer, cst.Float, cst.Name, cst.List, cst.Tuple)
    return isinstance(item, (cst.Assign, cst.AnnAssign)) and isinstance(item.value, plain)
