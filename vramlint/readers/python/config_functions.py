"""Functions of OmegaConf and of dict classes with attributes."""

from __future__ import annotations

from types import MappingProxyType

from vramlint.readers.python.classes import construct
from vramlint.readers.python.commandline.hydra_configs import compose
from vramlint.readers.python.commandline.words import command_line
from vramlint.readers.python.configs import as_config, dotlist, merged, put_path, resolved, value_at, with_floats
from vramlint.readers.python.datafiles import load_path, path_of, recorded
from vramlint.readers.python.machine import Arguments, Handler, Machine, Site
from vramlint.readers.python.objects import OPEN, Class, Given, Instance, Mapping, Object, Sequence, Slot, computed
from vramlint.values import Scalar, Unknown


def _load(machine: Machine, site: Site) -> Object:
    """`OmegaConf.load(path)`."""
    made = recorded(machine, site)
    path = path_of(site.first())
    found = None if path is None else load_path(machine, path, "yaml")
    config = made if found is None else as_config(with_floats(found))
    return resolved(machine, config) if isinstance(config, Mapping) else made


def _create(machine: Machine, site: Site) -> Object:
    """`OmegaConf.create({...})`, `OmegaConf.structured(Config)`; also of YAML text and of lists of `a=1`."""
    item = site.arguments.get("obj", 0)
    if item is None:
        return Mapping({}, site.place, attributes=True)
    if isinstance(item, Class):
        item = construct(machine, item, site.of(item, Arguments()))
    config = as_config(item)
    if isinstance(config, Mapping):
        return resolved(machine, config)
    return config if isinstance(config, Sequence) else recorded(machine, site)


def _merge(machine: Machine, site: Site) -> Object:
    parts = [
        construct(machine, item, site.of(item, Arguments())) if isinstance(item, Class) else item
        for item in site.arguments.positional
    ]
    configs = [as_config(item) for item in parts]
    if not configs or not all(isinstance(item, Mapping) for item in configs):
        return recorded(machine, site)
    found = Mapping({}, site.place, attributes=True)
    for item in configs:
        found = merged(found, item) if isinstance(item, Mapping) else found
    return resolved(machine, found)


def _from_cli(machine: Machine, site: Site) -> Object:
    """The words of the command line as settings; none where it isn't known."""
    words = command_line(machine, site.arguments.get("args_list", 0))
    return resolved(machine, dotlist(words or ()))


def _from_dotlist(machine: Machine, site: Site) -> Object:
    words = site.first()
    elements = words.elements if isinstance(words, Sequence) else None
    return recorded(machine, site) if elements is None else resolved(machine, dotlist(elements))


def _container(machine: Machine, site: Site) -> Object:
    """`OmegaConf.to_container(cfg)`: plain dicts."""
    item = site.first()
    return plain_dicts(item) if isinstance(item, Mapping) else recorded(machine, site)


def plain_dicts(item: Object) -> Object:
    """A config as dicts and lists."""
    if isinstance(item, Mapping):
        state = {
            key: Slot(slot.key_place, plain_dicts(slot.value), slot.key) if isinstance(slot, Slot) else slot
            for key, slot in item.state.items()
        }
        return Mapping(state, item.place)
    if isinstance(item, Sequence) and item.elements is not None:
        return Sequence.of(tuple(map(plain_dicts, item.elements)), item.place)
    return item


def _select(machine: Machine, site: Site) -> Object:
    item, key = site.first(), site.arguments.get("key", 1)
    if not isinstance(item, Mapping) or not isinstance(key, Scalar):
        return recorded(machine, site)
    found = value_at(item, str(key.value))
    if found is None and item.open:
        return site.unknown(f"key {key.value}")
    return found if found is not None else site.arguments.get("default") or computed(None, site.place)


def _update(machine: Machine, site: Site) -> Object:
    item, key, value = site.first(), site.arguments.get("key", 1), site.arguments.get("value", 2)
    if isinstance(item, Mapping) and isinstance(key, Scalar) and value is not None:
        name = str(key.value).partition(".")[0]
        changed = Mapping(dict(item.state), item.place, attributes=True)
        put_path(changed, str(key.value), value, key.place)
        machine.journal.put(item.state, name, changed.state[name])
    return computed(None, site.place)


def _same(_: Machine, site: Site) -> Object:
    return computed(None, site.place)


def _with_attributes(_: Machine, site: Site) -> Object:
    """`Munch(cfg)`, `Box(cfg)`, `ConfigDict(cfg)`, `EasyDict(cfg)`."""
    first = site.arguments.get("", 0)
    made = as_config(first) if first is not None else Mapping({}, site.place, attributes=True)
    if isinstance(made, Unknown) or not isinstance(made, Mapping):
        made = Mapping({OPEN: True}, site.place, attributes=True)
    for given in site.arguments.keywords:
        made.state[given.name] = Slot(given.name_place, as_config(given.value))
    if site.arguments.open:
        made.state[OPEN] = True
    made.origin = site.arguments.origins[0] if site.arguments.origins else made.origin
    return made


def _from_mapping(machine: Machine, site: Site) -> Object:
    """`dacite.from_dict(data_class=Config, data=cfg)`."""
    kind, data = site.arguments.get("data_class", 0), site.arguments.get("data", 1)
    if not isinstance(kind, Class) or not isinstance(data, Mapping):
        return recorded(machine, site)
    return _structured(machine, kind, data, site, 0)


def _structured(machine: Machine, kind: Class, data: Mapping, site: Site, depth: int) -> Object:
    from vramlint.readers.python.commandline.trees import nested_class

    keywords = []
    for entry in kind.all_fields():
        slot = data.state.get(entry.name)
        if not isinstance(slot, Slot):
            continue
        inner = nested_class(machine, entry, kind)
        value = slot.value
        if inner is not None and isinstance(value, Mapping) and depth < 6:
            value = _structured(machine, inner, value, site, depth + 1)
        keywords.append(Given(entry.name, value, slot.key_place))
    return construct(machine, kind, site.of(kind, Arguments((), tuple(keywords), data.open)))


def _is_config(_: Machine, site: Site) -> Object:
    item = site.first()
    if isinstance(item, (Mapping, Scalar, Instance)):
        return computed(isinstance(item, Mapping) and item.attributes, site.place)
    return site.unknown("type of a value")


_DICT_CLASSES_WORDS = """
    addict.Dict box.Box easydict.EasyDict ml_collections.ConfigDict ml_collections.config_dict.ConfigDict
    munch.DefaultMunch.fromDict munch.Munch munch.munchify ml_collections.FrozenConfigDict
    omegaconf.DictConfig mmengine.ConfigDict mmcv.ConfigDict
"""

CONFIG_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        **dict.fromkeys(_DICT_CLASSES_WORDS.split(), _with_attributes),
        "omegaconf.OmegaConf.load": _load,
        "omegaconf.OmegaConf.create": _create,
        "omegaconf.OmegaConf.structured": _create,
        "omegaconf.OmegaConf.merge": _merge,
        "omegaconf.OmegaConf.unsafe_merge": _merge,
        "omegaconf.OmegaConf.from_cli": _from_cli,
        "omegaconf.OmegaConf.from_dotlist": _from_dotlist,
        "omegaconf.OmegaConf.to_container": _container,
        "omegaconf.OmegaConf.to_object": _container,
        "omegaconf.OmegaConf.select": _select,
        "omegaconf.OmegaConf.update": _update,
        "omegaconf.OmegaConf.set_struct": _same,
        "omegaconf.OmegaConf.set_readonly": _same,
        "omegaconf.OmegaConf.resolve": _same,
        "omegaconf.OmegaConf.is_config": _is_config,
        "omegaconf.OmegaConf.is_dict": _is_config,
        "hydra.compose": compose,
        "hydra.experimental.compose": compose,
        "dacite.from_dict": _from_mapping,
    }
)
