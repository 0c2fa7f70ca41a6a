"""Launchers: from the commands that files run to the training programs that these start."""

from vramlint.surfaces.launch.commands import launched, sheet_of_command, sheet_of_options
from vramlint.surfaces.launch.launch import Launch, Workload
from vramlint.surfaces.launch.launches import launches

__all__ = ["Launch", "Workload", "launched", "launches", "sheet_of_command", "sheet_of_options"]
