"""Make the tables of example programs from clones with their history: `python -m tools.example_tables diffusers CLONE`.

Reads the options that each program declares at every release and writes `<project>-<program>.tsv` into
`catalog/data/frameworks`. Nothing of it is run.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.openrlhf_tables import options
from tools.release_rows import Key, Keys, git, rows_of, write
from vramlint.catalog.versions import Version, version_of


class Project(NamedTuple):
    """Where a repository keeps its example programs."""

    repository: str
    folder: str
    programs: re.Pattern[str]
    """The paths of those that are read; its first group is the program's name."""
    first: Version
    tables: str = "{}"
    """What the table of a program is called."""


PROJECTS: Mapping[str, Project] = {
    "diffusers": Project(
        "huggingface/diffusers",
        "examples",
        re.compile(
            r"examples/(?:advanced_diffusion_training|controlnet|custom_diffusion|dreambooth|flux-control|instruct_pix2pix"
            r"|text_to_image|textual_inversion|unconditional_image_generation)"
            r"/((?:train|textual_inversion)(?!\w*_(?:flax|colossalai|inpaint))\w*)\.py$"
        ),
        (0, 8),
        "diffusers-{}",
    ),
    "timm": Project("huggingface/pytorch-image-models", "train.py", re.compile(r"(train)\.py$"), (0, 4), "timm"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Read the options of example programs from a repository's history.")
    parser.add_argument("project", choices=PROJECTS)
    parser.add_argument("clone", type=Path)
    given = parser.parse_args(arguments)
    project: Project = PROJECTS[given.project]
    parsed: dict[str, Keys] = {}
    releases = [(release, _programs(given.clone, tag, project, parsed)) for release, tag in _tags(given.clone, project)]
    newest = releases[-1][1]
    for program in sorted(newest):
        there = [index for index, (_, programs) in enumerate(releases) if program in programs]
        held = [(release, programs.get(program, {})) for release, programs in releases[there[0] :]]
        name = project.tables.format(program)
        heading = (
            f"Options of {program}.py and their defaults, made by tools/example_tables.py.",
            f"From github.com/{project.repository}, releases {held[0][0]} to {held[-1][0]}.",
        )
        write(name, heading, rows_of(held))
    return 0


def _tags(clone: Path, project: Project) -> list[tuple[str, str]]:
    """Every release and its tag, the oldest first."""
    found = {
        version_of(tag.removeprefix("v")): tag
        for tag in git(clone, "tag").split()
        if re.fullmatch(r"v?\d+(\.\d+)+", tag) and version_of(tag.removeprefix("v")) >= project.first
    }
    return [(".".join(map(str, release)), tag) for release, tag in sorted(found.items())]


def _programs(clone: Path, tag: str, project: Project, parsed: dict[str, Keys]) -> dict[str, Keys]:
    """The options of every program at a tag; `parsed` has those of files that were read before, by their blobs."""
    found: dict[str, Keys] = {}
    for line in git(clone, "ls-tree", "-r", tag, project.folder).splitlines():
        about, _, path = line.partition("\t")
        match = project.programs.match(path)
        if match is None:
            continue
        blob = about.split()[2]
        if blob not in parsed:
            parsed[blob] = dict(_options(git(clone, "cat-file", "blob", blob)))
        if parsed[blob]:
            found[match[1]] = parsed[blob]
    return found


def _options(text: str) -> dict[str, Key]:
    return dict(options(ast.parse(text), {}))


if __name__ == "__main__":
    sys.exit(main())
