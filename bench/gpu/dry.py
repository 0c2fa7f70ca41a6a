"""Check every case without a GPU: that its job can be simulated, and that the real model has the size predicted.

Where torch and transformers are installed, each model is built from its config on the meta device, which takes no
memory and downloads nothing. Without them the predictions alone are checked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bench.cases import job_of
from bench.gpu import build
from bench.gpu.table import Row
from vramlint.catalog.gpus import find_gpu
from vramlint.job import Gpu
from vramlint.memory import simulate


@dataclass(frozen=True, slots=True)
class Check:
    """One case as it would be."""

    id: str
    allocated: int
    reserved: int
    peak_phase: str
    parameters: int
    """Bytes that the simulator counts."""
    built: int | None
    """Bytes of the real model on the meta device; None where it was not built."""
    fits: bool
    problems: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def check(row: Row, gpu: str | None = None) -> Check:
    """The prediction of a case, and what is wrong with it. `gpu` is the device on which the memory has to suffice."""
    problems: list[str] = []
    built = None
    if find_spec("torch") is not None and find_spec("transformers") is not None:
        row, built, wrong = _on_meta(row)
        problems += wrong
    device = find_gpu(gpu) if gpu else None
    estimate = simulate(job_of({**row, "gpu": {"name": gpu}} if gpu else row))
    if estimate.method != "simulated":
        problems.append(estimate.why)
    if built is not None and built != estimate.parameters:
        problems.append(f"the real model has {built} bytes of parameters, the simulated one {estimate.parameters}")
    return Check(
        row["id"],
        estimate.allocated,
        estimate.reserved,
        estimate.peak_phase,
        estimate.parameters,
        built,
        not isinstance(device, Gpu) or estimate.device <= device.usable_bytes,
        tuple(problems),
    )


def _on_meta(row: Row) -> tuple[Row, int | None, list[str]]:
    """The row with the config that transformers makes of it, the model's bytes, and what failed."""
    try:
        config = build.config_of(row)
        complete = {**row, "config": json.loads(json.dumps(config.to_diff_dict(), default=str))}
        case = row["case"]
        if case.get("quant"):
            return complete, None, []
        attention = "eager" if case["attn"] == "flash_attention_2" else case["attn"]
        meta = {**complete, "case": {**case, "attn": attention, "liger": None, "freeze": ()}}
        model = build.adapt(meta, build.make_model(meta, config, "meta"))
        import_module("gc").collect()
        return complete, sum(p.numel() * p.element_size() for p in model.parameters()), []
    except Exception as error:
        return row, None, [f"{type(error).__name__}: {error}"[:200]]
