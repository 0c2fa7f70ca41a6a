"""Runs, jobs and estimates written by hand."""

from vramlint.estimate import Amount, Estimate, PhasePeak
from vramlint.facts import Candidate, Fact, FactValue, Origin, Remark
from vramlint.job import Gpu, Job, Model
from vramlint.resolve.run import Run
from vramlint.text import Place, Span

GIB = 2**30

GPU = Gpu("rtx3090", "RTX 3090", 24 * GIB, int(23.68 * GIB), (8, 6), True, 300 * 2**20, 8 * 2**20)


def place(line: int, column: int = 1, length: int = 5, path: str = "train.py") -> Place:
    return Place(path, Span(line, column, line, column + length))


def fact(
    name: str,
    *values: FactValue,
    line: int | None = None,
    origin: Origin = Origin.WRITTEN,
    key: str = "",
    via: str = "literal",
    reason: str = "",
    path: str = "train.py",
) -> Fact:
    at = place(line, path=path) if line else None
    return Fact(name, tuple(Candidate(value, at) for value in values), origin, key, via, reason=reason)


def estimate(
    allocated: float, reserved: float | None = None, outside: float = 0, method: str = "simulated", **components: float
) -> Estimate:
    sizes = components or {"weights": allocated}
    amounts = tuple(Amount(name.replace("_", " "), int(size * GIB)) for name, size in sizes.items())
    peak = int(allocated * GIB)
    held = int((reserved or allocated) * GIB)
    return Estimate(method, peak, held, int(outside * GIB), "optimizer", (PhasePeak("optimizer", peak, held),), amounts)


def run(
    *facts: Fact,
    jobs: tuple[Job, ...] = (),
    kind: str = "training",
    gpu: Gpu | None = GPU,
    unresolved: tuple[str, ...] = (),
    open_facts: tuple[str, ...] = (),
    remarks: tuple[Remark, ...] = (),
    anchor: Place | None = None,
) -> Run:
    jobs = jobs or (Job(Model("meta-llama/Llama-2-7b-hf", "llama"), gpu=gpu),)
    return Run(
        name="train.py",
        path="train.py",
        paths=("train.py",),
        kind=kind,
        facts=facts,
        jobs=jobs,
        unresolved=unresolved,
        open_facts=open_facts,
        gpu=gpu,
        remarks=remarks,
        anchor=anchor,
    )
