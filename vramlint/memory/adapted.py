"""What an adapter makes of a model's weights: which of them it trains, and what it puts beside them."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import DTYPE_BYTES, Adapter, Job
from vramlint.memory import adapters
from vramlint.memory.inventory import Registry
from vramlint.memory.methods import METHODS, OVER_QUANTIZED, wrap
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.low_rank import LowRank
from vramlint.memory.ops.merged import MergedLinear, Target
from vramlint.memory.ops.rows import LowRankRows, TrainedRows
from vramlint.memory.quantization import BITSANDBYTES
from vramlint.memory.rank import engine_precision, runs_in_16_bit
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tensor import Parameter, Shape


class Adapted:
    """Makes the parameters of one job's adapter, if it has one; without one the whole base trains."""

    def __init__(self, job: Job, default_targets: tuple[str, ...], registry: Registry) -> None:
        self.adapter: Adapter | None = adapters.with_head(job.adapter, job.model.task)
        self.model_type = job.model.model_type
        self.peft = job.libraries.peft
        self.checkpointed = job.checkpointing.mode != "none"
        self.dtype = engine_precision(job)[0]
        """What the weights are loaded in."""
        self.fused_ranks: Mapping[str, int] = {}
        """Ranks of the adapters on parameters that were modules before transformers fused them."""
        self.fused_names: frozenset[str] = frozenset()
        """Names of such modules: no target any more."""
        self._default_targets = adapters.default_targets(self.adapter, self.model_type, default_targets)
        self._registry = registry
        self._quantization = job.quantization
        self._converted = runs_in_16_bit(job)
        """The engine computes with 16-bit copies of all parameters, adapters among them."""
        self._originals: dict[Parameter, Parameter] = {}
        """The frozen originals of parameters that train as copies."""
        self._shared: tuple[int, int, int] = (0, 0, 0)
        """Rank, inputs and outputs of the factors that all layers share."""
        self._bases: tuple[int, int, int, int] = (0, 0, 0, 0)
        """Rank, number, smaller and larger side of the bases that all layers share."""
        self._once: dict[str, Parameter] = {}
        """Parameters that all layers share, by the end of their names."""

    @property
    def dropout(self) -> float:
        """Of the adapters."""
        return 0.0 if self.adapter is None else self.adapter.dropout

    @property
    def _width(self) -> int:
        """Bytes of an element of an adapter's parameters; over a quantized base they are as they were made."""
        adapter = self.adapter
        if adapter is None or not adapter.from_peft or self._converted:
            return DTYPE_BYTES[self.dtype]
        wide = adapter.autocast_adapter_dtype or self._quantization is not None
        return DTYPE_BYTES["float32"] if wide else DTYPE_BYTES[self.dtype]

    def trains(self, name: str) -> bool:
        """Whether a parameter of the base trains as far as adapters let it."""
        if self.adapter is None:
            return True
        return self.adapter.method in METHODS and adapters.trains_bias(self.adapter, self._default_targets, name)

    def reaches(self, name: str, *, head: bool = False) -> bool:
        """Whether an adapter sits on the module `name`."""
        if self.adapter is None or self.adapter.method not in METHODS or name.rpartition(".")[2] in self.fused_names:
            return False
        return adapters.targets(self.adapter, self._default_targets, name, head=head)

    def parameter_rank(self, name: str) -> int:
        """The rank of the adapter on a parameter that is wanted by itself; 0 without one."""
        found = [rank for target, rank in self.fused_ranks.items() if name.endswith(f".{target}")]
        if found or self.adapter is None:
            return sum(found[:1])
        reached = adapters.reaches_parameter(self.adapter, name)
        return adapters.rank_of(self.adapter, name) if reached else 0

    def used(self, original: Parameter, name: str, *, decay: bool = True) -> Parameter:
        """What the module computes with: `original`, or the copy of it that ModulesToSaveWrapper trains."""
        if self.adapter is None or not adapters.copies(self.adapter, self._default_targets, name):
            return original
        title, dtype = f"{name} (modules_to_save)", self.adapter.dtype or original.dtype
        copy = self._registry.parameter(title, original.shape, dtype, trainable=True, decay=decay)
        self._originals[copy] = original
        if self.adapter.originals_on_host:
            original.stored_tensors = (0,)
        return copy

    def tied(self, name: str, weight: Parameter) -> Parameter:
        """The embedding's weight in an output head: a trained copy of one is no copy of the other."""
        return self.used(self._originals.get(weight, weight), name)

    def on_rows(self, weight: Parameter) -> LowRankRows | TrainedRows | None:
        """The adapter on an embedding, which is what a targeted matrix without a linear layer is.

        Raises:
            NotFollowedError: the adapter is DoRA.
        """
        adapter = self.adapter
        if adapter is None or weight in self._originals:
            return None
        module, _, last = weight.name.rpartition(".")
        if last != "weight" or len(weight.shape) != 2:
            return None
        count = adapters.trained_rows(adapter, module)
        if count:
            width = weight.shape[1]
            self._registry.buffer(self._width * count * width, single=True)
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

    def on_parameter(self, name: str, shape: Shape, *, transposed: bool = False) -> LowRank | None:
        """The adapter on a parameter [experts, out, in] or [out, in] that is wanted by itself.

        `transposed` ones are [experts, in, out].
        """
        rank = self.parameter_rank(name)
        if self.adapter is None or not rank:
            return None
        rank *= shape[0] if len(shape) == 3 else 1
        n_out, n_in = reversed(shape[-2:]) if transposed else shape[-2:]
        return self._factors(self.adapter, name, (rank, rank), n_in, n_out)

    def on_linear(self, name: str, weight: Parameter, *, head: bool) -> Wrapper | None:
        """The adapter on a linear layer.

        Raises:
            NotFollowedError: the adapter has a variant that is not followed, or is not followed over a quantized base.
        """
        adapter = self.adapter
        outputs, inputs = weight.shape
        if isinstance(weight.rows, TrainedRows):
            return weight.rows
        if adapter is not None and adapters.reaches_parameter(adapter, f"{name}.weight"):
            rank = adapters.rank_of(adapter, f"{name}.weight")
            factors = self._factors(adapter, f"{name}.weight", (rank, rank), inputs, outputs)
            return MergedLinear(Target(weight, factors))
        if adapter is None or not self.reaches(name, head=head):
            return None
        quantized = self._quantization
        if quantized is not None and not _follows(adapter.method, quantized.kind):
            raise NotFollowedError(f"the {adapter.method} adapter on a quantized base")
        return wrap(self, adapter, name, inputs, outputs)

    def on_convolution(self, name: str, shape: Shape, *, grouped: bool = False) -> tuple[Parameter, Parameter] | None:
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

    def low_rank(self, name: str, n_in: int, n_out: int, *, count: int = 1) -> LowRank:
        """Two factors; `count` of them side by side share one A.

        Raises:
            ValueError: the run has no adapter.
        """
        if self.adapter is None:
            raise ValueError(f"no adapter on {name}")
        rank = adapters.rank_of(self.adapter, name)
        return self._factors(self.adapter, name, (count * rank, rank), n_in, n_out)

    def _factors(self, adapter: Adapter, name: str, ranks: tuple[int, int], n_in: int, n_out: int) -> LowRank:
        """Both factors: `ranks` are the rows of A and the columns of B."""
        first = self.trained(f"{name}.lora_A.weight", (ranks[0], n_in))
        second = self.trained(f"{name}.lora_B.weight", (n_out, ranks[1]))
        offset = self.trained(f"{name}.lora_B.bias", (n_out,), decay=False) if adapter.lora_bias else None
        return LowRank(first, second, adapter.dropout, offset)

    def trained(self, name: str, shape: Shape, *, decay: bool = True, kept: bool = False) -> Parameter:
        """A parameter of an adapter; what a trainer casts everything to, `kept` ones are not."""
        dtype = "float32" if self._width == DTYPE_BYTES["float32"] else self.dtype
        if self.adapter is not None and self.adapter.dtype is not None and not kept:
            dtype = self.adapter.dtype
        return self._registry.parameter(name, shape, dtype, trainable=True, decay=decay)

    def shared(self, name: str, shape: Shape) -> Parameter:
        """A parameter that all layers share, made when the first asks for it."""
        last = name.rpartition(".")[2]
        if last not in self._once:
            dtype = "float32" if self._width == DTYPE_BYTES["float32"] else self.dtype
            self._once[last] = self._registry.parameter(last, shape, dtype, trainable=True, single=True)
        return self._once[last]

    def wide(self, name: str, shape: Shape) -> Parameter:
        """A parameter of an encoder of prompts."""
        decay = not name.endswith(".bias")
        return self._registry.parameter(name, shape, "float32", trainable=True, decay=decay, single=True)

    def buffer(self, nbytes: int) -> None:
        """A registered buffer of every layer that is being built."""
        self._registry.buffer(nbytes)

    def penalise(self, *parameters: Parameter) -> None:
        """Add the orthogonality of `parameters` to the loss."""
        self._registry.inventory.penalised += parameters

    def share_factors(self, rank: int, inputs: int, outputs: int) -> None:
        """Factors [rank, inputs] and [outputs, rank] of which every layer takes a part: buffers as large as any."""
        _, *widths = self._shared
        self._shared = (rank, max(inputs, widths[0]), max(outputs, widths[1]))

    def share_bases(self, rank: int, bases: int, small: int, large: int) -> int:
        """Random bases [rank, 1, small] and [large, bases, rank] of which every layer takes a part."""
        _, *sizes = self._bases
        most = (max(bases, sizes[0]), max(small, sizes[1]), max(large, sizes[2]))
        self._bases = (rank, *most)
        return most[0]

    def finish(self) -> None:
        """Count what only the whole model tells."""
        rank, bases, small, large = self._bases
        for entries in filter(None, (rank * small, large * bases * rank)):
            self._registry.buffer(self._width * entries, single=True)
        rank, *widths = self._shared
        for width in filter(None, widths):
            self._registry.buffer(self._width * rank * width, single=True)


def _follows(method: str, kind: str) -> bool:
    """Whether a method is followed over a base quantized as `kind`."""
    return method == "lora" or (method in OVER_QUANTIZED and kind in BITSANDBYTES)
