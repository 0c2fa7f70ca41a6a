"""Run torchtitan's own models, plans and pipelines over fake tensors and a fake process group, and print the peaks.

    python -m bench.sharding.titan '{"flavor": "8B", "layers": 4, "batch": 2, "seq": 2048, "shards": 2, "tensor": 4,
                                     "checkpointing": "full"}' …

In an environment with requirements-titan.txt and g++. A case may have further `context`, `replicas`, `pipeline` with
`stage` (the rank of the pipeline that runs), `schedule` and `layers_per_stage`; `model` (llama3, llama4, qwen3,
deepseek_v3) with other `sizes`, `expert` and `expert_tensor`; `checkpointing` is torchtitan's
mode (none, full, selective by operators); `loss_parallel` may be false. Figures of the steady step are MiB, counted
storage by storage; `data/meshes.jsonl` and tests/memory/test_torchtitan.py were made so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

from bench.sharding.boot import boot

PHASES = ("forward_peak", "backward_peak", "optimizer_peak")


def main() -> int:
    """Run the cases of the arguments, each in a process of its own; a row of JSON for each."""
    if len(sys.argv) > 2:
        for text in sys.argv[1:]:
            subprocess.run([sys.executable, "-m", "bench.sharding.titan", text], check=False)
        return 0
    case = json.loads(sys.argv[1])
    boot()
    import accelerate  # noqa: F401  fake_cuda patches what is imported before it
    import torch.distributed as dist
    import transformers  # noqa: F401
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from bench.sharding import fake_cuda
    from bench.sharding.titan_run import fuse_norms, steady_step, world_of

    world = world_of(case)
    rank = case.get("stage", 0) * (world // case.get("pipeline", 1))
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(world), MASTER_ADDR="localhost")
    os.environ.update(MASTER_PORT="29400")
    fake_cuda.install()
    fuse_norms()
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    step = steady_step(case)
    mebibytes = {name: round(step[name] / 2**20, 1) for name in PHASES}
    versions = {name: version(name).partition("+")[0] for name in ("torch", "torchtitan")}
    print(json.dumps({"case": case, "mebibytes": mebibytes, "versions": versions}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
