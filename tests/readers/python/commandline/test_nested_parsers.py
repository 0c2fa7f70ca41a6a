"""Parsers with whole classes among their options."""

from __future__ import annotations

from tests.readers.python.commandline.starting import given, started

SIMPLE = """
    import lib, simple_parsing
    from dataclasses import dataclass

    @dataclass
    class Options:
        lr: float = 0.1
        layers: int = 2

    parser = simple_parsing.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_arguments(Options, dest="options")
    args = parser.parse_args()
    lib.use(seed=args.seed, lr=args.options.lr, layers=args.options.layers)
"""
JSON = """
    import lib
    from jsonargparse import ActionConfigFile, ArgumentParser

    class Model:
        def __init__(self, layers: int = 2, width: int = 8):
            lib.model(layers=layers, width=width)

    parser = ArgumentParser(default_config_files=["base.yaml"])
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--optim.lr", type=float, default=0.1)
    parser.add_class_arguments(Model, "model")
    args = parser.parse_args()
    objects = parser.instantiate_classes(args)
    lib.use(lr=args.optim.lr, layers=args.model.layers, width=args.model.width)
"""


def test_simple_parsing() -> None:
    assert given(started(SIMPLE, "--lr 2 --seed 3")) == {"seed": 3, "lr": 2.0, "layers": 2}
    assert given(started(SIMPLE, None)) == {"seed": 1, "lr": 0.1, "layers": 2}


def test_jsonargparse() -> None:
    files = {"base.yaml": "optim: {lr: 0.5}\nmodel: {layers: 3}\n", "c.yaml": "optim:\n  lr: 0.7\nmodel:\n  width: 4\n"}
    found = started(JSON, "--config c.yaml --model.layers 9", files)
    assert given(found) == {"lr": 0.7, "layers": 9, "width": 4}
    assert given(found, "model") == {"layers": 9, "width": 4}
    assert given(started(JSON, "", files))["lr"] == 0.5
    assert given(started(JSON, None)) == {"lr": 0.1, "layers": 2, "width": 8}
