"""What a model consists of, and the registry in which its parts are entered while it is built."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from msgspec import Struct, field

from vramlint.memory.repetition import Layout
from vramlint.memory.tensor import LayerId, Parameter, Shape


class Inventory(Struct):
    """All parameters of the model as built, and what else lies beside them."""

    parameters: list[Parameter] = field(default_factory=list)
    buffers: list[tuple[int, int]] = field(default_factory=list)
    """(bytes, count) of buffers and quantization constants that are no parameters."""
    penalised: list[Parameter] = field(default_factory=list)
    """Those of which the loss has a term of their own (AdaLoRA's orthogonality)."""
    no_decay: set[int] = field(default_factory=set)
    """ids of parameters in the weight-decay-free group of the Trainer (norms and biases)."""


class Registry:
    """Enters parameters and buffers in an inventory, each for as many layers as are being built."""

    def __init__(self, layout: Layout) -> None:
        self.inventory = Inventory()
        self._layout = layout
        self._multiplicity = 1
        """How many layers the parameters made now stand for."""
        self._layer: LayerId | None = None
        self._stretch: LayerId | None = None

    def layers(self, kinds: int | Sequence[Hashable], *, stack: int = 0) -> Iterator[int]:
        """The numbers of the traced layers of a stack, given by their kinds or, if all are equal, by their number.

        What is entered inside the loop belongs to that layer, and stands for as many as it does in Tape.repeat.
        """
        for start, length, times in self._layout.cut(kinds):
            self._stretch, self._multiplicity = (stack, start), times
            for number in range(start, start + length):
                self._layer = (stack, number)
                yield number
        self._layer, self._stretch, self._multiplicity = None, None, 1

    def parameter(
        self, name: str, shape: Shape, dtype: str, *, trainable: bool, decay: bool = True, single: bool = False
    ) -> Parameter:
        """A new parameter; a `single` one stands for itself only."""
        multiplicity = 1 if single else self._multiplicity
        parameter = Parameter(name, shape, dtype, trainable=trainable, multiplicity=multiplicity)
        parameter.layer, parameter.stretch = self._layer, self._stretch
        self.inventory.parameters.append(parameter)
        if not decay:
            self.inventory.no_decay.add(id(parameter))
        return parameter

    def buffer(self, nbytes: int, *, single: bool = False) -> None:
        """A registered buffer of every layer that is being built; a `single` one lies in the model once."""
        self.inventory.buffers.append((nbytes, 1 if single else self._multiplicity))
