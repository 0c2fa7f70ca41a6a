"""What the simulator asks of an architecture, whatever its task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct, field

from vramlint.job import Batch
from vramlint.memory.lifetimes import Kept
from vramlint.memory.ops.norm import layer_norm
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

Config = Mapping[str, object]


class Outputs(Struct):
    """What the model's forward returns: the loss, the other tensors of the output object, cached keys and values."""

    loss: Tensor
    tensors: list[Tensor]
    cache: list[Kept] = field(default_factory=list)


class Network(ABC):
    """A model with its head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]]
    """LoRA targets by `model_type` when none are given (peft 0.21 utils/constants.py)."""
    embedding: Parameter | None = None
    """The token embedding."""
    chunk: int = 0
    """Of a pipeline's stage: the model chunk that runs."""
    penalised: Sequence[Parameter] = ()
    """Parameters of which the loss has a term of their own (AdaLoRA's orthogonality)."""

    @abstractmethod
    def __init__(self, build: Builder, config: Config) -> None:
        """Build all weights.

        Raises:
            KeyError, ValueError: a dimension is missing from `config` or no number.
        """

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Shape and dtype of every tensor of a micro batch."""
        tokens = (batch.micro_batch_size, batch.sequence_length)
        named = {"input_ids": tokens, "labels": self.labels(batch)}
        if batch.attention_mask:
            named["attention_mask"] = tokens
        if batch.padding_free:
            # a collator's one row: positions tell where a sequence begins, and there is no mask (transformers 5.23
            # data/data_collator.py, DataCollatorWithFlattening; trl 1.16 trainer/sft_trainer.py)
            row = (1, batch.micro_batch_size * batch.sequence_length)
            named = {"input_ids": row, "labels": row, "position_ids": row}
        return {name: (shape, "int64") for name, shape in named.items()}

    def labels(self, batch: Batch) -> Shape:
        """Shape of the labels: one for every token."""
        return (batch.micro_batch_size, batch.sequence_length)

    @abstractmethod
    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Run the model's forward with labels on a micro batch as `inputs` describes it."""


def number(config: Config, *keys: str, default: int | None = None) -> int:
    """The first of `keys` that the config gives as an integer.

    Raises:
        KeyError: none is there and no default is given.
    """
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    if default is None:
        raise KeyError(keys[0])
    return default


def numbers(config: Config, key: str, default: Sequence[int]) -> Sequence[int]:
    """The integers that the config lists under `key`.

    Raises:
        KeyError: there is something else.
    """
    value = config.get(key, default)
    if isinstance(value, Sequence) and value and all(isinstance(item, int) for item in value):
        return tuple(value)
    raise KeyError(key)


def label_count(config: Config) -> int:
    """Number of classes: `num_labels`, the length of `id2label`, or 2 (configuration_utils.py)."""
    names = config.get("id2label")
    return number(config, "num_labels", default=len(names) if isinstance(names, Mapping) else 2)


def ratio(config: Config, *keys: str, default: float) -> float:
    """The first of `keys`, or of the same keys under `rope_parameters`, that the config gives as a number."""
    nested = config.get("rope_parameters")
    for source in (config, nested if isinstance(nested, Mapping) else {}):
        for key in keys:
            value = source.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return default


def probability(config: Config, key: str, default: float = 0.0) -> float:
    """A dropout probability."""
    return ratio(config, key, default=default)


class LayerNorm(Struct, frozen=True):
    """Weight and bias of nn.LayerNorm; None where it has none."""

    weight: Parameter | None
    bias: Parameter | None

    @classmethod
    def of(cls, build: Builder, name: str, size: int, *, bias: bool = True) -> LayerNorm:
        """Build `name.weight` and, if it has one, `name.bias`."""
        return cls(build.norm(f"{name}.weight", size), build.norm(f"{name}.bias", size) if bias else None)

    def parameters(self) -> list[Parameter]:
        """Those that it has."""
        return [parameter for parameter in (self.weight, self.bias) if parameter is not None]

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        return layer_norm(tape, x, self.weight, self.bias)
