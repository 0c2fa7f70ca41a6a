"""The course of an optimizer's step: where its states come into being, and what it holds while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from vramlint.catalog.optimizers import OptimizerRow
from vramlint.memory import optimizers
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.tensor import Parameter


def by_layer(parameters: Sequence[Parameter]) -> Iterator[tuple[int, list[Parameter]]]:
    """(times, parameters): neighbours in the model's order, and how often their layers repeat in a row."""
    for stretch, found in groupby(parameters, key=lambda parameter: parameter.stretch):
        members = list(found)
        if stretch is None:
            yield from ((parameter.multiplicity, [parameter]) for parameter in members)
        else:
            yield members[0].multiplicity, members


class OptimizerStep:
    """`optimizer.step()` over parameter groups, recorded."""

    def __init__(self, recorder: Recorder, rule: OptimizerRow, *, wide_embeddings: bool, first: bool) -> None:
        self.recorder = recorder
        self.rule = rule
        self.wide_embeddings = wide_embeddings
        self.makes_states = first and rule.lazy

    def run(self, groups: Sequence[Sequence[Parameter]]) -> None:
        """Record the step. A lazy optimizer makes its states here in the first step."""
        if self.makes_states:
            for size in optimizers.shared_states(self.rule, [p for group in groups for p in group]):
                self.recorder.allocate_once(size, _state_label(size))
        for group in groups:
            if self.rule.states_by == "group":
                self._make_states(group)
            if self.rule.step_temp_scope == "group":
                self._together(group)
            else:
                self._one_by_one(group)
        self.recorder.repeat(1)

    def _make_states(self, parameters: Sequence[Parameter]) -> None:
        for times, members in by_layer(parameters):
            self.recorder.repeat(times)
            for parameter in members:
                self._states_of(parameter)

    def _states_of(self, parameter: Parameter) -> None:
        if not self.makes_states:
            return
        for size in optimizers.states(self.rule, parameter, wide_embeddings=self.wide_embeddings):
            self.recorder.allocate_once(size, _state_label(size))

    def _together(self, group: Sequence[Parameter]) -> None:
        """Foreach kernels: whole copies of all parameters of one dtype, one dtype after the other."""
        for dtype in dict.fromkeys(p.dtype for p in group):
            members = [p for p in group if p.dtype == dtype]
            held = [taken for _ in range(optimizers.copies(self.rule, members[0])) for taken in self._copy(members)]
            for times, indices in held:
                self.recorder.repeat(times)
                for index in indices:
                    self.recorder.free(index)

    def _copy(self, members: Sequence[Parameter]) -> list[tuple[int, list[int]]]:
        """A copy of each parameter; (times, indices) as by_layer has them."""
        taken = []
        for times, layer in by_layer(members):
            self.recorder.repeat(times)
            labels = [Label(self.rule.name, "temporaries", p.dtype, p.shape) for p in layer]
            taken.append(
                (times, [self.recorder.allocate(p.nbytes, label) for p, label in zip(layer, labels, strict=True)])
            )
        return taken

    def _one_by_one(self, group: Sequence[Parameter]) -> None:
        for times, members in by_layer(group):
            self.recorder.repeat(times)
            for parameter in members:
                if self.rule.states_by == "parameter":
                    self._states_of(parameter)
                held = [
                    self.recorder.allocate(size, Label(self.rule.name, "temporaries", "uint8", (size,)))
                    for size in optimizers.temporaries_of(self.rule, parameter)
                ]
                for index in held:
                    self.recorder.free(index)


def _state_label(size: int) -> Label:
    return Label("optimizer state", "optimizer states", "uint8", (size,))
