"""Building a model's weights: dtype, freezing, adapters and quantization decided in one place.

An architecture asks for parameters and linear layers by their names in transformers; what it gets back
already knows whether it trains, how it is stored and whether an adapter sits on it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vramlint.job import DTYPE_BYTES, Adapter, Job, Quantization
from vramlint.memory import adapters
from vramlint.memory.methods import METHODS, OVER_QUANTIZED, wrap
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.low_rank import LowRank
from vramlint.memory.ops.merged import MergedLinear, Target
from vramlint.memory.ops.rows import LowRankRows, TrainedRows
from vramlint.memory.quantization import (
    BITSANDBYTES,
    LEFT_NARROW,
    NESTED_MAP_BYTES,
    converts,
    packed_of,
    stored_tensors,
)
from vramlint.memory.repetition import Layout
from vramlint.memory.sharding import engine_precision, runs_in_16_bit
from vramlint.memory.tensor import LayerId, Parameter, Shape

NARROWED = ("lm_head", "embed_tokens", "wte", "wpe")
"""Parts of the names of modules that TRL narrows to bfloat16 again (trl 0.13 trainer/utils.py)."""
KEPT_BESIDE_BFLOAT16_UNTIL = (5, 0)
"""Before this version of transformers bitsandbytes models kept such modules in float32 beside bfloat16 ones, too."""


class NotFollowedError(ValueError):
    """The model or the adapter is known, but not this variant of it; the message names the variant."""


@dataclass(slots=True)
class Inventory:
    """All parameters of the model as built, and what else lies beside them."""

    parameters: list[Parameter] = field(default_factory=list)
    buffers: list[tuple[int, int]] = field(default_factory=list)
    """(bytes, count) of buffers and quantization constants that are no parameters."""
    penalised: list[Parameter] = field(default_factory=list)
    """Those of which the loss has a term of their own (AdaLoRA's orthogonality)."""
    no_decay: set[int] = field(default_factory=set)
    """ids of parameters in the weight-decay-free group of the Trainer (norms and biases)."""


class Builder:
    """Makes parameters for one job."""

    def __init__(self, job: Job, default_targets: tuple[str, ...], idle: frozenset[str] = frozenset()) -> None:
        self.adapter: Adapter | None = adapters.with_head(job.adapter, job.model.task)
        self.quantization: Quantization | None = job.quantization
        self.inventory = Inventory()
        self.model_type = job.model.model_type
        self.default_targets = adapters.default_targets(self.adapter, self.model_type, default_targets)
        self._shared: tuple[int, int, int] = (0, 0, 0)
        """Rank, inputs and outputs of the factors that all layers share."""
        self.peft = job.libraries.peft
        self.multiplicity = 1
        """How many layers the parameters made now stand for."""
        self._layout = Layout.of(job)
        self._layer: LayerId | None = None
        self._stretch: LayerId | None = None
        self.fused_ranks: Mapping[str, int] = {}
        """Ranks of the adapters on parameters that were modules before transformers fused them."""
        self.fused_names: frozenset[str] = frozenset()
        """Names of such modules: no target any more."""
        self.implementation = job.attention.implementation
        self.transformers = job.libraries.transformers
        self.torch = job.libraries.torch
        self._libraries = job.libraries
        self.checkpointed = job.checkpointing.mode != "none"
        self.reentrant = job.checkpointing.mode == "reentrant"
        self._dtype = engine_precision(job)[0]
        self._converted = runs_in_16_bit(job)
        """The engine computes with 16-bit copies of all parameters, adapters among them."""
        self.width = DTYPE_BYTES[self._dtype]
        """Bytes of an element in the dtype of the weights."""
        self.partitions = job.parallelism.strategy in {"deepspeed", "fsdp"}
        """Whether gradients and states are partitions over all that may train, whether a gradient comes or not."""
        self._unmasked_length = _unmasked_length(job)
        self.renames: Mapping[str, str] = {}
        """Parts of names that a model with another's structure has for the other's."""
        self._originals: dict[Parameter, Parameter] = {}
        """The frozen originals of parameters that train as copies."""
        self._frozen = [re.compile(pattern) for pattern in job.frozen_parameters]
        self._idle = idle
        """Names of parameters that could train and get no gradient."""
        if self.quantization is not None and self.quantization.double_quantization:
            self.inventory.buffers.append((NESTED_MAP_BYTES, 1))

    @property
    def dtype(self) -> str:
        """What the weights are loaded in, and buffers."""
        return self._dtype

    def freezes(self, name: str) -> bool:
        """Whether the run freezes the parameter `name` itself, adapters aside."""
        return any(pattern.search(name) for pattern in self._frozen)

    def parameter(
        self, name: str, shape: Shape, *, decay: bool = True, wide: bool = False, fixed: bool = False
    ) -> Parameter:
        """A plain weight called `name` (without an adapter or quantization), `wide` for float32 whatever was loaded.

        `fixed` ones are parameters that the model never trains.
        """
        parameter = self._parameter(name, shape, decay=decay, wide=wide, fixed=fixed)
        if self.adapter is not None and parameter not in self._originals:
            parameter.rows = self._rows(self.adapter, parameter)
        return parameter

    def _parameter(
        self, name: str, shape: Shape, *, decay: bool = True, wide: bool = False, fixed: bool = False
    ) -> Parameter:
        name = self._renamed(name)
        dtype = "float32" if wide or self._widened(name) else self._dtype
        trainable = not fixed and self._trains(name) and not self.freezes(name) and name not in self._idle
        original = self._add(Parameter(name, shape, dtype, trainable=trainable, multiplicity=self.multiplicity), decay)
        if self.adapter is None or not adapters.copies(self.adapter, self.default_targets, name):
            return original
        return self._copy(original, name, decay=decay)

    def _trains(self, name: str) -> bool:
        """Whether a parameter of the base trains as far as adapters let it."""
        if self.adapter is None:
            return True
        return self.adapter.method in METHODS and adapters.trains_bias(self.adapter, self.default_targets, name)

    def _copy(self, original: Parameter, name: str, *, decay: bool) -> Parameter:
        """What ModulesToSaveWrapper trains instead of `original`."""
        title, shape = f"{name} (modules_to_save)", original.shape
        dtype = (self.adapter.dtype if self.adapter is not None else None) or original.dtype
        copy = Parameter(title, shape, dtype, trainable=True, multiplicity=self.multiplicity)
        self._originals[copy] = original
        return self._add(copy, decay)

    def _rows(self, adapter: Adapter, weight: Parameter) -> LowRankRows | TrainedRows | None:
        """The adapter on an embedding, which is what a targeted matrix without a linear layer is."""
        module, _, last = weight.name.rpartition(".")
        if last != "weight" or len(weight.shape) != 2:
            return None
        count = adapters.trained_rows(adapter, module)
        if count:
            width = weight.shape[1]
            self.inventory.buffers.append((self._adapter_width * count * width, 1))
            return TrainedRows(self.trained(f"{module}.trainable_tokens_delta", (count, width)))
        wanted = adapter.target_modules != "all-linear" and self.reaches(module)
        if not wanted or adapter.method != "lora":
            return None
        if adapter.dora:
            raise NotFollowedError("DoRA on an embedding")
        rank = adapters.rank_of(adapter, module)
        return LowRankRows(
            self.trained(f"{module}.lora_embedding_A", (rank, weight.shape[0])),
            self.trained(f"{module}.lora_embedding_B", (weight.shape[1], rank)),
        )

    def target(self, name: str, shape: Shape, *, wide: bool = False, transposed: bool = False) -> Target:
        """A weight [experts, out, in] or [out, in] of no linear layer, with the adapter that its modules had.

        `transposed` ones are [experts, in, out].
        """
        rank = self._parameter_rank(name)
        quantization = self.quantization
        if quantization is not None and quantization.experts and len(shape) == 3 and "expert" in name:
            return self._packed_target(quantization, name, shape, rank)
        weight = self.parameter(name, shape, wide=wide)
        if self.adapter is None or not rank:
            return Target(weight)
        rank *= shape[0] if len(shape) == 3 else 1
        n_out, n_in = reversed(shape[-2:]) if transposed else shape[-2:]
        return Target(weight, self._factors(name, (rank, rank), n_in, n_out))

    def _packed_target(self, quantization: Quantization, name: str, shape: Shape, rank: int) -> Target:
        """Experts that are quantized as one tensor (bitsandbytes 0.50 nn/parametrize.py)."""
        if quantization.kind not in {"nf4", "fp4"}:
            raise NotFollowedError(f"experts quantized as {quantization.kind}")
        if rank:
            raise NotFollowedError("adapters on quantized experts")
        return Target(self._quantized(name, shape), packed=packed_of(quantization, self._dtype, self._libraries))

    def _parameter_rank(self, name: str) -> int:
        """The rank of the adapter on a parameter that is wanted by itself; 0 without one."""
        found = [rank for target, rank in self.fused_ranks.items() if name.endswith(f".{target}")]
        if found or self.adapter is None:
            return sum(found[:1])
        reached = adapters.reaches_parameter(self.adapter, name)
        return adapters.rank_of(self.adapter, name) if reached else 0

    def norm(self, name: str, size: int, *, kept: bool = False) -> Parameter:
        """A normalisation weight or bias; `kept` ones are in the model's _keep_in_fp32_modules."""
        return self.parameter(name, (size,), decay=False, wide=kept and self._keeps_wide)

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
        quantized = self._converts(name, head=head) and not kept and tied_to is None
        if kept:
            weight = self._parameter(f"{name}.weight", (n_out, n_in), wide=self._keeps_wide)
        elif tied_to is not None:
            weight = self._tied(f"{name}.weight", tied_to)
        elif quantized:
            weight = self._quantized(f"{name}.weight", (n_out, n_in))
        else:
            weight = self._parameter(f"{name}.weight", (n_out, n_in), wide=wide)
        weight.linear = weight.linear or (tied_to is None and not transposed)
        offset = self.parameter(f"{name}.bias", (n_out,), decay=False) if bias else None
        if not quantized or self.quantization is None:
            return Weights(weight, offset, self._wrapper(name, weight, head=head))
        packed = packed_of(self.quantization, self._dtype, self._libraries)
        return Weights(weight, offset, self._wrapper(name, weight, head=head), packed)

    def _converts(self, name: str, *, head: bool) -> bool:
        """Whether a linear layer is among those that are quantized."""
        quantization = self.quantization
        return quantization is not None and converts(quantization, name, self.transformers, head=head)

    def _tied(self, name: str, weight: Parameter) -> Parameter:
        """The embedding's weight in an output head: a trained copy of one is no copy of the other."""
        original = self._originals.get(weight, weight)
        if self.adapter is None or not adapters.copies(self.adapter, self.default_targets, name):
            return original
        return self._copy(original, name, decay=True)

    def tied(self, weight: Parameter) -> Weights:
        """An output head that shares the embedding's weight."""
        return Weights(weight)

    def buffer(self, nbytes: int) -> None:
        """A registered buffer of every layer that the current parameters stand for."""
        self.inventory.buffers.append((nbytes, self.multiplicity))

    def window_shows(self, window: int | None) -> bool:
        """Whether layers with this window hold other tensors than layers without.

        Masks of either kind are alike, so it takes a run in which only the window forces one.
        """
        return window is not None and self._unmasked_length >= window

    def layers(self, kinds: int | Sequence[Hashable], *, stack: int = 0) -> Iterator[int]:
        """The numbers of the traced layers of a stack, given by their kinds or, if all are equal, by their number.

        What is built inside the loop belongs to that layer, and stands for as many as it does in Tape.repeat.
        """
        for start, length, times in self._layout.cut(kinds):
            self._stretch, self.multiplicity = (stack, start), times
            for number in range(start, start + length):
                self._layer = (stack, number)
                yield number
        self._layer, self._stretch, self.multiplicity = None, None, 1

    def _widened(self, name: str) -> bool:
        """Whether the unquantized parameter `name` is float32 beside quantized ones."""
        quantization = self.quantization
        if quantization is None or not quantization.prepared_for_kbit or quantization.kind in LEFT_NARROW:
            return False
        if quantization.only_norms:
            return "norm" in name.lower()
        return not (quantization.narrowed_embeddings and any(part in name for part in NARROWED))

    @property
    def _keeps_wide(self) -> bool:
        """Whether modules in _keep_in_fp32_modules are float32."""
        older = self.transformers < KEPT_BESIDE_BFLOAT16_UNTIL
        return self._dtype == "float16" or (self.quantization is not None and older)

    def _renamed(self, name: str) -> str:
        for theirs, own in self.renames.items():
            name = name.replace(theirs, own)
        return name

    def _add(self, parameter: Parameter, decay: bool) -> Parameter:
        parameter.layer, parameter.stretch = self._layer, self._stretch
        self.inventory.parameters.append(parameter)
        if not decay:
            self.inventory.no_decay.add(id(parameter))
        return parameter

    def _quantized(self, name: str, shape: Shape) -> Parameter:
        quantization = self.quantization
        assert quantization is not None  # noqa: S101  narrowing: the caller has checked it
        weight = Parameter(name, shape, self._dtype, trainable=False, multiplicity=self.multiplicity)
        weight.stored_tensors = stored_tensors(quantization, shape)
        return self._add(weight, decay=True)

    def _wrapper(self, name: str, weight: Parameter, *, head: bool) -> Wrapper | None:
        """The adapter on a linear layer."""
        adapter = self.adapter
        outputs, inputs = weight.shape
        if isinstance(weight.rows, TrainedRows):
            return weight.rows
        if adapter is not None and adapters.reaches_parameter(adapter, f"{name}.weight"):
            rank = adapters.rank_of(adapter, f"{name}.weight")
            return MergedLinear(Target(weight, self._factors(f"{name}.weight", (rank, rank), inputs, outputs)))
        if adapter is None or not self.reaches(name, head=head):
            return None
        quantized = self.quantization
        if adapter.method != "lora" and quantized is not None and not self._follows(adapter.method, quantized.kind):
            raise NotFollowedError(f"the {adapter.method} adapter on a quantized base")
        return wrap(self, adapter, name, inputs, outputs)

    @staticmethod
    def _follows(method: str, kind: str) -> bool:
        """Whether a method other than LoRA is followed over a quantized base."""
        return method in OVER_QUANTIZED and kind in BITSANDBYTES

    def penalise(self, *parameters: Parameter) -> None:
        """Add the orthogonality of `parameters` to the loss."""
        self.inventory.penalised += parameters

    def not_followed(self, variant: str) -> NotFollowedError:
        """The refusal of a variant of an adapter."""
        return NotFollowedError(variant)

    def share_factors(self, rank: int, inputs: int, outputs: int) -> None:
        """Factors [rank, inputs] and [outputs, rank] of which every layer takes a part: buffers as large as any."""
        _, *widths = self._shared
        self._shared = (rank, max(inputs, widths[0]), max(outputs, widths[1]))

    def finish(self) -> None:
        """Count what only the whole model tells."""
        rank, *widths = self._shared
        self.inventory.buffers += [(self._adapter_width * rank * width, 1) for width in widths if width]

    def reaches(self, name: str, *, head: bool = False) -> bool:
        """Whether an adapter sits on the module `name`."""
        if self.adapter is None or self.adapter.method not in METHODS or name.rpartition(".")[2] in self.fused_names:
            return False
        return adapters.targets(self.adapter, self.default_targets, name, head=head)

    def low_rank(self, name: str, n_in: int, n_out: int, *, count: int = 1) -> LowRank:
        """An adapter; `count` of them side by side share one A.

        Raises:
            ValueError: the run has none.
        """
        if self.adapter is None:
            raise ValueError(f"no adapter on {name}")
        rank = adapters.rank_of(self.adapter, name)
        return self._factors(name, (count * rank, rank), n_in, n_out)

    @property
    def dropout(self) -> float:
        """Of the adapters."""
        return 0.0 if self.adapter is None else self.adapter.dropout

    def convolution_factors(
        self, name: str, shape: Shape, *, grouped: bool = False
    ) -> tuple[Parameter, Parameter] | None:
        """Both factors of LoRA on a convolution whose weight has `shape`; None where there is none.

        Raises:
            NotFollowedError: the adapter is another one.
        """
        adapter = self.adapter
        if adapter is None or adapter.target_modules == "all-linear" or not self.reaches(name):
            return None
        if adapter.method != "lora" or adapter.dora or adapter.lora_bias or grouped:
            raise NotFollowedError("another adapter than plain LoRA on a plain convolution")
        rank, (outputs, *rest) = adapters.rank_of(adapter, name), shape
        first = self.trained(f"{name}.lora_A.weight", (rank, *rest))
        return first, self.trained(f"{name}.lora_B.weight", (outputs, rank, *(1 for _ in rest[1:])))

    def trained(self, name: str, shape: Shape, *, decay: bool = True, kept: bool = False) -> Parameter:
        """A parameter of an adapter; what a trainer casts everything to, `kept` ones are not."""
        dtype = "float32" if self._adapter_width == DTYPE_BYTES["float32"] else self._dtype
        if self.adapter is not None and self.adapter.dtype is not None and not kept:
            dtype = self.adapter.dtype
        return self._add(Parameter(name, shape, dtype, trainable=True, multiplicity=self.multiplicity), decay)

    def wide(self, name: str, shape: Shape) -> Parameter:
        """A parameter of an encoder of prompts."""
        parameter = Parameter(name, shape, "float32", trainable=True, multiplicity=1)
        return self._add(parameter, decay=not name.endswith(".bias"))

    @property
    def _adapter_width(self) -> int:
        """Bytes of an element of an adapter's parameters; over a quantized base they are as they were made."""
        adapter = self.adapter
        if adapter is None or not adapter.from_peft or self._converted:
            return self.width
        wide = adapter.autocast_adapter_dtype or self.quantization is not None
        return DTYPE_BYTES["float32"] if wide else self.width

    def _factors(self, name: str, ranks: tuple[int, int], n_in: int, n_out: int) -> LowRank:
        """Both factors: `ranks` are the rows of A and the columns of B."""
        adapter = self.adapter
        assert adapter is not None  # noqa: S101  narrowing: the callers have checked it
        first = self.trained(f"{name}.lora_A.weight", (ranks[0], n_in))
        second = self.trained(f"{name}.lora_B.weight", (n_out, ranks[1]))
        offset = self.trained(f"{name}.lora_B.bias", (n_out,), decay=False) if adapter.lora_bias else None
        return LowRank(first, second, adapter.dropout, offset)


def _unmasked_length(job: Job) -> int:
    """The longest sequence that sdpa gets without a mask; 0 where each layer has one, or none has."""
    masked = job.batch.padding and job.batch.attention_mask
    return 0 if masked or job.attention.implementation != "sdpa" else job.batch.sequence_length
