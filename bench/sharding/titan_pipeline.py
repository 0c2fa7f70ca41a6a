"""torch's pipeline schedules of one rank: what neighbours send is fake, as all collectives are."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.pipelining import schedules
from torch.distributed.pipelining._utils import extract_tensor_metas
from torch.distributed.pipelining.stage import InferenceMode
from torchtitan.distributed.pipeline_parallel import pipeline_llm


def pipeline(run: Any, model: Any, parallelize: Any) -> tuple[Any, list[Any]]:
    """The schedule and the model parts of this rank, with stages whose shapes are given and not exchanged."""

    def known(_schedule: Any, stages: Any, *_: Any) -> None:
        for stage in stages:
            stage._inference_mode = InferenceMode.STATIC

    schedules._PipelineSchedule._warmup_p2p = known
    schedule, parts, *_ends = pipeline_llm(
        model, run.dims, run.config, torch.device("cuda"), run.sizes, parallelize, run.loss
    )
    case = run.case
    stages = schedule._stages if hasattr(schedule, "_stages") else [schedule._stage]
    rows = case["seq"] // case.get("context", 1)
    dtype = torch.bfloat16 if run.dims.fsdp_enabled else torch.float32
    micro = case.get("micro", 1)
    hidden = torch.empty(micro, rows // case.get("tensor", 1), run.sizes.dim, dtype=dtype, device="meta")
    hidden.requires_grad_()
    tokens = torch.empty(micro, rows, dtype=torch.int64, device="meta")
    logits = torch.empty(micro, rows, 8, dtype=dtype, device="meta", requires_grad=True)
    for stage in stages:
        stage._user_meta.inputs = extract_tensor_metas((tokens if stage.is_first else hidden,))
        stage._user_meta.outputs = extract_tensor_metas((logits if stage.is_last else hidden,))
    return schedule, parts


def step(run: Any, tokens: Any, labels: Any, extra: dict[str, Any], meter: Any, number: int) -> None:
    """Trainer.forward_backward_step with a pipeline; its forwards count as backward from the first backward on."""
    stages = run.schedule._stages if hasattr(run.schedule, "_stages") else [run.schedule._stage]
    begun: list[bool] = []
    for stage in stages:
        _announce(stage, meter, number, begun)
    has_last = any(stage.is_last for stage in stages)
    losses: list[Any] | None = [] if has_last else None
    targets = labels if has_last else None
    inputs = (tokens,) if any(stage.is_first for stage in stages) else ()
    del tokens, labels
    run.schedule.step(*inputs, **extra, target=targets, losses=losses, return_outputs=False)
    if losses:
        torch.sum(torch.stack(losses))


def _announce(stage: Any, meter: Any, number: int, begun: list[bool]) -> None:
    own = type(stage).backward_one_chunk

    def backward(*args: Any, **kwargs: Any) -> Any:
        if not begun:
            begun.append(True)
            meter.begin("outputs", number)
            meter.begin("backward", number)
        return own(stage, *args, **kwargs)

    stage.backward_one_chunk = backward
