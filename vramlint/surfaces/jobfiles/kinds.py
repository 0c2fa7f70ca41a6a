"""Which kind of job file a YAML or JSON table is, by its keys; the path only helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles.beaker import is_beaker
from vramlint.surfaces.jobfiles.vertex import pools_of
from vramlint.values import Items, Scalar, Table

_WORKFLOW = lazy(r"(?:^|/)\.(?:github|gitea|forgejo)/workflows/[^/]+\.ya?ml\Z")
_GITLAB = lazy(r"(?:^|/)(?:[^/]*\.?gitlab-ci[^/]*|\.gitlab/.+)\.ya?ml\Z")


def job_kind_of_table(path: str, table: Table) -> str | None:
    """One of the keys of `_TESTS`: github-workflow, kubernetes, skypilot, …; None for anything else."""
    path = path.replace("\\", "/")
    return next((kind for kind, test in _TESTS.items() if test(path, table)), None)


def _github(path: str, table: Table) -> bool:
    if isinstance(table.get("runs", "steps"), Items):
        return True
    jobs = table.get("jobs")
    if not isinstance(jobs, Table):
        return False
    return bool(_WORKFLOW.search(path)) or any(
        isinstance(job.value, Table) and "runs-on" in _keys(job.value) for job in jobs
    )


def _gitlab(path: str, table: Table) -> bool:
    own = {"tags", "stage", "rules", "extends", "before_script"}
    scripts = [entry for entry in table if isinstance(entry.value, Table) and "script" in _keys(entry.value)]
    return bool(scripts) and (
        bool(_GITLAB.search(path)) or any(isinstance(job.value, Table) and _keys(job.value) & own for job in scripts)
    )


def _kubernetes(_path: str, table: Table) -> bool:
    return {"apiVersion", "kind"} <= _keys(table) and bool({"spec", "items"} & _keys(table))


def _skypilot(_path: str, table: Table) -> bool:
    resources = table.get("resources")
    if not isinstance(table.get("run"), Scalar) or not isinstance(resources, Table):
        return False
    own = ("accelerators", "instance_type", "infra", "cloud", "any_of", "ordered", "cpus", "use_spot", "image_id")
    return any(key in _keys(resources) for key in own)


def _compose(_path: str, table: Table) -> bool:
    services = table.get("services")
    if not isinstance(services, Table):
        return False
    own = {"image", "build", "command", "entrypoint"}
    return any(isinstance(service.value, Table) and own & _keys(service.value) for service in services)


def _vertex(_path: str, table: Table) -> bool:
    return pools_of(table) is not None


def _beaker(_path: str, table: Table) -> bool:
    return is_beaker(table)


def _azure(_path: str, table: Table) -> bool:
    schema = table.get("$schema")
    if isinstance(schema, Scalar) and "azureml" in str(schema.value):
        return "command" in _keys(table) or "jobs" in _keys(table)
    environment, compute = table.get("environment"), table.get("compute")
    marked = any(isinstance(value, Scalar) and "azureml:" in str(value.value) for value in (environment, compute))
    return marked and "command" in _keys(table)


def _dstack(_path: str, table: Table) -> bool:
    kind = table.get("type")
    return isinstance(kind, Scalar) and kind.value in ("task", "service") and isinstance(table.get("commands"), Items)


def _determined(_path: str, table: Table) -> bool:
    return "entrypoint" in _keys(table) and bool(
        {"searcher", "hyperparameters"} & _keys(table) or table.get("resources", "slots_per_trial")
    )


def _mosaicml(_path: str, table: Table) -> bool:
    return isinstance(table.get("command"), Scalar) and (
        isinstance(table.get("compute", "gpus"), Scalar) or isinstance(table.get("gpu_num"), Scalar)
    )


def _sweep(_path: str, table: Table) -> bool:
    method = table.get("method")
    named = isinstance(method, Scalar) and method.value in ("grid", "random", "bayes")
    return named and isinstance(table.get("parameters"), Table) and bool({"program", "command"} & _keys(table))


def _keys(table: Table) -> set[str]:
    return {entry.key for entry in table}


_TESTS: Mapping[str, Callable[[str, Table], bool]] = MappingProxyType(
    {
        "github-workflow": _github,
        "gitlab-ci": _gitlab,
        "kubernetes": _kubernetes,
        "skypilot": _skypilot,
        "compose": _compose,
        "vertex": _vertex,
        "azure-ml": _azure,
        "beaker": _beaker,
        "dstack": _dstack,
        "determined": _determined,
        "mosaicml": _mosaicml,
        "sweep": _sweep,
    }
)
