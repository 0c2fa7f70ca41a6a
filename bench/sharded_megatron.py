"""The job of a row that Megatron-LM's own code ran: vramlint's reading of its flags, for a rank of its stage."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from vramlint.job import Job
from vramlint.memory.pipeline_layout import parsed
from vramlint.memory.ranks import stage_of
from vramlint.resolve import Context, resolve
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.values import Entry, Items, Scalar, Table, Value

Row = dict[str, Any]


def megatron_job(row: Row) -> Job:
    """The job of the rank that was followed.

    Raises:
        ValueError: the flags describe a run that is not followed.
    """
    case = row["case"]
    flags, wanted = case["flags"], case["parallelism"]
    table = Table(tuple([Entry(f"--{name}", None, _value(value)) for name, value in flags.items()]))
    sheet = read_config(framework_of("megatron"), "pretrain_gpt.yaml", table, None)
    (run,) = resolve([sheet], Context(world_size=wanted["world"]))
    job = run.jobs[0]
    engine = job.parallelism.megatron
    if engine is None:
        raise ValueError(next(fact.reason for fact in run.facts if fact.name == "parallelism"))
    if engine.layout:
        engine = replace(engine, chunks=max(1, len(parsed(engine.layout)) // engine.pipeline))
    job = replace(job, parallelism=replace(job.parallelism, rank=wanted.get("rank", 0)))
    return stage_of(job, engine, wanted.get("stage", 0))


def _value(value: object) -> Value:
    if isinstance(value, list):
        return Items(tuple([_value(one) for one in value]))
    return Scalar(value if isinstance(value, str | int | float | bool) else None)
