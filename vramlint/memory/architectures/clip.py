"""CLIP: an image and a text encoder with a contrastive loss (transformers 5.23 models/clip)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Network, Outputs, number
from vramlint.memory.architectures.towers import ImageTower, TextTower
from vramlint.memory.architectures.vision import ImageClassifier
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import linear, matmul
from vramlint.memory.ops.pooling import mean, unit_length_of_operators
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

PROJECTED_AT_ONCE_FROM = (5, 0)
"""Since then the image is projected before the text is read, not after it."""


def nested(config: Config, key: str) -> Config:
    """A config within the config; empty where it is left to its defaults."""
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}


class DualEncoder(Network):
    """Both towers below a contrastive loss."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    images: ImageTower
    texts: TextTower

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Pairs of a text and an image; the loss needs no labels."""
        count = batch.micro_batch_size
        tokens = (count, batch.sequence_length)
        named = {"input_ids": (tokens, "int64"), "pixel_values": ((count, *self.images.patches.pixels), "float32")}
        if batch.attention_mask:
            named["attention_mask"] = (tokens, "int64")
        return named

    @abstractmethod
    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """…Model.forward with `return_loss`."""


class ClipModel(DualEncoder):
    """CLIPModel."""

    def __init__(self, build: Builder, config: Config) -> None:
        width = number(config, "projection_dim", default=512)
        self.texts = TextTower(build, nested(config, "text_config"))
        self.images = ImageTower(build, nested(config, "vision_config"))
        self.embedding = self.texts.embedding
        self.image_projection = build.linear("visual_projection", self.images.encoder.size, width)
        self.text_projection = build.linear("text_projection", self.texts.encoder.size, width)
        self.scale = build.parameter("logit_scale", ())

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The output holds both towers' states, pooled and not."""
        first, image_states = self.images.pooled(tape, regime, batch["pixel_values"])
        at_once = regime.transformers >= PROJECTED_AT_ONCE_FROM
        if at_once:
            first = linear(tape, first, self.image_projection)
        last, text_states = self.texts.pooled(tape, regime, batch["input_ids"], masked="attention_mask" in batch)
        if at_once:
            last = linear(tape, last, self.text_projection)
        image = first if at_once else linear(tape, first, self.image_projection)
        text = last if at_once else linear(tape, last, self.text_projection)
        image = unit_length_of_operators(tape, image)
        text = unit_length_of_operators(tape, text)
        logits = _scaled(tape, similarities(tape, text, image), self.scale)
        labels = tape.empty((logits.shape[0],), "int64", "arange")
        loss = cross_entropy(tape, logits, labels)
        loss = e.add(tape, loss, cross_entropy(tape, shaping.viewed(tape, logits, logits.shape), labels))
        loss = e.linear_unary(tape, "div", loss)
        return Outputs(loss, [logits, image, text, first, image_states, last, text_states])


class ClipForImageClassification(ImageClassifier):
    """CLIPForImageClassification: the mean of the patches' states."""

    def __init__(self, build: Builder, config: Config) -> None:
        self.images = ImageTower(build, nested(config, "vision_config"))
        for parameter in self.images.post_norm.parameters():  # unused
            parameter.requires_grad = False
        self.input_shape = self.images.patches.pixels
        self.classify(build, config, self.images.encoder.size)

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Without the class token."""
        unused, hidden = self.images.pooled(tape, regime, pixels)
        batch, size = hidden.shape[0], hidden.shape[2]
        patches = shaping.part(tape, hidden, (batch, self.images.patches.count, size))
        return mean(tape, patches, (batch, size)), unused


def similarities(tape: Tape, text: Tensor, image: Tensor) -> Tensor:
    """Of every text with every image."""
    transposed = shaping.viewed(tape, image, (image.shape[1], image.shape[0]))
    return matmul(tape, text, transposed, (text.shape[0], image.shape[0]))


def _scaled(tape: Tape, logits: Tensor, scale: Parameter) -> Tensor:
    """`logits * scale.exp()`: a number has no say in the dtype."""
    factor = e.unary_of_result(tape, "exp", tape.upper(scale))
    inputs = (logits, factor)
    return tape.apply("mul", inputs, logits.shape, logits.dtype, _scaled_backward, save=inputs)


def _scaled_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    other = e.like(tape, gradient, "mul backward") if node.needs(1) else None
    first = e.like(tape, gradient, "mul backward") if node.needs(0) else None
    del saved
    return (first, other)
