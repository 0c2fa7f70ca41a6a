"""The forms in which Megatron's flags are written down, brought to one: a table of flags with underscores.

- a command line, and YAML whose keys are the flags (`--micro-batch-size: 4`)
- `MODEL_ARGS` of a functional test (NVIDIA/Megatron-LM@d98e8a6, tests/functional_tests/test_cases)
- `--yaml-cfg`, with the flags in groups (megatron/training/yaml_arguments.py)
- overrides of a NeMo recipe, in such a test too (`trainer.strategy.tensor_model_parallel_size: 4`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.values import Entry, Scalar, Table

_ARGUMENTS = ("BASE_MODEL_ARGS", "MODEL_ARGS")
"""Sections of a functional test that hold flags, the later on top."""
_GROUPS = ("language_model", "model_parallel")
"""Groups of `--yaml-cfg`."""
_OVERRIDES = ("trainer.strategy.", "trainer.", "data.", "model.config.", "model.", "optim.config.")
"""What stands in front of a flag's name in overrides of a NeMo recipe."""
_RENAMED: Mapping[str, str] = MappingProxyType({"num_moe_experts": "num_experts", "fp8_param": "fp8_param_gather"})
"""Fields of the configuration classes and the flags that set them (megatron/training/arguments.py)."""
_INVERTED: Mapping[str, str] = MappingProxyType(
    {
        "add_bias_linear": "disable_bias_linear",
        "share_embeddings_and_output_weights": "untie_embeddings_and_output_weights",
    }
)
"""Fields and the flags that switch them off."""


def flags(table: Table) -> Table:
    """All flags of a configuration by their names with underscores; of two the later counts."""
    found: dict[str, Entry] = {}
    for entry in _entries(table):
        key = entry.key.lstrip("-").replace("-", "_")
        found.pop(key, None)
        found[key] = replace(entry, key=key)
    return Table(tuple(found.values()), table.place)


_ENVIRONMENT = "ENV_VARS"
ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""A functional test's section of environment variables, and those that decide memory."""


def _entries(table: Table) -> Iterator[Entry]:
    sections = [name for name in _ARGUMENTS if isinstance(table.get(name), Table)]
    for name in (ALLOCATOR, WORKSPACE):
        variable = table.entry(_ENVIRONMENT, name)
        if variable is not None:
            yield replace(variable, key_place=None)
    for entry in table:
        if isinstance(entry.value, Table) and (entry.key in _GROUPS or entry.key in sections):
            yield from _entries(entry.value)
        elif isinstance(entry.value, Table) and any(f"{entry.key}." == start for start in _OVERRIDES):
            yield from _entries(Table(tuple(_dotted(entry.key, entry.value))))
        elif not sections:
            yield _renamed(entry)


def _dotted(above: str, table: Table) -> Iterator[Entry]:
    for entry in table:
        if isinstance(entry.value, Table):
            yield from _dotted(f"{above}.{entry.key}", entry.value)
        else:
            yield replace(entry, key=f"{above}.{entry.key}")


def _renamed(entry: Entry) -> Entry:
    start = next((start for start in _OVERRIDES if entry.key.startswith(start)), "")
    name = entry.key.removeprefix(start)
    if start:  # NeMo's keys, not held against Megatron's
        entry = replace(entry, key_place=None)
    if name in _INVERTED and isinstance(entry.value, Scalar) and isinstance(entry.value.value, bool):
        return replace(entry, key=_INVERTED[name], value=replace(entry.value, value=not entry.value.value))
    return replace(entry, key=_RENAMED.get(name, name))


def as_written(table: Table, key: str) -> str:
    """The dotted key of a file under which a flag stands, or would stand."""
    for name in (*reversed(_ARGUMENTS), *_GROUPS, ""):
        inner = table.get(name) if name else table
        if isinstance(inner, Table):
            found = next((item.key for item in inner if item.key.lstrip("-").replace("-", "_") == key), "")
            if found:
                return f"{name}.{found}" if name else found
    home = next((name for name in reversed(_ARGUMENTS) if isinstance(table.get(name), Table)), "")
    inner = table.get(home) if home else table
    dashed = isinstance(inner, Table) and any(item.key.startswith("--") for item in inner)
    spelled = f"--{key.replace('_', '-')}" if dashed else key
    return f"{home}.{spelled}" if home else spelled
