"""What the notes and columns of a table of measurements mean, in tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

UNITS: Mapping[str, int] = {
    "bytes": 1,
    "GB": 10**9,
    "G": 1 << 30,
    "GiB": 1 << 30,
    "GiB (printed as GB)": 1 << 30,
}
MACHINES = {"dgx_a100": ("a100-80gb", 8), "dgx_h100": ("h100", 8), "dgx_gb200": ("gb200", 8)}
"""Machines that a line names in place of a card: the card, and how many of them its runs have; of GB200, two machines'
(NVIDIA/Megatron-LM@d98e8a6 tests/test_utils/recipes/gb200/{gpt,moe}.yaml)."""
ONE_MACHINE = (r"_1(?:node|N4G)/", 4)
"""Configs of runs on one machine with GB200, and its cards (recipes/gb200/{gpt,moe,nemotron}-1node.yaml)."""
LAST_RANK = r"mem-max-allocated-bytes"
"""A figure that the last rank of a run wrote down (megatron/training/training.py, training_log's writer)."""
METRICS = (
    (r"max allocated|mem-max-allocated", "allocated"),
    (r"max_memory_reserved", "reserved"),
    (r"peak active", "active"),
)
"""What a metric's column means; what is in no line does not say what was read."""
ROUNDED = ((r"comment|README|readme|per GPU", "rounded"),)
"""Metrics that people wrote down with the digits that they found worth it."""
SEVERAL_MACHINES = r"/\w+_release(_\w+)?/"
"""Configs of runs on more machines than one, and no line says how many."""
UNSURE = (
    (r"WARNING", "what stands beside the file contradicts it"),
    (r"default model of the notebook", "which of the file's models was run is not said"),
    (r"^target experts", "the config was run with other values than it has"),
)
"""Notes of lines that cannot be compared, and why."""
CONTRADICTED = (
    (
        r"litgpt \S*(?:phi-3|llama-3\.2-[13]b)/full\.yaml",
        "the source's figure is below what weights, gradients and states take",
    ),
)
"""Framework and config of lines whose figure cannot be: 16-bit weights, gradients and AdamW's two states are 8 bytes
for each of 3.82, 1.50 or 3.61 billion parameters, where 17.0, 8.7 and 16.5 GB are given."""
CARD = r"probably the card size"
"""The figure is the memory of the card on which the run fitted."""
BEFORE = r"reserved before training ([\d.]+)"
"""What was reserved between loading and the first step."""
REACHED = frozenset({"litgpt", "peft"})
"""Projects whose runs come to the bound of their lengths: litgpt's reports are the longest sample's, and PEFT's
comparison cut its data so that 768 tokens hold the longest (method_comparison/MetaMathQA/data.py, CHAR_LIMIT)."""
PARAMETERS: Mapping[str, str] = {"peft": "training_params.json"}
"""Of projects whose configs are one part of a run: the file that has the rest, which the note repeats."""
WORDS: Mapping[str, str] = {
    "model": "model_id",
    "batch": "batch_size",
    "max_seq": "max_seq_length",
    "dtype": "dtype",
    "gc": "use_gc",
    "optimizer": "optimizer_type",
}
"""Words of such a note and the keys of that file."""
VERSIONS: Mapping[str, Mapping[str, str]] = {
    "litgpt": {"litgpt": "0.4.13", "bitsandbytes": "0.42.0", "torch": "2.4.0"},
    "peft": {"torch": "2.13.0", "transformers": "5.13.1", "peft": "0.19.2", "bitsandbytes": "0.49.2"},
}
"""Versions of the runs: of litgpt, the release of the month in which the last of them came into the table; of PEFT, as
the project's results say them (method_comparison/MetaMathQA/results)."""
AXOLOTL: Mapping[str, Mapping[str, str]] = {
    "2025-06": {
        "axolotl": "0.10.0",
        "torch": "2.6.0",
        "transformers": "4.52.3",
        "peft": "0.15.2",
        "bitsandbytes": "0.45.4",
        "accelerate": "1.7.0",
    },
    "2025-08": {
        "axolotl": "0.12.0",
        "torch": "2.7.1",
        "transformers": "4.55.0",
        "peft": "0.17.0",
        "bitsandbytes": "0.46.1",
        "accelerate": "1.10.0",
    },
    "2025-09": {
        "axolotl": "0.13.0",
        "torch": "2.7.1",
        "transformers": "4.56.1",
        "peft": "0.17.0",
        "bitsandbytes": "0.47.0",
        "accelerate": "1.10.0",
    },
    "2025-12": {
        "axolotl": "0.13.0",
        "torch": "2.8.0",
        "transformers": "4.57.1",
        "peft": "0.18.0",
        "bitsandbytes": "0.48.2",
        "accelerate": "1.11.0",
    },
    "2026-03": {
        "axolotl": "0.15.0",
        "torch": "2.9.1",
        "transformers": "5.2.0",
        "peft": "0.18.1",
        "bitsandbytes": "0.49.1",
        "accelerate": "1.12.0",
    },
}
"""What Axolotl's requirements.txt, and for torch its latest image, were in the months of the table below."""
WRITTEN = (
    (r"axolotl examples/magistral/magistral-small-qlora\.yaml", "2025-06"),
    (r"axolotl examples/arcee/", "2025-08"),
    (r"axolotl examples/(?:hunyuan|seed-oss|magistral/think)/", "2025-09"),
    (r"axolotl examples/(?:olmo3|plano|mimo)/", "2025-12"),
    (r"axolotl examples/glm4", "2026-03"),
    (r"ms-swift examples/train/full/train\.sh", "2024-12"),
    (r"ms-swift examples/train/packing/llm\.sh", "2025-03"),
    (r"ms-swift examples/train/agent/loss_scale/", "2025-04"),
    (r"ms-swift examples/train/qlora/(?:awq|bnb)/", "2025-07"),
    (r"ms-swift examples/models/gpt_oss/", "2025-08"),
)
"""Framework and config of figures, and the month of the commit that wrote them down (eac4a61f5, 2974670bf, b71482cec,
79103b01c, 09959fac7, 372f664c6, 4f5e8a328, 945c8aeb1 of axolotl-ai-cloud/axolotl; b40f31df7, dbe09322a, b91109223,
74e4831d2, 918a330b9 of modelscope/ms-swift)."""
CHANGED: Sequence[tuple[str, tuple[str, str]]] = (
    (r"axolotl examples/magistral/magistral-small-qlora\.yaml", (r"(?m)^plugins:\n *- .*CutCrossEntropy.*\n", "")),
)
"""What a file did not have when its figure was written down: Cut Cross Entropy came with 90e559893, after eac4a61f5."""


RELEASE = r"Unsloth[^\n\"]{0,60}?\b(20\d\d)\.(\d+)(?:\.\d+)?\b"
"""The release that Unsloth's banner names, in the output of a cell."""
PRINTED: Mapping[str, str] = {
    "transformers": r"Transformers ?[:=] ?(\d+\.\d+\.\d+)",
    "torch": r"(?:Pyt|T)orch ?[:=] ?(\d+\.\d+\.\d+)",
}
"""Versions in that banner."""
DATED = ("torch", "transformers", "peft", "bitsandbytes")
"""Libraries that are of a run's month, where only that is known."""


Meaning = TypeVar("Meaning")


def meaning(table: Sequence[tuple[str, Meaning]], text: str) -> Meaning | None:
    """What the first fitting line of a table says of `text`."""
    return next((said for pattern, said in table if re.search(pattern, text)), None)


def as_run(named: str, data: bytes) -> bytes:
    """The config as it was when its figure was written down."""
    change = meaning(CHANGED, named)
    return re.sub(change[0].encode(), change[1].encode(), data) if change else data


def plain(text: str) -> str | int | float | bool:
    """A word of a note as the value that it stands for."""
    if text in ("True", "False"):
        return text == "True"
    return int(text) if text.isdecimal() else text


def instead_of(folder: Path) -> Sequence[Path]:
    """Files that say what a note says, in a checkout of the project."""
    return (folder.parents[2] / "default_training_params.json",) if len(folder.parents) > 2 else ()
