"""The optimizer catalog: what each optimizer keeps, and what it needs while it steps."""

from __future__ import annotations

import json

from msgspec import Struct

from vramlint.catalog.lines import lines

_FILE = "optimizers.tsv"


class State(Struct, frozen=True):
    """One persistent tensor per trainable parameter."""

    name: str
    dtype: str
    """param (the parameter's own), fp32, fp8, u8 or u4 (quantised by blocks)."""


class BlockQuantization(Struct, frozen=True):
    """Quantised states: one float32 scale per `block` elements; tensors below `min_numel` stay unquantised."""

    block: int
    min_numel: int
    small: str
    """dtype word of the states of small tensors."""


class OptimizerRow(Struct, frozen=True):
    """One optimizer. Bytes are per trainable parameter, `_fp32` for float32 and `_low` for 16-bit parameters."""

    name: str
    states: tuple[State, ...]
    state_bytes_fp32: float
    state_bytes_low: float
    states_of_16bit: tuple[State, ...] = ()
    """Further states that exist for 16-bit parameters only."""
    factored: str = ""
    """dtype word of factored second moments (grad, fp32): a matrix m x n keeps m + n elements, a vector all of them."""
    low_rank: bool = False
    """Target matrices keep their moments at rank `rank`; see `state_formula`."""
    quantised: BlockQuantization | None = None
    embedding_state_bytes: float | None = None
    """What the Trainer makes of nn.Embedding weights: 32-bit states where the others are quantised."""
    step_temp_fp32: float = 0.0
    step_temp_low: float = 0.0
    step_temp_scope: str = "none"
    """group: for all parameters of one device and dtype at once; largest: for the largest parameter; none."""
    place: str = "gpu"
    """gpu, host, managed (paged), device."""
    host_bytes_fp32: float = 0.0
    host_bytes_low: float = 0.0
    lazy: bool = True
    """States appear at the first step, not at construction."""
    states_by: str = "group"
    """group: a step first makes the states of a whole parameter group; parameter: each one's before its update."""
    grads_fused: bool = False
    """Each gradient is consumed and freed inside backward."""
    hf_name: bool = False
    """A value of TrainingArguments.optim."""
    state_formula: str = ""
    notes: tuple[str, ...] = ()
    source: str = ""
    verified: str = ""
    """source (read in the library's source), estimate, recalled."""


def find_optimizer(name: str) -> OptimizerRow | None:
    """The optimizer of that canonical name, `optim=` value, class path or class name, ignoring case.

    The `type` of a DeepSpeed JSON is looked up as `ds:<type>`. None when the catalog lacks it.
    """
    for found, payload in lines(_FILE).starting_with(name.strip()):
        data = json.loads(payload)
        return find_optimizer(data["same"]) if "same" in data else _row(found, data)
    return None


def nearest_optimizers(name: str, count: int = 3) -> tuple[str, ...]:
    """Names of optimizers that resemble `name`."""
    from vramlint.catalog.nearest import nearest

    return nearest(name, (line[0] for line in lines(_FILE)), count)


def all_optimizers() -> tuple[OptimizerRow, ...]:
    """Every optimizer, sorted by name."""
    parsed = ((name, json.loads(payload)) for name, payload in lines(_FILE))
    return tuple(_row(name, data) for name, data in parsed if "same" not in data)


_NOTES = (
    "note",
    "states_note",
    "state_bytes_note",
    "step_temp_note",
    "step_temp_formula",
    "trainer_embedding_note",
    "block_note",
    "mini_note",
    "lazy_note",
    "host_bytes_note",
    "master_weight_note",
    "total_note",
)


def _row(name: str, data: dict[str, object]) -> OptimizerRow:
    if "base" in data:
        base = next(iter(lines(_FILE).starting_with(str(data["base"]))))
        data = {**json.loads(base[1]), **data}
    return OptimizerRow(
        name=name,
        states=_states(data.get("states")),
        states_of_16bit=_states(data.get("states_of_16bit")),
        factored=str(data.get("factored", "")),
        low_rank=bool(data.get("low_rank", False)),
        quantised=_quantisation(data.get("quantised")),
        state_bytes_fp32=_number(data.get("state_bytes_fp32")),
        state_bytes_low=_number(data.get("state_bytes_low")),
        embedding_state_bytes=_optional(data.get("trainer_embedding_state_bytes")),
        step_temp_fp32=_number(data.get("step_temp_fp32")),
        step_temp_low=_number(data.get("step_temp_low")),
        step_temp_scope=str(data.get("step_temp_scope", "none")),
        place=str(data.get("place", "gpu")),
        host_bytes_fp32=_number(data.get("host_bytes_fp32")),
        host_bytes_low=_number(data.get("host_bytes_low")),
        lazy=bool(data.get("lazy", True)),
        states_by=str(data.get("states_by", "group")),
        grads_fused=bool(data.get("grads_fused", False)),
        hf_name=bool(data.get("hf_name", False)),
        state_formula=str(data.get("state_formula", "")),
        notes=tuple(str(data[key]) for key in _NOTES if key in data),
        source=str(data.get("source", "")),
        verified=str(data.get("verified", "")),
    )


def _states(value: object) -> tuple[State, ...]:
    return tuple(State(*pair) for pair in value) if isinstance(value, list) else ()


def _quantisation(value: object) -> BlockQuantization | None:
    return BlockQuantization(value["block"], value["min_numel"], value["small"]) if isinstance(value, dict) else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _optional(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
