"""Run one case in this process: a micro batch's forward and backward over fake CUDA tensors."""

from __future__ import annotations

import importlib.metadata

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu import build
from bench.gpu.table import Row
from bench.sharding import fake_cuda
from bench.sharding.counting import Storages, route_evenly
from bench.sharding.training import autocast

LIBRARIES = ("torch", "transformers", "peft")


def outcome(row: Row) -> Row:
    """The row with its versions and with FLOPs of the forward, of the backward with recomputation, and by operator."""
    fake_cuda.install()
    case = row["case"]
    config = build.config_of(row)
    config._experts_implementation = "eager"  # grouped products are no operators that the counter knows
    storages = Storages()  # answers what depends on values: nothing is infinite, no expert is the one beyond the last
    storages.flags = lambda source: not source.startswith(("aten.any", "aten.isinf", "aten.eq"))
    route_evenly(config, storages)
    with FakeTensorMode(allow_non_fake_inputs=True):
        storages.calibrate()
        with storages:
            model = build.adapt(row, build.make_model(row, config, "cuda"))
            build.checkpointed(case, model)
            model.train()
            autocast(case, model, "cuda")
            batch = build.make_batch(row, config, "cuda")
            counter = FlopCounterMode(display=False)
            with counter:
                loss = model(**batch)["loss"]
                forward = counter.get_total_flops()
                loss.backward()
    by_operator = {str(operator): flops for operator, flops in counter.get_flop_counts()["Global"].items()}
    total = counter.get_total_flops()
    result = {
        "forward": forward,
        "backward": total - forward,
        "by_operator": by_operator,
        "parameter_count": sum(p.numel() for p in model.parameters()),
    }
    return {**row, "versions": _versions(), "result": result}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name).split("+")[0] for name in LIBRARIES}
