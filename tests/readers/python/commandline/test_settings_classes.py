"""Settings from the environment, and namespaces that scripts change by a file."""

from __future__ import annotations

import pytest

from tests.readers.python.commandline.starting import given, started, used
from vramlint.values import Scalar

SETTINGS = """
    import lib
    from pydantic import BaseModel
    from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict

    class Optim(BaseModel):
        lr: float = 0.1

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="TRAIN_", cli_parse_args={parse})
        batch: int = 8
        model: str = "gpt2"
        optim: Optim = Optim()

    settings = {make}
    lib.use(batch=settings.batch, model=settings.model, lr=settings.optim.lr)
"""


@pytest.mark.parametrize(("parse", "make"), [("True", "Settings()"), ("False", "CliApp.run(Settings)")])
def test_pydantic_settings(parse: str, make: str) -> None:
    text = SETTINGS.format(parse=parse, make=make)
    found = started(text, "--batch 4 --optim.lr 2", environment={"TRAIN_MODEL": "m", "TRAIN_BATCH": "1"})
    assert given(found) == {"batch": 4, "model": "m", "lr": 2.0}


def test_pydantic_settings_without_words() -> None:
    text = SETTINGS.format(parse="False", make="Settings(model='own')")
    assert given(started(text, "", environment={"TRAIN_BATCH": "1", "TRAIN_MODEL": "m"})) == {
        "batch": 1,
        "model": "own",
        "lr": 0.1,
    }
    assert given(started(text, None))["batch"] == 8


def test_variables_of_the_launcher() -> None:
    text = """
        import os, lib
        lib.use(a=os.environ.get("A", "x"), b=int(os.environ["B"]), c=os.getenv("C", 1), d="A" in os.environ)
    """
    found = given(started(text, "", environment={"A": "y", "B": "3"}, known={'os.environ["C"]': None}))
    assert found == {"a": "y", "b": 3, "c": 1, "d": True}


@pytest.mark.parametrize(
    "change",
    [
        "vars(args).update(config)",
        "args.__dict__.update(config)",
        "for key, value in config.items(): setattr(args, key, value)",
        "parser.set_defaults(**config); args = parser.parse_args()",
        "args = argparse.Namespace(**{**vars(args), **config})",
        "for key in config: vars(args)[key] = config[key]",
    ],
)
def test_namespaces_that_a_file_overrides(change: str) -> None:
    text = f"""
        import argparse, lib, yaml
        parser = argparse.ArgumentParser()
        parser.add_argument("--config", default=None)
        parser.add_argument("--lr", type=float, default=0.1)
        parser.add_argument("--seed", type=int, default=1)
        args = parser.parse_args()
        if args.config:
            config = yaml.safe_load(open(args.config))
            {change}
        lib.use(lr=args.lr, seed=args.seed)
    """
    found = started(
        text, "--config c.yaml --seed 2", {"c.yaml": "lr: 5e-4\n" if "defaults" in change else "lr: 0.0005\n"}
    )
    assert given(found) == {"lr": 0.0005, "seed": 2}
    rate = used(found).argument("lr")
    assert isinstance(rate, Scalar)
    assert rate.place is not None
    assert rate.place.path == "c.yaml"


def test_a_dict_class_of_the_files_own() -> None:
    text = """
        import json, lib
        class AttrDict(dict):
            def __getattr__(self, name):
                return self[name]
        cfg = AttrDict(json.load(open("c.json")))
        lib.use(lr=cfg.lr)
    """
    assert given(started(text, None, {"c.json": '{"lr": 0.5}'})) == {"lr": 0.5}


def test_ruamel() -> None:
    text = """
        import lib
        from ruamel.yaml import YAML
        with open("c.yaml") as f:
            cfg = YAML(typ="safe").load(f)
        lib.use(lr=cfg["lr"])
    """
    assert given(started(text, None, {"c.yaml": "lr: 0.5"})) == {"lr": 0.5}
