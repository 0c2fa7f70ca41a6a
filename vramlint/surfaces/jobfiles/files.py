"""Any file that holds commands: from its form to its workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.readers.json import read_json
from vramlint.surfaces.jobfiles.docker import workloads_of_dockerfile
from vramlint.surfaces.jobfiles.make import workloads_of_makefile
from vramlint.surfaces.jobfiles.scripts import ReadShell
from vramlint.surfaces.jobfiles.slurm import workload_of_script
from vramlint.surfaces.jobfiles.submissions import submitted
from vramlint.surfaces.jobfiles.tables import workloads_of_table, workloads_of_yaml
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document
from vramlint.values import Table


def workloads_of_file(document: Document, form: str, read: ReadShell) -> tuple[Workload, ...]:
    """The workloads of a file of that written form: shell, make, docker, yaml or json.

    Python is a program before it is a job file: `workloads_of_program` takes it.
    """
    known = _FORMS.get(form)
    found = known(document, read) if known else ()
    sent = (job for workload in found for job in submitted(document.path, workload.commands))
    return (*found, *sent)


def _script(document: Document, read: ReadShell) -> tuple[Workload, ...]:
    return (workload_of_script(document, read),)


def _json(document: Document, read: ReadShell) -> tuple[Workload, ...]:
    root = read_json(document).root
    return workloads_of_table(document, root, read) if isinstance(root, Table) else ()


_FORMS: Mapping[str, Callable[[Document, ReadShell], tuple[Workload, ...]]] = MappingProxyType(
    {
        "shell": _script,
        "make": workloads_of_makefile,
        "docker": workloads_of_dockerfile,
        "yaml": workloads_of_yaml,
        "json": _json,
    }
)
