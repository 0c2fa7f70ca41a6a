"""Run one case in this process: real engines over fake CUDA tensors and a fake process group."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from bench.gpu import build
from bench.gpu.meter import Meter
from bench.gpu.steps import figures_of_steps
from bench.gpu.table import Row
from bench.sharding import ddp_runs, deepspeed_runs, fake_cuda, fsdp_runs, plan_runs, sequence_runs, training
from bench.sharding.counting import Storages, route_evenly

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "deepspeed")
ENGINES = {
    "fsdp1": fsdp_runs.engine_1,
    "fsdp2": fsdp_runs.engine_2,
    "ddp": ddp_runs.engine,
    "deepspeed": deepspeed_runs.engine,
    "plan": plan_runs.engine,
}


def result_of(row: Row) -> dict[str, Any]:
    """The `result` of a row."""
    case = row["case"]
    wanted = case["parallelism"]
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(wanted["world"]), MASTER_ADDR="localhost", MASTER_PORT="29400"
    )
    fake_cuda.install()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=wanted["world"])
    PartialState(cpu=True)  # accelerate's logger asks for it
    storages = Storages()
    storages.follow_resizes()
    storages.overlook_propagation()
    storages.watch = bool(os.environ.get("SHARDING_WATCH"))
    config = build.config_of(row)
    route_evenly(config, storages)
    with FakeTensorMode(allow_non_fake_inputs=True):
        storages.calibrate()
        return steps_of(row, config, storages)


def steps_of(row: Row, config: Any, storages: Storages) -> dict[str, Any]:
    """The model, the engine around it and its steps, counted."""
    case = row["case"]
    with storages:
        model = build.adapt(row, build.make_model(row, config, storages.device))
        build.checkpointed(case, model)
        model.train()
        buffers = training.by_dtype(b for b in model.buffers())
        counts = {
            "parameter_count": sum(p.numel() for p in model.parameters()),
            "trainable_count": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
        engine = ENGINES[case["parallelism"]["kind"]](case, model, storages)
        del model
        training.collected()
        meter = Meter(storages)
        for pool in storages.pools.values():
            pool.highest = pool.requested  # what loading and wrapping took does not count
        host = {name: pool.rounded for name, pool in storages.pools.items() if name != "device"}
        held = training.run(row, config, engine, meter, storages)
    gc.enable()
    figures = figures_of_steps(meter.spans)
    for step in figures.values():
        for unknown in ("peak_reserved", "reserved", "device", "requested"):
            step.pop(unknown)
    if storages.watch:
        alike = Counter(storages.at_peak or ())
        for line, count in sorted(alike.items(), key=lambda item: -item[0][0] * item[1])[:60]:
            print(f"{count:4} of", *line, file=sys.stderr)
    hosted = {name: storages.pools[name].highest for name in ("pageable", "pinned")}
    return {**counts, **held, "buffer_bytes": buffers, **figures, "host": {"wrapped": host, "peak": hosted}}


def versions() -> dict[str, str]:
    """Of the libraries that run here."""
    return {name: importlib.metadata.version(name).split("+")[0] for name in LIBRARIES}


def outcome(row: Row) -> Row:
    """The row with its result."""
    torch.manual_seed(0)
    further = sequence_runs.versions(row["case"])
    return {**row, "versions": {**versions(), **further}, "result": result_of(row)}
