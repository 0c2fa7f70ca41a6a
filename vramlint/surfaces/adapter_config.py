"""A PEFT adapter's adapter_config.json (peft 0.21 config.py, PeftConfigMixin.save_pretrained)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.surfaces.adapters import Adapter, adapter_facts
from vramlint.surfaces.draft import Arguments
from vramlint.values import Scalar, Table

KIND = "peft"
TYPE = "peft_type"
"""The key that every such file has."""
_BASE = "base_model_name_or_path"
_SPELLED: Mapping[str, str] = MappingProxyType({"P_TUNING": "promptencoder"})
"""Types whose name is not that of the method's config class without its underscores."""


def method_of(table: Table) -> str:
    """The method by the name of its config, as `facts` call it: lora, ia3, promptencoder, …; empty if none is named."""
    value = table.get(TYPE)
    if not isinstance(value, Scalar) or not isinstance(value.value, str):
        return ""
    return _SPELLED.get(value.value, value.value.lower().replace("_", ""))


def method_facts(table: Table) -> Iterable[Fact]:
    """What is trained, and the rank, targets and the rest of the adapter."""
    method, key = method_of(table), table.entry(TYPE)
    if not method or key is None:
        return
    yield Fact("tuning", (Candidate(method, key.value.place),), Origin.WRITTEN, TYPE, "config-file")
    for drawn in adapter_facts((Adapter(method, Arguments.of(table), table.place),)):
        if isinstance(drawn, Fact):
            yield replace(drawn, via="config-file")


def adapter_config_sheet(path: str, table: Table) -> Sheet:
    """The facts of an adapter by itself: of which model it is one may stand there, the rest of a run does not."""
    base = table.get(_BASE)
    known = isinstance(base, Scalar) and isinstance(base.value, str) and base.value != ""
    model = (
        Fact("model", (Candidate(base.value, base.place),), Origin.WRITTEN, _BASE, "config-file")
        if known and isinstance(base, Scalar)
        else Fact("model", (), Origin.UNKNOWN, _BASE, "config-file", reason="the adapter does not name its base")
    )
    return Sheet(path, KIND, (model, *method_facts(table)), tables=((KIND, table),))
