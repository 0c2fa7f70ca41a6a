"""Variables that are set before a script starts, by the shell or by a scheduler."""

from __future__ import annotations

ALWAYS_SET = {
    "HOME": "environment variable HOME",
    "USER": "environment variable USER",
    "LOGNAME": "environment variable LOGNAME",
    "PATH": "environment variable PATH",
    "SHELL": "environment variable SHELL",
    "HOSTNAME": "name of the machine",
    "HOSTTYPE": "kind of the machine",
    "OSTYPE": "operating system of the machine",
    "MACHTYPE": "kind of the machine",
    "UID": "id of the user",
    "EUID": "id of the user",
    "RANDOM": "random number",
    "SRANDOM": "random number",
    "SECONDS": "time since the start",
    "EPOCHSECONDS": "time of the run",
    "EPOCHREALTIME": "time of the run",
    "PPID": "process id",
    "BASHPID": "process id",
    "LINENO": "line number",
    "BASH_VERSION": "version of bash",
    "REPLY": "what read takes from its input",
}

_BATCH = ("SLURM_", "PBS_", "LSB_", "SGE_")
_NAMES = {"SLURM_": "Slurm", "PBS_": "PBS", "LSB_": "LSF", "SGE_": "the grid engine"}


def counted(name: str) -> str:
    """Why a variable that a batch system sets is not known; empty for other variables."""
    for prefix in _BATCH:
        if name.startswith(prefix):
            return f"environment variable {name}, set by {_NAMES[prefix]}"
    return ""
