"""One rank of torchtitan's Trainer (torchtitan 0.2 train.py), over fake tensors."""

from __future__ import annotations

import contextlib
import importlib
import os
from math import prod
from typing import Any

import torch
from msgspec.structs import replace
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

DEGREES = ("shards", "tensor", "context", "replicas", "pipeline")
LOADED = {"llama3": "llama3_args", "llama4": "llama4_args", "qwen3": "qwen3_args", "deepseek_v3": "deepseekv3_args"}


def world_of(case: dict[str, Any]) -> int:
    """Ranks of the run."""
    return prod(case.get(name, 1) for name in DEGREES)


def fuse_norms() -> None:
    """The fused norm that CUDA has, in place of the formula of a CPU build: it keeps its input and a root per row."""

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


def steady_step(case: dict[str, Any]) -> dict[str, Any]:
    """Figures of the last of three steps."""
    from bench.gpu.meter import Meter
    from bench.gpu.steps import figures_of_steps
    from bench.sharding import training
    from bench.sharding.counting import Storages

    storages = Storages()
    storages.follow_resizes()
    storages.overlook_propagation()
    storages.watch = bool(os.environ.get("TITAN_WATCH"))
    route_evenly(case, storages)
    with FakeTensorMode(allow_non_fake_inputs=True):
        storages.calibrate()
        with storages:
            run = Run(case, storages)
            optimizer = torch.optim.AdamW([p for part in run.parts for p in part.parameters()], fused=True)
            training.collected()
            meter = Meter(storages)
            for step in range(training.STEPS):
                if step == training.STEPS - 1:
                    storages.top = 0
                train(run, optimizer, meter, step)
            meter.end()
    if storages.watch:
        _print_highest(storages)
    found: dict[str, Any] = figures_of_steps(meter.spans)["steady_step"]
    return found


def route_evenly(case: dict[str, Any], storages: Any) -> None:
    """Every expert gets as many tokens: what `tolist` gives of the numbers that ranks send each other.

    A kernel of triton fills the indices of the permutation, which need no values here.
    """
    from torchtitan.models.moe import kernels

    def filled(*args: Any, **_: Any) -> Any:
        return torch.full((args[5],), -1, dtype=torch.int32, device="cuda")

    kernels.fill_indices_wrapper = filled
    rows = case.get("micro", 1) if case.get("pipeline", 1) > 1 else case["batch"]
    tokens = rows * case["seq"] // case.get("context", 1)
    expert, tensor = case.get("expert", 1), case.get("tensor", 1)
    if expert > 1 and case.get("expert_tensor", 1) < tensor:
        tokens //= tensor
    whole, of_flags = tokens // expert, storages.scalars

    def scalar(tensor: Any) -> Any:
        return whole * storages.chosen if tensor.dtype == torch.int64 else of_flags(tensor)

    storages.chosen = 1
    storages.scalars = scalar


def _print_highest(storages: Any) -> None:
    counted: dict[tuple[str, tuple[int, ...], int], int] = {}
    for size, source, shape, _ in storages.at_peak:
        counted[source, shape, size] = counted.get((source, shape, size), 0) + 1
    for (source, shape, size), count in sorted(counted.items(), key=lambda item: -item[0][2] * item[1])[:40]:
        print(f"{size * count / 2**20:10.1f} {count:4d} x {size / 2**20:8.2f} {source} {shape}")


class Run:
    """Trainer.__init__: the model on the meta device, its plans, its memory."""

    def __init__(self, case: dict[str, Any], storages: Any) -> None:
        from torchtitan.components.loss import cross_entropy_loss
        from torchtitan.distributed import ParallelDims

        self.case = case
        self.config = config = job_config(case)
        with _disable_current_modes():  # meshes are of real tensors
            degrees = {name: case.get(name, 1) for name in (*DEGREES, "expert", "expert_tensor")}
            self.dims = ParallelDims(
                degrees["replicas"],
                degrees["shards"],
                cp=degrees["context"],
                tp=degrees["tensor"],
                pp=degrees["pipeline"],
                ep=degrees["expert"],
                etp=degrees["expert_tensor"],
                world_size=world_of(case),
            )
            self.dims.build_mesh()
        name = case.get("model", "llama3")
        package = importlib.import_module(f"torchtitan.models.{name}")
        self.sizes = _sizes(case, getattr(package, LOADED[name]))
        if hasattr(self.sizes, "moe_args"):
            storages.chosen = self.sizes.moe_args.top_k
            self.sizes.moe_impl = "standard"
        spec = package.get_train_spec()
        with torch.device("meta"):
            model = spec.model_cls(self.sizes)
        self.loss = cross_entropy_loss
        self.schedule = None
        if self.dims.pp_enabled:
            from bench.sharding.titan_pipeline import pipeline

            self.schedule, self.parts = pipeline(self, model, spec.parallelize_fn)
        else:
            self.parts = [spec.parallelize_fn(model, self.dims, config)]
        for part in self.parts:
            part.to_empty(device="cuda")
            if getattr(self.sizes, "enable_weight_tying", False):  # init_weights, which fails in a pipeline, too
                part.output.weight = part.tok_embeddings.weight
            self._caches(part)
            part.train()

    def _caches(self, part: Any) -> None:
        """init_weights: rotary tables of their own dtype."""
        for buffer in ("freqs_cis", "rope_cache"):
            known = getattr(part, buffer, None)
            if known is not None:
                setattr(part, buffer, torch.empty(known.shape, dtype=known.dtype, device="cuda"))


def _sizes(case: dict[str, Any], flavors: Any) -> Any:
    sizes = flavors[case["flavor"]]
    sizes = replace(sizes, n_layers=case["layers"], max_seq_len=case["seq"])
    if "vocabulary" in case or case.get("model", "llama3") == "llama3":
        sizes = replace(sizes, vocab_size=case.get("vocabulary", 128256))
    experts = case.get("experts", {})
    if experts:
        sizes = replace(sizes, moe_args=replace(sizes.moe_args, **experts))
    return replace(sizes, **case.get("sizes", {}))


def job_config(case: dict[str, Any]) -> Any:
    """The JobConfig of a case."""
    from torchtitan.config import JobConfig

    config = JobConfig()
    config.training.seq_len, config.training.local_batch_size = case["seq"], case["batch"]
    config.parallelism.tensor_parallel_degree = case.get("tensor", 1)
    config.parallelism.pipeline_parallel_degree = case.get("pipeline", 1)
    config.parallelism.pipeline_parallel_schedule = case.get("schedule", "1F1B")
    config.parallelism.pipeline_parallel_layers_per_stage = case.get("layers_per_stage")
    config.parallelism.pipeline_parallel_microbatch_size = case.get("micro", 1)
    config.parallelism.pipeline_parallel_expert_parallel_overlap = False  # modes hold for one thread
    config.parallelism.context_parallel_degree = case.get("context", 1)
    config.parallelism.expert_parallel_degree = case.get("expert", 1)
    config.parallelism.expert_tensor_parallel_degree = case.get("expert_tensor", 1)
    config.parallelism.fsdp_reshard_after_forward = case.get("reshard", "default")
    config.parallelism.disable_loss_parallel = not case.get("loss_parallel", True)
    config.activation_checkpoint.mode = case.get("checkpointing", "none")
    config.activation_checkpoint.selective_ac_option = "op"
    return config


def train(run: Run, optimizer: Any, meter: Any, step: int) -> None:
    """Trainer.train_step."""
    from torch.distributed.tensor.parallel import loss_parallel
    from torchtitan.distributed.utils import clip_grad_norm_

    case, dims = run.case, run.dims
    divided = dims.tp_enabled and case.get("loss_parallel", True)
    meter.begin("forward", step)
    tokens, labels = (torch.randint(0, 100, (case["batch"], case["seq"]), device="cuda") for _ in range(2))
    extra: dict[str, Any] = {}
    if dims.cp_enabled:
        tokens, labels, extra = _sharded(run, tokens, labels)
    with loss_parallel() if divided else contextlib.nullcontext():
        if run.schedule is not None:
            from bench.sharding.titan_pipeline import step as piped

            piped(run, tokens, labels, extra, meter, step)
        else:
            predictions = run.parts[0](tokens, **extra)
            loss = run.loss(predictions, labels)
            meter.begin("outputs", step)
            del predictions
            meter.begin("backward", step)
            loss.backward()
            del loss
    del tokens, labels, extra
    meter.begin("after backward", step)
    meter.begin("clip", step)
    parameters = [p for part in run.parts for p in part.parameters()]
    norm = clip_grad_norm_(parameters, 1.0, foreach=True, ep_enabled=dims.ep_enabled)
    meter.begin("optimizer", step)
    optimizer.step()
    del norm
    meter.begin("between steps", step)
    optimizer.zero_grad()


def _sharded(run: Run, tokens: Any, labels: Any) -> tuple[Any, Any, dict[str, Any]]:
    from torchtitan.distributed.context_parallel import prepare_context_parallel_input

    mesh = run.dims.get_mesh("cp")
    found: tuple[Any, Any, dict[str, Any]] = prepare_context_parallel_input(
        tokens, labels, {}, mesh, torch.device("cuda"), "headtail"
    )
    return found
