"""Parameters of layers that carry a state along the sequence, which no transformers model here stands for.

Mamba 1: EleutherAI/gpt-neox@ea7aefd megatron/model/mamba/mamba.py, as state-spaces/mamba modules/mamba_simple.py.
Mamba 2: NVIDIA/Megatron-LM@d98e8a6 megatron/core/ssm/mamba_mixer.py. RWKV 6: gpt-neox megatron/model/rwkv/v6/rwkv.py.
"""

from __future__ import annotations

_STATE, _CONVOLUTION = 16, 4
"""Mamba 1: states and taps of a channel."""
_MIX, _DECAY = 32, 64
"""RWKV 6: ranks of the data-dependent mixing and of the decay."""


def mamba1_layer(hidden: int, inner: int, *, convolution_bias: bool = True) -> int:
    """Elements of one Mamba layer and its norm.

    Args:
        hidden: width of the model.
        inner: channels, twice that width unless the configuration says otherwise.
        convolution_bias: whether the convolution adds one.
    """
    rank = -(-hidden // 16)
    projections = hidden * 2 * inner + inner * (rank + 2 * _STATE) + rank * inner + inner + inner * hidden
    return projections + inner * (_CONVOLUTION + convolution_bias) + inner * _STATE + inner + hidden


def mamba2_layer(hidden: int, heads: int, head: int, groups: int, state: int) -> int:
    """Elements of one Mamba 2 layer and its norm.

    Args:
        hidden: width of the model.
        heads: of the layer.
        head: channels of a head.
        groups: of heads that share B and C.
        state: states of a channel.
    """
    inner = heads * head
    convolved = inner + 2 * groups * state
    return (
        hidden * (inner + convolved + heads)
        + convolved * (_CONVOLUTION + 1)
        + 3 * heads
        + inner
        + inner * hidden
        + hidden
    )


def rwkv6_layer(hidden: int, attention: int, wide: int) -> int:
    """Elements of one RWKV layer: time mix, channel mix and their norms.

    Args:
        hidden: width of the model.
        attention: width of the time mix.
        wide: width of the channel mix.
    """
    mixing = 6 * hidden + 2 * 5 * _MIX * hidden
    decay = attention + _DECAY * (hidden + attention) + attention
    time = mixing + decay + 5 * hidden * attention + 2 * attention
    channel = 2 * hidden + 2 * hidden * wide + hidden * hidden
    return time + channel + 4 * hidden
