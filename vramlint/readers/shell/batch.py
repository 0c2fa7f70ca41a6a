"""Variables that Slurm sets from the headers of a script: `#SBATCH -N 2` makes `SLURM_NNODES` 2."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vramlint.patterns import lazy
from vramlint.readers.shell.pieces import Pieces, Text
from vramlint.readers.shell.source import Range, Source
from vramlint.values import Entry, Scalar

_COUNT = lazy(r"()(\d+)")
_GPUS = lazy(r"(?:.*,)?((?:gpu:)?(?:[A-Za-z][\w.-]*:)?)(\d+)(?:\(.*\))?")
_GRES = lazy(r"(?:.*,)?(gpu:(?:[A-Za-z][\w.-]*:)?)(\d+)(?:[,(].*)?")
_SET_BY: dict[str, tuple[tuple[str, re.Pattern[str]], ...]] = {
    "SLURM_NNODES": (("-N", _COUNT), ("--nodes", _COUNT)),
    "SLURM_JOB_NUM_NODES": (("-N", _COUNT), ("--nodes", _COUNT)),
    "SLURM_NTASKS": (("-n", _COUNT), ("--ntasks", _COUNT)),
    "SLURM_NPROCS": (("-n", _COUNT), ("--ntasks", _COUNT)),
    "SLURM_NTASKS_PER_NODE": (("--ntasks-per-node", _COUNT),),
    "SLURM_TASKS_PER_NODE": (("--ntasks-per-node", _COUNT),),
    "SLURM_CPUS_PER_TASK": (("-c", _COUNT), ("--cpus-per-task", _COUNT)),
    "SLURM_GPUS": (("-G", _GPUS), ("--gpus", _GPUS)),
    "SLURM_GPUS_PER_NODE": (("--gpus-per-node", _GPUS), ("--gres", _GRES)),
    "SLURM_GPUS_ON_NODE": (("--gpus-per-node", _GPUS), ("--gres", _GRES)),
    "SLURM_GPUS_PER_TASK": (("--gpus-per-task", _GPUS),),
}
"""Variables with the options that set them (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES")."""


def batch_variables(headers: Sequence[Entry], source: Source) -> dict[str, Pieces]:
    """The variables, each written where its header is."""
    options = {entry.key: entry.value for entry in headers}
    found: dict[str, Pieces] = {}
    for name, forms in _SET_BY.items() if options else ():
        for option, form in forms:
            value = options.get(option)
            if not isinstance(value, Scalar) or not isinstance(value.value, str) or value.place is None:
                continue
            match = form.fullmatch(value.value)
            if match is not None:
                span = value.place.span
                start = source.document.offset(span.line, span.column)
                at = Range(source, start + match.start(2), start + match.end(2))
                found[name] = (Text(match[2], at, "environment", True),)
    return found
