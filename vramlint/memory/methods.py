"""PEFT's methods by the names of their configs: what each puts around a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.ops.dense_delta import DenseDelta, Hadamard, Kronecker, Spectrum
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.low_rank import REUSES_RESULT_FROM, Dora
from vramlint.memory.ops.prefixes import Prefix
from vramlint.memory.ops.prompts import Prompt
from vramlint.memory.ops.rotated import Rotated
from vramlint.memory.ops.shards import Shards
from vramlint.memory.ops.singular import Singular
from vramlint.memory.ops.vectors import Scaled, SharedFactors

if TYPE_CHECKING:
    from vramlint.memory.weights import Builder

Method = Callable[["Builder", Adapter, str, int, int], Wrapper]
"""From the name of a layer, its inputs and its outputs to what is wrapped around it."""
FREQUENCIES, OFT_BLOCK, MISS_COLUMNS = 1000, 32, 1
"""Defaults of FourierFTConfig.n_frequency, OFTConfig.oft_block_size and MissConfig.mini_r (peft 0.21)."""


BLOCKWISE_OFT_FROM = (0, 16)
"""Since then OFT turns the input; before, it turned the weight."""


def _lora(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    if adapter.variants:
        raise build.not_followed(f"LoRA with {', '.join(adapter.variants)}")
    low_rank = build.low_rank(name, inputs, outputs)
    if not adapter.dora:
        return low_rank
    magnitude = build.trained(f"{name}.lora_magnitude_vector.weight", (outputs,), kept=True)
    return Dora(low_rank, magnitude, build.peft >= REUSES_RESULT_FROM)


def _adalora(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    rank = adapter.r
    first = build.trained(f"{name}.lora_A", (rank, inputs))
    second = build.trained(f"{name}.lora_B", (outputs, rank))
    values = build.trained(f"{name}.lora_E", (rank, 1))
    build.inventory.penalised += [first, second]
    return Singular(first, second, values, build.trained(f"{name}.ranknum", (1,)), adapter.dropout)


def _ia3(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    scales_input = adapters.scales_inputs(adapter, build.model_type, name)
    shape = (1, inputs) if scales_input else (outputs, 1)
    return Scaled(build.trained(f"{name}.ia3_l", shape), scales_input)


def _vera(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    rank = adapter.r
    build.share_factors(rank, inputs, outputs)
    outer = build.trained(f"{name}.vera_lambda_b", (outputs,))
    return SharedFactors(build.trained(f"{name}.vera_lambda_d", (rank,)), outer, adapter.dropout)


def _loha(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    rank = adapters.rank_of(adapter, name)
    first, second = (
        (
            build.trained(f"{name}.hada_w{number}_a", (outputs, rank)),
            build.trained(f"{name}.hada_w{number}_b", (rank, inputs)),
        )
        for number in (1, 2)
    )
    return DenseDelta(Hadamard((*first, *second)))


def _lokr(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Which of both matrices is whole: peft 0.21 tuners/lokr/layer.py, update_layer."""
    rank, factor = adapters.rank_of(adapter, name), _option(adapter, "decompose_factor", -1)
    (in_small, in_large), (out_small, out_large) = (adapters.factored(size, factor) for size in (inputs, outputs))
    both = adapter.options.get("decompose_both") is True
    first = both and rank < max(out_small, in_small) / 2
    second = rank < max(out_large, in_large) / 2
    parts = []
    for number, apart, rows, columns in ((1, first, out_small, in_small), (2, second, out_large, in_large)):
        shapes = {"_a": (rows, rank), "_b": (rank, columns)} if apart else {"": (rows, columns)}
        parts.append(tuple([build.trained(f"{name}.lokr_w{number}{end}", shape) for end, shape in shapes.items()]))
    return DenseDelta(Kronecker(*parts))


def _fourier(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    count = _option(adapter, "n_frequency", FREQUENCIES)
    return DenseDelta(Spectrum(build.trained(f"{name}.fourierft_spectrum", (count,))))


def _miss(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    rank = adapters.rank_of(adapter, name)
    form = adapter.options.get("init_weights", True)
    columns = _option(adapter, "mini_r", MISS_COLUMNS) if form == "mini" else outputs
    if inputs % rank or form not in (True, False, "mini"):
        raise build.not_followed(f"the form of MiSS on {name}")
    return Shards(build.trained(f"{name}.miss_block", (rank, columns)), adapter.dropout, repeats=columns != outputs)


def _oft(build: Builder, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    if build.peft < BLOCKWISE_OFT_FROM:
        raise build.not_followed("OFT before peft 0.16")
    blocks = adapter.r
    size = inputs // blocks if blocks else _option(adapter, "oft_block_size", OFT_BLOCK)
    if inputs % size or any(adapter.options.get(key) for key in ("coft", "block_share", "module_dropout")):
        raise build.not_followed(f"the form of OFT on {name}")
    elements = size * (size - 1) // 2
    for _ in ("rows", "columns"):
        build.buffer(8 * elements)
    return Rotated(build.trained(f"{name}.oft_R.weight", (inputs // size, elements)), size)


METHODS: Mapping[str, Method] = {
    "lora": _lora,
    "adalora": _adalora,
    "ia3": _ia3,
    "vera": _vera,
    "loha": _loha,
    "lokr": _lokr,
    "fourierft": _fourier,
    "miss": _miss,
    "bone": _miss,
    "oft": _oft,
}
"""Methods that wrap linear layers."""
OVER_QUANTIZED = frozenset({"adalora", "ia3", "miss", "oft", "vera"})
"""Methods besides LoRA that are followed over what bitsandbytes quantized."""
WITH_PROMPTS = frozenset({"prompttuning", "promptencoder", "prefixtuning"})
"""Methods that put virtual tokens before the text."""
PREFIXED = frozenset({"llama", "mistral", "qwen2"})
"""Model types whose attention is followed over a prefix."""
WITHOUT_LAYERS = frozenset({"trainabletokens", "lntuning"})
"""Methods that train embeddings or norms only."""
SIMULATED = frozenset(METHODS) | WITHOUT_LAYERS | WITH_PROMPTS
"""Methods whose step is followed."""


def prompt_of(build: Builder, width: int) -> Prompt | None:
    """The virtual tokens of a model of `width`; their encoder is float32 whatever the model is.

    Raises:
        NotFollowedError: the encoder is an LSTM.
    """
    adapter = build.adapter
    if adapter is None or adapter.method not in WITH_PROMPTS or adapter.method == "prefixtuning":
        return None
    if not adapter.virtual_tokens:
        raise build.not_followed("a prompt whose length is not known")
    name = "prompt_encoder.default"
    table = build.wide(f"{name}.embedding.weight", (adapter.virtual_tokens, width))
    if adapter.method == "prompttuning":
        return Prompt(table)
    if adapter.options.get("encoder_reparameterization_type", "MLP") != "MLP":
        raise build.not_followed("p-tuning with an LSTM")
    inner = _option(adapter, "encoder_hidden_size", width)
    sizes = ((inner, width), (inner, inner), (width, inner))
    layers = [
        (build.wide(f"{name}.mlp_head.{2 * n}.weight", size), build.wide(f"{name}.mlp_head.{2 * n}.bias", size[:1]))
        for n, size in enumerate(sizes)
    ]
    return Prompt(table, layers)


def prefix_of(build: Builder, config: Mapping[str, object]) -> Prefix | None:
    """The keys and values before the text of a model of `config`; their encoder is float32 whatever the model is.

    Raises:
        NotFollowedError: attention of such a model is not followed over a prefix, or layers are checkpointed.
    """
    adapter = build.adapter
    if adapter is None or adapter.method != "prefixtuning":
        return None
    if build.model_type not in PREFIXED or build.checkpointed or not adapter.virtual_tokens:
        raise build.not_followed("this form of prefix tuning")
    hidden, heads, layers = (_size(config, f"{key}") for key in _DIMENSIONS)
    shared = _size(config, "num_key_value_heads") or heads
    width = shared * (hidden // heads)
    name, total = "prompt_encoder.default", 2 * layers * width
    if adapter.options.get("prefix_projection") is not True:
        table = build.wide(f"{name}.embedding.weight", (adapter.virtual_tokens, total))
        return Prefix(table, (), shared, hidden // heads, build.dtype)
    inner = _option(adapter, "encoder_hidden_size", hidden)
    table = build.wide(f"{name}.embedding.weight", (adapter.virtual_tokens, width))
    projection = [
        (build.wide(f"{name}.transform.{n}.weight", size), build.wide(f"{name}.transform.{n}.bias", size[:1]))
        for n, size in ((0, (inner, width)), (2, (total, inner)))
    ]
    return Prefix(table, projection, shared, hidden // heads, build.dtype)


_DIMENSIONS = ("hidden_size", "num_attention_heads", "num_hidden_layers")


def _size(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else 0


def _option(adapter: Adapter, name: str, default: int) -> int:
    value = adapter.options.get(name)
    return value if isinstance(value, int) else default
