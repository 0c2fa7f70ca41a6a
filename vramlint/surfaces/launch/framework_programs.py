"""Programs of frameworks with a vocabulary of their own: by what they are started, and which words name files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vramlint.catalog.frameworks import FRAMEWORKS
from vramlint.surfaces.launch.clis import CLIS
from vramlint.text import Place
from vramlint.values import Invocation, Scalar

PROGRAM = "vramlint:program"
"""Key under which the sheet of a command line holds the program itself, for frameworks that tell methods by it."""

_FILE = re.compile(r".+\.(?:ya?ml|json|toml)$", re.IGNORECASE)


class FrameworkProgram(NamedTuple):
    """How a framework's program takes its configuration."""

    framework: str
    options: tuple[str, ...] = ("config",)
    """Options that name files, without dashes."""
    positional: bool = False
    """Files may stand without an option."""

    def files(self, invocation: Invocation) -> Iterator[tuple[str, Place | None]]:
        """The configuration files of a command line and where they are named, in their order."""
        takes = False
        for word in invocation.arguments:
            text = word.value if isinstance(word, Scalar) and isinstance(word.value, str) else ""
            head, equals, tail = text.partition("=")
            is_option = head.startswith("-") and head.lstrip("-").replace("-", "_") in self.options
            if takes and text:
                yield text, word.place
            elif is_option and equals:
                yield tail, word.place
            elif self.positional and not text.startswith("-") and not equals and _FILE.match(text):
                yield text, word.place
            takes = is_option and not equals


PROGRAMS: tuple[tuple[re.Pattern[str], FrameworkProgram], ...] = (
    (
        re.compile(
            r"(?:^|\.)(?:(?:full|lora|qat_lora|early_exit)_finetune|(?:full|lora)_dpo|(?:async_)?grpo_full_finetune|qat"
            r"|knowledge_distillation|ppo_full_finetune)_(?:single_device|distributed)(?:_multi_dataset)?$"
        ),
        FrameworkProgram("torchtune"),
    ),
)
"""Scripts and modules by a pattern that is searched in the dotted path: `verl.trainer.main_ppo`, `pretrain_gpt`."""


def framework_program(program: str) -> FrameworkProgram | None:
    """The framework behind what a command line starts: a script's path, a dotted module, or a tool's words."""
    words = program.split()
    if words and words[0] in CLIS:
        cli = CLIS[words[0]]
        return FrameworkProgram(cli.vocabulary, cli.options, cli.positional) if cli.vocabulary in FRAMEWORKS else None
    dotted = program.replace("\\", "/").removesuffix(".py").replace("/", ".")
    return next((found for pattern, found in PROGRAMS if pattern.search(dotted)), None)
