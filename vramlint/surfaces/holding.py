"""Where keys of a vocabulary can be written: calls of a program, files of data, the command line that starts it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces import dictionaries, insertion
from vramlint.surfaces.keys import all_rows
from vramlint.surfaces.kinds import kind_of_table
from vramlint.surfaces.literals import JSON, PYTHON, SHELL, YAML
from vramlint.surfaces.members import form_of, read_data, set_key
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Edit, Place
from vramlint.values import Table

COMMANDS = ("training-arguments", "trl", "trl-model", "accelerate-config")
"""Vocabularies that command lines spell as options."""

_CONFIGS = r"(?:SFT|DPO|ORPO|KTO|CPO|Reward|GRPO|RLOO)Config$"
_CALLS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "training-arguments": lazy(rf"TrainingArguments$|{_CONFIGS}"),
        "trl": lazy(_CONFIGS),
        "from-pretrained": lazy(r"(?:^|\.)(?!Fast)\w*(?:Model|For[A-Z])\w*\.from_pretrained$"),
        "bitsandbytes": lazy(r"(?:^|\.)BitsAndBytesConfig$"),
        "lora": lazy(r"(?:^|\.)LoraConfig$"),
        "accelerate": lazy(r"(?:^|\.)Accelerator$"),
        "full-state-dict": lazy(r"(?:^|\.)FullStateDictConfig$"),
        "state-dict-options": lazy(r"(?:^|\.)StateDictOptions$"),
        "unsloth": lazy(r"(?:^|\.)Fast\w*(?:Model|Transformer)\.from_pretrained$"),
        "unsloth-adapter": lazy(r"(?:^|\.)Fast\w*(?:Model|Transformer)\.get_peft_model$"),
        "setfit": lazy(r"(?:^|\.)TrainingArguments$"),
        "lightning": lazy(r"^(?:L\.|pl\.|lightning\.(?:\w+\.)?|pytorch_lightning\.)?(?:Trainer|Fabric)$"),
    }
)
"""Callees whose keywords are keys of a vocabulary."""
_OWN: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "setfit": lazy(r"\bfrom\s+setfit\b[\w.]*\s+import\s+(?:\([^)]*|[^\n]*)\bTrainingArguments\b"),
        "lightning": lazy(r"^\ufeff?\s*(?:from|import)\s+(?:pytorch_)?lightning\b", re.MULTILINE),
    }
)
"""What a file imports in which such a callee is of that library; `TrainingArguments` is transformers' elsewhere."""
_KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "training-args-json": ("training-arguments",),
        "training-args-yaml": ("training-arguments",),
        "deepspeed-json": ("deepspeed",),
        "accelerate-config": ("accelerate-config",),
        "fsdp-json": ("fsdp",),
    }
)
"""Kinds of files to the vocabularies that they surely take. Whether the program behind TrainingArguments takes keys of
TRL or of a model beside them is known only once it is given one."""
_SECTIONED = "accelerate-config"
"""Of it a section counts only beside the `distributed_type` that reads it: none is added."""
_ENGINE = "deepspeed"
_ACCUMULATES = ".accumulate("
_PREFIX = "fsdp_"
_DEFINES = "diffusers"
_DEFINED = lazy(r"""add_argument\(\s*["']--(\w+)["']""")


class Holder(Struct, frozen=True):
    """One place that takes keys of a vocabulary."""

    vocabulary: str
    form: str
    document: Document
    place: Place | None = None
    """A call, or the value of an option of a command; None: the whole file."""
    root: Table | None = None
    """Of a file."""
    options: frozenset[str] = frozenset()
    """Of a program that defines them."""

    def put(self, key: str, value: Written) -> Edit | None:
        """The edit by which `key` is `value` here; None where it cannot be made with certainty."""
        if self.form == PYTHON and self.place is not None:
            return dictionaries.put(self.document, self.place, key, value)
        if self.form == SHELL and self.place is not None:
            return self._option(self.place, key, value)
        return set_key(self.document, self.root, self.spell(key), value, self.form) if self.root is not None else None

    def _option(self, beside: Place, key: str, value: Written) -> Edit | None:
        """Of a nested key Accelerate has an option; parsers of TrainingArguments take the table as JSON."""
        head, _, inner = key.rpartition(".")
        if re.search(rf"--{inner.replace('_', '[-_]')}\b", self.document.text):
            return None  # it is given, in a way that says nothing so far
        if self.vocabulary == _DEFINES and key not in self.options:
            return None
        if self.vocabulary == _DEFINES and isinstance(value, bool):
            return insertion.option(self.document, beside, key, None) if value else None
        if self.vocabulary == _SECTIONED or not head:
            return insertion.option(self.document, beside, inner, value)
        if "." in head or isinstance(value, tuple | Mapping) or f"--{head}" in self.document.text:
            return None
        return insertion.option(self.document, beside, head, {inner: value})

    def takes(self, key: str) -> bool:
        """Whether a key that is not there may be added."""
        if self.vocabulary == "accelerate" and key == "gradient_accumulation_steps":
            return _ACCUMULATES in self.document.text  # without it every batch steps, on a loss that is divided
        section = key.rpartition(".")[0]
        if self.root is None or self.vocabulary != _SECTIONED or not section:
            return True
        return isinstance(self.root.get(section), Table)

    def spell(self, key: str) -> str:
        """The key as the file spells it: options of FSDP with their prefix, where the others have it."""
        if self.vocabulary != "fsdp" or self.root is None:
            return key
        inner = self.root.get("fsdp_config")
        table, path = (inner, "fsdp_config.") if isinstance(inner, Table) else (self.root, "")
        names = [entry.key for entry in table]
        spellings = (key, f"{_PREFIX}{key}")
        there = [name for name in names if name in spellings]
        prefixed = bool(names) and all(name.startswith(_PREFIX) for name in names)
        return f"{path}{there[-1] if there else spellings[prefixed]}"


def holder_of(
    vocabulary: str, facts: Sequence[Fact], anchor: Place | None, documents: Mapping[str, Document]
) -> Holder | None:
    """The only place of a run that takes keys of a vocabulary; None where there is none, or several that may be meant.

    Args:
        vocabulary: one of `keys.VOCABULARIES`.
        facts: what the run's files say.
        anchor: the call that makes the run.
        documents: the files by path.
    """
    places = [fact.place for fact in facts if fact.place is not None and fact.origin is Origin.WRITTEN]
    paths = list(dict.fromkeys(place.path for place in (*((anchor,) if anchor else ()), *places)))
    said = [fact for fact in facts if fact.origin is Origin.WRITTEN and _is_of(vocabulary, fact)]
    for found in (
        [*_calls(vocabulary, said, anchor, [documents[path] for path in paths if path in documents])],
        [
            *_files(vocabulary, said, [documents[path] for path in paths if path in documents]),
            *_dictionaries(vocabulary, said, documents),
        ],
        [*_commands(vocabulary, said, documents), *_options(vocabulary, facts, documents)],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _is_of(vocabulary: str, fact: Fact) -> bool:
    return any(row.fact == fact.name and row.key == fact.key for row in all_rows(vocabulary))


def _calls(
    vocabulary: str, said: Sequence[Fact], anchor: Place | None, documents: Sequence[Document]
) -> Iterator[Holder]:
    pattern = _CALLS.get(vocabulary)
    if pattern is None:
        return
    found = [
        Holder(vocabulary, PYTHON, document, call)
        for document in documents
        if document.path.endswith((".py", ".ipynb")) and _is_meant(vocabulary, document)
        for call in insertion.calls(document, pattern)
    ]
    made = [item for item in found if anchor is not None and item.place == anchor]
    written = [item for item in found if any(_within(fact.place, item.place) for fact in said)]
    yield from made or (written if len(written) == 1 else found)


def _is_meant(vocabulary: str, document: Document) -> bool:
    own = _OWN.get(vocabulary)
    if own is not None:
        return own.search(document.text) is not None
    return vocabulary != "training-arguments" or _OWN["setfit"].search(document.text) is None


def _within(inner: Place | None, outer: Place | None) -> bool:
    if inner is None or outer is None or inner.path != outer.path:
        return False
    first, last = inner.span, outer.span
    return (last.line, last.column) <= (first.line, first.column) and (first.end_line, first.end_column) <= (
        last.end_line,
        last.end_column,
    )


def _files(vocabulary: str, said: Sequence[Fact], documents: Sequence[Document]) -> Iterator[Holder]:
    for document in documents:
        form = form_of(document.path)
        if form not in (JSON, YAML):
            continue
        root = read_data(document).root
        if not isinstance(root, Table):
            continue
        kind = kind_of_table(document.path, root) or ""
        if vocabulary == _ENGINE and kind != "deepspeed-json" and (kind or form != JSON):
            continue  # keys that it shares with others make no configuration of DeepSpeed
        if vocabulary in _KINDS.get(kind, ()) or any(_is_written_in(root, fact) for fact in said):
            yield Holder(vocabulary, form, document, None, root)


def _dictionaries(vocabulary: str, said: Sequence[Fact], documents: Mapping[str, Document]) -> Iterator[Holder]:
    """Dictionaries of a program that stand for a file of the vocabulary."""
    if vocabulary != _ENGINE:
        return
    places = {fact.place: fact.key for fact in said if fact.place is not None and fact.place.path.endswith(".py")}
    roots = {
        dictionaries.dictionary_of(documents[place.path], place, key): None
        for place, key in places.items()
        if place.path in documents
    }
    for root in roots:
        if root is not None:
            yield Holder(vocabulary, PYTHON, documents[root.path], root)


def _is_written_in(root: Table, fact: Fact) -> bool:
    entry = root.entry(*fact.key.split("."))
    return entry is not None and entry.value.place is not None and entry.value.place == fact.place


def _options(vocabulary: str, facts: Sequence[Fact], documents: Mapping[str, Document]) -> Iterator[Holder]:
    """Behind the last option of a program that defines by itself which there are."""
    places = [fact.place for fact in facts if fact.via == "shell" and fact.place is not None]
    defined = frozenset(
        match[1]
        for path in {fact.place.path for fact in facts if fact.place is not None}
        if path.endswith(".py") and path in documents
        for match in _DEFINED.finditer(documents[path].text)
    )
    if vocabulary == _DEFINES and len({place.path for place in places}) == 1 and places[0].path in documents:
        place = max(places)
        yield Holder(vocabulary, SHELL, documents[place.path], place, None, defined)


def _commands(vocabulary: str, said: Sequence[Fact], documents: Mapping[str, Document]) -> Iterator[Holder]:
    """Behind the last of the options that the command line itself writes."""
    places = [fact.place for fact in said if fact.via in ("cli", "shell") and fact.place is not None]
    if vocabulary in COMMANDS and places and len({place.path for place in places}) == 1:
        place = max(places)
        if place.path in documents and form_of(place.path) != JSON:
            yield Holder(vocabulary, SHELL, documents[place.path], place)
