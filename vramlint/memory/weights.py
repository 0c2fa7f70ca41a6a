"""Building a model's weights: dtype, freezing, adapters and quantization decided in one place.

An architecture asks for parameters and linear layers by their names in transformers; what it gets back
already knows whether it trains, how it is stored and whether an adapter sits on it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vramlint.job import DTYPE_BYTES, Adapter, Job, Quantization
from vramlint.memory.ops.linear import KEEPS_INPUTS_UNTIL, NF4_BLOCK, LowRank, Weights
from vramlint.memory.ops.merged import Target
from vramlint.memory.repetition import Layout
from vramlint.memory.sharding import engine_precision, runs_in_16_bit
from vramlint.memory.tensor import LayerId, Parameter, Shape

NESTED_BLOCK = 256
"""absmax values per second-level block under double quantization (bitsandbytes 0.50 functional.py)."""
TASK_HEADS = {"seq-cls": ("classifier", "score"), "token-cls": ("classifier", "score"), "qa": ("qa_outputs",)}
"""Modules that PEFT trains besides the adapters in a task (peft 0.21 peft_model.py)."""
FOUR_BITS = frozenset({"nf4", "fp4"})
NARROWED = ("lm_head", "embed_tokens", "wte", "wpe")
"""Parts of the names of modules that TRL narrows to bfloat16 again (trl 0.13 trainer/utils.py)."""
KEPT_BESIDE_BFLOAT16_UNTIL = (5, 0)
"""Before this version of transformers bitsandbytes models kept such modules in float32 beside bfloat16 ones, too."""
NF4_CODE_BYTES = 64
NF4_OFFSET_BYTES = 4
NESTED_MAP_BYTES = 1024
"""The 256-entry float32 map of the second level, one for the whole model."""


class NotFollowedError(ValueError):
    """The architecture is known, but not this variant of it; the message names the variant."""


@dataclass(slots=True)
class Inventory:
    """All parameters of the model as built, and what else lies beside them."""

    parameters: list[Parameter] = field(default_factory=list)
    buffers: list[tuple[int, int]] = field(default_factory=list)
    """(bytes, count) of buffers and quantization constants that are no parameters."""
    no_decay: set[int] = field(default_factory=set)
    """ids of parameters in the weight-decay-free group of the Trainer (norms and biases)."""


class Builder:
    """Makes parameters for one job."""

    def __init__(self, job: Job, default_targets: tuple[str, ...]) -> None:
        self.adapter: Adapter | None = _with_head(job.adapter, job.model.task)
        self.quantization: Quantization | None = job.quantization
        self.inventory = Inventory()
        self.default_targets = default_targets
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
        self.bitsandbytes = job.libraries.bitsandbytes
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
        self._frozen = [re.compile(pattern) for pattern in job.frozen_parameters]
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
        name = self._renamed(name)
        dtype = "float32" if wide or self._widened(name) else self._dtype
        trainable = not fixed and self.adapter is None and not self.freezes(name)
        original = self._add(Parameter(name, shape, dtype, trainable=trainable, multiplicity=self.multiplicity), decay)
        if self.adapter is None or not _saved(self.adapter, name):
            return original
        copy = Parameter(f"{name} (modules_to_save)", shape, dtype, trainable=True, multiplicity=self.multiplicity)
        return self._add(copy, decay)

    def target(self, name: str, shape: Shape, *, wide: bool = False) -> Target:
        """A weight [experts, out, in] or [out, in] of no linear layer, with the adapter that its modules had."""
        weight = self.parameter(name, shape, wide=wide)
        found = [rank for target, rank in self.fused_ranks.items() if name.endswith(f".{target}")]
        if self.adapter is None or not found:
            return Target(weight)
        rank = found[0] * (shape[0] if len(shape) == 3 else 1)
        return Target(weight, self._factors(self.adapter, name, (rank, rank), shape[-1], shape[-2]))

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
    ) -> Weights:
        """A linear layer. The output head is neither quantized nor reached by `all-linear`; it may share a weight.

        `kept` modules are in the model's _keep_in_fp32_modules: not quantized, and float32 in a float16 model.
        `wide` ones are made in float32, unless quantized.
        """
        name = self._renamed(name)
        quantized = self.quantization is not None and not (head or kept)
        if kept:
            weight = self.parameter(f"{name}.weight", (n_out, n_in), wide=self._keeps_wide)
        elif tied_to is not None:
            weight = tied_to
        elif quantized:
            weight = self._quantized(f"{name}.weight", (n_out, n_in))
        else:
            weight = self.parameter(f"{name}.weight", (n_out, n_in), wide=wide)
        offset = self.parameter(f"{name}.bias", (n_out,), decay=False) if bias else None
        adapter = self._adapter(name, n_in, n_out, head=head)
        if not quantized or self.quantization is None:
            return Weights(weight, offset, adapter)
        return Weights(
            weight,
            offset,
            adapter,
            self.quantization.compute_dtype,
            source_dtype=self.quantization.source_dtype or self._dtype,
            keeps_input=self.quantization.kind in FOUR_BITS and self.bitsandbytes < KEEPS_INPUTS_UNTIL,
            gptq=self.quantization.kind == "gptq",
        )

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
        if quantization is None or not quantization.prepared_for_kbit:
            return False
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
        elements = shape[0] * shape[1]
        if quantization.kind == "int8":
            weight.stored_tensors = (elements, 4 * shape[0])
        elif quantization.kind == "gptq":
            weight.stored_tensors = _gptq_tensors(shape, quantization.group_size, quantization.bits)
        else:
            blocks = -(-elements // NF4_BLOCK)
            constants: tuple[int, ...] = (4 * blocks, NF4_CODE_BYTES)
            if quantization.double_quantization:
                constants = (blocks, 4 * -(-blocks // NESTED_BLOCK), NF4_CODE_BYTES, NF4_OFFSET_BYTES)
            weight.stored_tensors = (-(-elements // 2), *constants)
        return self._add(weight, decay=True)

    def _adapter(self, name: str, n_in: int, n_out: int, *, head: bool) -> LowRank | None:
        return self.low_rank(name, n_in, n_out) if self.reaches(name, head=head) else None

    def reaches(self, name: str, *, head: bool = False) -> bool:
        """Whether an adapter sits on the module `name`."""
        if self.adapter is None or name.rpartition(".")[2] in self.fused_names:
            return False
        return targets(self.adapter, self.default_targets, name, head=head)

    def low_rank(self, name: str, n_in: int, n_out: int, *, count: int = 1) -> LowRank:
        """An adapter; `count` of them side by side share one A.

        Raises:
            ValueError: the run has none.
        """
        if self.adapter is None:
            raise ValueError(f"no adapter on {name}")
        return self._factors(self.adapter, name, (count * self.adapter.r, self.adapter.r), n_in, n_out)

    def _factors(self, adapter: Adapter, name: str, ranks: tuple[int, int], n_in: int, n_out: int) -> LowRank:
        """Both factors: `ranks` are the rows of A and the columns of B."""
        widen = (adapter.autocast_adapter_dtype and not self._converted) or self._dtype == "float32"
        dtype = "float32" if widen else self._dtype
        pair = [
            self._add(Parameter(f"{name}.{part}", shape, dtype, trainable=True, multiplicity=self.multiplicity), True)
            for part, shape in (("lora_A.weight", (ranks[0], n_in)), ("lora_B.weight", (n_out, ranks[1])))
        ]
        return LowRank(pair[0], pair[1], adapter.dropout)


def _gptq_tensors(shape: Shape, group_size: int, bits: int) -> tuple[int, ...]:
    """Bytes of qweight, qzeros, scales and g_idx (auto_gptq 0.7 nn_modules/qlinear/qlinear_tritonv2.py)."""
    outputs, inputs = shape
    groups = 1 if group_size < 0 else -(-inputs // group_size)
    return (outputs * inputs * bits // 8, groups * outputs * bits // 8, 2 * groups * outputs, 4 * inputs)


def _unmasked_length(job: Job) -> int:
    """The longest sequence that sdpa gets without a mask; 0 where each layer has one, or none has."""
    masked = job.batch.padding and job.batch.attention_mask
    return 0 if masked or job.attention.implementation != "sdpa" else job.batch.sequence_length


def _with_head(adapter: Adapter | None, task: str) -> Adapter | None:
    """The adapter with the new head of the task among the modules that train as a whole."""
    heads = TASK_HEADS.get(task, ())
    return replace(adapter, modules_to_save=(*adapter.modules_to_save, *heads)) if adapter and heads else adapter


def _saved(adapter: Adapter, name: str) -> bool:
    """Whether the parameter `name` is in a module that PEFT trains as a whole copy beside the frozen original."""
    path = f".{name.rpartition('.')[0]}."
    return any(f".{wanted}." in path for wanted in adapter.modules_to_save)


def targets(adapter: Adapter, defaults: Sequence[str], name: str, *, head: bool) -> bool:
    """Whether PEFT puts an adapter on the module `name` (peft 0.21 tuners/tuners_utils.py)."""
    wanted = adapter.target_modules
    if wanted == "all-linear":
        return not head
    if isinstance(wanted, str):
        try:
            return re.fullmatch(wanted, name) is not None
        except re.error:
            return False
    names = defaults if wanted is None else wanted
    return any(name == target or name.endswith(f".{target}") for target in names)
