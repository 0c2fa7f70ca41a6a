"""Megatron-Core's layers that predict further tokens.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/transformer/multi_token_prediction.py. Each takes the hidden states behind
the one before it and the embeddings of the tokens one further, norms both, puts them together by a matrix product and
runs a layer like the decoder's last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from vramlint.memory import checkpoint
from vramlint.memory.architectures.megatron_layers import Layer, Layers
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import megatron
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.selection import joined
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor
from vramlint.memory.weights import Builder

Results = Sequence["Tensor | None"]


class Prediction(Struct):
    """Weights of one such layer."""

    embedding_norm: tuple[Parameter, ...]
    hidden_norm: tuple[Parameter, ...]
    both: Weights
    layer: Layer
    last_norm: tuple[Parameter, ...]


class Predictions:
    """MultiTokenPredictionBlock, on the stage that has the head."""

    def __init__(self, build: Builder, layers: Layers, count: int, *, sparse: bool) -> None:
        """Make the weights of `count` layers, with experts where the decoder's last layer is `sparse`."""
        self.layers = layers
        width = layers.hidden // layers.group.ranks
        self.weights = [
            Prediction(
                embedding_norm=layers.norm(build, f"mtp.layers.{depth}.enorm"),
                hidden_norm=layers.norm(build, f"mtp.layers.{depth}.hnorm"),
                both=build.linear(f"mtp.layers.{depth}.eh_proj", 2 * layers.hidden, width),
                layer=layers.layer(build, f"mtp.layers.{depth}.mtp_model_layer", sparse=sparse, crosses=False),
                last_norm=layers.norm(build, f"mtp.layers.{depth}.final_layernorm"),
            )
            for depth in range(count)
        ]

    def __call__(
        self, tape: Tape, regime: Regime, hidden: Tensor, tokens: Tensor, embed: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """The decoder's output [B, S, H] and the layers' behind it, as parts of one tensor.

        Args:
            tape: records.
            regime: of the run.
            hidden: behind the decoder's last norm.
            tokens: [B, S].
            embed: tokens to embeddings [B, S, H].
        """
        found = [hidden]
        for weights in self.weights:
            tokens = tape.empty(tokens.shape, tokens.dtype, "rolled tokens")
            found.append(self._layer(tape, regime, weights, found[-1], embed(tokens)))
        del hidden
        batch, length, width = found[0].shape
        count = len(found)
        whole = joined(tape, found, (batch, length * count, width))
        found.clear()
        node = tape.view_node((whole,), _chunked) if tape.grad_enabled else None
        if node is not None:
            node.outputs = count
        for slot in range(count):
            part = whole.as_shape((batch, length, width))
            part.node, part.slot = node, slot
            found.append(part)
        return found

    def _layer(self, tape: Tape, regime: Regime, w: Prediction, hidden: Tensor, embedded: Tensor) -> Tensor:
        """_proj_and_transformer_layer; recomputed where every layer is."""
        layers, group = self.layers, self.layers.group

        def run(hidden: Tensor, embedded: Tensor) -> tuple[Tensor]:
            embedded = megatron.norm(tape, embedded, w.embedding_norm)
            normed = megatron.norm(tape, hidden, w.hidden_norm)
            del hidden
            both = joined(tape, (embedded, normed), (*normed.shape[:-1], 2 * layers.hidden))
            del embedded, normed
            x = megatron.column(tape, both, w.both, group)
            del both
            x = _whole(tape, x, group)
            return (megatron.norm(tape, layers.forward(tape, regime, w.layer, x), w.last_norm),)

        if layers.recompute == "full" and layers.uniform:
            return checkpoint.reentrant(tape, run, (hidden, embedded), offload=False)[0]
        return run(hidden, embedded)[0]


def _whole(tape: Tape, x: Tensor, group: megatron.Group) -> Tensor:
    """The parts of the last dimension put together; of the sequence, a rank's own part where ranks share it."""
    if group.ranks == 1:
        return x
    shape = (*x.shape[:-1], x.shape[-1] * group.ranks)
    whole = tape.apply("all-gather", (x,), shape, x.dtype, megatron.like_inputs)
    if group.gathers == 1:
        return whole
    part = (shape[0], shape[1] // group.gathers, shape[2])
    return tape.apply("contiguous", (whole,), part, x.dtype, megatron.like_inputs)


def _chunked(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """The gradients of all parts put together."""
    edge = node.edges[0]
    return (None,) if edge is None else (tape.empty(edge[2], edge[3], "cat"),)


def scaled(tape: Tape, hidden: Tensor, loss: Tensor) -> Tensor:
    """MTPLossAutoScaler: `hidden`, whose backward differentiates `loss` [B, S] too."""
    out = hidden.as_shape(hidden.shape)
    if tape.grad_enabled:
        out.node, out.slot = tape.view_node((hidden, loss), _scaled), 0
    return out


def _scaled(tape: Tape, node: Node, gradients: Gradients) -> Results:
    edge = node.edges[1]
    return (gradients[0], None if edge is None else tape.empty(edge[2], edge[3], "ones"))


def masked(tape: Tape, losses: Tensor) -> Tensor:
    """`loss_mask * losses` [B, S], whose mask is rolled along with the labels."""
    mask = tape.empty(losses.shape, "float32", "rolled loss mask")
    return e.mul(tape, losses, mask)
