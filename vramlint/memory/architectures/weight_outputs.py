"""Blocks that return their attention probabilities besides their states, asked for or not.

transformers 5.23 models/{bloom,codegen,falcon,gpt_neo,gptj,mpt}: `outputs = block(…)` keeps both until the next block
has run.
"""

from __future__ import annotations

from collections.abc import Callable

from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

UNASKED_FROM = (4, 54)
"""Before this version of transformers probabilities were returned to those who asked."""
Block = Callable[[int, Tensor], tuple[Tensor, ...]]
"""A block by its number: from states to states and, where the kernel yields them, probabilities."""


class Blocks:
    """A stack of such blocks."""

    def __init__(self, arguments: object = None) -> None:
        self.arguments = arguments
        """What the blocks get besides and do not use; checkpoints keep it."""
        self.outputs: tuple[Tensor, ...] = ()
        """What the last block returned, until the body's forward is over."""

    def __call__(self, tape: Tape, regime: Regime, count: int, block: Block, hidden: list[Tensor]) -> Tensor:
        """Run `count` blocks on the one tensor in `hidden`, which is handed over."""

        def layer(x: Tensor, index: int) -> Tensor:
            def forward(*tensors: Tensor, _: object = self.arguments) -> tuple[Tensor, ...]:
                outputs = block(index, *tensors)
                return outputs if regime.transformers >= UNASKED_FROM else outputs[:1]

            self.outputs = regime.segment(tape, forward, (x,))
            return self.outputs[0]

        return tape.course.repeat(count, layer, hidden)
