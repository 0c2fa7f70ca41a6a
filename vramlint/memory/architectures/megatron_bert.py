"""Megatron-Core's BertModel on one rank (NVIDIA/Megatron-LM@d98e8a6 megatron/core/models/bert, pretrain_bert.py)."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Outputs
from vramlint.memory.architectures.megatron import GPTModel
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import megatron
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.shaping import part
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder


class BertModel(GPTModel):
    """One rank's part: masked words and, with token types, whether two segments follow each other."""

    @property
    def has_head_bias(self) -> bool:
        """Always (BertModel, output_layer_bias)."""
        return True

    def build_output(self, build: Builder, config: Config) -> None:
        """BertLMHead's dense layer and norm below the head; the pooler and the binary head beside them, undivided."""
        self.transform = build.linear("lm_head.dense", self.hidden, self.hidden, bias=True)
        self.transform_norm = self.layers.norm(build, "lm_head.layer_norm")
        super().build_output(build, config)
        if self.types:
            self.binary = build.linear("binary_head", self.hidden, 2, bias=True)
            self.pooler = build.linear("pooler.dense", self.hidden, self.hidden, bias=True)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """What every stage loads (pretrain_bert.py, get_batch); the mask is one row for a sequence."""
        tokens = (batch.micro_batch_size, batch.sequence_length)
        names = ("input_ids", "token_type_ids", "labels", "padding_mask")
        shapes: dict[str, tuple[Shape, str]] = dict.fromkeys(names, (tokens, "int64"))
        shapes["loss_mask"] = (tokens, "float32")
        shapes["order"] = ((batch.micro_batch_size,), "int64")
        rows = batch.sequence_length if self.layers.local else 1
        shapes["attention_mask"] = ((batch.micro_batch_size, 1, rows, batch.sequence_length), "bool")
        return shapes

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """BertModel.forward and, on the last stage, loss_func."""
        if not self.ends or not self.types:
            return super().outputs(tape, regime, batch)
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        first = (hidden.shape[0], hidden.shape[-1])
        pooled = e.unary_of_result(tape, "tanh", linear(tape, part(tape, hidden, first), self.pooler))
        words = self.loss(tape, hidden)
        del hidden
        follows = linear(tape, pooled, self.binary)
        del pooled
        order = cross_entropy(tape, tape.to(follows, "float32"), batch["order"])
        return Outputs(e.add(tape, e.sum_all(tape, words), order), [], tape.lifetimes.taken_cache())

    def loss(self, tape: Tape, hidden: Tensor) -> Tensor:
        """BertLMHead in front of the head."""
        hidden = activation(tape, "gelu", linear(tape, hidden, self.transform))
        return super().loss(tape, megatron.norm(tape, hidden, self.transform_norm))
