"""Job files in YAML and JSON: from a table, or a whole file, to its workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.surfaces.jobfiles import (
    azureml,
    beaker,
    compose,
    github,
    gitlab,
    kubernetes,
    skypilot,
    sweeps,
    trainers,
    vertex,
)
from vramlint.surfaces.jobfiles.kinds import job_kind_of_table
from vramlint.surfaces.jobfiles.scripts import ReadShell, Scripts
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document
from vramlint.values import Table

_KINDS: Mapping[str, Callable[[Scripts, Table], tuple[Workload, ...]]] = MappingProxyType(
    {
        "github-workflow": github.workloads,
        "gitlab-ci": gitlab.workloads,
        "kubernetes": kubernetes.workloads,
        "skypilot": skypilot.workloads,
        "compose": compose.workloads,
        "vertex": vertex.workloads,
        "azure-ml": azureml.workloads,
        "beaker": beaker.workloads,
        "dstack": trainers.dstack,
        "determined": trainers.determined,
        "mosaicml": trainers.mosaicml,
        "sweep": sweeps.workloads,
    }
)


def workloads_of_table(document: Document, table: Table, read: ReadShell) -> tuple[Workload, ...]:
    """What one table of a job file runs, and on which machine; nothing where it is no job file."""
    kind = job_kind_of_table(document.path, table)
    return _KINDS[kind](Scripts(document, read), table) if kind else ()


def workloads_of_yaml(document: Document, read: ReadShell) -> tuple[Workload, ...]:
    """The workloads of all documents of a YAML file."""
    from vramlint.readers.yaml import read_yaml_stream

    roots = (reading.root for reading in read_yaml_stream(document))
    return tuple(
        workload for root in roots if isinstance(root, Table) for workload in workloads_of_table(document, root, read)
    )
