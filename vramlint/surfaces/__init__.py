"""Surfaces: what the keys and calls of each vocabulary say about a run, as facts with their places."""

from vramlint.surfaces.deepspeed import deepspeed_sheet
from vramlint.surfaces.kinds import kind_of_table
from vramlint.surfaces.model_config import model_config_sheet
from vramlint.surfaces.program import program_sheet
from vramlint.surfaces.training_arguments import training_arguments_sheet

__all__ = [
    "deepspeed_sheet",
    "kind_of_table",
    "model_config_sheet",
    "program_sheet",
    "training_arguments_sheet",
]
