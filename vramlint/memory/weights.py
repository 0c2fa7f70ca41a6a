"""Building a model's weights: dtype, freezing, adapters and quantization decided in one place.

An architecture asks for parameters and linear layers by their names in transformers; what it gets back
already knows whether it trains, how it is stored and whether an adapter sits on it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence

from vramlint.job import DTYPE_BYTES, Adapter, Job, Quantization
from vramlint.memory.adapted import Adapted
from vramlint.memory.inventory import Registry
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.merged import Target
from vramlint.memory.plans import Plan
from vramlint.memory.quantization import NESTED_MAP_BYTES, converts, packed_of, stored_tensors, widens
from vramlint.memory.rank import engine_precision, runs_in_16_bit
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.repetition import Layout
from vramlint.memory.tensor import Parameter, Shape

KEPT_BESIDE_BFLOAT16_UNTIL = (5, 0)
"""Before this version of transformers bitsandbytes models kept such modules in float32 beside bfloat16 ones, too."""


class Builder:
    """Makes parameters for one job."""

    def __init__(self, job: Job, default_targets: tuple[str, ...], idle: frozenset[str] = frozenset()) -> None:
        self._registry = Registry(Layout.of(job))
        self.inventory = self._registry.inventory
        self.adapted = Adapted(job, default_targets, self._registry)
        """What adapters make of these weights."""
        self.implementation = job.attention.implementation
        self.transformers = job.libraries.transformers
        self.checkpointed = job.checkpointing.mode != "none"
        self.reentrant = job.checkpointing.mode == "reentrant"
        self.dtype = engine_precision(job)[0]
        """What the weights are loaded in, and buffers."""
        self.plan = Plan.of(job)
        """How ranks share these weights."""
        self.width = DTYPE_BYTES[self.dtype]
        """Bytes of an element in the dtype of the weights."""
        self.partitions = job.parallelism.strategy in {"deepspeed", "fsdp"}
        """Whether gradients and states are partitions over all that may train, whether a gradient comes or not."""
        self.renames: Mapping[str, str] = {}
        """Parts of names that a model with another's structure has for the other's."""
        self._quantization = job.quantization
        self._libraries = job.libraries
        self._unmasked_length = _unmasked_length(job)
        self._frozen = [re.compile(pattern) for pattern in job.frozen_parameters]
        self._trained = job.precision.trained if not runs_in_16_bit(job) else None
        self._widened = [re.compile(pattern) for pattern in job.precision.widened]
        self._idle = idle
        """Names of parameters that could train and get no gradient."""
        if self._quantization is not None and self._quantization.double_quantization:
            self._registry.buffer(NESTED_MAP_BYTES, single=True)

    @property
    def adapter(self) -> Adapter | None:
        """The run's adapter."""
        return self.adapted.adapter

    def freezes(self, name: str) -> bool:
        """Whether the run freezes the parameter `name` itself, adapters aside."""
        return any(pattern.search(name) for pattern in self._frozen)

    def window_shows(self, window: int | None) -> bool:
        """Whether layers with this window hold other tensors than layers without.

        Masks of either kind are alike, so it takes a run in which only the window forces one.
        """
        return window is not None and self._unmasked_length >= window

    def layers(self, kinds: int | Sequence[Hashable], *, stack: int = 0) -> Iterator[int]:
        """The numbers of the traced layers of a stack, given by their kinds or, if all are equal, by their number.

        What is built inside the loop belongs to that layer, and stands for as many as it does in Tape.repeat.
        """
        return self._registry.layers(kinds, stack=stack)

    def buffer(self, nbytes: int) -> None:
        """A registered buffer of every layer that the current parameters stand for."""
        self._registry.buffer(nbytes)

    def parameter(
        self, name: str, shape: Shape, *, decay: bool = True, wide: bool = False, fixed: bool = False
    ) -> Parameter:
        """A plain weight called `name` (without an adapter or quantization), `wide` for float32 whatever was loaded.

        `fixed` ones are parameters that the model never trains.
        """
        parameter = self._parameter(name, shape, decay=decay, wide=wide, fixed=fixed)
        parameter.rows = self.adapted.on_rows(parameter)
        return parameter

    def norm(self, name: str, size: int, *, kept: bool = False) -> Parameter:
        """A normalisation weight or bias; `kept` ones are in the model's _keep_in_fp32_modules."""
        return self.parameter(name, (size,), decay=False, wide=kept and self._keeps_wide)

    def target(self, name: str, shape: Shape, *, wide: bool = False, transposed: bool = False) -> Target:
        """A weight [experts, out, in] or [out, in] of no linear layer, with the adapter that its modules had.

        `transposed` ones are [experts, in, out].
        """
        quantization = self._quantization
        if quantization is not None and quantization.experts and len(shape) == 3 and "expert" in name:
            return self._packed_target(quantization, name, shape)
        weight = self.parameter(name, shape, wide=wide)
        return Target(weight, self.adapted.on_parameter(name, shape, transposed=transposed))

    def linear(
        self,
        name: str,
        n_in: int,
        n_out: int,
        *,
        bias: bool = False,
        head: bool = False,
        tied_to: Parameter | None = None,
        kept: bool = False,
        wide: bool = False,
        transposed: bool = False,
    ) -> Weights:
        """A linear layer. The output head is neither quantized nor reached by `all-linear`; it may share a weight.

        `kept` modules are in the model's _keep_in_fp32_modules: not quantized, and float32 in a float16 model.
        `wide` ones are made in float32, unless quantized. A `transposed` one is transformers' Conv1D.
        """
        name = self._renamed(name)
        title, shape = f"{name}.weight", (n_out, n_in)
        quantization = None if kept or tied_to is not None else self._quantization_of(name, head=head)
        if kept:
            weight = self._parameter(title, shape, wide=self._keeps_wide)
        elif tied_to is not None:
            weight = self.adapted.tied(title, tied_to)
        elif quantization is not None:
            weight = self._quantized(quantization, title, shape)
        else:
            weight = self._parameter(title, shape, wide=wide)
        weight.linear = weight.linear or (tied_to is None and not transposed)
        weight.head = head and tied_to is None
        offset = self.parameter(f"{name}.bias", (n_out,), decay=False) if bias else None
        packed = None if quantization is None else packed_of(quantization, self.dtype, self._libraries)
        adapter = self.adapted.on_linear(name, weight, head=head)
        return Weights(weight, offset, adapter, packed, self.plan.style_of(name))

    def tied(self, weight: Parameter) -> Weights:
        """An output head that shares the embedding's weight."""
        return Weights(weight)

    def _parameter(
        self, name: str, shape: Shape, *, decay: bool = True, wide: bool = False, fixed: bool = False
    ) -> Parameter:
        name = self._renamed(name)
        widened = self._quantization is not None and widens(self._quantization, name)
        widened = widened or any(pattern.search(name) for pattern in self._widened)
        dtype = "float32" if wide or widened else self.dtype
        trainable = not fixed and self.adapted.trains(name) and not self.freezes(name) and name not in self._idle
        dtype = self._trained if trainable and self._trained is not None else dtype
        original = self._registry.parameter(name, shape, dtype, trainable=trainable, decay=decay)
        return self.adapted.used(original, name, decay=decay)

    def _packed_target(self, quantization: Quantization, name: str, shape: Shape) -> Target:
        """Experts that are quantized as one tensor (bitsandbytes 0.50 nn/parametrize.py)."""
        if quantization.kind not in {"nf4", "fp4"}:
            raise NotFollowedError(f"experts quantized as {quantization.kind}")
        if self.adapted.parameter_rank(name):
            raise NotFollowedError("adapters on quantized experts")
        weight = self._quantized(quantization, name, shape)
        return Target(weight, packed=packed_of(quantization, self.dtype, self._libraries))

    def _quantized(self, quantization: Quantization, name: str, shape: Shape) -> Parameter:
        weight = self._registry.parameter(name, shape, self.dtype, trainable=False)
        weight.stored_tensors = stored_tensors(quantization, shape)
        return weight

    def _quantization_of(self, name: str, *, head: bool) -> Quantization | None:
        """How a linear layer is quantized; None where it is not."""
        quantization = self._quantization
        if quantization is None or not converts(quantization, name, self.transformers, head=head):
            return None
        return quantization

    @property
    def _keeps_wide(self) -> bool:
        """Whether modules in _keep_in_fp32_modules are float32."""
        older = self.transformers < KEPT_BESIDE_BFLOAT16_UNTIL
        return self.dtype == "float16" or (self._quantization is not None and older)

    def _renamed(self, name: str) -> str:
        for theirs, own in self.renames.items():
            name = name.replace(theirs, own)
        return name


def _unmasked_length(job: Job) -> int:
    """The longest sequence that sdpa gets without a mask; 0 where each layer has one, or none has."""
    masked = job.batch.padding and job.batch.attention_mask
    return 0 if masked or job.attention.implementation != "sdpa" else job.batch.sequence_length
