"""Makefiles: what a target runs."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.readers.makefile import Target, read_makefile
from vramlint.surfaces.jobfiles.scripts import Ran, ReadShell, Scripts
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document


def workloads_of_makefile(document: Document, read: ReadShell) -> tuple[Workload, ...]:
    """One workload per target that runs commands."""
    scripts = Scripts(document, read)
    found = ((target, _run(scripts, target)) for target in read_makefile(document).targets)
    return tuple(
        Workload(document.path, target.name, ran.commands, (), ran.files) for target, ran in found if ran.commands
    )


def _run(scripts: Scripts, target: Target) -> Ran:
    """Each line of a recipe has a shell of its own."""
    ran = Ran()
    for recipe in target.recipes:
        line = scripts.run(recipe.text, target.environment, None, recipe.held)
        if recipe.condition:
            conditional = (replace(c, conditions=(recipe.condition, *c.conditions)) for c in line.commands)
            line = line._replace(commands=tuple(conditional))
        ran = ran.and_then(line)
    return ran
