"""Parameters of the modules that torch has, by their constructors' arguments (torch 2.13 torch/nn/modules)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from vramlint.patterns import lazy
from vramlint.surfaces.lineage import last
from vramlint.values import Alternatives, Call, Items, Scalar, Unknown, Value

_NONE = lazy(
    r"^(Alpha|Feature)?Dropout|Dropout\d?d?$|Softm(ax|in)|(?<!P)ReLU6?$|[GSC]?ELU$|SiLU$|Mish$|GLU$|Tanh|"
    r"Sigmoid$|Hard\w+$|Soft\w+$|Threshold$|Pool\dd$|Flatten$|Identity$|Loss|Upsampl|Pad\dd$|Pixel(Un)?[Ss]huffle$|"
    r"Unpool\dd$|[Ff]old$|ChannelShuffle$|CosineSimilarity$|PairwiseDistance$|LocalResponseNorm$|LPPool|^Module$"
)
"""Modules without parameters."""
_GATES = MappingProxyType({"LSTM": 4, "GRU": 3, "RNN": 1, "LSTMCell": 4, "GRUCell": 3, "RNNCell": 1})
LARGEST = 2**40
"""No size of a layer is beyond this."""
_FEED_FORWARD = 2048
"""dim_feedforward of a TransformerEncoderLayer unless given."""


class UnknownSizeError(ValueError):
    """A size that only run time knows; the message says which and why."""


def own_parameters(call: Call) -> tuple[int, int]:
    """The parameters of one of torch's modules: all, and those of its `weight` alone.

    Raises:
        UnknownSizeError: an argument that decides the number is not known, or the module is none that is listed.
    """
    name = last(call.callee)
    if _NONE.search(name) and name != "AdaptiveLogSoftmaxWithLoss":
        return 0, 0
    counter = _COUNTERS.get(name)
    if counter is None:
        raise UnknownSizeError(f"the parameters of {call.callee} are not counted")
    if call.open_keywords:
        raise UnknownSizeError(f"arguments of {name} come through ** from a mapping that cannot be seen")
    return counter(call)


def number(call: Call, name: str, position: int | None, otherwise: int | None = None) -> int:
    """A whole number among the arguments.

    Raises:
        UnknownSizeError: it is not known, or missing without a default.
    """
    value = call.argument(name, position)
    if value is None and otherwise is not None:
        return otherwise
    return whole(value, f"{name} of {last(call.callee)}")


def whole(value: Value | None, what: str) -> int:
    """The whole number behind a value.

    Raises:
        UnknownSizeError: there is none.
    """
    match value:
        case Scalar(value=bool() as flag):
            return int(flag)
        case Scalar(value=int() | float() as found) if 0 <= found <= LARGEST and float(found).is_integer():
            return int(found)
        case Alternatives(options=several):
            reasons = (option.value.reason for option in several if isinstance(option.value, Unknown))
            said = next(reasons, f"depends on {several[0].condition}")
            raise UnknownSizeError(f"{what}: {said}")
        case Unknown(reason=reason):
            raise UnknownSizeError(f"{what}: {reason}")
    raise UnknownSizeError(f"{what} is not known")


def _flag(call: Call, name: str, position: int | None, *, otherwise: bool) -> bool:
    value = call.argument(name, position)
    if value is None:
        return otherwise
    if isinstance(value, Scalar):
        return bool(value.value)
    raise UnknownSizeError(f"{name} of {last(call.callee)} is not known")


def _sizes(value: Value | None, count: int, what: str) -> int:
    """The product of a kernel's sizes, given as one number for all dimensions or one for each."""
    if isinstance(value, Items):
        return prod(whole(item, what) for item in value.values)
    return int(whole(value, what) ** count)


def _linear(call: Call) -> tuple[int, int]:
    inside, outside = number(call, "in_features", 0), number(call, "out_features", 1)
    bias = _flag(call, "bias", 2, otherwise=True)
    return inside * outside + bias * outside, inside * outside


def _bilinear(call: Call) -> tuple[int, int]:
    first, second, outside = (number(call, f"{name}_features", at) for at, name in enumerate(("in1", "in2", "out")))
    weight = first * second * outside
    return weight + _flag(call, "bias", 3, otherwise=True) * outside, weight


def _embedding(call: Call) -> tuple[int, int]:
    size = number(call, "num_embeddings", 0) * number(call, "embedding_dim", 1)
    return size, size


def _convolution(dimensions: int, bias_at: int, groups_at: int) -> Callable[[Call], tuple[int, int]]:
    def count(call: Call) -> tuple[int, int]:
        inside, outside = number(call, "in_channels", 0), number(call, "out_channels", 1)
        kernel = _sizes(call.argument("kernel_size", 2), dimensions, f"kernel_size of {last(call.callee)}")
        groups = number(call, "groups", groups_at, 1)
        weight = inside * outside * kernel // max(groups, 1)
        return weight + _flag(call, "bias", bias_at, otherwise=True) * outside, weight

    return count


def _layer_norm(call: Call) -> tuple[int, int]:
    size = _sizes(call.argument("normalized_shape", 0), 1, "normalized_shape of LayerNorm")
    if not _flag(call, "elementwise_affine", 2, otherwise=True):
        return 0, 0
    return size * (1 + _flag(call, "bias", 3, otherwise=True)), size


def _rms_norm(call: Call) -> tuple[int, int]:
    size = _sizes(call.argument("normalized_shape", 0), 1, "normalized_shape of RMSNorm")
    return (size, size) if _flag(call, "elementwise_affine", 2, otherwise=True) else (0, 0)


def _norm(name: str, position: int, affine_at: int, *, affine: bool = True) -> Callable[[Call], tuple[int, int]]:
    def count(call: Call) -> tuple[int, int]:
        size = number(call, name, position)
        return (2 * size, size) if _flag(call, "affine", affine_at, otherwise=affine) else (0, 0)

    return count


def _attention(width: int, keys: int, values: int, *, bias: bool) -> int:
    """Projections of the query, key, value and output of MultiheadAttention."""
    return width * (2 * width + keys + values) + 4 * width * bias


def _multihead(call: Call) -> tuple[int, int]:
    width = number(call, "embed_dim", 0)
    bias = _flag(call, "bias", 3, otherwise=True)
    extra = _flag(call, "add_bias_kv", 4, otherwise=False)
    sizes = [
        width if value is None or value == Scalar(None, value.place) else whole(value, "kdim")
        for value in (call.argument("kdim", 6), call.argument("vdim", 7))
    ]
    return _attention(width, sizes[0], sizes[1], bias=bias) + 2 * width * extra, 0


def _transformer_layer(call: Call, attentions: int) -> int:
    width, inner = number(call, "d_model", 0), number(call, "dim_feedforward", 2, _FEED_FORWARD)
    bias = _flag(call, "bias", 8, otherwise=True)
    feed_forward = 2 * width * inner + bias * (width + inner)
    norms = (attentions + 1) * width * (1 + bias)
    return attentions * _attention(width, width, width, bias=bias) + feed_forward + norms


def _transformer(call: Call) -> tuple[int, int]:
    """`nn.Transformer`, whose stacks end in a norm each."""
    width, inner = number(call, "d_model", 0, 512), number(call, "dim_feedforward", 4, _FEED_FORWARD)
    sized = (Scalar(width), Scalar(8), Scalar(inner))
    layer = Call("torch.nn.TransformerEncoderLayer", sized, (), call.place)
    encoder = number(call, "num_encoder_layers", 2, 6) * _transformer_layer(layer, 1)
    decoder = number(call, "num_decoder_layers", 3, 6) * _transformer_layer(layer, 2)
    return encoder + decoder + 4 * width, 0


def _recurrent(call: Call) -> tuple[int, int]:
    gates = _GATES[last(call.callee)]
    inside, hidden = number(call, "input_size", 0), number(call, "hidden_size", 1)
    layers, directions = number(call, "num_layers", 2, 1), 1 + _flag(call, "bidirectional", 6, otherwise=False)
    bias = _flag(call, "bias", 3, otherwise=True)
    if number(call, "proj_size", 7, 0):
        raise UnknownSizeError("a recurrent layer with projections is not counted")
    if not layers:
        raise UnknownSizeError(f"{last(call.callee)} has no layers")
    first = gates * hidden * (inside + hidden + 2 * bias)
    later = gates * hidden * (hidden * directions + hidden + 2 * bias)
    return directions * (first + (layers - 1) * later), 0


def _cell(call: Call) -> tuple[int, int]:
    gates = _GATES[last(call.callee)]
    inside, hidden = number(call, "input_size", 0), number(call, "hidden_size", 1)
    return gates * hidden * (inside + hidden + 2 * _flag(call, "bias", 2, otherwise=True)), 0


def _prelu(call: Call) -> tuple[int, int]:
    size = number(call, "num_parameters", 0, 1)
    return size, size


_COUNTERS: Mapping[str, Callable[[Call], tuple[int, int]]] = MappingProxyType(
    {
        "Linear": _linear,
        "NonDynamicallyQuantizableLinear": _linear,
        "Bilinear": _bilinear,
        "Embedding": _embedding,
        "EmbeddingBag": _embedding,
        **{f"Conv{n}d": _convolution(n, 7, 6) for n in (1, 2, 3)},
        **{f"ConvTranspose{n}d": _convolution(n, 7, 6) for n in (1, 2, 3)},
        "LayerNorm": _layer_norm,
        "RMSNorm": _rms_norm,
        **{f"BatchNorm{n}d": _norm("num_features", 0, 3) for n in (1, 2, 3)},
        "SyncBatchNorm": _norm("num_features", 0, 3),
        **{f"InstanceNorm{n}d": _norm("num_features", 0, 3, affine=False) for n in (1, 2, 3)},
        "GroupNorm": _norm("num_channels", 1, 3),
        "MultiheadAttention": _multihead,
        "TransformerEncoderLayer": lambda call: (_transformer_layer(call, 1), 0),
        "TransformerDecoderLayer": lambda call: (_transformer_layer(call, 2), 0),
        "Transformer": _transformer,
        **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
        **dict.fromkeys(("LSTMCell", "GRUCell", "RNNCell"), _cell),
        "PReLU": _prelu,
    }
)
"""Modules whose parameters their own arguments decide. ConvTranspose has groups before bias, as Conv has."""

LAYERS = frozenset(_COUNTERS)
"""Names of the modules that are counted."""
