"""`fit` with several GPUs: the jobs of files planned for each of them, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.api.asking import Asking, World, rewriting
from vramlint.api.declared import request
from vramlint.api.fitting import Request, fit_files, opened
from vramlint.api.source import Surroundings
from vramlint.api.verifying import edit
from vramlint.catalog.gpu_requests import GpuRequest
from vramlint.discovery import SourceFile
from vramlint.estimate import Slowdown
from vramlint.plans import FitReport, Fitting, Offer, Plan, Refused
from vramlint.settings import Settings
from vramlint.text import Document

MILLION = 10**6
HOUR = 3600.0


class _Answer(Struct, frozen=True):
    """What comes of one offer for one job."""

    offer: Offer
    wanted: GpuRequest
    fitting: Fitting


def fit_offers(
    files: Sequence[SourceFile],
    settings_of: Callable[[str], Settings],
    surroundings: Surroundings,
    asked: Request,
    offers: Sequence[Offer],
) -> FitReport:
    """The first plan of each job for each offer: by the price of a token, or without prices by memory.

    Args:
        files: what holds the jobs.
        settings_of: settings, by path.
        surroundings: the outside world.
        asked: which jobs, and what plans may change.
        offers: the machines.

    Raises:
        UnknownGpuError: the catalog lacks the GPU of an offer.
        AmbiguousJobError: `asked.job` names no job, or several.
    """
    plain = World(tuple(files), surroundings)
    documents = opened(files, settings_of, surroundings, asked).documents
    found: dict[tuple[str, str], list[_Answer]] = {}
    for offer in offers:
        wanted = request(offer.gpu)
        world = Asking(plain, settings_of, asked).world(wanted, offer.gpu)
        report = fit_files(world.files, settings_of, world.around, asked._replace(most=1))
        for job in report.jobs:
            whole = _whole(job, world, report.documents, documents)
            found.setdefault((job.path, job.name), []).append(_Answer(offer, wanted, whole))
    return FitReport(tuple(_joined(answers) for answers in found.values()), documents)


def _whole(job: Fitting, world: World, changed: Mapping[str, Document], documents: Mapping[str, Document]) -> Fitting:
    """A job's plans with the changes and edits that ask for the machine."""
    reason = (world.unfit or {}).get((job.path, job.name), "")
    if reason:
        return replace(job, status="unresolved", reason=reason, plans=())
    rate = job.tokens_per_second
    as_it_is = Plan((), job.need, Slowdown(1.0, 1.0, ""), 0, gpus=job.gpus, tokens_per_second=rate)
    plans = (as_it_is,) if job.status == "fits" else job.plans[:1]
    return replace(job, plans=tuple(_from_start(plan, world, changed, documents) for plan in plans))


def _from_start(plan: Plan, world: World, changed: Mapping[str, Document], documents: Mapping[str, Document]) -> Plan:
    """A plan whose edits begin with the files as they are."""
    after = {**changed, **(edit(plan.edits, changed) or {})}
    return replace(plan, changes=(*world.changes, *plan.changes), edits=rewriting(documents, after))


def _joined(answers: Sequence[_Answer]) -> Fitting:
    """All answers for a job in one."""
    ordered = sorted((answer for answer in answers if answer.fitting.plans), key=_order)
    plans = tuple(replace(answer.fitting.plans[0], gpu=answer.offer.gpu, price=_price(answer)) for answer in ordered)
    refused = tuple(_refused(answer) for answer in answers if not answer.fitting.plans)
    notes = tuple(dict.fromkeys(note for answer in ordered for note in answer.fitting.notes))
    job = answers[0].fitting
    unresolved = not plans and all(answer.fitting.status == "unresolved" for answer in answers)
    status = "plans" if plans else "unresolved" if unresolved else "nothing"
    reason = job.reason if unresolved else ""
    return Fitting(
        job.name, job.path, status, reason=reason, plans=plans, notes=notes, offers=len(answers), refused=refused
    )


def _order(answer: _Answer) -> tuple[float, ...]:
    """By what a token costs, where an offer has a price and its time is known; else by the memory of the machine."""
    price = _price(answer)
    memory = _gpus(answer) * answer.wanted.gpu.memory_bytes
    return (0.0, sum(price), memory) if price is not None else (1.0, memory)


def _gpus(answer: _Answer) -> int:
    """GPUs that are paid for."""
    return max(answer.wanted.count or 1, answer.fitting.plans[0].gpus)


def _price(answer: _Answer) -> tuple[float, float] | None:
    """Of a million tokens, between two bounds."""
    rate = answer.fitting.plans[0].tokens_per_second
    if answer.offer.price is None or rate is None or not rate[0]:
        return None
    each = answer.offer.price * _gpus(answer) / HOUR * MILLION
    return each / rate[1], each / rate[0]


def _refused(answer: _Answer) -> Refused:
    job = answer.fitting
    need = job.nearest.peak if job.nearest is not None else job.need
    return Refused(answer.offer.gpu, need, job.limit, job.reason)
