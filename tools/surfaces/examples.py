"""Programs that people copy: diffusers' examples, a table for each, `diffusers-<program>.tsv`; timm's train.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from tools.surfaces.openrlhf import options
from tools.surfaces.rows import COLUMNS, rows_of, text_of
from tools.surfaces.source import Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree
from vramlint.catalog.versions import version_of

_FIRST = (0, 8)
_FOLDERS = (
    "advanced_diffusion_training",
    "controlnet",
    "custom_diffusion",
    "dreambooth",
    "flux-control",
    "instruct_pix2pix",
    "text_to_image",
    "textual_inversion",
    "unconditional_image_generation",
)
"""Below `examples`."""
_PROGRAM = re.compile(r"/((?:train|textual_inversion)(?!\w*_(?:flax|colossalai|inpaint))\w*)\.py$")


def read(tree: Tree) -> Mapping[str, Keys]:
    """The options of every program at one state."""
    found: dict[str, Keys] = {}
    for folder in _FOLDERS:
        for path in tree.paths(f"examples/{folder}/*.py"):
            match = _PROGRAM.search(path)
            keys = dict(options(ast.parse(tree.text(path)), {})) if match else {}
            if match and keys:
                found[f"diffusers-{match[1]}"] = keys
    return found


def make(states: States) -> Mapping[str, str]:
    """The tables over all releases, of the programs that the newest has."""
    numbers = sorted(
        (version_of(tag.removeprefix("v")), tag) for tag in states.tags() if re.fullmatch(r"v\d+(\.\d+)+", tag)
    )
    releases = [(tag.removeprefix("v"), read(states.revision(tag))) for number, tag in numbers if number >= _FIRST]
    tables: dict[str, str] = {}
    for name in sorted(releases[-1][1]):
        first = next(index for index, (_, programs) in enumerate(releases) if name in programs)
        held = [(release, programs.get(name, {})) for release, programs in releases[first:]]
        heading = (
            f"Options of {name.partition('-')[2]}.py and their defaults, made by tools/surfaces/examples.py.",
            f"From github.com/huggingface/diffusers, releases {held[0][0]} to {held[-1][0]}.",
            COLUMNS,
        )
        tables[table_file(name)] = text_of(heading, rows_of(held))
    return tables


def read_timm(tree: Tree) -> Mapping[str, Keys]:
    """The options of timm's train.py at one state."""
    keys = dict(options(tree.module("train.py"), {}))
    return {"timm": keys} if keys else {}


def make_timm(states: States) -> Mapping[str, str]:
    """The table over all releases."""
    numbers = sorted(
        (version_of(tag.removeprefix("v")), tag) for tag in states.tags() if re.fullmatch(r"v\d+(\.\d+)+", tag)
    )
    read = [(tag.removeprefix("v"), read_timm(states.revision(tag))) for _, tag in numbers]
    releases = [(release, tables["timm"]) for release, tables in read if tables]
    heading = (
        "Options of train.py and their defaults, made by tools/surfaces/examples.py.",
        f"From github.com/huggingface/pytorch-image-models, releases {releases[0][0]} to {releases[-1][0]}.",
        COLUMNS,
    )
    return {table_file("timm"): text_of(heading, rows_of(releases))}


TIMM = Source(repository="huggingface/pytorch-image-models", read=read_timm, make=make_timm)
SOURCE = Source(repository="huggingface/diffusers", read=read, make=make)
