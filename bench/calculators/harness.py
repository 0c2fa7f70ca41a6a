"""What every adapter does around its calculator. Standard library only: it runs in the calculator's own environment.

    python -m bench.calculators.fitcheck ANSWERS < RUNS

RUNS is a JSON list of runs, ANSWERS a file that gets one JSON object a line: `id`, and `bytes` with the `seconds`
that the call took, or `refused` with the reason, or `failed` with the error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REASON = 160
"""Characters of a reason that are kept."""
DECODERS = frozenset({"causal-lm"})
TEXT = frozenset({"causal-lm", "masked-lm", "seq-cls", "token-cls", "qa"})
ADAM = frozenset({"adamw_torch_fused", "adamw_torch", "adamw_torch_forloop"})


class NotExpressibleError(Exception):
    """The calculator has no words for a run."""


@dataclass(frozen=True)
class Run:
    """One training run, in words that need no knowledge of the rows that it comes from."""

    id: str
    model: str
    """The model's usual name."""
    config: dict[str, Any]
    """Its config.json."""
    task: str
    parameters: int
    """Of the model without adapters, tied ones once: what the Hub says of a checkpoint."""
    trainable: int
    precision: str
    """fp32; mixed: float32 weights under autocast; bf16: weights in bfloat16."""
    batch: int
    seq: int
    target: int | None
    """Length of the decoder's side of an encoder-decoder."""
    accumulation: int
    attention: str
    checkpointing: bool
    optimizer: str
    """By the name of TrainingArguments.optim."""
    lora: dict[str, Any] | None
    """r, targets, dropout."""
    quantization: str | None
    double_quantization: bool
    row: dict[str, Any]
    """The row itself, for vramlint."""

    def only(self, what: str, holds: bool) -> None:
        """Refuse the run unless something holds of it.

        Raises:
            NotExpressibleError: it does not.
        """
        if not holds:
            raise NotExpressibleError(f"{what} only")

    def look_up(self, what: str, table: dict[str, Any], word: str) -> Any:
        """The calculator's word for one of ours.

        Raises:
            NotExpressibleError: it has none.
        """
        if word not in table:
            raise NotExpressibleError(f"no {what} {word}")
        return table[word]


def serve(predict: Callable[[Run], float]) -> int:
    """Answer every run; what the calculator prints goes to stderr."""
    answers = Path(sys.argv[1])
    runs = [Run(**run) for run in json.load(sys.stdin)]
    sys.stdout = sys.stderr
    with answers.open("w", encoding="utf-8") as file:
        for run in runs:
            file.write(json.dumps({"id": run.id, **answer(run, predict)}) + "\n")
            file.flush()
    return 0


def answer(run: Run, predict: Callable[[Run], float]) -> dict[str, Any]:
    """One run's figure, refusal or failure. A ValueError is how calculators refuse what they do not support."""
    began = time.perf_counter()
    try:
        figure = predict(run)
    except (NotExpressibleError, ValueError) as error:
        return {"refused": str(error)[:REASON]}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:REASON]}
    return {"bytes": round(figure), "seconds": time.perf_counter() - began}
