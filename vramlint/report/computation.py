"""What a step computes and moves, in rows of text and in JSON."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.estimate import Cost, Slowdown
from vramlint.report.words import count, gib

_SIZES = ((10**21, "Z"), (10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (1, ""))
_LINKS = {"gpus": "between GPUs", "host": "to or from the host", "memory": "in the GPU's memory"}
_BILLION = 10**9
Row = tuple[str, str, str]


def flop(operations: float) -> str:
    """`88.9 TFLOP`."""
    size, letter = next((item for item in _SIZES if operations >= item[0]), (1, ""))
    scaled = operations / size
    return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {letter}FLOP"


def rows(cost: Cost) -> Iterator[Row]:
    """Name, figure, and what it consists of."""
    parts = [f"forward {flop(cost.forward)}", f"backward {flop(cost.backward)}"]
    parts += [f"recomputed {flop(cost.recomputed)}"] if cost.recomputed else []
    parts += [f"attention {cost.attention / cost.micro_batch:.0%} of it"] if cost.attention else []
    yield "micro batch", flop(cost.micro_batch), ", ".join(parts)
    step = [count(cost.gpus, "GPU"), count(cost.micro_batches, "micro batch", "micro batches")]
    step += [f"{flop(cost.step / cost.tokens)} per token"] if cost.tokens else []
    yield "optimizer step", flop(cost.step), ", ".join(step)
    if cost.bubble:
        yield "pipeline's bubble", f"{cost.bubble:.1%}", "of the step, in which a stage waits"
    for item in cost.traffic:
        yield item.name, gib(item.bytes), f"{_LINKS[item.link]}, {item.formula}"
    yield from _times(cost)


def _times(cost: Cost) -> Iterator[Row]:
    hours = cost.gpu_hours
    if cost.duration is None or hours is None:
        return
    yield "step time", _between(cost.duration.least, cost.duration.most, "s"), cost.duration.assumption
    if cost.tokens:
        each = [None if bound is None else bound * _BILLION / cost.tokens for bound in hours]
        yield "GPU-hours", _between(each[0] or 0.0, each[1], "h"), "for a billion tokens"
    if cost.steps:
        whole = [None if bound is None else bound * cost.steps for bound in hours]
        about = f"for {count(cost.steps, 'step')}"
        about += f", {cost.steps * cost.tokens:,} tokens" if cost.tokens else ""
        yield "GPU-hours", _between(whole[0] or 0.0, whole[1], "h"), about


def _between(least: float, most: float | None, unit: str) -> str:
    return f"{_number(least)} to {_number(most)} {unit}" if most is not None else f"at least {_number(least)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4}f}"


def slower(found: Slowdown) -> str:
    """`step time × 1.22 to 1.23`."""
    low, high = f"{found.least:.2f}", f"{found.most:.2f}"
    factor = f"step time × {low}" if low == high else f"step time × {low} to {high}"
    return f"{factor} without {found.left_out}" if found.left_out else factor


def in_json(cost: Cost | None) -> dict[str, object] | None:
    """FLOPs, bytes and seconds; null where no training step was simulated."""
    if cost is None:
        return None
    hours = cost.gpu_hours
    return {
        "forward_flops": cost.forward,
        "backward_flops": cost.backward,
        "recomputed_flops": cost.recomputed,
        "attention_flops": cost.attention,
        "micro_batches": cost.micro_batches,
        "gpus": cost.gpus,
        "step_flops": cost.step,
        "step_tokens": cost.tokens,
        "steps": cost.steps,
        "traffic": [
            {"name": item.name, "link": item.link, "bytes": item.bytes, "formula": item.formula}
            for item in cost.traffic
        ],
        "pipeline_bubble": cost.bubble,
        "step_seconds": None
        if cost.duration is None
        else {"least": cost.duration.least, "most": cost.duration.most, "assumption": cost.duration.assumption},
        "step_gpu_hours": None if hours is None else {"least": hours[0], "most": hours[1]},
        "notes": list(cost.notes),
    }


def slowdown_in_json(found: Slowdown | None) -> dict[str, object] | None:
    """Bounds of the step's time over that before."""
    if found is None:
        return None
    return {
        "least": round(found.least, 4),
        "most": round(found.most, 4),
        "left_out": found.left_out,
        "assumption": found.assumption,
    }
