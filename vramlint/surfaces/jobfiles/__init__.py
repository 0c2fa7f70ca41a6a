"""Job files: the commands in them and the GPUs that they declare."""

from vramlint.surfaces.jobfiles.kinds import job_kind_of_table
from vramlint.surfaces.jobfiles.scripts import ReadShell
from vramlint.surfaces.jobfiles.tables import workloads_of_table, workloads_of_yaml

__all__ = ["ReadShell", "job_kind_of_table", "workloads_of_table", "workloads_of_yaml"]
