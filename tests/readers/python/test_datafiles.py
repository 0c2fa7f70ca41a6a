"""Files of settings that scripts load."""

from __future__ import annotations

import pytest

from tests.readers.python.commandline.starting import given, started, used
from vramlint.values import Call, Scalar

FILES = {
    "c.json": '{"lr": 0.1, "model": {"name": "gpt2", "layers": [1, 2]}}',
    "c.yaml": "lr: 0.1\nmodel:\n  name: gpt2\n  layers: [1, 2]\n",
    "c.toml": 'lr = 0.1\n[model]\nname = "gpt2"\nlayers = [1, 2]\n',
}
EXPECTED = {"lr": 0.1, "name": "gpt2", "layers": [1, 2]}


@pytest.mark.parametrize(
    "load",
    [
        "json.load(open('c.json'))",
        "json.loads(open('c.json').read())",
        "json.loads(Path('c.json').read_text())",
        "json.loads(pathlib.Path('c.json').read_text(encoding='utf8'))",
        "yaml.safe_load(open('c.yaml'))",
        "yaml.load(open('c.yaml', 'r'), Loader=yaml.SafeLoader)",
        "yaml.full_load(Path('c.yaml').open())",
        "yaml.safe_load(Path('c.yaml').read_text())",
        "toml.load('c.toml')",
        "tomllib.load(open('c.toml', 'rb'))",
        "tomllib.loads(Path('c.toml').read_text())",
        "json.load(open(os.path.join(os.path.dirname(__file__), 'c.json')))",
        "yaml.safe_load((Path(__file__).parent / 'c.yaml').read_text())",
        "yaml.safe_load(Path(__file__).resolve().parent.joinpath('c.yaml').open())",
    ],
)
def test_loading(load: str) -> None:
    text = f"""
        import json, lib, os, pathlib, toml, tomllib, yaml
        from pathlib import Path
        cfg = {load}
        lib.use(lr=cfg["lr"], name=cfg["model"]["name"], layers=cfg["model"].get("layers"))
    """
    assert given(started(text, None, FILES)) == EXPECTED


def test_values_stand_in_the_file() -> None:
    text = """
        import lib, yaml
        with open("c.yaml") as f:
            cfg = yaml.safe_load(f)
        lib.use(name=cfg["model"]["name"])
    """
    name = used(started(text, None, FILES)).argument("name")
    assert isinstance(name, Scalar)
    assert name.place is not None
    assert (name.via, name.place.path, name.place.span) == ("config-file", "c.yaml", (3, 9, 3, 13))


def test_a_path_from_the_command_line() -> None:
    text = """
        import argparse, lib, yaml
        parser = argparse.ArgumentParser()
        parser.add_argument("--config", default="c.yaml")
        args = parser.parse_args()
        with open(args.config) as f:
            cfg = yaml.safe_load(f)
        lib.use(lr=cfg["lr"])
    """
    files = {**FILES, "d.yaml": "lr: 0.5\n"}
    assert given(started(text, None, files)) == {"lr": 0.1}
    assert given(started(text, "--config d.yaml", files)) == {"lr": 0.5}
    assert str(given(started(text, "--config nowhere.yaml", files))["lr"]).startswith("?")


@pytest.mark.parametrize("kind", ["munch.Munch", "box.Box", "easydict.EasyDict", "ml_collections.ConfigDict"])
def test_dicts_with_attributes(kind: str) -> None:
    text = f"""
        import box, easydict, json, lib, ml_collections, munch
        cfg = {kind}(json.load(open("c.json")))
        lib.use(lr=cfg.lr, name=cfg.model.name, layers=cfg["model"].layers)
    """
    assert given(started(text, None, FILES)) == EXPECTED


def test_dataclasses_from_dicts() -> None:
    text = """
        import dacite, json, lib
        from dataclasses import dataclass
        @dataclass
        class Model:
            name: str
            layers: list
        @dataclass
        class Config:
            model: Model
            lr: float = 1.0
            seed: int = 3
        cfg = dacite.from_dict(data_class=Config, data=json.load(open("c.json")))
        raw = json.load(open("c.json"))
        model = Model(**raw["model"])
        lib.use(lr=cfg.lr, name=cfg.model.name, layers=model.layers, seed=cfg.seed)
    """
    assert given(started(text, None, FILES)) == {**EXPECTED, "seed": 3}


def test_a_file_that_is_not_there_is_a_recorded_call() -> None:
    text = """
        import json, lib
        lib.use(deepspeed=json.load(open("nowhere.json")))
    """
    made = used(started(text, None, FILES)).argument("deepspeed")
    assert isinstance(made, Call)
    assert made.callee == "json.load"


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "3", "a: [", "\0", "- - -"])
def test_any_content(content: str) -> None:
    text = """
        import json, lib, toml, yaml
        lib.use(a=json.load(open("x"))["a"], b=yaml.safe_load(open("x"))["a"], c=toml.load("x")["a"])
    """
    assert given(started(text, None, {"x": content}))


def test_what_is_written_is_not_read() -> None:
    text = """
        import json, lib
        with open("c.json", "w") as f:
            json.dump({}, f)
        lib.use(x=1)
    """
    assert given(started(text, None, FILES)) == {"x": 1}


@pytest.mark.parametrize(
    "nested",
    [
        """
        def build(x):
            if isinstance(x, dict):
                return SimpleNamespace(**{k: build(v) for k, v in x.items()})
            return x
        """,
        """
        class build:
            def __init__(self, values):
                for key, value in values.items():
                    if isinstance(value, dict):
                        value = build(value)
                    setattr(self, key, value)
        """,
    ],
)
def test_nested_dicts_as_namespaces(nested: str) -> None:
    text = f"""
        import json, lib
        from types import SimpleNamespace
        {nested}
        cfg = build(json.load(open("c.json")))
        lib.use(lr=cfg.lr, name=cfg.model.name, layers=cfg.model.layers)
    """
    assert given(started(text, None, FILES)) == EXPECTED


@pytest.mark.parametrize("asked", ["os.path.exists('c.json')", "Path('c.json').exists()", "os.path.isfile('c.json')"])
def test_settings_of_the_project_exist(asked: str) -> None:
    text = f"""
        import json, lib, os
        from pathlib import Path
        if {asked}:
            lr = json.load(open("c.json"))["lr"]
        else:
            lr = 1.0
        lib.use(lr=lr)
    """
    assert given(started(text, None, FILES)) == {"lr": 0.1}
    other = used(started(text.replace("c.json')", "d.json')"), None, FILES)).argument("lr")
    assert not isinstance(other, Scalar)
