"""ViT: patches by a convolution, pre-norm encoder, classification head (transformers 5.23 models/vit)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.bert import Layer, label_count
from vramlint.memory.architectures.family import Config, LayerNorm, Network, Outputs, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

LLAMA_NAMES_FROM = (5, 0)
"""Since then the attention's linear layers are called as llama's are."""
OLD_NAMES = ("attention.attention.query", "attention.attention.key", "attention.attention.value")
OLD_OTHERS = ("attention.output.dense", "intermediate.dense", "output.dense")


class ViTForImageClassification(Network):
    """ViTForImageClassification."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size", default=768)
        self.heads = number(config, "num_attention_heads", default=12)
        self.inner = number(config, "intermediate_size", default=3072)
        self.count = number(config, "num_hidden_layers", default=12)
        self.activation = str(config.get("hidden_act", "gelu"))
        self.dropout = probability(config, "hidden_dropout_prob")
        self.attention_dropout = probability(config, "attention_probs_dropout_prob")
        self.bias = bool(config.get("qkv_bias", True))
        self.channels = number(config, "num_channels", default=3)
        self.side = number(config, "image_size", default=224)
        patch = number(config, "patch_size", default=16)
        self.patches = (self.side // patch) ** 2
        table = "vit.embeddings"
        self.class_token = build.parameter(f"{table}.cls_token", (1, 1, self.hidden))
        self.positions = build.parameter(f"{table}.position_embeddings", (1, self.patches + 1, self.hidden))
        shape = (self.hidden, self.channels, patch, patch)
        self.projection = Convolution.of(build, f"{table}.patch_embeddings.projection", shape)
        self.layers = [self._layer(build, f"vit.encoder.layer.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, "vit.layernorm", self.hidden)
        self.classifier = build.linear(
            "classifier", self.hidden, label_count(config), bias=True
        )  # `all-linear` takes it

    def _layer(self, build: Builder, name: str) -> Layer:
        size = self.hidden
        new = build.transformers >= LLAMA_NAMES_FROM
        q, k, v = ("attention.q_proj", "attention.k_proj", "attention.v_proj") if new else OLD_NAMES
        o, up, down = ("attention.o_proj", "mlp.fc1", "mlp.fc2") if new else OLD_OTHERS
        return Layer(
            q=build.linear(f"{name}.{q}", size, size, bias=self.bias),
            k=build.linear(f"{name}.{k}", size, size, bias=self.bias),
            v=build.linear(f"{name}.{v}", size, size, bias=self.bias),
            o=build.linear(f"{name}.{o}", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{name}.layernorm_before", size),
            up=build.linear(f"{name}.{up}", size, self.inner, bias=True),
            down=build.linear(f"{name}.{down}", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.layernorm_after", size),
        )

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Images and one label for each."""
        count = batch.micro_batch_size
        return {
            "pixel_values": ((count, self.channels, self.side, self.side), "float32"),
            "labels": ((count,), "int64"),
        }

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The class token's state through a linear layer."""
        hidden = self.last_hidden_state(tape, regime, batch["pixel_values"])
        logits = linear(tape, e.part(tape, hidden, (hidden.shape[0], self.hidden)), self.classifier)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits])

    def last_hidden_state(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """ViTModel.forward."""
        pixels = tape.to(pixels, self.projection.weight.dtype)
        hidden = self._embed(tape, pixels)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y), x)

        hidden = tape.repeat(self.count, layer, hidden)
        return self.norm(tape, hidden)

    def _embed(self, tape: Tape, pixels: Tensor) -> Tensor:
        batch = pixels.shape[0]
        patches = e.transposed(tape, self.projection(tape, pixels, self.patches))
        hidden = e.concatenate(tape, (self.class_token, patches), (batch, self.patches + 1, self.hidden))
        hidden = e.add(tape, hidden, self.positions)
        return e.dropout(tape, hidden, self.dropout)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, hidden, residual)
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        hidden = e.dropout(tape, hidden, self.dropout)
        return e.add(tape, hidden, residual)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        return linear(tape, regime.attend(tape, q, k, v, None, self.attention_dropout), w.o)

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        return linear(tape, x, w.down)
