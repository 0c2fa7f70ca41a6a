"""One case of Megatron-Core's own training in this process: its arguments, model, schedules, buffers and optimizer."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from bench.gpu.meter import Meter
from bench.gpu.steps import figures_of_steps
from bench.gpu.table import Row
from bench.sharding import megatron_fakes, training

HOSTED = ("pageable", "pinned")
MASTERS = ("fp32_from_float16_groups", "shard_fp32_from_float16_groups")


def outcome(row: Row) -> Row:
    """The row with its result."""
    flags, wanted = row["case"]["flags"], row["case"]["parallelism"]
    stages = int(flags.get("pipeline-model-parallel-size", 1))
    rank = wanted.get("stage", 0) * (wanted["world"] // stages)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(wanted["world"]), MASTER_ADDR="localhost", MASTER_PORT="29400"
    )
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # Megatron asks for it
    megatron_fakes.install()
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=wanted["world"])
    args = _arguments(flags)
    storages = megatron_fakes.Even(_tokens(args))
    storages.follow_resizes()
    storages.watch = bool(os.environ.get("SHARDING_WATCH"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        storages.calibrate()
        storages.answer_counts()
        with storages:
            result = _train(args, storages)
    for line in sorted(storages.at_peak or (), reverse=True)[:60] if storages.watch else ():
        print(*line, file=sys.stderr)
    package = importlib.import_module("megatron.core.package_info")
    versions = {"torch": torch.__version__.split("+")[0], "megatron-core": package.__shortversion__}
    return {**row, "versions": versions, "result": result}


def _arguments(flags: dict[str, Any]) -> Any:
    """Megatron's arguments of the flags, checked and set as it does; its groups of ranks are made."""
    from megatron.core import tensor_parallel
    from megatron.core.num_microbatches_calculator import init_num_microbatches_calculator
    from megatron.training import initialize
    from megatron.training.arguments import parse_args, validate_args
    from megatron.training.global_vars import set_args

    sys.argv = ["pretrain_gpt.py"]
    for name, value in flags.items():
        values = value if isinstance(value, list) else [value]
        sys.argv += [f"--{name}", *map(str, [] if value is True else values)]
    args = parse_args()
    validate_args(args, {})
    multiple = args.make_vocab_size_divisible_by * args.tensor_model_parallel_size
    args.padded_vocab_size = -(-args.vocab_size // multiple) * multiple
    set_args(args)
    sizes = (args.global_batch_size, args.micro_batch_size, args.data_parallel_size)
    init_num_microbatches_calculator(args.rank, None, *sizes)
    initialize._initialize_distributed(None, None, None)
    tensor_parallel.model_parallel_cuda_manual_seed(1234)
    return args


def _tokens(args: Any) -> int:
    """Tokens of a rank, once for each of their experts."""
    each = args.micro_batch_size * args.seq_length // args.context_parallel_size
    if args.sequence_parallel:
        each //= args.tensor_model_parallel_size
    return int(each * (args.moe_router_topk or 1))


def _train(args: Any, storages: megatron_fakes.Even) -> dict[str, Any]:
    """setup_model_and_optimizer and train_step (megatron/training/training.py)."""
    from gpt_builders import gpt_builder
    from megatron.core.distributed import finalize_model_grads
    from megatron.core.enums import ModelType
    from megatron.core.num_microbatches_calculator import get_num_microbatches
    from megatron.core.optimizer import get_megatron_optimizer
    from megatron.core.pipeline_parallel import get_forward_backward_func, schedules
    from megatron.core.utils import get_model_config
    from megatron.training.training import get_megatron_optimizer_config, get_model

    def build(*ends: Any, **words: Any) -> Any:
        return gpt_builder(args, *ends, **words)

    model = get_model(build, ModelType.encoder_or_decoder)
    config, overrides = get_megatron_optimizer_config(args)
    optimizer = get_megatron_optimizer(
        config, model, config_overrides=overrides, use_gloo_process_groups=args.use_gloo_process_groups
    )
    running = get_model_config(model[0])
    running.grad_scale_func, running.finalize_model_grads_func = optimizer.scale_loss, finalize_model_grads
    training.collected()
    meter, step, backward = Meter(storages), 0, schedules.backward_step

    def noted(*given: Any, **words: Any) -> Any:
        if meter.phase == "forward":
            meter.begin("backward", step)
        return backward(*given, **words)

    schedules.backward_step = noted
    held: dict[str, Any] = {}
    for step in range(training.STEPS):
        for chunk in model:
            chunk.zero_grad_buffer()
        optimizer.zero_grad()
        meter.begin("forward", step)
        get_forward_backward_func()(
            forward_step_func=_forward(args),
            data_iterator=[None] * len(model) if len(model) > 1 else None,
            model=model,
            num_microbatches=get_num_microbatches(),
            seq_length=args.seq_length,
            micro_batch_size=args.micro_batch_size,
            decoder_seq_length=args.decoder_seq_length,
            forward_only=False,
        )
        meter.begin("optimizer", step)
        optimizer.step()
        meter.begin("between steps", step)
        held = held or _held(model, optimizer)
    meter.end()
    gc.enable()
    figures = figures_of_steps(meter.spans)
    for one in figures.values():
        for unknown in ("peak_reserved", "reserved", "device", "requested", "clip_peak"):
            one.pop(unknown)
    counts = {"parameter_count": sum(p.numel() for chunk in model for p in chunk.parameters())}
    return {**counts, **held, **figures, "host": {"peak": {name: storages.pools[name].peak for name in HOSTED}}}


def _held(model: Any, optimizer: Any) -> dict[str, Any]:
    """Bytes of weights, master weights and states."""
    parts = getattr(optimizer, "chained_optimizers", [optimizer])
    masters = [p for part in parts for name in MASTERS for group in getattr(part, name, ()) for p in group]
    states = [
        value
        for part in parts
        for found in part.optimizer.state.values()
        for name, value in found.items()
        if name != "step" and isinstance(value, torch.Tensor)
    ]
    parameters = [p for chunk in model for p in chunk.parameters()]
    return training.states_of(parameters, [m for m in masters if m is not None], states)


def _forward(args: Any) -> Callable[..., Any]:
    """forward_step of pretrain_gpt.py, over zeros."""
    shape = (args.micro_batch_size, args.seq_length // args.context_parallel_size)

    def forward(_: Any, chunk: Any) -> Any:
        tokens, labels, positions = (torch.zeros(shape, dtype=torch.int64, device="cuda") for _ in range(3))
        mask = torch.ones(shape, dtype=torch.float32, device="cuda")
        square = (shape[0], 1, shape[1], args.seq_length)
        made = args.create_attention_mask_in_dataloader
        attention = torch.zeros(square, dtype=torch.bool, device="cuda") if made else None
        out = chunk(tokens, positions, attention, labels=labels, loss_mask=mask)

        def loss(output: Any, non_loss_data: bool = False) -> Any:
            total = torch.sum(output.view(-1).float() * mask.view(-1))
            number = mask.sum().clone().detach().to(torch.int)
            return total, number, {"lm loss": torch.cat([total.clone().detach().view(1), number.view(1)])}

        return out, loss

    return forward
