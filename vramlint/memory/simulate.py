"""From a job to its estimate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.catalog.liger import FUSED_HEAD
from vramlint.catalog.unsloth import KERNELS
from vramlint.estimate import BEYOND, Estimate, RankPeak, Work
from vramlint.job import Job
from vramlint.memory import data_parallel, division, generation, methods, optimizers, quantization
from vramlint.memory.architectures import find_family, find_stand_in, is_simulated
from vramlint.memory.architectures.causal_lm import IN_PLACE, LIGER, WITHOUT_LOGITS, CausalLM
from vramlint.memory.architectures.family import Network
from vramlint.memory.bound import bounded
from vramlint.memory.collection import uncollected
from vramlint.memory.forward import Forward
from vramlint.memory.inventory import Inventory
from vramlint.memory.ops.dynamic_loss import DYNAMIC
from vramlint.memory.ops.head_chunks import BY_CHUNK, LOGITS, WITH_HEAD
from vramlint.memory.ops.inductor import COMPILED
from vramlint.memory.rank import Sharding
from vramlint.memory.recorder import Recorder
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.repetition import Layout
from vramlint.memory.retraced import Passes, Tracing, key_of
from vramlint.memory.sharding import sharding_of
from vramlint.memory.step import Step
from vramlint.memory.summary import offloaded, summarize, widened, with_segments
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter
from vramlint.memory.weights import Builder
from vramlint.memory.within import ExceededError, exceeding, recorder_of
from vramlint.memory.workspaces import Workspaces

if TYPE_CHECKING:
    from vramlint.memory.ranks import Kind

SIMULATED_LOSSES = frozenset(
    {"causal-lm", IN_PLACE, LIGER, DYNAMIC, BY_CHUNK, WITH_HEAD, LOGITS, COMPILED, *WITHOUT_LOGITS}
)


def simulate(job: Job, *, reserved: bool = True, log: bool = False, observed: bool = False) -> Estimate:
    """Peak memory of one GPU for `job`, the worst rank's: of a training run in the steady state, or of a generation.

    An architecture without a simulator, or a config without the dimensions it needs, is bounded from its
    parameter count. `reserved=False` skips the allocator's emulation, which costs most of the time: the
    reserved figures are then the allocated ones. `log=True` adds every tensor's coming and going, but for what
    thinning.py leaves out. `observed=True` is for steps that were traced under a dispatch mode, which keeps autograd
    from adding the gradients of a weight that is used twice in place (torch 2.13 torch/csrc/autograd/input_buffer.cpp,
    accumulate).
    """
    return trace(job, observed=observed).estimate(reserved=reserved, log=log)


class Simulation(Protocol):
    """A run that was traced, of which estimates are made with and without the allocator."""

    @property
    def events(self) -> int:
        """Tensors' comings and goings that are kept for the next estimate."""

    def estimate(self, *, reserved: bool = True, log: bool = False) -> Estimate:
        """What `simulate` gives."""


@uncollected()
def trace(job: Job, *, observed: bool = False, limit: int | None = None, passes: Passes | None = None) -> Simulation:
    """The run of `job`, to be estimated.

    Args:
        job: the job.
        observed: as of `simulate`.
        limit: bytes of the device beyond which the run need not be followed; its estimates then are of method
            `BEYOND`. None: it is followed to its end.
        passes: those of other jobs, which are traced no more than once.
    """
    if division.is_divided(job):
        return _ranks(job, observed=observed, limit=limit, passes=passes)
    family = find_family(job.model.model_type, job.model.task)
    stand_in = find_stand_in(job.model.model_type, job.model.task, job.model.config) if family is None else None
    family = family or stand_in
    refused = _refusal(job, family)
    if family is None or refused:
        return _Bound(bounded(_counted(job, family), refused))
    try:
        family = _patched(family, job)
        run = partial(_run, job, family, observed=observed, limit=limit, passes=passes)
        found = run()
        idle = _idle(found[0].parameters) if _hides(job) else frozenset()
        if idle:
            found = run(idle)
    except ExceededError as error:
        return _Bound(exceeding(job, error))
    except NotFollowedError as error:
        return _Bound(bounded(job, f"{error} is not simulated"))
    except (KeyError, ValueError, ZeroDivisionError) as error:
        return _Bound(bounded(job, f"config.json gives no usable {error}"))
    return _Trace(job, *found, idle, stands_in=stand_in is not None)


class _Bound(Struct, frozen=True):
    """A run that is not simulated."""

    bound: Estimate
    events: int = 0

    def estimate(self, *, reserved: bool = True, log: bool = False) -> Estimate:
        """The bound."""
        return self.bound


class _Trace(Struct, frozen=True):
    """A run of one rank."""

    job: Job
    inventory: Inventory
    sharding: Sharding
    recorder: Recorder
    work: tuple[Work, ...]
    idle: frozenset[str]
    stands_in: bool
    """The network is not the model's own but a llama of its dimensions."""
    known: list[Estimate] = field(default_factory=list)
    """That of the tensors alone, once it was asked for."""

    @property
    def events(self) -> int:
        """Of one repetition of everything."""
        return sum(len(block.events) for block in self.recorder.blocks)

    @uncollected()
    def estimate(self, *, reserved: bool = True, log: bool = False) -> Estimate:
        """The peak, and what it consists of."""
        parameters = self.inventory.parameters
        estimate = self._alone(log=log)
        if reserved:
            estimate = with_segments(self.job, estimate, self.sharding, self.recorder)
        estimate = replace(estimate, work=self.work)
        if self.idle:
            hidden = sum(p.multiplicity for p in parameters if p.name in self.idle)
            note = f"{hidden} parameter tensors that could train get no gradient, as reentrant checkpoints hide them"
            estimate = replace(estimate, notes=(*estimate.notes, note))
        if self.job.offloads_activations:
            estimate = offloaded(estimate)
        return widened(self.job, estimate) if self.stands_in else estimate

    def _alone(self, *, log: bool) -> Estimate:
        """Of the tensors alone."""
        if log or not self.known:
            found = summarize(self.job, self.inventory.parameters, self.sharding, self.recorder, log=log)
            if log:
                return found
            self.known.append(found)
        return self.known[0]


class _Ranks(Struct, frozen=True):
    """A run of several kinds of ranks."""

    kinds: Sequence[Kind]
    simulations: Sequence[Simulation]

    @property
    def events(self) -> int:
        """Of all kinds."""
        return sum(simulation.events for simulation in self.simulations)

    def estimate(self, *, reserved: bool = True, log: bool = False) -> Estimate:
        """The estimate of the rank that needs the most; what one of them refuses is refused."""
        estimates = [simulation.estimate(reserved=reserved, log=log) for simulation in self.simulations]
        refused = next((estimate for estimate in estimates if estimate.method != "simulated"), None)
        if refused is not None:
            return refused
        worst = max(estimates, key=lambda estimate: estimate.device)
        peaks = [
            RankPeak(kind.name, kind.ranks, estimate.allocated, estimate.device, kind.holds, estimate.work)
            for kind, estimate in zip(self.kinds, estimates, strict=True)
        ]
        return replace(worst, ranks=tuple(peaks)) if len(peaks) > 1 else worst


def _ranks(job: Job, *, observed: bool, limit: int | None, passes: Passes | None) -> Simulation:
    """The ranks that the run's parallelism makes."""
    try:
        found = list(division.kinds(job))
    except (KeyError, NotFollowedError) as error:
        model = job.model
        family = find_family(model.model_type, model.task)
        family = family or find_stand_in(model.model_type, model.task, model.config)
        return _Bound(bounded(_counted(job, family), f"{error} is not simulated"))
    simulations: list[Simulation] = []
    for kind in found:
        simulations.append(trace(kind.job, observed=observed, limit=limit, passes=passes))
        last = simulations[-1]
        if isinstance(last, _Bound) and last.bound.method == BEYOND:
            return _Ranks(found[: len(simulations)], simulations)  # the others hardly need less than it has shown
    return _Ranks(found, simulations)


def _patched(family: type[Network], job: Job) -> type[Network]:
    """The family with Liger's or Unsloth's kernels, where the run uses them; others need not wait for their imports."""
    if not job.kernels:
        return family
    if KERNELS in job.kernels:
        from vramlint.memory.architectures.unsloth_kernels import patched as patched_by_unsloth

        return patched_by_unsloth(family, job.model.model_type, job.gpu.usable_bytes if job.gpu else 0)
    from vramlint.memory.architectures.liger_kernels import patched

    return patched(family, job.model.model_type, job.kernels)


def _run(
    job: Job,
    family: type[Network],
    idle: frozenset[str] = frozenset(),
    *,
    observed: bool,
    limit: int | None,
    passes: Passes | None,
) -> tuple[Inventory, Sharding, Recorder, tuple[Work, ...]]:
    """Build the model and record the run; `idle` parameters are known to get no gradient, the others as of `trace`.

    Raises:
        ExceededError: the run surely exceeds the limit.
        NotFollowedError: the model has a variant that is not simulated.
        KeyError, ValueError, ZeroDivisionError: its config has no usable dimensions.
    """
    builder = Builder(job, family.default_targets.get(job.model.model_type, ()), idle)
    network = family(builder, {"model_type": job.model.model_type, **job.model.config})
    if network.embedding is not None:
        network.embedding.embedding = True
    if isinstance(network, CausalLM) and network.embedding is not None:
        network.prompt = methods.prompt_of(builder.adapted, network.embedding.shape[1])
        network.prefix = methods.prefix_of(builder.adapted, job.model.config)
    builder.adapted.finish()
    inventory = builder.inventory
    network.penalised = inventory.penalised
    sharding = sharding_of(job, inventory.parameters, inventory.buffers, inventory.no_decay)
    sharding = data_parallel.holdings(job, sharding)
    key = key_of(job, sharding, idle, observed=observed) if passes is not None else None
    tracing = passes.find(key) if passes is not None else None
    traced = inventory.parameters if tracing is None else tracing.parameters
    reached = None if idle or not _hides(job) else lambda: not _idle(traced)
    recorder = recorder_of(job, sharding, limit, reached)
    if job.objective.kind == "training":
        stepped = partial(Step, job, network, inventory, sharding, observed=observed)
        if tracing is None and passes is not None and key is not None:
            tracing = passes.start(key, Tracing(stepped(Recorder()), traced))
        step = stepped(recorder)
        step.run(tracing)
        for parameter, other in zip(inventory.parameters, traced, strict=True):
            parameter.reached = other.reached
        work = step.work
    else:
        _infer(job, network, recorder)
        work = ()
    recorder.close()
    return inventory, sharding, recorder, work


def _hides(job: Job) -> bool:
    """Whether some parameters that could train may get no gradient.

    A reentrant checkpoint gives gradients to nothing inside it unless one of its inputs needs one (torch 2.13
    torch/utils/checkpoint.py). Shards are made before anybody knows;
    Megatron's own checkpoints take hidden states that need one.
    """
    if job.objective.kind != "training" or job.parallelism.strategy in {"deepspeed", "fsdp", "megatron"}:
        return False
    return job.checkpointing.mode == "reentrant"


def _idle(parameters: Sequence[Parameter]) -> frozenset[str]:
    """Names of parameters that could train but got no gradient: the optimizer makes no states for them."""
    return frozenset([p.name for p in parameters if p.requires_grad and not p.reached])


def _counted(job: Job, family: type[Network] | None) -> Job:
    """The job with the number of its model's parameters, which the network tells where no row of the catalog does."""
    if family is None or job.model.parameter_count is not None:
        return job
    plain = replace(job, adapter=None, quantization=None)
    builder = Builder(plain, ())
    try:
        family(builder, {"model_type": job.model.model_type, **job.model.config})
    except (KeyError, ValueError, ZeroDivisionError):
        return job
    count = sum(parameter.numel * parameter.multiplicity for parameter in builder.inventory.parameters)
    return replace(job, model=replace(job.model, parameter_count=count))


def _infer(job: Job, network: Network, recorder: Recorder) -> None:
    forward = Forward(job, network, Tape(recorder, Layout.of(job), Workspaces(job, recorder)))
    with forward.tape.inference():
        generation.generate(forward, job.batch, job.batch.generated_tokens)


def _refusal(job: Job, family: type[Network] | None) -> str:
    """Why the step is not simulated; empty if it is."""
    if family is None and is_simulated(job.model.model_type):
        return f"{job.model.model_type} for the task {job.model.task} is not simulated"
    if family is None:
        return f"the architecture {job.model.model_type or 'of this model'} is not simulated"
    if job.objective.kind != "training":
        return "" if issubclass(family, CausalLM) else f"inference of {job.model.model_type} is not simulated"
    if job.parallelism.model_shards > 1:
        return "training in which GPUs share matrices, layers or experts is not simulated"
    if job.parallelism.sequence_shards > 1:
        return "training in which GPUs share every sequence is not simulated"
    if job.precision.products is not None:
        return f"training with matrix products in {job.precision.products} is not simulated"
    if job.objective.loss not in SIMULATED_LOSSES:
        return f"training by {job.objective.loss} is not simulated"
    if job.objective.reference_model:
        return "training with a reference beside the model is not simulated"
    if job.objective.loss == DYNAMIC and FUSED_HEAD in job.kernels:
        return "training by dft with Liger's head is not simulated"
    if job.adapter is not None and job.adapter.method not in methods.SIMULATED:
        return f"the {job.adapter.method} adapter is not simulated"
    if job.adapter is not None and job.adapter.method in methods.WITH_PROMPTS and job.model.task != "causal-lm":
        return f"{job.adapter.method} of another model than a causal language model is not simulated"
    if job.quantization is not None and not quantization.is_simulated(job.quantization):
        return f"the {job.quantization.bits}-bit {job.quantization.kind} quantization is not simulated"
    return optimizers.refused(job)
