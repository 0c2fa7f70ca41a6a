"""Classes that hold a config: how their objects are made, what they hold, what becomes of them."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.readers.python.reading import callees, program, shown, value

DATACLASS = """
from dataclasses import asdict, dataclass, field, fields, replace
@dataclass(frozen=True)
class Run:
    size: int = 2
    rate: float = 0.5
    steps: int = field(default=None)
    def __post_init__(self):
        if self.steps is None:
            self.steps = self.size * 10
"""

PYDANTIC = """
from pydantic import BaseModel, Field
class Run(BaseModel):
    size: int = Field(2, ge=1)
    rate: float = 0.5
run = Run(rate=1.5)
"""

NAMED = """
from typing import NamedTuple
class Run(NamedTuple):
    size: int = 2
    rate: float = 0.5
run = Run(rate=1.5)
"""

ENUM = """
from enum import Enum, IntEnum, auto
class Mode(Enum):
    FAST = "fast"
    SLOW = "slow"
class Level(IntEnum):
    LOW = auto()
    HIGH = auto()
"""

ATTRIBUTES = """
class Attributes(dict):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self
item = Attributes({"size": 4}, rate=0.5)
item.steps = 8
"""

REGISTRY = """
TABLE = {}
def register(name):
    def keep(made):
        TABLE[name] = made
        return made
    return keep
@register("small")
def small():
    return 1
@register("large")
class Large:
    size = 2
"""


@pytest.mark.parametrize(
    ("setting", "expression", "wanted"),
    [
        (DATACLASS, "[Run().steps, Run(3).steps, Run(steps=1).steps]", [20, 30, 1]),
        (DATACLASS, "replace(Run(), size=7).size", 7),
        (DATACLASS, "replace(Run(steps=1), size=7).steps", 1),
        (DATACLASS, "asdict(Run(size=1))", {"size": 1, "rate": 0.5, "steps": 10}),
        (DATACLASS, "{f.name: getattr(Run(), f.name) for f in fields(Run)}", {"size": 2, "rate": 0.5, "steps": 20}),
        (PYDANTIC, "[run.size, run.rate, run.model_dump()['rate'], run.dict()['size']]", [2, 1.5, 1.5, 2]),
        (PYDANTIC, "[run.model_copy(update={'size': 9}).size, run.size]", [9, 2]),
        (NAMED, "[run.size, run[1], run._replace(size=3).size, run._asdict()['rate']]", [2, 1.5, 3, 1.5]),
        (NAMED, "[item for item in run]", [2, 1.5]),
        (
            ENUM,
            "[Mode.FAST.value, Mode.FAST.name, Mode('slow').name, Mode['SLOW'].value]",
            ["fast", "FAST", "SLOW", "slow"],
        ),
        (
            ENUM,
            "[[m.value for m in Mode], Mode.FAST == Mode.SLOW, Mode.FAST is Mode.FAST]",
            [["fast", "slow"], False, True],
        ),
        (ENUM, "[Level.HIGH.value, Level.LOW + 1]", [2, 2]),
        (ATTRIBUTES, "[item['size'], item.rate, item['steps'], item.get('none', 1)]", [4, 0.5, 8, 1]),
        (REGISTRY, "[TABLE['small'](), TABLE['large']().size]", [1, 2]),
    ],
)
def test_what_objects_hold(setting: str, expression: str, wanted: object) -> None:
    assert shown(value(f"{setting}\nx = {expression}")) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            """
            import attr
            @attr.s
            class Run:
                size = attr.ib(default=2)
                names = attr.ib(factory=list)
            x = [Run().size, Run(size=3).size, Run().names]
            """,
            [2, 3, []],
        ),
        (
            """
            from attrs import define, field
            @define
            class Run:
                size: int = 2
                rate: float = field(default=0.5)
            x = [Run().size, Run(rate=1.0).rate, Run().rate]
            """,
            [2, 1.0, 0.5],
        ),
        (
            """
            class Run:
                def __init__(self):
                    self._size = 1
                @property
                def size(self):
                    return self._size
                @size.setter
                def size(self, new):
                    self._size = new * 2
            run = Run()
            run.size = 4
            x = run.size
            """,
            8,
        ),
        (
            """
            class Wrapped:
                def __init__(self, config):
                    self.config = config
                def __getattr__(self, name):
                    return self.config[name]
                def __getitem__(self, key):
                    return self.config[key]
            run = Wrapped({"size": 4})
            x = [run.size, run["size"]]
            """,
            [4, 4],
        ),
        (
            """
            class Run:
                def __init__(self, **settings):
                    for name, item in settings.items():
                        setattr(self, name, item)
                    self.__dict__.update({"rate": 0.5})
            x = [Run(size=4).size, Run().rate]
            """,
            [4, 0.5],
        ),
        (
            """
            import copy
            first = {"a": {"b": [1]}}
            second = copy.deepcopy(first)
            second["a"]["b"].append(2)
            x = [first["a"]["b"], second["a"]["b"]]
            """,
            [[1], [1, 2]],
        ),
        (
            """
            class Run:
                size = 4
                name = "a"
            x = [{key: item for key, item in vars(Run).items() if not key.startswith("_")}, Run.__name__]
            """,
            [{"size": 4, "name": "a"}, "Run"],
        ),
        (
            """
            import functools
            def logged(name):
                def decorate(function):
                    @functools.wraps(function)
                    def inner(*args, **kwargs):
                        return function(*args, **kwargs)
                    return inner
                return decorate
            class Base:
                def size(self):
                    return 1
            class Run(Base):
                @logged("size")
                def size(self, more=1):
                    return super().size() + more
            x = [Run().size(), Run().size(more=3)]
            """,
            [2, 4],
        ),
    ],
)
def test_how_classes_behave(text: str, wanted: object) -> None:
    found = shown(value(dedent(text)))
    assert found == wanted


def test_paths_know_their_parts() -> None:
    text = """
        from pathlib import Path
        import os
        path = Path("/models") / "llama" / "7b.bin"
        x = [path.name, path.stem, path.suffix, path.parent.name, str(path.with_suffix(".pt")), os.path.basename("a/b")]
    """
    assert shown(value(text)) == ["7b.bin", "7b", ".bin", "llama", "/models/llama/7b.pt", "b"]


def test_a_config_is_recorded_when_something_is_given_it() -> None:
    text = """
        from dataclasses import dataclass
        @dataclass
        class NetConfig:
            layers: int = 2
            width: int = 64
        SIZES = {"small": NetConfig(1), "large": NetConfig(layers=24)}
        class Net:
            def __init__(self, config):
                self.config = config
        config = SIZES["large"]
        config.width = 128
        net = Net(config)
    """
    (made,) = [call for call in program(text).calls if call.callee == ".NetConfig"]
    assert [shown(made.argument(name)) for name in ("layers", "width")] == [24, 128]


def test_a_constructor_that_nobody_calls_makes_nothing() -> None:
    text = """
        import torch.nn as nn
        from transformers import GPT2LMHeadModel

        class GPT(nn.Module):
            @classmethod
            def from_pretrained(cls, name):
                return GPT2LMHeadModel.from_pretrained(name)

        {made}
    """
    loaded = "transformers.GPT2LMHeadModel.from_pretrained"
    assert loaded not in callees(program(text.format(made="model = GPT()")))
    assert loaded in callees(program(text.format(made="")))
