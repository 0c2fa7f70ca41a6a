"""Unsloth's loaders: how they load a model unless their arguments say otherwise.

unsloth 2025.9: models/loader.py, models/llama.py, models/vision.py, models/rl.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vramlint.surfaces.draft import Arguments, Drawn, is_absent, stated, unknown
from vramlint.values import Call, Scalar

_LOADER = re.compile(r"Fast\w*Model\.from_pretrained$")

_DECIDES_BITS = ("load_in_4bit", "load_in_8bit", "load_in_fp8", "full_finetuning")
"""Keywords that decide the quantization; without any of them it is 4-bit."""


_KERNELS = "Unsloth puts kernels of its own in the place of the model's, which need less"


def unsloth_facts(root: Call) -> Iterable[Drawn]:
    """What the loader does by itself: 4-bit in nf4 with double quantization, all else in bfloat16.

    `dtype=None` is bfloat16 where the GPU has it, else float16, which takes as much.
    """
    arguments = Arguments.of(root)
    if not _LOADER.search(root.callee) or arguments.unseen:
        return
    dtype = arguments.value("dtype")
    if dtype is None or is_absent(dtype):
        yield stated("load_dtype", "bfloat16", root.place, "dtype", "library")
    if not any(map(arguments.find, _DECIDES_BITS)):
        yield stated("quantization_bits", 4, root.place, "load_in_4bit", "library")
    yield unknown("attention_implementation", _KERNELS, place=root.place)
    four = arguments.value("load_in_4bit")
    if isinstance(four, Scalar) and four.value is False:
        return
    yield stated("quantization_type", "nf4", root.place, "load_in_4bit", "library")
    yield stated("double_quantization", True, root.place, "load_in_4bit", "library")
    if dtype is None or is_absent(dtype):
        yield stated("quantization_compute_dtype", "bfloat16", root.place, "dtype", "library")


def replaces_trl(imports: Sequence[str]) -> bool:
    """Whether the program imports Unsloth, which puts classes of its own, with further keys, in the place of TRL's."""
    return any(name.partition(".")[0] == "unsloth" for name in imports)
