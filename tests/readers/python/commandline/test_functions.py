"""Functions and classes as commands: fire, click, typer, tyro, simple_parsing, draccus, jsonargparse."""

from __future__ import annotations

import pytest

from tests.readers.python.commandline.starting import given, place_text, started, used

FIRE = """
    import fire, lib
    def train(base_model, r: int = 8, targets=["q"], fast=False, shuffle=True, **more):
        lib.use(base_model=base_model, r=r, targets=targets, fast=fast, shuffle=shuffle, more=more)
    def evaluate(base_model):
        lib.other(base_model)
    if __name__ == "__main__":
        {run}
"""


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ("fire.Fire(train)", "gpt2 --r 4 --targets=[q,v] --fast --noshuffle --other 1e-4"),
        ("fire.Fire(train)", "--base_model=gpt2 --r=4 --targets 'q,v' --fast=True --shuffle False --other=1e-4"),
        (
            "fire.Fire({'train': train, 'eval': evaluate})",
            "train gpt2 --r 4 --targets [q,v] --fast --noshuffle --other 1e-4",
        ),
        ("fire.Fire()", "train gpt2 -r 4 --targets [q,v] --fast --noshuffle --other 1e-4"),
        ("fire.Fire([train, evaluate])", "train gpt2 -r 4 --targets [q,v] --fast --noshuffle --other 1e-4"),
    ],
)
def test_fire(run: str, line: str) -> None:
    found = started(FIRE.format(run=run), line)
    assert given(found) == {
        "base_model": "gpt2",
        "r": 4,
        "targets": ["q", "v"],
        "fast": True,
        "shuffle": False,
        "more": {"other": 1e-4},
    }
    assert place_text(line, used(found).argument("base_model")).endswith("gpt2")
    assert "lib.other" not in [call.callee for call in found.calls] or "Fire(train)" in run


def test_fire_with_a_class() -> None:
    text = """
        import fire, lib
        class Trainer:
            def __init__(self, model="gpt2"):
                self.model = model
            def train(self, lr=0.1):
                lib.use(model=self.model, lr=lr)
        fire.Fire(Trainer)
    """
    assert given(started(text, "train --model m --lr 2")) == {"model": "m", "lr": 2}


def test_fire_defaults_without_words() -> None:
    assert given(started(FIRE.format(run="fire.Fire(train)"), ""))["r"] == 8
    assert given(started(FIRE.format(run="fire.Fire(train)"), "?"))["base_model"] == "? environment variable X"


def test_click() -> None:
    text = """
        import click, lib
        @click.command()
        @click.option("--lora-r", "-r", default=8)
        @click.option("--lr", type=float, default=0.1)
        @click.option("--fast/--slow", default=True)
        @click.option("--bf16", is_flag=True)
        @click.option("--target", "targets", multiple=True)
        @click.option("--size", type=click.IntRange(1, 9), default=1)
        @click.option("--model", required=True)
        @click.argument("data")
        @click.argument("more", nargs=-1)
        def main(lora_r, lr, fast, bf16, targets, size, model, data, more):
            lib.use(r=lora_r, lr=lr, fast=fast, bf16=bf16, t=targets, s=size, m=model, d=data, o=more)
        if __name__ == "__main__":
            main()
    """
    line = "d.json -r 4 --lr=2 --slow --bf16 --target q --target v --size 3 --model gpt2 x y"
    assert given(started(text, line)) == {
        "r": 4,
        "lr": 2.0,
        "fast": False,
        "bf16": True,
        "t": ["q", "v"],
        "s": 3,
        "m": "gpt2",
        "d": "d.json",
        "o": ["x", "y"],
    }


def test_click_groups() -> None:
    text = """
        import click, lib
        @click.group()
        def cli():
            pass
        @cli.command()
        @click.option("--lr", default=0.1)
        def train(lr):
            lib.use(lr=lr)
        @cli.command("eval")
        @click.option("--lr", default=0.1)
        def evaluate(lr):
            lib.other(lr=lr)
        cli()
    """
    found = started(text, "train --lr 3")
    assert given(found) == {"lr": 3.0}
    assert "lib.other" not in [call.callee for call in found.calls]


def test_typer() -> None:
    text = """
        import typer, lib
        from typing import List, Optional
        app = typer.Typer()
        @app.command()
        def main(
            model: str,
            data: str = typer.Argument("d.json"),
            rank: int = typer.Option(16, "--rank", "-r"),
            fast: bool = False,
            shuffle: bool = True,
            lr: Optional[float] = None,
            targets: List[str] = typer.Option(["q"]),
        ):
            lib.use(model=model, data=data, rank=rank, fast=fast, shuffle=shuffle, lr=lr, targets=targets)
        if __name__ == "__main__":
            app()
    """
    assert given(started(text, "gpt2 x.json -r 4 --fast --no-shuffle --lr 1e-3 --targets a --targets b")) == {
        "model": "gpt2",
        "data": "x.json",
        "rank": 4,
        "fast": True,
        "shuffle": False,
        "lr": 1e-3,
        "targets": ["a", "b"],
    }
    assert given(started(text, "gpt2"))["rank"] == 16


NESTED = """
    from dataclasses import dataclass, field
    import draccus, lib, simple_parsing, tyro
    from jsonargparse import CLI

    @dataclass
    class Optim:
        lr: float = 0.1
        betas: tuple[float, float] = (0.9, 0.95)

    @dataclass
    class Config:
        model: str = "gpt2"
        batch_size: int = 8
        bf16: bool = True
        optim: Optim = field(default_factory=Optim)

    def use(config):
        optim = config.optim
        lib.use(model=config.model, batch=config.batch_size, bf16=config.bf16, lr=optim.lr, betas=optim.betas)
"""
EXPECTED = {"model": "m", "batch": 4, "bf16": False, "lr": 1e-3, "betas": [0.9, 0.95]}


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ("use(tyro.cli(Config))", "--model m --batch-size 4 --no-bf16 --optim.lr 1e-3"),
        ("use(draccus.parse(Config))", "--model=m --batch_size 4 --bf16 false --optim.lr=1e-3"),
        ("use(simple_parsing.parse(Config))", "--model m --batch_size 4 --nobf16 --lr 1e-3"),
        ("use(draccus.parse(config_class=Config))", "--config_path c.yaml --batch_size 4"),
    ],
)
def test_nested_dataclasses(run: str, line: str) -> None:
    files = {"c.yaml": "model: m\nbatch_size: 16\nbf16: false\noptim:\n  lr: 1e-3\n"}
    assert given(started(f"{NESTED}\n    {run}\n", line, files)) == EXPECTED


def test_a_wrapped_main() -> None:
    text = NESTED + "\n    @draccus.wrap()\n    def main(config: Config):\n        use(config)\n    main()\n"
    assert given(started(text, "--model m --batch_size 4 --bf16 no --optim.lr 1e-3")) == EXPECTED


def test_a_function_with_a_dataclass() -> None:
    text = NESTED + "\n    def main(config: Config, seed: int = 1):\n        use(config)\n    CLI(main)\n"
    assert (
        given(started(text, "--config.model m --config.batch_size=4 --config.bf16 false --config.optim.lr 1e-3"))
        == EXPECTED
    )


def test_nested_defaults() -> None:
    assert given(started(f"{NESTED}\n    use(tyro.cli(Config))\n", ""))["lr"] == 0.1


def test_fastcore() -> None:
    text = """
        import lib
        from fastcore.script import Param, bool_arg, call_parse
        def train(**settings):
            lib.use(**settings)
        @call_parse()
        def main(
            model: str = "gpt2",
            kind: Param("", choices=["lora", "full"]) = "full",
            batch_size: int = 1,
            save: bool_arg = False,
        ):
            train(**locals())
    """
    line = "--kind lora --batch_size 4 --save true"
    assert given(started(text, line)) == {"model": "gpt2", "kind": "lora", "batch_size": 4, "save": True}
