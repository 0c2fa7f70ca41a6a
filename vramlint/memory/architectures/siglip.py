"""SigLIP: CLIP with a pairwise sigmoid loss and a head of attention over patches (transformers 5.23 models/siglip)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.clip import DualEncoder, nested, similarities
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number
from vramlint.memory.architectures.towers import ImageTower, TextTower
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, ImageClassifier
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear, matmul_weight
from vramlint.memory.ops.pooling import mean, total, unit_length
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class PoolingHead(Struct):
    """SiglipMultiheadAttentionPoolingHead: one learned query over all patches."""

    heads: int
    activation: str
    probe: Parameter
    in_weight: Parameter
    in_bias: Parameter
    o: Weights
    norm: LayerNorm
    up: Weights
    down: Weights

    @classmethod
    def of(cls, build: Builder, config: Config, name: str) -> PoolingHead:
        """Build `name`."""
        size, inner = number(config, "hidden_size"), number(config, "intermediate_size")
        return cls(
            heads=number(config, "num_attention_heads"),
            activation=str(config["hidden_act"]),
            probe=build.parameter(f"{name}.probe", (1, 1, size)),
            in_weight=build.parameter(f"{name}.attention.in_proj_weight", (3 * size, size)),
            in_bias=build.parameter(f"{name}.attention.in_proj_bias", (3 * size,), decay=False),
            o=Weights(
                build.parameter(f"{name}.attention.out_proj.weight", (size, size)),
                build.parameter(f"{name}.attention.out_proj.bias", (size,), decay=False),
            ),
            norm=LayerNorm.of(build, f"{name}.layernorm", size),
            up=build.linear(f"{name}.mlp.fc1", size, inner, bias=True),
            down=build.linear(f"{name}.mlp.fc2", inner, size, bias=True),
        )

    def parameters(self) -> Iterator[Parameter]:
        """All of it."""
        yield from (self.probe, self.in_weight, self.in_bias, *self.norm.parameters())
        for weights in (self.o, self.up, self.down):
            yield weights.weight
            if weights.bias is not None:
                yield weights.bias

    def __call__(self, tape: Tape, states: Tensor) -> Tensor:
        """From [B, N, H] to [B, H]."""
        batch, _, size = states.shape
        probe = tape.apply("repeat", (self.probe,), (batch, 1, size), self.probe.dtype, attention.repeat_backward)
        hidden = self._attention(tape, probe, states)
        residual = hidden
        hidden = self.norm(tape, hidden)
        hidden = e.add(tape, residual, self._mlp(tape, hidden))
        return shaping.part(tape, hidden, (batch, size))

    def _mlp(self, tape: Tape, x: Tensor) -> Tensor:
        x = linear(tape, x, self.up)
        x = activation(tape, self.activation, x)
        return linear(tape, x, self.down)

    def _attention(self, tape: Tape, probe: Tensor, states: Tensor) -> Tensor:
        """nn.MultiheadAttention (torch 2.13 nn/functional.py, multi_head_attention_forward)."""
        batch, length, size = states.shape
        q_weight, kv_weight = shaping.split_first(tape, self.in_weight, (size, 2 * size))
        q_bias, kv_bias = shaping.split_first(tape, self.in_bias, (size, 2 * size))
        q = matmul_weight(tape, probe, q_weight, q_bias)
        # time comes first: a transposed view, which the flat product copies
        kv = matmul_weight(tape, states, kv_weight, kv_bias, copies=True)
        kv = shaping.reordered(tape, kv, (2, batch, length, size))
        k, v = (self._heads(tape, shaping.part(tape, kv, (batch, length, size))) for _ in range(2))
        q = self._heads(tape, q)
        q = e.linear_unary(tape, "mul", q)
        weights = softmax(tape, attention.scores(tape, q, k), in_float32=False)
        out = attention.weighted(tape, weights, v)
        hidden = linear(tape, out.as_shape((batch, size)), self.o)
        averaged = tape.empty((batch, 1, length), weights.dtype, "mean")
        del averaged
        return shaping.viewed(tape, hidden, (batch, 1, size))

    def _heads(self, tape: Tape, x: Tensor) -> Tensor:
        out = attention.split_heads(tape, x, self.heads)
        out.heads_first = True  # bmm takes the strides as they are
        return out


class SiglipImageTower(ImageTower):
    """SiglipVisionModel."""

    defaults: ClassVar[Config] = {**ImageTower.defaults, "hidden_act": "gelu_pytorch_tanh"}
    patch: ClassVar[int] = 16
    class_token: ClassVar[bool] = False
    frees_weights: ClassVar[bool] = False

    def _head(self, build: Builder, config: Config) -> None:
        self.post_norm = LayerNorm.of(build, "vision_model.post_layernorm", self.encoder.size)
        used = bool(config.get("vision_use_head", True))
        self.head = PoolingHead.of(build, config, "vision_model.head") if used else None

    def embed(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """Without a class token the patches stay a transposed view, and so are the hidden states of all layers."""
        indices = Tensor((1, self.length), "int64", None)  # a buffer
        hidden = self.patches(tape, regime, pixels)
        hidden.heads_first = True
        return e.add(tape, hidden, embedding(tape, indices, self.positions))

    def states(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """The last layer's normalised states."""
        hidden = self.embed(tape, regime, pixels)
        hidden = self.encoder(tape, regime, hidden, None)
        return self.post_norm(tape, hidden)

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What the head makes of all states, and these."""
        hidden = self.states(tape, regime, pixels)
        return hidden if self.head is None else self.head(tape, hidden), hidden


class SiglipTextTower(TextTower):
    """SiglipTextModel: no causal mask; a linear layer behind the last token."""

    defaults: ClassVar[Config] = {
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh",
    }
    frees_weights: ClassVar[bool] = False

    def _head(self, build: Builder, config: Config) -> None:
        size = number(config, "hidden_size")
        self.head = build.linear("text_model.head", size, number(config, "projection_size", default=size), bias=True)

    def _pool(self, tape: Tape, hidden: Tensor) -> Tensor:
        batch, _, size = hidden.shape
        return linear(tape, shaping.part(tape, hidden, (batch, size)), self.head)

    def _masks(
        self, tape: Tape, regime: Regime, hidden: Tensor, *, masked: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The padding mask; before transformers 5 whatever it says."""
        if regime.transformers >= LLAMA_NAMES_FROM or regime.implementation not in ("eager", "sdpa"):
            return replace(regime, attention_mask=masked).bidirectional_mask(tape, hidden), None
        batch, length, _ = hidden.shape
        return (tape.empty((batch, 1, length, length), hidden.dtype, "attention mask") if masked else None), None


class SiglipModel(DualEncoder):
    """SiglipModel."""

    def __init__(self, build: Builder, config: Config) -> None:
        self.texts = SiglipTextTower(build, nested(config, "text_config"))
        self.images = SiglipImageTower(build, nested(config, "vision_config"))
        self.embedding = self.texts.embedding
        self.scale = build.parameter("logit_scale", (1,))
        self.bias = build.parameter("logit_bias", (1,), decay=False)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Every pair is a case of its own: right or wrong."""
        pooled, image_states = self.images.pooled(tape, regime, batch["pixel_values"])
        last, text_states = self.texts.pooled(tape, regime, batch["input_ids"], masked="attention_mask" in batch)
        image = unit_length(tape, pooled)
        text = unit_length(tape, last)
        logits = similarities(tape, text, image)
        scale = e.unary_of_result(tape, "exp", tape.upper(self.scale))
        logits = e.add(tape, e.mul(tape, logits, scale), self.bias)
        loss = self._loss(tape, logits)
        return Outputs(loss, [logits, image, text, pooled, image_states, last, text_states])

    def _loss(self, tape: Tape, logits: Tensor) -> Tensor:
        eye = tape.empty(logits.shape, "float32", "eye")
        signs = tape.empty(logits.shape, "float32", "add")
        likelihood = e.unary(tape, "log_sigmoid", e.mul(tape, signs, logits))
        each = e.linear_unary(tape, "neg", total(tape, likelihood, (logits.shape[0],)))
        del eye
        return mean(tape, each, (1,))


class SiglipForImageClassification(ImageClassifier):
    """SiglipForImageClassification: the mean of all states; the head runs for nothing."""

    def __init__(self, build: Builder, config: Config) -> None:
        self.images = SiglipImageTower(build, nested(config, "vision_config"))
        head = self.images.head
        self.unused = [] if head is None else [p for p in head.parameters() if p.requires_grad]
        self._learn(requires_grad=False)
        self.input_shape = self.images.patches.pixels
        self.classify(build, config, self.images.encoder.size)

    def _learn(self, *, requires_grad: bool) -> None:
        """The head's parameters never get a gradient, yet its forward has a graph and cached casts."""
        for parameter in self.unused:
            parameter.requires_grad = requires_grad

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over patches."""
        self._learn(requires_grad=True)
        unused, hidden = self.images.pooled(tape, regime, pixels)
        self._learn(requires_grad=False)
        batch, _, size = hidden.shape
        return mean(tape, hidden, (batch, size)), unused
