"""LightningCLI."""

from __future__ import annotations

import pytest

from tests.readers.python.commandline.starting import given, started, used
from tests.readers.python.reading import shown
from vramlint.values import Call

TEXT = """
    import torch
    import lightning as L
    from lightning.pytorch.cli import LightningCLI

    class Model(L.LightningModule):
        def __init__(self, width: int = 8, rate: float = 0.1):
            super().__init__()
            self.layer = torch.nn.Linear(width, width)

    class Own(LightningCLI):
        pass

    {make}
"""
CONFIG = """
    trainer:
      precision: bf16-mixed
      devices: 4
      strategy:
        class_path: lightning.pytorch.strategies.FSDPStrategy
        init_args:
          sharding_strategy: FULL_SHARD
    model:
      width: 64
"""


@pytest.mark.parametrize("make", ["LightningCLI(Model)", "cli = Own(Model, trainer_defaults={'max_steps': 3})"])
def test_lightning_cli(make: str) -> None:
    files = {"c.yaml": CONFIG}
    found = started(TEXT.format(make=make), "fit --config c.yaml --trainer.devices 2 --model.width=16", files)
    trainer = given(found, "Trainer")
    assert (trainer["precision"], trainer["devices"]) == ("bf16-mixed", 2)
    assert trainer["strategy"] == "<lightning.pytorch.strategies.FSDPStrategy>"
    assert trainer.get("max_steps") == (3 if "Own" in make else None)
    layer = used(found, "Linear")
    assert [shown(item) for item in layer.args] == [16, 16]
    fit = used(found, ".fit")
    assert isinstance(fit.receiver, Call)
    assert fit.receiver.callee == "lightning.pytorch.Trainer"


def test_without_a_command_line() -> None:
    found = started(TEXT.format(make="LightningCLI(Model)"), None)
    assert given(found, "Trainer") == {}
    assert [shown(item) for item in used(found, "Linear").args] == [8, 8]
