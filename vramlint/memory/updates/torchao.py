"""Low-bit AdamW of torchao and its offload to the host (torchao 0.18 optim/adam.py, subclass_*.py, cpu_offload.py).

Every quantized state is a tensor of codes, one of scales and, but for fp8, a map of its own. The step of a parameter is
one compiled function.
"""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update

SMALLEST = 4096
"""Parameters with fewer elements keep states in their own dtype."""
STATES = 2
"""exp_avg and exp_avg_sq; a third with amsgrad."""
BLOCKS = {"4": 128, "8": 256, "fp8": 256}
"""torchao's default block sizes; the Trainer passes 256."""
MAPS = {"4": 16, "8": 256, "fp8": 0}
"""Values of a state's map."""
HALF = "4"
HELD = {"4": ("float32", "int64"), "8": ("float32",), "fp8": ()}
"""What the compiled step holds of each state, in full size, beside new scales: moments that have been scaled, and codes
before two of them become a byte. Read in the code that torch 2.13's inductor generates for compute capability 8.0 and
9.0; fp8 as for 9.0, since devices before 8.9 cannot convert it inside a kernel."""


class LowBitAdamW(Update):
    """AdamW4bit, AdamW8bit and AdamWFp8."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.kind = settings.text("bits", "8")
        self.block = int(settings.number("block_size", BLOCKS[self.kind]))
        self.note = (
            "torchao compiles its step: what that holds is what torch 2.13 makes of it, which other versions may not"
        )
        self.count = STATES + settings.flag("amsgrad", default=False)

    def quantizes(self, parameter: Parameter) -> bool:
        """Whether a parameter's states are quantized."""
        return parameter.numel >= SMALLEST and parameter.numel % self.block == 0

    def states(self, parameter: Parameter) -> list[int]:
        """Codes, scales and map of each state."""
        if not self.quantizes(parameter):
            return [parameter.nbytes] * self.count
        codes = parameter.numel // 2 if self.kind == HALF else parameter.numel
        one = [codes, 4 * (parameter.numel // self.block), 4 * MAPS[self.kind]]
        return [size for size in one if size] * self.count

    def step(self, memory: Memory, group: Group) -> None:
        """Each parameter's states, then its update."""
        for parameter in memory.each(group.parameters):
            self.make_one(memory, parameter)
            if self.quantizes(parameter):
                self._compiled(memory, parameter)

    def _compiled(self, memory: Memory, parameter: Parameter) -> None:
        """Everything is allocated at the start."""
        blocks = (parameter.numel // self.block,)
        held = [memory.empty(blocks, "float32") for _ in range(STATES)]
        held += [memory.like(parameter, dtype=dtype) for dtype in HELD[self.kind] for _ in range(STATES)]
        held.clear()


class CpuOffload(Update):
    """CPUOffloadOptimizer over torch's AdamW: only small parameters have their moments on the device."""

    COUNTER = 4
    HELD = 4
    """Copies on the host: weights, gradients and two moments."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.smallest = int(settings.number("minimal_size", SMALLEST))

    def states(self, parameter: Parameter) -> list[int]:
        """Small parameters have a fused AdamW on the device."""
        return [self.COUNTER, parameter.nbytes, parameter.nbytes] if parameter.numel < self.smallest else []

    def hosted(self, parameter: Parameter) -> int:
        """Pinned copies."""
        return self.HELD * parameter.nbytes if parameter.numel >= self.smallest else 0

    def step(self, memory: Memory, group: Group) -> None:
        """Copies between device and host allocate nothing."""
        self.make(memory, group.parameters)
