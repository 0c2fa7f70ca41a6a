"""The Megatron back end of ms-swift: the dataclasses of megatron sft, pt and rlhf, over its releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.surfaces.dataclass_keys import fields
from tools.surfaces.rows import rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.syntax import classes
from tools.surfaces.trees import Tree
from vramlint.catalog.versions import at_least, version_of

_NAME = "ms-swift-megatron"
_FIRST, _NEXT = "3.3.0", "4.6.0"
"""The first release with the back end, and what the state after the last tag is called."""
_CLASSES = (
    "MegatronTrainArguments",
    "MegatronSftArguments",
    "MegatronPretrainArguments",
    "MegatronRLHFArguments",
)
"""The arguments of megatron pt and rlhf, of which those of sft are the base; one class before 3.6."""
_FILES = (
    "swift/megatron/argument/**/*.py",
    "swift/megatron/arguments/**/*.py",
    "swift/arguments/**/*.py",
    "swift/llm/argument/**/*.py",
    "swift/ray_utils/arguments.py",
    "swift/ray/**/arguments.py",
)
"""Where they are, and the base arguments that they inherit."""
_RAY = "swift/ray/megatron/driver_utils.py"
_BESIDE: Mapping[str, tuple[str, Key]] = {
    "ENV.*": ("3.12.0", Key("dict", "", "variables of the environment (swift/cli/main.py)")),
    "colocate_groups": ("4.4.0", Key("list", "", _RAY)),
    "gpus": ("4.4.0", Key("int", "", _RAY)),
    "nnodes": ("4.4.0", Key("int", "", _RAY)),
    "rollout.*": ("4.4.0", Key("dict", "", _RAY)),
    "teacher.*": ("4.4.0", Key("dict", "", _RAY)),
    "train.*": ("4.4.0", Key("dict", "", _RAY)),
}
"""Keys that no dataclass declares, each from the release whose code asks for it; read by hand."""


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys of the dataclasses at one state."""
    return {_NAME: fields(classes(tree, _FILES), _CLASSES)}


def make(states: States) -> Mapping[str, str]:
    """The table `frameworks/ms-swift-megatron.tsv`."""
    heading = (
        "Keys of megatron sft, pt and rlhf of ms-swift: key, since, until, renamed to, type, default (JSON), note.",
        "Read: swift/megatron/arguments (swift/megatron/argument before 4.0) and the base arguments that they inherit "
        "of every tag from v3.3.0 to v4.5.2 and of the",
        f"state after it, called {_NEXT}.",
    )
    rows = rows_of(list(_releases(states)), {"train_type": "tuner_type"}, types=False)
    return {table_file(_NAME): text_of(heading, rows)}


def _releases(states: States) -> Iterator[tuple[str, Keys]]:
    tags = [tag.removeprefix("v") for tag in states.tags() if tag.startswith("v")]
    for release in [*sorted(tags, key=version_of), _NEXT]:
        if not at_least(version_of(release), version_of(_FIRST)):
            continue
        tree = states.revision("HEAD" if release == _NEXT else f"v{release}")
        keys = dict(read(tree)[_NAME])
        for name, (since, key) in _BESIDE.items():
            if at_least(version_of(release), version_of(since)):
                keys[name] = key
        yield release, keys


SOURCE = Source(
    "ms-swift", ("swift",), "modelscope/ms-swift", read, make, elsewhere=(_RAY, "variables of the environment")
)
