"""Run torchtitan's own model and `parallelize_llama` over fake tensors and a fake process group, and print the peaks.

    python -m bench.sharding.titan '{"flavor": "8B", "layers": 4, "batch": 2, "seq": 2048, "shards": 2, "tensor": 4,
                                     "checkpointing": "full"}'

In an environment with requirements-titan.txt and g++. `checkpointing` is torchtitan's mode (none, full, selective by
operators); `loss_parallel` may be false. Figures of the steady step are MiB, counted storage by storage; those of
tests/memory/test_torchtitan.py were made so.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import replace
from typing import Any

from bench.sharding.boot import boot

PHASES = ("forward_peak", "backward_peak", "optimizer_peak")


def main() -> int:
    """Run the case of the first argument."""
    case = json.loads(sys.argv[1])
    boot()
    import accelerate  # noqa: F401  fake_cuda patches what is imported before it
    import torch.distributed as dist
    import transformers  # noqa: F401
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from bench.sharding import fake_cuda

    world = case.get("shards", 1) * case.get("tensor", 1)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(world), MASTER_ADDR="localhost", MASTER_PORT="29400")
    fake_cuda.install()
    fuse_norms()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    step = _steady_step(case, world)
    print(json.dumps({name: round(step[name] / 2**20, 1) for name in PHASES}))
    return 0


def fuse_norms() -> None:
    """The fused norm that CUDA has, in place of the formula of a CPU build: it keeps its input and a root per row."""
    import torch

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any) -> Any:
            ctx.save_for_backward(x, weight, torch.empty_like(x[..., :1], dtype=torch.float32))
            return torch.empty_like(x)

        @staticmethod
        def backward(ctx: Any, _: Any) -> Any:
            x, weight, _root = ctx.saved_tensors
            return torch.empty_like(x), torch.empty_like(weight)

    torch.nn.functional.rms_norm = torch.rms_norm = lambda x, _shape, weight=None, _eps=None: Norm.apply(x, weight)


def _steady_step(case: dict[str, Any], world: int) -> dict[str, Any]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from bench.gpu.meter import Meter
    from bench.gpu.steps import figures_of_steps
    from bench.sharding import training
    from bench.sharding.counting import Storages

    storages = Storages()
    storages.follow_resizes()
    storages.overlook_propagation()
    with FakeTensorMode(allow_non_fake_inputs=True):
        storages.calibrate()
        with storages:
            model = _model(case, world)
            optimizer = torch.optim.AdamW(model.parameters(), fused=True)
            training.collected()
            meter = Meter(storages)
            for step in range(training.STEPS):
                _train(case, model, optimizer, meter, step)
            meter.end()
    found: dict[str, Any] = figures_of_steps(meter.spans)["steady_step"]
    return found


def _model(case: dict[str, Any], world: int) -> Any:
    """Trainer.__init__: the model on the meta device, its plans, its memory."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes
    from torchtitan.config import JobConfig
    from torchtitan.distributed import ParallelDims
    from torchtitan.models.llama3 import Transformer, llama3_args
    from torchtitan.models.llama3.infra.parallelize import parallelize_llama

    config = JobConfig()
    config.training.seq_len, config.training.local_batch_size = case["seq"], case["batch"]
    config.parallelism.tensor_parallel_degree = case.get("tensor", 1)
    config.parallelism.disable_loss_parallel = not case.get("loss_parallel", True)
    config.activation_checkpoint.mode = case.get("checkpointing", "none")
    config.activation_checkpoint.selective_ac_option = "op"
    sizes = replace(llama3_args[case["flavor"]], n_layers=case["layers"], max_seq_len=case["seq"], vocab_size=128256)
    with _disable_current_modes():  # meshes are of real tensors
        shards, tensor = case.get("shards", 1), case.get("tensor", 1)
        dims = ParallelDims(1, shards, cp=1, tp=tensor, pp=1, ep=1, etp=1, world_size=world)
        dims.build_mesh()
    with torch.device("meta"):
        model = Transformer(sizes)
    parallelize_llama(model, dims, config)
    model.to_empty(device="cuda")
    width = sizes.dim // sizes.n_heads // 2
    model.freqs_cis = torch.empty(case["seq"], width, dtype=torch.complex64, device="cuda")
    return model.train()


def _train(case: dict[str, Any], model: Any, optimizer: Any, meter: Any, step: int) -> None:
    """Trainer.train_step."""
    import torch
    from torch.distributed.tensor.parallel import loss_parallel
    from torchtitan.components.loss import cross_entropy_loss
    from torchtitan.distributed.utils import clip_grad_norm_

    divided = case.get("tensor", 1) > 1 and case.get("loss_parallel", True)
    meter.begin("forward", step)
    tokens, labels = (torch.randint(0, 100, (case["batch"], case["seq"]), device="cuda") for _ in range(2))
    with loss_parallel() if divided else contextlib.nullcontext():
        predictions = model(tokens)
        loss = cross_entropy_loss(predictions, labels)
        meter.begin("outputs", step)
        del predictions
        meter.begin("backward", step)
        loss.backward()
    del loss
    meter.begin("after backward", step)
    meter.begin("clip", step)
    norm = clip_grad_norm_(list(model.parameters()), 1.0, foreach=True)
    meter.begin("optimizer", step)
    optimizer.step()
    del norm
    meter.begin("between steps", step)
    optimizer.zero_grad()


if __name__ == "__main__":
    raise SystemExit(main())
