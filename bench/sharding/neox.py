"""Run gpt-neox's own model in DeepSpeed's pipeline engine over fake tensors, and print the peaks of one rank.

    python -m bench.sharding.neox CHECKOUT '{"args": {"num_layers": 8, "hidden_size": 2048, "num_attention_heads": 16,
        "seq_length": 2048, "pos_emb": "rotary", "rotary_pct": 0.25, "pipe_parallel_size": 4, "model_parallel_size": 1},
        "vocabulary": 50304, "dtype": "fp16", "batch": 4, "accum": 8, "world": 8, "stage": 0, "zero": 1}'

CHECKOUT is a clone of EleutherAI/gpt-neox; PYTHONPATH may name one of EleutherAI/DeeperSpeed.
`args` are gpt-neox's own, without those of the run; `stage` is the pipeline
stage whose rank is followed. Packages that gpt-neox imports and a forward does not need are stood in for. Figures of
the steady step are bytes, counted storage by storage; those of tests/memory/test_neox.py were made so.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from typing import Any
from unittest.mock import MagicMock

from bench.sharding.boot import boot

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
PHASES = ("start", "forward_peak", "backward_peak", "optimizer_peak", "peak")
STEPS = 3
MODULES = ("megatron.mpu", "megatron.model.gpt2_model", "megatron.model.utils")


class Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that are not installed."""

    NAMES = frozenset(
        {
            "pkg_resources",
            "ftfy",
            "tiktoken",
            "wandb",
            "lm_dataformat",
            "lm_eval",
            "best_download",
            "six",
            "mpi4py",
            "flash_attn",
            "boto3",
            "hf_transfer",
            "sentencepiece",
            "comet_ml",
            "pybind11",
            "hostfile",
            "zstandard",
            "tensorboard",
            "jsonlines",
            "nltk",
            "causal_conv1d",
            "mamba_ssm",
            "rwkv",
            "grouped_gemm",
            "megablocks",
            "requests",
        }
    )

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Of the names above, and what lies inside them."""
        if fullname.partition(".")[0] in self.NAMES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        """A module of which every attribute is there."""
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: MagicMock(name=name)  # type: ignore[method-assign]
        module.__path__ = []
        return module

    def exec_module(self, module: Any) -> None:
        """Nothing to run."""


def main() -> int:
    """Run the case of the second argument."""
    checkout, case = sys.argv[1], json.loads(sys.argv[2])
    boot()
    import accelerate  # noqa: F401  fake_cuda patches what is imported before it
    import torch
    import torch.distributed as dist
    import transformers  # noqa: F401
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from bench.sharding import fake_cuda

    sys.meta_path.append(Missing())
    sys.path.insert(0, checkout)
    arguments = case["args"]
    stages, tensor = max(1, arguments.get("pipe_parallel_size", 1)), arguments.get("model_parallel_size", 1)
    rank = case["stage"] * (case["world"] // stages)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(case["world"]), MASTER_ADDR="localhost", MASTER_PORT="29400"
    )
    os.environ["DS_ACCELERATOR"], os.environ["DS_IGNORE_CUDA_DETECTION"] = "cuda", "1"
    fake_cuda.install()
    torch.jit.script = lambda function: function
    torch.FloatTensor = torch.tensor  # CUDA's own are not built
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=case["world"])
    step = _steady_step(case, stages, tensor)
    print(json.dumps({name: step[name] for name in PHASES}))
    return 0


def _arguments(case: dict[str, Any]) -> Any:
    """gpt-neox's arguments with their defaults, without what reads files and counts GPUs."""
    import torch

    declared: Any = importlib.import_module("megatron.neox_arguments")
    found = types.SimpleNamespace()
    for field in dataclasses.fields(declared.NeoXArgs):
        made: Any = field.default_factory
        setattr(found, field.name, made() if field.default is dataclasses.MISSING else field.default)
    for name, value in case["args"].items():
        setattr(found, name, value)
    dtype = case["dtype"]
    found.precision = {"bf16": "bfloat16"}.get(dtype, dtype)
    found.params_dtype = getattr(torch, DTYPES[dtype])
    found.padded_vocab_size, found.is_pipe_parallel = case["vocabulary"], True
    found.attention_config = [case.get("attention", "global")] * found.num_layers
    found.max_position_embeddings = found.max_position_embeddings or found.seq_length
    found.use_cpu_initialization, found.rank = False, int(os.environ["RANK"])
    found.train_micro_batch_size_per_gpu, found.weight_decay = case["batch"], case.get("weight_decay", 0.1)
    return found


def _config(case: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": case["batch"],
        "gradient_accumulation_steps": case["accum"],
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": case["zero"], **case.get("zero_optimization", {})},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }
    if case["dtype"] != "fp32":
        config[case["dtype"]] = {"enabled": True}
    if case.get("accumulation_dtype"):
        config["data_types"] = {"grad_accum_dtype": case["accumulation_dtype"]}
    return config


def _steady_step(case: dict[str, Any], stages: int, tensor: int) -> dict[str, Any]:
    import deepspeed
    import torch
    from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
    from torch._subclasses.fake_tensor import FakeTensorMode

    from bench.gpu.meter import Meter
    from bench.gpu.steps import figures_of_steps
    from bench.sharding import training
    from bench.sharding.counting import Storages

    storages = Storages()
    storages.follow_resizes()
    storages.overlook_propagation()
    storages.watch = bool(os.environ.get("SHARDING_WATCH"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        storages.calibrate()
        with storages:
            parts: tuple[Any, ...] = tuple(map(importlib.import_module, MODULES))
            mpu, gpt2_model, utils = parts
            arguments = _arguments(case)
            data = case["world"] // (stages * tensor)
            topology = PipeModelDataParallelTopology(num_pp=stages, num_mp=tensor, num_dp=data)
            mpu.initialize_model_parallel(tensor, topology=topology, fp32_allreduce=arguments.fp32_allreduce)
            deepspeed.init_distributed(dist_backend="fake", dist_init_required=False)
            deepspeed.checkpointing.configure(
                mpu,
                partition_activations=arguments.partition_activations,
                contiguous_checkpointing=False,
                num_checkpoints=arguments.num_layers,
                checkpoint_in_cpu=arguments.checkpoint_in_cpu,
                synchronize=False,
                profile=False,
            )
            _still_generators(deepspeed)
            _keep_strides()
            model = gpt2_model.GPT2ModelPipe(neox_args=arguments, topology=topology)
            model.to(arguments.params_dtype)  # as the engine does, and before the optimizer knows the parameters
            groups = [g for g in utils.get_params_for_weight_decay_optimization(model, arguments) if g["params"]]
            optimizer = torch.optim.AdamW(groups, lr=1e-4, foreach=False, fused=True)
            _without_names()
            engine, _, _, _ = deepspeed.initialize(
                model=model, optimizer=optimizer, config=_config(case), dist_init_required=False
            )
            engine.set_has_attention_mask(True)
            engine.set_batch_fn(lambda _: _batch(case, arguments, storages.device))
            _answer_for_others(engine, case, arguments, storages.device)
            training.collected()
            meter = Meter(storages)
            _mark_phases(engine, meter)
            for step in range(STEPS):
                engine.step_number = step
                engine.train_batch(iter([None] * case["accum"] * 2))
            meter.end()
    if storages.watch:
        for line in sorted(storages.at_peak or (), reverse=True)[:40]:
            print(*line, file=sys.stderr)
    figures: dict[str, Any] = figures_of_steps(meter.spans)["steady_step"]
    return figures


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _nothing(*_: Any) -> _Nothing:
    return _Nothing()


def _without_names() -> None:
    """Names of parameters in checkpoints: casting made others of them."""
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    for optimizer in (BF16_Optimizer, DeepSpeedZeroOptimizer):
        optimizer._create_param_mapping = lambda _: []


def _keep_strides() -> None:
    """gpt-neox gives its biases an attribute `stride`, which fake tensors need for themselves."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    stride = torch.Tensor.stride
    FakeTensor.stride = property(lambda tensor: functools.partial(stride, tensor), lambda *_: None)


def _still_generators(deepspeed: Any) -> None:
    """States of generators are no part of this."""
    checkpointing = deepspeed.runtime.activation_checkpointing.checkpointing
    checkpointing._set_cuda_rng_state = lambda *_, **__: None
    tracker = types.SimpleNamespace(get_states=dict, set_states=lambda _: None, fork=_nothing)
    for name, module in list(sys.modules.items()):
        if name.startswith("megatron") and "get_cuda_rng_tracker" in vars(module):
            vars(module)["get_cuda_rng_tracker"] = lambda: tracker
    checkpointing.get_cuda_rng_tracker = lambda: tracker
    import torch

    torch.get_rng_state, torch.set_rng_state = lambda: None, lambda _: None


def _batch(case: dict[str, Any], arguments: Any, device: str) -> Any:
    """get_batch_pipe's tensors."""
    import torch

    shape = (case["batch"], arguments.seq_length)
    tokens, positions, labels = (torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(3))
    mask = torch.zeros((1, 1, *shape[1:], *shape[1:]), dtype=torch.bool, device=device)
    loss_mask = torch.ones(shape, dtype=torch.float32, device=device)
    return (tokens, positions, mask), (labels, loss_mask)


def _answer_for_others(engine: Any, case: dict[str, Any], arguments: Any, device: str) -> None:
    """What a stage would be told about the shapes that it receives."""
    import torch

    length = arguments.seq_length
    hidden = [length, case["batch"], arguments.hidden_size]
    if arguments.sequence_parallel:
        hidden[0] //= arguments.model_parallel_size

    def received(_: int) -> Any:
        dtype = arguments.params_dtype
        mask = torch.empty([1, 1, length, length], dtype=torch.half, device=device)
        return torch.empty(hidden, dtype=dtype, device=device), mask

    engine._recv_tensor_meta = received
    engine._send_tensor_meta = lambda *_: None
    engine._aggregate_total_loss = lambda: engine.total_loss if engine.total_loss is not None else engine.loss
    engine.is_pipe_partitioned = engine.is_grad_partitioned = False


def _mark_phases(engine: Any, meter: Any) -> None:
    """Forward, backward and step of the engine are those of the meter."""
    for name, phase in (("_exec_forward_pass", "forward"), ("_exec_backward_pass", "backward")):
        _mark(engine, meter, name, phase)
    for name in ("_exec_reduce_tied_grads", "_exec_optimizer_step"):
        _mark(engine, meter, name, "backward" if "reduce" in name else "optimizer")
    engine._INSTRUCTION_MAP = {
        instruction: _named(function) for instruction, function in type(engine)._INSTRUCTION_MAP.items()
    }


def _named(function: Any) -> Any:
    """By its name on the engine, so that what was put there is found."""
    return lambda engine, *args, **kwargs: getattr(engine, function.__name__)(*args, **kwargs)


def _mark(engine: Any, meter: Any, name: str, phase: str) -> None:
    original = getattr(engine, name)

    def marked(*args: Any, **kwargs: Any) -> Any:
        meter.begin(phase, engine.step_number)
        return original(*args, **kwargs)

    setattr(engine, name, marked)


if __name__ == "__main__":
    sys.exit(main())
