"""From the log of a run to its estimate: peaks by phase, what is alive at the highest, what the allocator holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from vramlint.estimate import Amount, Estimate, Log, PhasePeak, Stretch
from vramlint.job import Job
from vramlint.memory import optimizers, workspaces
from vramlint.memory.device import engine_workspace_bytes, outside
from vramlint.memory.holdings import Tensors, total, unrounded
from vramlint.memory.host import node_of
from vramlint.memory.kinds import KINDS, OTHER
from vramlint.memory.loading import loading_peak
from vramlint.memory.merging import merging_peak
from vramlint.memory.playback import Playback
from vramlint.memory.played import peak_held, pressure_of, settled
from vramlint.memory.pressure import Pressure
from vramlint.memory.rank import Sharding
from vramlint.memory.recorder import BEFORE, Label, Recorder, rounded
from vramlint.memory.saving import saving_peak
from vramlint.memory.tensor import Parameter
from vramlint.memory.timeline import Peak, Timeline, summed

LOADING, MERGING, SAVING = "loading", "merging", "saving"
STEP = ("forward", "backward", "optimizer")
"""The phases of a training step."""
PHASES = frozenset({*STEP, "generation", "evaluation", "prefill", "decode"})
"""The phases of a run whose peaks are reported."""
FEWER, MORE = 0.25, 0.5
"""How much less and more activations llama's close relatives keep than llama itself, all dimensions equal: those with
gated MLPs and llama's attention -0.20 to +0.45 in bfloat16, without and with autocast (OLMo 2 and GLM-4 with their
additional norms the most, StableLM the least)."""
FAITHFUL = 1.05
"""Times the peak of the tensors that a log as it is played may come to: where repetitions free less of one another than
they do, the played segments say nothing of a full card."""
GIB = 1 << 30
LARGEST = 12
"""How many of the largest tensors at the peak an estimate names."""


def summarize(
    job: Job, parameters: Sequence[Parameter], sharding: Sharding, recorder: Recorder, *, log: bool
) -> Estimate:
    """The estimate of a job whose run `recorder` has logged, in which the allocator reserves what tensors have."""
    trained = [p for p in parameters if p.requires_grad and job.objective.kind == "training"]
    resident = _staying(job, sharding, recorder)
    persistent = [*resident, *_late_workspaces(recorder), *sharding.states]
    whole = Timeline(recorder.blocks, recorder.sizes, 0)
    timeline = whole.beside(total(persistent), recorder.once)
    peaks = {phase: peak for phase, peak in timeline.peaks().items() if phase in PHASES}
    phase, peak = max(peaks.items(), key=lambda item: item[1].bytes)
    alive = timeline.alive_at(peak)
    components = _components(alive, persistent, recorder.labels)
    loaded = loading_peak(job, parameters, sharding.persistent)
    merged = merging_peak(job, parameters, persistent)
    saved = saving_peak(job, parameters, persistent)
    top = max(peak.bytes, loaded, merged, saved)
    between = ((MERGING, merged, persistent), (SAVING, saved, persistent))
    for name, size, held in ((LOADING, loaded, sharding.persistent), *between):
        if peak.bytes < size == top:
            phase, alive = name, {}
            components = _components({}, [*held, Tensors("temporaries", size - total(held))], ())
    first = whole.beside(total(resident), recorder.later).peaks()
    beside = outside(job)
    reached = [(LOADING, loaded), *((name, found.bytes) for name, found in peaks.items())]
    reached += [(name, size) for name, size, _ in between if size]
    return Estimate(
        method="simulated",
        allocated=top,
        reserved=top,
        blocks=top,
        outside=sum(part.bytes for part in beside),
        outside_parts=beside,
        peak_phase=phase,
        phases=tuple(PhasePeak(name, size, size) for name, size in reached),
        first_step=tuple(_first_step(first)),
        components=components,
        activations=_activations(alive, recorder.labels),
        tensors=_largest(alive, recorder.labels),
        parameters=unrounded(persistent, "weights"),
        trainable_parameters=sum(p.numel * p.multiplicity for p in trained),
        total_parameters=sum(p.numel * p.multiplicity for p in parameters),
        gradients=0 if sharding.hooked else sum(p.nbytes * p.multiplicity for p in trained),
        optimizer_states=unrounded(persistent, "optimizer states", "master weights"),
        saved_activations=_saved(timeline),
        host=sharding.host,
        node=node_of(job, parameters),
        notes=tuple(_notes(job, parameters)),
        log=_log(persistent, recorder) if log else None,
    )


def with_segments(job: Job, estimate: Estimate, sharding: Sharding, recorder: Recorder) -> Estimate:
    """What `summarize` gives, with the segments that the allocator reserves for it."""
    top, resident = estimate.allocated, _staying(job, sharding, recorder)
    playback = Playback.of(job, resident, recorder, sharding.wrapped)
    taken = peak_held(playback)
    slack, spare = max(0, taken.reserved - top), max(0, settled(playback) - total(resident))
    room = job.gpu.usable_bytes - estimate.outside if job.gpu else 0
    pressure = Pressure()
    if top <= room and taken.tensors <= FAITHFUL * top:
        pressure = pressure_of(playback, room, taken.reserved)
    return replace(
        estimate,
        reserved=top + slack,
        blocks=top + min(taken.unsplit, slack),
        least=pressure.least,
        tight=pressure.tight,
        phases=tuple(
            replace(peak, reserved=peak.reserved + (spare if peak.phase == LOADING else slack))
            for peak in estimate.phases
        ),
        first_step=tuple(replace(peak, reserved=peak.reserved + slack) for peak in estimate.first_step),
        notes=(*estimate.notes, *_shortage(job, pressure.least)),
    )


def _staying(job: Job, sharding: Sharding, recorder: Recorder) -> list[Tensors]:
    """What is there from the first forward on."""
    resident = [*sharding.persistent, *(Tensors(*lasting) for lasting in recorder.lasting)]
    return [*resident, Tensors(workspaces.COMPONENT, engine_workspace_bytes(job))]


def widened(job: Job, estimate: Estimate) -> Estimate:
    """The estimate of a llama that stands in for an architecture that is not known: its activations may differ."""
    kept = sum(part.bytes for part in estimate.components if part.name == "activations")
    kept = max(kept, estimate.saved_activations)
    below, above = int(FEWER * kept), int(MORE * kept)
    note = (
        f"the architecture {job.model.model_type or 'of this model'} is not known: simulated as a llama of its "
        f"dimensions, which may be {below / GIB:.2f} GiB too high or {above / GIB:.2f} GiB too low"
    )
    return replace(estimate, stand_in="llama", below=below, above=above, notes=(note, *estimate.notes))


def offloaded(estimate: Estimate) -> Estimate:
    """The estimate of a run whose saved tensors wait on the host: not followed, they count as on the device."""
    kept = sum(part.bytes for part in estimate.components if part.name == "activations")
    below = min(kept, estimate.saved_activations)
    note = f"activations that are offloaded count as on the device: the peak may be {below / GIB:.2f} GiB lower"
    return replace(estimate, below=max(below, estimate.below), notes=(note, *estimate.notes))


def _log(persistent: Sequence[Tensors], recorder: Recorder) -> Log:
    """The steady state's step; what only the first step makes is there from the start."""
    totals = _resident(persistent)
    return Log(
        resident=tuple(Amount(name, size) for name, size in totals.items() if size),
        stretches=tuple(
            Stretch(
                block.phase,
                block.repeat,
                tuple((index, count) for index, count in block.events if index not in recorder.once),
                tuple(block.layers),
            )
            for block in recorder.blocks
            if block.phase != "end"
        ),
        sizes=tuple(map(rounded, recorder.sizes)),
        names=tuple(label.describe() for label in recorder.labels),
        components=tuple(label.component for label in recorder.labels),
    )


def _late_workspaces(recorder: Recorder) -> Iterator[Tensors]:
    """Workspaces that the first step's backward makes."""
    for index in sorted(recorder.once):
        if recorder.labels[index].component == workspaces.COMPONENT:
            yield Tensors(workspaces.COMPONENT, recorder.sizes[index])


def _first_step(peaks: Mapping[str, Peak]) -> Iterator[PhasePeak]:
    """The phases of the first step; where the steady state needs the step before it, that is the first."""
    for phase in STEP:
        peak = peaks.get(f"{BEFORE}{phase}") or peaks.get(phase)
        if peak is None:
            return
        yield PhasePeak(phase, peak.bytes, peak.bytes)


def _notes(job: Job, parameters: Sequence[Parameter]) -> Iterator[str]:
    update = optimizers.update_of(job) if job.objective.kind == "training" else None
    paged = sum(update.managed(p) * p.multiplicity for p in parameters if p.requires_grad) if update else 0
    if update is not None and update.note:
        yield update.note
    if paged:
        yield f"{paged / GIB:.2f} GiB of paged optimizer states come on top; under pressure they move to the host"
    mesh = job.parallelism.mesh
    if mesh is not None and mesh.expert > 1:
        yield "every expert is taken to get as many tokens; a rank whose experts are chosen more often holds more"
    if job.quantization is not None and job.quantization.kind == "int8":
        yield "columns of inputs with outliers, which 8-bit products multiply in 16 bits, are left out"


def _shortage(job: Job, least: int) -> Iterator[str]:
    if least:
        remedy = " (PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True avoids that)"
        yield (
            f"the tensors would fit, but not the segments that they break up: torch's allocator needs "
            f"{least / GIB:.2f} GiB{'' if job.allocator.expandable_segments else remedy}"
        )


def _components(alive: Mapping[int, int], persistent: Sequence[Tensors], labels: Sequence[Label]) -> tuple[Amount, ...]:
    """What is alive at the peak by component, largest first; the sum is the peak."""
    totals = summed(alive, lambda index: labels[index].component)
    for name, size in _resident(persistent).items():
        totals[name] = totals.get(name, 0) + size
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    return tuple(Amount(name, size) for name, size in ordered if size)


def _activations(alive: Mapping[int, int], labels: Sequence[Label]) -> tuple[Amount, ...]:
    kept = {index: size for index, size in alive.items() if labels[index].component == "activations"}
    totals = summed(kept, lambda index: KINDS.get(labels[index].operator, OTHER))
    return tuple(Amount(name, size) for name, size in totals.items() if size)


def _resident(persistent: Sequence[Tensors]) -> dict[str, int]:
    """Bytes of what stays, by component."""
    totals: dict[str, int] = {}
    for tensors in persistent:
        totals[tensors.component] = totals.get(tensors.component, 0) + rounded(tensors.nbytes) * tensors.count
    return totals


def _largest(alive: Mapping[int, int], labels: Sequence[Label]) -> tuple[Amount, ...]:
    totals = summed(alive, lambda index: labels[index].describe())
    return tuple(Amount(name, size) for name, size in islice(totals.items(), LARGEST) if size > 0)


def _saved(timeline: Timeline) -> int:
    """Bytes that autograd keeps between the last forward and its backward."""
    start = saved = 0
    before = ""
    for phase, alive in timeline.levels():
        if phase == "forward" and before != "forward":
            start = alive
        elif phase == "backward" and before == "forward":
            saved = alive - start
        before = phase
    return saved
