"""A PEFT adapter's adapter_config.json (peft 0.21 config.py, PeftConfigMixin.save_pretrained)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.defaults import default, lora_targets
from vramlint.catalog.versions import NEWEST
from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.surfaces.adapters import Adapter, adapter_facts
from vramlint.surfaces.draft import Arguments
from vramlint.surfaces.families import model_type_of_name
from vramlint.values import Scalar, Table

KIND = "peft"
TYPE = "peft_type"
"""The key that every such file has."""
_BASE = "base_model_name_or_path"
_TARGETS = "target_modules"
_WITHOUT_TARGETS = frozenset(
    (
        "prefixtuning",
        "prompttuning",
        "promptencoder",
        "adaptionprompt",
        "trainabletokens",
        "multitaskprompttuning",
        "xlora",
    )
)
"""Methods whose configs name no modules, or other ones."""
_LORA = (("lora_r", "r"), ("lora_alpha", "lora_alpha"), ("lora_dropout", "lora_dropout"), ("use_dora", "use_dora"))
LIBRARY = "peft"
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
    facts = {fact.name: fact for fact in (model, *method_facts(table))}
    method = method_of(table)
    plain = (_whole_modules(table), *_defaults()) if method == "lora" else ()
    for fact in (*plain, _targets(path, table, model, method)):
        if isinstance(fact, Fact):
            facts.setdefault(fact.name, fact)
    return Sheet(path, KIND, tuple(facts.values()), tables=((KIND, table),))


def _whole_modules(table: Table) -> Fact | None:
    """`"modules_to_save": null`, as every adapter without such modules has it."""
    entry = table.entry("modules_to_save")
    if entry is None or not isinstance(entry.value, Scalar) or entry.value.value is not None:
        return None
    return Fact("lora_modules_to_save", (Candidate(None, entry.value.place),), Origin.WRITTEN, entry.key, "config-file")


def _defaults() -> Iterable[Fact]:
    """LoraConfig's defaults, for the config of a release that lacked a key."""
    for fact, key in _LORA:
        found = default("peft", f"LoraConfig.{key}", NEWEST.peft)
        if found is not None and found.value is not None:
            yield Fact(fact, (Candidate(found.value),), Origin.DEFAULT, key, "library", LIBRARY)


def _targets(path: str, table: Table, model: Fact, method: str) -> Fact | None:
    """PEFT's table by architecture where no modules are named: that of the base, or of what the folders are named."""
    named = [str(model.value)] if model.known else path.replace("\\", "/").split("/")[-2::-1]
    family, name = next(((kind, name) for name in named if (kind := model_type_of_name(name))), ("", ""))
    known = lora_targets(family, method=method) if family and method and method not in _WITHOUT_TARGETS else None
    if not isinstance(known, str | tuple):
        return None
    entry = table.entry(_TARGETS)
    place = entry.value.place if entry else None
    reason = f"no modules are named; PEFT takes those of {family}, the architecture by the name {name}"
    return Fact("lora_target_modules", (Candidate(known, place),), Origin.DEFAULT, _TARGETS, "library", LIBRARY, reason)
