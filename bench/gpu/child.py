"""One case in a process of its own: `python -m bench.gpu.child FILE DEVICE` reads a row on stdin, writes it to FILE.

Whatever happens, short of being killed, becomes the row's `outcome`; the phases that were reached are on stderr.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.gpu import build
from bench.gpu.loops import run_loop
from bench.gpu.meter import CudaGauge, Meter, NoGauge
from bench.gpu.record import DONE, ERROR, OUT_OF_MEMORY
from bench.gpu.steps import LOADING, figures_of_steps
from bench.gpu.table import Row

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "liger_kernel")
RAN = "ran"
"""The outcome on a device that has no counters: the code of the case works, nothing is measured."""
MESSAGE = 400
"""Characters of an error that are kept."""


def measure(row: Row, device: str) -> Row:
    """The row with its outcome, versions and figures."""
    started = time.perf_counter()
    used_before = _used_by_others() if device == "cuda" else None
    torch = import_module("torch")
    measured = {**row, "versions": _versions()}
    meter = Meter(NoGauge())
    result: dict[str, Any] = {}
    try:
        if device == "cuda":
            measured["gpu"] = _gpu(torch)
            result["context"] = _context(torch, used_before)
            meter = Meter(CudaGauge())
        result |= _run(measured, meter, device)
        measured["outcome"] = DONE if device == "cuda" else RAN
        if device == "cuda":
            result |= figures_of_steps(meter.spans)
    except torch.OutOfMemoryError as error:
        measured |= {"outcome": OUT_OF_MEMORY, "phase": meter.phase, "error": _message(error)}
        result["reached"] = _reached(meter)
    except Exception as error:
        measured |= {"outcome": ERROR, "phase": meter.phase, "error": _message(error)}
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    result["seconds"] = round(time.perf_counter() - started, 1)
    measured["measured"] = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    measured["result"] = result
    return measured


def _run(row: Row, meter: Meter, device: str) -> dict[str, Any]:
    """Build the model and run the loop; fills the row's config in with what transformers adds."""
    config = build.config_of(row)
    row["config"] = json.loads(json.dumps(config.to_diff_dict(), default=str))
    meter.begin(LOADING)
    model = build.make_model(row, config, device)
    meter.end()
    model = build.adapt(row, model)
    gc.collect()
    if device == "cuda":
        import_module("torch").cuda.empty_cache()
    parameters = list(model.parameters())
    held = {
        "parameter_bytes": build.bytes_by_dtype(parameters),
        "trainable_bytes": build.bytes_by_dtype(p for p in parameters if p.requires_grad),
        "buffer_bytes": build.bytes_by_dtype(model.buffers()),
        "parameter_count": sum(p.numel() for p in parameters),
        "trainable_count": sum(p.numel() for p in parameters if p.requires_grad),
    }
    if row["case"]["loop"] == "transformers":
        from bench.gpu.trainer_loop import run_trainer

        return held | run_trainer(row, model, config, meter, device)
    return held | run_loop(row, model, config, meter, device)


def _reached(meter: Meter) -> dict[str, int]:
    """The highest of each counter before the memory ran out."""
    meter.end()
    figures = [span.figures() for span in meter.spans]
    return {name: max(one[name] for one in figures) for name in figures[0]} if figures else {}


def _gpu(torch: Any) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": [properties.major, properties.minor],
        "cuda": torch.version.cuda,
    }


def _nvml() -> Any:
    """The driver's interface and the handle of the device that torch calls 0, None without the package."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    nvml.nvmlInit()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    if visible.isdigit():
        return nvml, nvml.nvmlDeviceGetHandleByIndex(int(visible))
    return nvml, nvml.nvmlDeviceGetHandleByUUID(visible)


def _used_by_others() -> int | None:
    """Bytes used of the device before this process has a context; None where the driver cannot be asked."""
    found = _nvml()
    return None if found is None else int(found[0].nvmlDeviceGetMemoryInfo(found[1]).used)


def _context(torch: Any, before: int | None) -> dict[str, int | None]:
    """What the device has used after the first tensor, and how much of it is the context."""
    first = torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    reserved = torch.cuda.memory_reserved()
    free, whole = torch.cuda.mem_get_info()
    found = _nvml()
    after = None if found is None else int(found[0].nvmlDeviceGetMemoryInfo(found[1]).used)
    del first
    torch.cuda.empty_cache()
    context = None if before is None or after is None else after - before - reserved
    return {"before": before, "device": whole - free, "bytes": context}


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:MESSAGE]


def main() -> int:
    """Entry point."""
    path, device = Path(sys.argv[1]), sys.argv[2]
    row = measure(json.load(sys.stdin), device)
    path.write_text(json.dumps(row), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
