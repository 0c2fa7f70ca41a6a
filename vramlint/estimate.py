"""What the memory model answers. All figures are bytes of one GPU, the worst rank's."""

from __future__ import annotations

from msgspec import Struct

BEYOND = "beyond"
"""Method of an estimate that was given up."""


class Amount(Struct, frozen=True):
    """A named number of bytes."""

    name: str
    bytes: int


class PhasePeak(Struct, frozen=True):
    """The highest point of one phase of a step: forward, backward, optimizer, evaluation."""

    phase: str
    allocated: int
    reserved: int


class Stretch(Struct, frozen=True):
    """Events that happen `repeat` times in a row: (index of a kind of tensor, how many come or go)."""

    phase: str
    repeat: int
    events: tuple[tuple[int, int], ...]
    layers: tuple[int, ...] = ()
    """Numbers of the model's layers that the first repetition runs; none outside layers."""


class Log(Struct, frozen=True):
    """Every tensor of a step that comes or goes, in order. Bytes are rounded to the allocator's blocks."""

    resident: tuple[Amount, ...]
    """What is there all the time."""
    stretches: tuple[Stretch, ...]
    sizes: tuple[int, ...]
    """Bytes by index."""
    names: tuple[str, ...]
    components: tuple[str, ...]


class Work(Struct, frozen=True):
    """Floating-point operations of one micro batch on one GPU, two for a multiplication with its addition."""

    part: str
    """forward, backward, recomputed (what activation checkpointing runs again)."""
    kind: str
    """linear: products with weights; attention: products of activations, nothing taken off for a mask."""
    dtype: str
    layers: bool
    """Inside the model's layers."""
    flops: int


class Traffic(Struct, frozen=True):
    """Bytes that one GPU sends in an optimizer step, or moves between its memory and its cores."""

    name: str
    link: str
    """gpus (the links between GPUs), host (between a GPU and host memory), memory (a GPU's own)."""
    bytes: int
    formula: str


class Duration(Struct, frozen=True):
    """Seconds between two bounds, and what they assume."""

    least: float
    most: float | None
    """None: nothing bounds it."""
    assumption: str


class Slowdown(Struct, frozen=True):
    """Time of a step after a change over that before, between two bounds; equal where only one is known."""

    least: float
    most: float
    assumption: str
    left_out: str = ""
    """What the change adds and nothing here counts."""


class Cost(Struct, frozen=True):
    """What one optimizer step of a run computes and moves."""

    forward: int
    """FLOPs of one micro batch on the GPU that computes the most."""
    backward: int
    recomputed: int
    attention: int
    """Of all three: products of activations, nothing taken off for a causal mask."""
    step: int
    """FLOPs of one optimizer step on all GPUs."""
    micro_batches: int
    """Of an optimizer step on one GPU."""
    gpus: int
    tokens: int | None
    """Positions of an optimizer step on all GPUs; None where the input is no text."""
    traffic: tuple[Traffic, ...] = ()
    bubble: float = 0.0
    """Part of the step in which a stage of a pipeline waits."""
    duration: Duration | None = None
    """Of an optimizer step, where the GPU's rates are known."""
    steps: int | None = None
    """Optimizer steps of the run, where its files say."""
    notes: tuple[str, ...] = ()
    """What is left out."""

    @property
    def micro_batch(self) -> int:
        """FLOPs of one micro batch on the GPU that computes the most."""
        return self.forward + self.backward + self.recomputed

    @property
    def gpu_hours(self) -> tuple[float, float | None] | None:
        """Of one optimizer step, between two bounds."""
        if self.duration is None:
            return None
        least, most = self.duration.least, self.duration.most
        return least * self.gpus / 3600, None if most is None else most * self.gpus / 3600


class RankPeak(Struct, frozen=True):
    """Ranks that hold the same, where a run has several kinds."""

    name: str
    ranks: int
    allocated: int
    device: int
    """With fragmentation and what lies outside torch's allocator."""
    holds: str = ""
    """What it has that others have not, in words: layers, forwards in flight, embedding, logits and loss."""
    work: tuple[Work, ...] = ()


class HostPhase(Struct, frozen=True):
    """What the processes of one machine hold together in host memory in one phase: loading, running, saving."""

    phase: str
    components: tuple[Amount, ...]

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(part.bytes for part in self.components)


class Node(Struct, frozen=True):
    """Host memory and NVMe of one machine of a run; of several that differ, of the one whose process saves."""

    processes: int
    phases: tuple[HostPhase, ...]
    copies: int = 0
    """Processes that have weights to themselves while they load."""
    pinned: int = 0
    """Page-locked bytes while it runs, as they are taken."""
    rounding: int = 0
    """What of it is rounding to powers of two."""
    disk: int = 0
    """Bytes swapped out to NVMe."""


class Estimate(Struct, frozen=True):
    """Peak memory of one concrete job."""

    method: str
    """simulated: every tensor of the step was followed. bounded: the architecture is not known to the
    simulator; `allocated` is a lower bound from the parameter count. beyond: only asked for within a limit, which
    `allocated`, a lower bound, exceeds with `outside`."""
    allocated: int
    """Peak of the tensors, each rounded to 512 bytes."""
    reserved: int
    """Peak of torch.cuda.memory_reserved: the caching allocator's segments."""
    outside: int
    """Device memory outside torch's allocator: CUDA context and communication buffers."""
    peak_phase: str
    phases: tuple[PhasePeak, ...]
    components: tuple[Amount, ...]
    """What is alive at the peak: weights, gradients, optimizer states, activations, logits and loss, … ; they
    sum to `allocated`."""
    activations: tuple[Amount, ...] = ()
    """The component activations by what made them: attention, linear layers, norms, …"""
    tensors: tuple[Amount, ...] = ()
    """The largest tensors alive at the peak."""
    parameters: int = 0
    """Bytes of the model's parameters on this GPU."""
    trainable_parameters: int = 0
    """Number of trainable parameters (elements, unsharded)."""
    total_parameters: int = 0
    """Number of parameters (elements, unsharded)."""
    gradients: int = 0
    optimizer_states: int = 0
    first_step: tuple[PhasePeak, ...] = ()
    """The phases of the first step, in which the optimizer makes its states; `phases` are the steady state's."""
    saved_activations: int = 0
    """Kept by autograd between forward and backward."""
    host: int = 0
    """Bytes of offloaded states in host memory, per rank."""
    node: Node | None = None
    """The machine around the GPU; None of inference."""
    notes: tuple[str, ...] = ()
    """What the reader must know: approximations taken, what is not modelled."""
    log: Log | None = None
    """The whole step, where it was asked for."""
    stand_in: str = ""
    """The architecture that was simulated in place of one that is not known; empty where it is the model's own."""
    below: int = 0
    """Bytes by which the step may need less than `allocated`, where something stands in for something unknown."""
    blocks: int = 0
    """Peak of torch.cuda.memory_allocated as torch counts it: with the rest of a large block that no other tensor
    gets. 0 where the allocator was not played."""
    least: int = 0
    """Bytes that torch's allocator surely needs on the card, where the segments that it cannot give back are what the
    run fails of; 0 elsewhere."""
    tight: bool = False
    """As far as the emulation of the allocator goes, it does not get through on the card."""
    above: int = 0
    """Bytes by which it may need more."""
    outside_parts: tuple[Amount, ...] = ()
    """`outside` by what holds it: the CUDA context, and each communicator of NCCL."""
    ranks: tuple[RankPeak, ...] = ()
    """The peaks of all kinds of rank, in the pipeline's order, where there are several; this one is the worst."""
    work: tuple[Work, ...] = ()
    """What a micro batch of training computes, where it was simulated."""

    @property
    def fragmentation(self) -> int:
        """Bytes that the step needs beyond its tensors: rests of blocks, or segments that cannot be given back."""
        return max(0, self.blocks - self.allocated, self.least - self.allocated)

    @property
    def device(self) -> int:
        """Device memory with which the step runs: tensors, fragmentation and outside."""
        return self.allocated + self.fragmentation + self.outside

    @property
    def device_low(self) -> int:
        """The least device memory with which the step can run."""
        return self.device - self.below

    @property
    def device_need(self) -> int:
        """The device memory with which the step surely runs."""
        return self.device + self.above

    @property
    def device_tensors(self) -> int:
        """What of it tensors take, and what lies outside torch."""
        return self.device_need - self.fragmentation

    @property
    def device_high(self) -> int:
        """Device memory the process holds if the allocator never has to give back segments."""
        return self.reserved + self.outside + self.above

    @property
    def ram(self) -> int:
        """Host memory of one machine at its highest, bytes."""
        return max((phase.bytes for phase in self.node.phases), default=0) if self.node else 0

    @property
    def ram_loading(self) -> int:
        """Host memory of one machine while its processes load the weights, bytes."""
        return self._ram("loading")

    @property
    def ram_running(self) -> int:
        """Host memory of one machine during a step, bytes."""
        return self._ram("running")

    @property
    def ram_saving(self) -> int:
        """Host memory of one machine while its processes save, bytes."""
        return self._ram("saving")

    @property
    def ram_rounding(self) -> int:
        """What of it is rounding of page-locked tensors, bytes."""
        return self.node.rounding if self.node else 0

    @property
    def load_copies(self) -> int:
        """Copies of the weights on one machine while they are loaded."""
        return self.node.copies if self.node else 0

    @property
    def disk(self) -> int:
        """Bytes that one machine swaps out to NVMe."""
        return self.node.disk if self.node else 0

    def _ram(self, name: str) -> int:
        return sum(phase.bytes for phase in self.node.phases if phase.phase == name) if self.node else 0

    @property
    def why(self) -> str:
        """Why the step is bounded and not simulated; empty for a simulated one."""
        return "" if self.method == "simulated" else next(iter(self.notes), "")


class Reach(Struct, frozen=True):
    """What a step needs whose rows are shorter than the bound that the files give them."""

    shortest: Estimate
    """Of a batch of short rows."""
    fitting: int | None
    """Tokens of the longest rows found with which the step fits; None where not even the shortest do."""
