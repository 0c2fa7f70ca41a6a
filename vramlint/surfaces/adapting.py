"""Adapters for a program that loads a whole model: PEFT's LoRA around it, on a base in 4 bits too.

peft 0.21 mapping_func.py, tuners/lora/config.py, utils/other.py; transformers 5.23 utils/quantization_config.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from vramlint.facts import Fact, FactValue
from vramlint.surfaces import insertion
from vramlint.surfaces.holding import Holder
from vramlint.surfaces.python_statements import behind, loaded_by, module_of
from vramlint.surfaces.python_values import Part
from vramlint.text import Document, Edit, Place

if TYPE_CHECKING:
    import ast

Said = tuple[str, tuple[Edit, ...]]

COVERED = frozenset(("tuning", "lora_r", "lora_target_modules", "quantization_bits"))
"""Facts that the edits say together."""
_METHODS = ("lora", "qlora")
_RANK = 16
_TASKS: Mapping[str, str] = MappingProxyType(
    {"ForCausalLM": "CAUSAL_LM", "ForSeq2SeqLM": "SEQ_2_SEQ_LM", "ForSequenceClassification": "SEQ_CLS"}
)
"""PEFT's tasks (utils/peft_types.py) by how the name of a model's class ends."""
_CONFIG = "BitsAndBytesConfig"
_FOUR_BITS = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True'


def write_adapters(changes: Mapping[str, FactValue], facts: Sequence[Fact], load: Holder | None) -> Said | None:
    """Adapters on all linear layers, behind the statement that loads the model; None where they cannot be put there.

    Args:
        changes: `tuning`, and what else it says.
        facts: what the run's files say.
        load: the call that loads the model.
    """
    by_name = {fact.name: fact for fact in facts}
    tuning = by_name.get("tuning")
    method, now = changes.get("tuning"), tuning.value if tuning is not None else None
    if method not in _METHODS or now != "full" or load is None or load.place is None or load.document.cells:
        return None
    document, call = load.document, load.place
    module, loaded = module_of(document), loaded_by(document, call)
    task = next((word for end, word in _TASKS.items() if end in document.slice(call.span).partition("(")[0]), None)
    if module is None or loaded is None or task is None:
        return None
    name = loaded.name
    rank = changes.get("lora_r", _RANK)
    config = f'LoraConfig(r={rank}, lora_alpha={2 * int(str(rank))}, target_modules="all-linear", task_type="{task}")'
    needed = ["LoraConfig", "get_peft_model"]
    base = name
    edits: list[Edit | None] = []
    if method == "qlora":
        base = f"prepare_model_for_kbit_training({name})"
        needed.append("prepare_model_for_kbit_training")
        half = by_name.get("fp16")
        dtype = "float16" if half is not None and half.value is True else "bfloat16"
        settings = f'{_FOUR_BITS}, bnb_4bit_compute_dtype="{dtype}"'
        edits.append(insertion.keyword(document, call, "quantization_config", f"{_CONFIG}({settings})"))
        edits.append(_import(module, document, "transformers", (_CONFIG,)))
    edits.append(_import(module, document, "peft", tuple(needed)))
    rows = [f"{name} = get_peft_model({base}, {config})"]
    checkpoints = by_name.get("activation_checkpointing")
    if method == "lora" and (changes.get("activation_checkpointing") or (checkpoints and checkpoints.value is True)):
        rows.append(f"{name}.enable_input_require_grads()")  # reentrant checkpoints of a frozen embedding have none
    edits.append(behind(document, loaded, rows))
    made = tuple(edit for edit in edits if edit is not None)
    if len(made) < len(edits):
        return None
    return f"get_peft_model({base}, {config})", tuple(edit for edit in made if edit.replacement)


def _import(module: ast.Module, document: Document, library: str, names: Sequence[str]) -> Edit | None:
    """Names imported from a library; an edit without text where they are. None where no place is sure."""
    import ast

    given = [node for node in module.body if isinstance(node, ast.ImportFrom) and node.module == library]
    known = {alias.asname or alias.name for node in given for alias in node.names}
    missing = [name for name in names if name not in known]
    part = Part(document.text, 0)
    if not missing:
        return Edit(Place(document.path, document.span(0, 0)), "")
    if given:
        return _joined(document, part, given[0], missing)
    behind = next((node for node in _imports(module) if _library(node) > library), None)
    before = [*_imports(module)]
    if not before:
        return None
    words = f"from {library} import {', '.join(sorted(missing))}"
    end = document.line_end(before[0].lineno)
    if behind is not None:
        at = part.offset(behind.lineno, 0)
        return Edit(Place(document.path, document.span(at, at)), f"{words}{end}")
    last = before[-1]
    at = part.offset(last.end_lineno or last.lineno, 0) + len(document.line(last.end_lineno or last.lineno))
    return Edit(Place(document.path, document.span(at, at)), f"{end}{words}")


def _imports(module: ast.Module) -> Iterator[ast.ImportFrom]:
    import ast

    yield from (node for node in module.body if isinstance(node, ast.ImportFrom) and node.module and not node.level)


def _library(node: ast.ImportFrom) -> str:
    return (node.module or "").partition(".")[0]


def _joined(document: Document, part: Part, node: ast.ImportFrom, names: Sequence[str]) -> Edit | None:
    """Further names in an import, in front of the first that comes behind them in the alphabet, or of the last one."""
    if node.names[0].name == "*":
        return None
    follower = next((alias for alias in node.names if alias.name > names[0]), node.names[-1])
    at = part.offset(follower.lineno, follower.col_offset)
    line = document.line(follower.lineno)
    indent = line[: len(line) - len(line.lstrip())]
    alone = document.position(at)[1] == len(indent) + 1
    gap = f",{document.line_end(follower.lineno)}{indent}" if alone else ", "
    return Edit(Place(document.path, document.span(at, at)), "".join(f"{name}{gap}" for name in names))
