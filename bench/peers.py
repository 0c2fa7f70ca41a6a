"""Other calculators beside vramlint, on the same training steps: how far off, and how long a call takes.

    python bench/peers.py [--cases N] [--only NAME …] [--environments DIR] [--json]

The truth is the peak of allocated memory of traced steps (bench/data), which vramlint itself is tested on: ordinary
runs of models at their real depth, of which N are taken by a hash of their ids, so nobody chose them. Each calculator
is installed from PyPI, in the version that its adapter in bench/calculators was written for, into an environment that
is thrown away afterwards (kept with `--environments`), and answers in a process of its own. What it adds for CUDA
context, fragmentation or safety is left out where it says so. A run that it has no words for, or refuses, is not
expressible, and vramlint's error is also given on the runs that it took.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.accuracy import DEFAULT_CASES  # noqa: E402  the repository is not installed when benches run from a checkout
from bench.calculators.harness import Run  # noqa: E402
from bench.cases import job_of  # noqa: E402
from bench.gpu.record import rows_of  # noqa: E402
from vramlint.memory import simulate  # noqa: E402

OURS = "vramlint"
PLAIN = frozenset(
    {
        *("model", "task", "batch", "seq", "target_seq", "accum", "mask", "attn", "use_cache"),
        *("param_dtype", "autocast", "checkpointing", "optimizer", "max_grad_norm", "loop"),
        *("peft", "freeze", "quant", "double_quant", "bnb_compute_dtype"),
    }
)
"""Words of a case that make an ordinary run; rows with others (offloaded checkpoints, losses) are not taken."""
TORCH = ("torch==2.13.0", "transformers==5.23.0")
ARCHITECTURES = {
    "causal-lm": "ForCausalLM",
    "masked-lm": "ForMaskedLM",
    "seq-cls": "ForSequenceClassification",
    "token-cls": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "seq2seq-lm": "ForConditionalGeneration",
    "image-cls": "ForImageClassification",
}
"""How the class in config.json's `architectures` ends, by task."""


@dataclass(frozen=True, slots=True)
class Calculator:
    """A calculator: its adapter, and what pip installs for it."""

    name: str
    adapter: str
    environment: str
    requirements: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The release that the adapter was written for."""
        return self.requirements[-1].partition("==")[2] if self.requirements else ""


CALCULATORS = (
    Calculator(OURS, "own", ""),
    Calculator("accelerate", "accelerate_memory", "torch", (*TORCH, "accelerate==1.15.0")),
    Calculator("DeepSpeed", "deepspeed_states", "torch", (*TORCH, "deepspeed==0.19.8")),
    Calculator("torch-preflight", "torch_preflight", "torch-preflight", ("torch-preflight==0.5.0",)),
    Calculator("fitcheck-llm", "fitcheck", "fitcheck", ("fitcheck-llm==0.3.1",)),
    Calculator("canifinetune", "canifinetune", "canifinetune", ("canifinetune==0.4.1",)),
    Calculator("llm-analysis", "llm_analysis", "llm-analysis", ("llm-analysis==0.2.2",)),
    Calculator("gpu-estimator", "gpu_estimator", "torch", (*TORCH, "gpu-estimator==0.2.0")),
)

Answers = Mapping[str, Mapping[str, Any]]
"""By id of a run: `bytes` and `seconds`, or `refused`, or `failed`."""


def choose(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` rows of ordinary runs of models at their real depth, by a hash of their ids."""
    whole = [row for row in rows if set(row["case"]) <= PLAIN]
    return sorted(whole, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())[:count]


def run_of(row: dict[str, Any]) -> Run:
    """A row in the words that adapters take."""
    case, config = row["case"], row["config"]
    job = job_of(row)
    adapted = simulate(job, reserved=False)
    base = simulate(replace(job, adapter=None, quantization=None), reserved=False)
    peft = case.get("peft")
    narrow = case.get("param_dtype", "fp32") != "fp32"
    return Run(
        id=row["id"],
        model=case["model"],
        config={**config, "architectures": [f"Model{ARCHITECTURES.get(row['task'], '')}"]},
        task=row["task"],
        parameters=base.total_parameters,
        trainable=adapted.trainable_parameters,
        precision="bf16" if narrow else "mixed" if case.get("autocast") else "fp32",
        batch=case["batch"],
        seq=case["seq"],
        target=case.get("target_seq"),
        accumulation=case.get("accum", 1),
        attention=case.get("attn", "sdpa"),
        checkpointing=case.get("checkpointing", "none") != "none",
        optimizer=case.get("optimizer", "adamw_torch_fused"),
        lora={"r": peft.get("r", 8), "targets": peft.get("targets")} if peft else None,
        quantization=case.get("quant"),
        double_quantization=case.get("double_quant", bool(case.get("quant"))),
        row=row,
    )


def python_of(calculator: Calculator, folder: Path) -> Path:
    """The Python of the calculator's environment, made and filled as far as it is not there yet.

    Raises:
        subprocess.CalledProcessError: something cannot be installed.
    """
    if not calculator.requirements:
        return Path(sys.executable)
    environment = folder / calculator.environment
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True)
    for requirement in calculator.requirements:  # one after the other: each finds what the one before brought
        install = [str(python), "-m", "pip", "install", "--quiet", requirement]
        subprocess.run(install, check=True, capture_output=True, text=True)
    return python


def ask(calculator: Calculator, python: Path, runs: Sequence[Run], seconds: float) -> dict[str, dict[str, Any]]:
    """The calculator's answers; a process that ends early leaves the others unanswered, as failures."""
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.jsonl"
        command = [str(python), "-m", f"bench.calculators.{calculator.adapter}", str(answers)]
        why = "no answer"
        try:
            done = subprocess.run(
                command,
                input=json.dumps([asdict(run) for run in runs]),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            why = (done.stderr.strip().splitlines() or [why])[-1] if done.returncode else why
        except subprocess.TimeoutExpired:
            why = f"no answer after {seconds:.0f} s"
        given = {row.pop("id"): row for row in rows_of(answers)} if answers.exists() else {}
    return {run.id: given.get(run.id, {"failed": why}) for run in runs}


def figures(answers: Answers, ours: Answers, truth: Mapping[str, int]) -> dict[str, Any]:
    """Errors of what was answered, vramlint's on the same runs, and what was not answered."""
    answered = [name for name, answer in answers.items() if "bytes" in answer]
    reasons = Counter(answer["refused"] for answer in answers.values() if "refused" in answer)
    failures = Counter(answer["failed"] for answer in answers.values() if "failed" in answer)
    report: dict[str, Any] = {
        "n": len(answered),
        "not_expressible": sum(reasons.values()),
        "failed": sum(failures.values()),
        "reasons": dict(reasons.most_common()),
        "failures": dict(failures.most_common()),
    }
    if answered:
        errors = [_error(answers, name, truth) for name in answered]
        both = [abs(_error(ours, name, truth)) for name in answered if "bytes" in ours.get(name, {})]
        sizes = [abs(error) for error in errors]
        report |= {
            "mean_error": statistics.mean(sizes),
            "median_error": statistics.median(sizes),
            "max_error": max(sizes),
            "worst_under": max(0.0, -min(errors)),
            "within_10_percent": sum(size <= 0.1 for size in sizes) / len(sizes),
            "vramlint_max_error": max(both, default=None),
            "seconds": statistics.median(answers[name]["seconds"] for name in answered),
        }
    return report


def _error(answers: Answers, name: str, truth: Mapping[str, int]) -> float:
    return float(answers[name]["bytes"] - truth[name]) / truth[name]


def compare(calculators: Sequence[Calculator], runs: Sequence[Run], folder: Path, seconds: float) -> dict[str, Any]:
    """The figures of each calculator; one that cannot be installed is `skipped` with the reason."""
    truth = {run.id: run.row["result"]["steady_step"]["peak"] for run in runs}
    ours = ask(CALCULATORS[0], Path(sys.executable), runs, seconds)
    report: dict[str, Any] = {}
    for calculator in calculators:
        print(f"{calculator.name} {calculator.version}", file=sys.stderr, flush=True)
        try:
            python = python_of(calculator, folder)
        except subprocess.CalledProcessError as error:
            said = str(error.stderr or error).strip().splitlines()
            report[calculator.name] = {"version": calculator.version, "skipped": said[-1] if said else "pip failed"}
            continue
        answers = ours if calculator.name == OURS else ask(calculator, python, runs, seconds)
        report[calculator.name] = {"version": calculator.version, **figures(answers, ours, truth)}
    return report


def show(report: Mapping[str, Mapping[str, Any]], count: int) -> None:
    """Print the table."""
    heads = ("runs", "median", "mean", "max", "under", "within 10 %", "vramlint's max", "ms a call")
    print(f"{count} runs\n{'calculator':<24}" + "".join(f"{head:>15}" for head in heads))
    for name, found in report.items():
        label = f"{name} {found['version']}".strip()
        if "skipped" in found:
            print(f"{label:<24} skipped: {found['skipped']}")
            continue
        cells = [str(found["n"])]
        if found["n"]:
            names = ("median_error", "mean_error", "max_error", "worst_under", "within_10_percent")
            cells += [f"{found[key]:.1%}" for key in names]
            cells += [f"{found['vramlint_max_error'] or 0:.3%}", f"{found['seconds'] * 1000:.2f}"]
        print(f"{label:<24}" + "".join(f"{cell:>15}" for cell in cells))
    for name, found in report.items():
        for reason, times in {**found.get("reasons", {}), **found.get("failures", {})}.items():
            print(f"{name}: {times} not answered: {reason}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Other calculators beside vramlint, on the same training steps.")
    parser.add_argument("--cases", type=int, default=100, metavar="N", help="how many traced steps")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these calculators")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="keep the environments there")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="of one calculator's process")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    chosen = [one for one in CALCULATORS if not options.only or one.name in options.only]
    runs = [run_of(row) for row in choose([row for path in DEFAULT_CASES for row in rows_of(path)], options.cases)]
    with tempfile.TemporaryDirectory() as thrown_away:
        report = compare(chosen, runs, options.environments or Path(thrown_away), options.timeout)
    if options.json:
        print(json.dumps({"cases": len(runs), "calculators": report}))
    else:
        show(report, len(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
