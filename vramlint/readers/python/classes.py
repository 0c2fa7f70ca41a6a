"""Classes of the file: fields, members and instances."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.readers.python.choices import each
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.methods import merge_into
from vramlint.readers.python.neighbours import home_of
from vramlint.readers.python.objects import (
    BoundMethod,
    Choice,
    Class,
    Field,
    FieldSpec,
    Function,
    Given,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
)
from vramlint.text import Place
from vramlint.values import Name, Scalar, Unknown

PLAIN_BASES_WORDS = """
    object ABC Generic Protocol NamedTuple TypedDict Enum IntEnum StrEnum str int float dict list tuple set type
    Exception BaseException ValueError RuntimeError KeyError BaseModel Mapping OrderedDict Thread Flag IntFlag
    UserDict defaultdict Struct
"""
PLAIN_BASES = frozenset(PLAIN_BASES_WORDS.split())
"""Last parts of base names that say nothing about training: classes over them count as the file's own."""

FIELD_BASES = frozenset({"BaseModel", "NamedTuple", "BaseSettings", "Struct"})
"""Bases that turn annotated names into constructor parameters, as `@dataclass` does."""

_LITERAL_ROADS = frozenset({"literal", "module-constant", "function-default"})


def library_base(kind: Class) -> str | None:
    """The qualified name of the nearest library class that a class extends, None if it is wholly the file's own."""
    for item in kind.ancestry():
        for base in item.bases:
            name = base.callee if isinstance(base, LibraryObject) else base.qualified if isinstance(base, Name) else ""
            if name and name.rpartition(".")[2] not in PLAIN_BASES:
                return name
    return None


def takes_fields(kind: Class) -> bool:
    """Whether annotated names are constructor parameters."""
    return any(
        item.is_dataclass or any(name.rpartition(".")[2] in FIELD_BASES for name in item.base_names())
        for item in kind.ancestry()
    )


def relabel(item: Object, via: str) -> Object:
    """The object with the road by which its literals came."""
    if isinstance(item, Scalar) and item.via in _LITERAL_ROADS:
        return Scalar(item.value, item.place, via)
    if isinstance(item, Sequence) and item.elements is not None:
        return Sequence.of(tuple(relabel(element, via) for element in item.elements), item.place)
    if isinstance(item, Mapping):
        state = {
            key: Slot(slot.key_place, relabel(slot.value, via)) if isinstance(slot, Slot) else slot
            for key, slot in item.state.items()
        }
        return Mapping(state, item.place, item.origin, item.attributes)
    return each(lambda one: relabel(one, via), item) if isinstance(item, Choice) else item


def field_default(machine: Machine, entry: Field, site: Site) -> Object | None:
    """What a field holds when nothing is passed for it, None when it must be passed."""
    spec: FieldSpec = entry.spec
    if spec.factory is not None:
        made = machine.invoke(site.of(spec.factory, Arguments()))
        return relabel(made, "dataclass-default")
    return None if spec.default is None else relabel(spec.default, "dataclass-default")


def construct(machine: Machine, kind: Class, site: Site, *, from_command_line: bool = False) -> Object:
    """An object of a class of the file: an instance, or the call of the library class that it extends."""
    base = library_base(kind)
    made: Instance | LibraryObject
    if base is not None:
        _adopt(machine, kind, base)
        made = _library_object(machine, kind, base, site, from_command_line=from_command_line)
    else:
        made = Instance(kind, site.place)
        if takes_fields(kind):
            _fill_fields(machine, kind, made, site, from_command_line=from_command_line)
        give_items(machine, kind, made, site)
        kind.instances.append(made)
    kind.last_instance = made
    initialise = None if _is_generated(kind) else kind.member("__init__")
    if isinstance(initialise, Function):
        machine.invoke(site.of(BoundMethod(initialise, made)))
    elif isinstance(finish := kind.member("__post_init__"), Function):
        machine.invoke(site.of(BoundMethod(finish, made), Arguments()))
    return made


def _is_generated(kind: Class) -> bool:
    """Whether `@dataclass` writes the constructor, over one that the class inherits."""
    owner = next((item for item in kind.ancestry() if item.is_dataclass or "__init__" in item.scope.state), None)
    return owner is not None and "__init__" not in owner.scope.state


_NEVER_ASKED = lazy(
    r"(Dataset|Sampler|Callback|Collator\w*|(?<!Lightning)DataModule|Loader|Tokenizer\w*|Handler|Formatter)$"
)
"""Library classes whose methods say nothing of memory."""
_DATA_MODULE = "LightningDataModule"
"""Its loader of the training's data says the batch size; the rest of it says nothing."""


def _adopt(machine: Machine, kind: Class, base: str) -> None:
    """Let methods of another module's class be evaluated as the script's own are: its library calls them."""
    for item in kind.ancestry():
        if home_of(item.scope) is None or item.adopted or _NEVER_ASKED.search(base):
            continue
        item.adopted = True
        made = [value for value in item.scope.state.values() if isinstance(value, Function)]
        loads = base.endswith(_DATA_MODULE)
        machine.functions += [function for function in made if not loads or function.name == "train_dataloader"]


_DICTS = frozenset({"dict", "OrderedDict", "UserDict", "defaultdict", "TypedDict"})


def give_items(machine: Machine, kind: Class, made: Instance, site: Site) -> None:
    """Make an object of a class that extends `dict` a dict of what it is called with."""
    if any(name.rpartition(".")[2] in _DICTS for name in kind.base_names()):
        made.items = Mapping({}, site.place)
        if kind.member("__init__") is None:
            merge_into(machine, made.items, site.arguments.get("", 0), site.arguments)


_CONFIGS = ("Config", "Configuration", "Args", "Params")


def note_config(machine: Machine, made: Object) -> None:
    """Record a config of the project's own as a call once something is given it: it may say what model is made.

    One that nothing uses, such as another entry of a table of sizes, says nothing of the run.
    """
    kind = made.kind if isinstance(made, Instance) else None
    if kind is None or not isinstance(made, Instance) or not kind.name.endswith(_CONFIGS) or not takes_fields(kind):
        return
    if id(made) not in machine.noted:
        machine.noted[id(made)] = made
        fields = {entry.name: entry.name_place for entry in kind.all_fields()}
        known = tuple(
            Given(name, made.state[name], place)
            for name, place in fields.items()
            if name in made.state and not isinstance(made.state[name], Unknown)
        )
        machine.emit(LibraryObject(f".{kind.name}", (), known, made.place or kind.place))


def _library_object(machine: Machine, kind: Class, base: str, site: Site, *, from_command_line: bool) -> LibraryObject:
    given = {item.name for item in site.arguments.keywords}
    inherited = []
    for entry in kind.all_fields():
        if entry.name in given:
            continue
        default = field_default(machine, entry, site)
        if from_command_line:
            missing = required(entry.name, entry.name_place)
            default = missing if default is None else setting_default(entry.name, default, entry.name_place)
        if default is not None:
            inherited.append(Given(entry.name, default, entry.name_place))
    return machine.emit(
        LibraryObject(
            callee=base,
            args=site.arguments.positional,
            keywords=(*inherited, *site.arguments.keywords),
            place=site.place,
            local_class=kind,
            open=site.arguments.open,
            from_command_line=from_command_line,
        )
    )


_MODEL_SETTINGS_WORDS = """
    base_model base_model_name_or_path hf_model_path model model_dir model_id model_id_or_path model_name
    model_name_or_path model_path pretrained_model_name_or_path
"""
_MODEL_SETTINGS = frozenset(_MODEL_SETTINGS_WORDS.split())


def required(name: str, place: Place | None) -> Unknown:
    """The value of a setting that the command line must give."""
    return Unknown(f"command line: --{name} is required", place)


def setting_default(name: str, default: Object, place: Place | None) -> Object:
    """A setting's default. A model that defaults to None is one that the command line gives."""
    if name in _MODEL_SETTINGS and isinstance(default, Scalar) and default.value is None:
        return Unknown(f"command line: --{name} has no default", place)
    return default


def _fill_fields(machine: Machine, kind: Class, made: Instance, site: Site, *, from_command_line: bool) -> None:
    for position, entry in enumerate(kind.all_fields()):
        value = site.arguments.get(entry.name, position)
        if value is None and site.arguments.open:
            value = Unknown(f"{entry.name} of {kind.name}", site.place)
        if value is None:
            value = field_default(machine, entry, site)
            if from_command_line:
                missing = required(entry.name, entry.name_place)
                value = missing if value is None else setting_default(entry.name, value, entry.name_place)
        made.state[entry.name] = value or Unknown(f"{entry.name} of {kind.name}", site.place)
