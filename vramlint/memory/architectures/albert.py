"""ALBERT: layers that share their weights above narrow embeddings (transformers 5.23 models/albert)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.bert import Bert, BertForSequenceClassification, is_written_out
from vramlint.memory.architectures.encoder import Layer, add_and_norm
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import linear
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Albert(Bert):
    """AlbertModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    language_head = ("predictions.dense", "predictions.LayerNorm", "predictions.decoder")

    def _sizes(self, config: Config) -> None:
        self.width = number(config, "embedding_size", default=128)
        self.groups = number(config, "num_hidden_groups", default=1)
        self.group_size = number(config, "inner_group_num", default=1)
        self.activation = str(config.get("hidden_act", "gelu_new"))
        self.dropout = probability(config, "hidden_dropout_prob", default=0.0)
        self.attention_dropout = probability(config, "attention_probs_dropout_prob", default=0.0)
        self.classifier_dropout = probability(config, "classifier_dropout_prob", default=0.1)

    def _stack(self, build: Builder) -> None:
        if build.checkpointed:
            raise NotFollowedError("checkpointing of ALBERT, which transformers refuses,")
        name, inner = f"{self.prefix}.encoder", range(self.group_size)
        self.projection = build.linear(f"{name}.embedding_hidden_mapping_in", self.width, self.hidden, bias=True)
        self.shared = [
            [self._layer(build, f"{name}.albert_layer_groups.{group}.albert_layers.{at}") for at in inner]
            for group in range(self.groups)
        ]
        self.kinds = [int(at / (self.count / self.groups)) for at in range(self.count)]
        self.traced = [self.shared[self.kinds[at]] for at in build.layers(self.kinds)]

    def _layer(self, build: Builder, name: str) -> Layer:
        size, attn = self.hidden, f"{name}.attention"
        output_norm = LayerNorm.of(build, f"{name}.full_layer_layer_norm", size)
        return Layer(
            q=build.linear(f"{attn}.query", size, size, bias=True),
            k=build.linear(f"{attn}.key", size, size, bias=True),
            v=build.linear(f"{attn}.value", size, size, bias=True),
            o=build.linear(f"{attn}.dense", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{attn}.LayerNorm", size),
            up=build.linear(f"{name}.ffn", size, self.inner, bias=True),
            down=build.linear(f"{name}.ffn_output", self.inner, size, bias=True),
            output_norm=output_norm,
        )

    def _pooler_name(self) -> str:
        return f"{self.prefix}.pooler"

    def _run(self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """All repetitions of a group of layers have the same weights."""

        def layers(x: Tensor, index: int) -> Tensor:
            for weights in self.traced[index]:
                x = self._forward(tape, regime, weights, x, mask)
                tape.held.clear()
            return x

        return tape.course.repeat(self.kinds, layers, [linear(tape, hidden, self.projection)])

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self._attended(tape, regime, w, hidden, mask)
        fed = linear(tape, activation(tape, self.activation, linear(tape, attended, w.up)), w.down)
        return w.output_norm(tape, e.add(tape, fed, attended))

    def _attended(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        context, probabilities = (
            self._written_out(tape, w, hidden, mask)
            if is_written_out(regime)
            else (self._attention(tape, regime, w, hidden, mask), None)
        )
        attended = add_and_norm(tape, context, hidden, w.o, w.attention_norm, self.dropout)
        del probabilities
        return attended


class AlbertForMaskedLM(MaskedLM, Albert):
    """AlbertForMaskedLM."""


class AlbertForSequenceClassification(BertForSequenceClassification, Albert):
    """AlbertForSequenceClassification."""
