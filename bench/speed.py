"""How fast vramlint is, beside a peer on the same machine in the same minutes.

    python bench/speed.py [--json] [--rounds N] [--tree DIR]

- `version_ratio`: `vramlint --version` over `python -c pass`
- `script_ratio`: `vramlint` on one script of 300 lines over `python -c "import libcst"`
- `tree_ratio`: `vramlint` on the sources of transformers over `ruff check --no-cache` on them
- `simulate_70b_ms`, `simulate_gpt2_ms`: the simulator alone, with the allocator: checkpointed LoRA of a 70B model,
  and GPT-2; medians of CPU time
- `layers_ratio`: the 70B run with its 80 layers over the same with 40

Both sides take turns, and each ratio is the median of the ratios of neighbouring runs, which see the same noise.
The tree is `--tree`, else an installed transformers, else its wheel, which pip downloads and which is only unpacked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vramlint.job import (  # noqa: E402  the repository is not installed when benches run from a checkout
    Adapter,
    Batch,
    Checkpointing,
    ConfigValue,
    Job,
    Model,
    Precision,
)
from vramlint.memory import played, simulate  # noqa: E402

SCRIPT = Path(__file__).resolve().parent / "data" / "finetune.py.txt"
COMMANDS = Path(sys.executable).parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""pip compiles what it installs; the sources of an editable installation are compiled by their first run."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians in seconds of one comparison, and the median ratio of neighbouring runs."""

    name: str
    ours: float
    peer: float
    ratio: float
    command: str
    peer_command: str


def once(command: Sequence[str]) -> float:
    """Seconds of wall time of one run.

    Raises:
        RuntimeError: the command failed, by an exit status other than clean (0) or findings (1).
    """
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr.decode()[-500:]}")
    return seconds


def take_turns(name: str, ours: Sequence[str], peer: Sequence[str], rounds: int) -> Timing:
    """Run both commands `rounds` times in turns, after one run each to warm the disk cache."""
    once(ours)
    once(peer)
    pairs = [(once(ours), once(peer)) for _ in range(rounds)]
    return Timing(
        name,
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(ours_took / peer_took for ours_took, peer_took in pairs),
        " ".join((Path(ours[0]).name, *ours[1:])),
        " ".join((Path(peer[0]).name, *peer[1:])),
    )


def tool(name: str) -> str:
    """The command of this environment, else of the PATH.

    Raises:
        RuntimeError: there is none.
    """
    found = shutil.which(name, path=f"{COMMANDS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found


def transformers_sources(folder: Path) -> Path:
    """An installed transformers' package folder, or its newest wheel's, unpacked into `folder`."""
    spec = importlib.util.find_spec("transformers")
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0])
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "transformers"],
        check=True,
    )
    with zipfile.ZipFile(next(folder.glob("transformers-*.whl"))) as wheel:
        wheel.extractall(folder / "unpacked")
    return folder / "unpacked" / "transformers"


def measure(rounds: int, tree: Path | None) -> list[Timing]:
    """All three comparisons."""
    vramlint, ruff, python = tool("vramlint"), tool("ruff"), sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "finetune.py"
        shutil.copyfile(SCRIPT, script)
        sources = tree or transformers_sources(folder)
        return [
            take_turns("version_ratio", [vramlint, "--version"], [python, "-c", "pass"], 4 * rounds),
            take_turns(
                "script_ratio", [vramlint, "--gpu", "rtx3090", str(script)], [python, "-c", "import libcst"], 4 * rounds
            ),
            take_turns(
                "tree_ratio",
                [vramlint, "--isolated", str(sources)],
                [ruff, "check", "--no-cache", "--isolated", "--quiet", str(sources)],
                rounds,
            ),
        ]


def simulated(layers: int) -> Job:
    """A LoRA run of Llama 70B's layers with checkpointing."""
    config: dict[str, ConfigValue] = {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": layers,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    return Job(
        Model("llama-70b", "llama", config),
        precision=Precision("bfloat16"),
        batch=Batch(1, 4096),
        checkpointing=Checkpointing("nonreentrant"),
        adapter=Adapter(16, 0.05, "all-linear"),
    )


def milliseconds(job: Job, rounds: int) -> float:
    """CPU time of one simulation, the median of many."""
    simulate(job)
    seconds = []
    for _ in range(rounds):
        played.forget()  # else the allocator is asked once for all rounds
        start = time.process_time()
        simulate(job)
        seconds.append(time.process_time() - start)
    return 1000 * statistics.median(seconds)


def simulator(rounds: int) -> dict[str, float]:
    """The figures of the simulator alone."""
    gpt2 = Job(
        Model("gpt2", "gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}), batch=Batch(8, 1024)
    )
    whole = milliseconds(simulated(80), 4 * rounds)
    return {
        "simulate_70b_ms": whole,
        "simulate_gpt2_ms": milliseconds(gpt2, 4 * rounds),
        "layers_ratio": whole / milliseconds(simulated(40), 4 * rounds),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="How fast vramlint is, beside a peer.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5, help="runs of the slowest comparison; the others do more")
    parser.add_argument("--tree", type=Path, help="folder to lint instead of transformers' sources")
    options = parser.parse_args(arguments)
    timings = measure(options.rounds, options.tree)
    alone = {name: round(figure, 3) for name, figure in simulator(options.rounds).items()}
    if options.json:
        ratios = {timing.name: round(timing.ratio, 3) for timing in timings}
        print(json.dumps({**ratios, **alone, "timings": [asdict(timing) for timing in timings]}, indent=2))
        return 0
    for timing in timings:
        print(
            f"{timing.name:14} {timing.ratio:6.2f}   {timing.ours * 1000:7.0f} ms {timing.command[:60]}"
            f"   {timing.peer * 1000:7.0f} ms {timing.peer_command[:60]}"
        )
    for name, figure in alone.items():
        print(f"{name:18} {figure:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
