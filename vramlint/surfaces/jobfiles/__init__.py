"""Job files: the commands in them and the GPUs that they declare."""

from vramlint.surfaces.jobfiles.docker import workloads_of_dockerfile
from vramlint.surfaces.jobfiles.files import workloads_of_file
from vramlint.surfaces.jobfiles.kinds import job_kind_of_table
from vramlint.surfaces.jobfiles.make import workloads_of_makefile
from vramlint.surfaces.jobfiles.modal import facts_of as machine_of_program
from vramlint.surfaces.jobfiles.programs import workloads_of_program
from vramlint.surfaces.jobfiles.scripts import ReadShell
from vramlint.surfaces.jobfiles.slurm import request_facts, slurm_environment, slurm_facts, workload_of_script
from vramlint.surfaces.jobfiles.tables import workloads_of_table, workloads_of_yaml

__all__ = [
    "ReadShell",
    "job_kind_of_table",
    "machine_of_program",
    "request_facts",
    "slurm_environment",
    "slurm_facts",
    "workload_of_script",
    "workloads_of_dockerfile",
    "workloads_of_file",
    "workloads_of_makefile",
    "workloads_of_program",
    "workloads_of_table",
    "workloads_of_yaml",
]
