"""Heads of decoders for other tasks than the next token: every position gets logits, whatever the task uses of them.

transformers 5.23 modeling_layers.py, GenericFor…, and the heads that older models wrote out for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, Network, Outputs, label_count, probability
from vramlint.memory.architectures.span_head import PLACES, span_inputs, span_outputs
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.selection import take_rows
from vramlint.memory.ops.softmax import cross_entropy, mean_squared_error
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

OWN_CLASSIFIERS = frozenset({"bloom", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "mpt"})
"""Models whose head for tokens is called `classifier`."""
DROP_AS_HIDDEN = frozenset({"bloom", "falcon", "stablelm"})
"""Models that drop before it with `hidden_dropout` unless there is a `classifier_dropout`."""
LOSS_IN_FLOAT32 = frozenset({"gpt_neox"})
"""Those of OWN_CLASSIFIERS that take the shared loss, which widens the logits."""
PLAIN_BODIES = frozenset({"mistral", "ministral3", "mixtral", "qwen2_moe"})
"""Llamas whose body is called `model` even if they answer questions."""


class SequenceClassification(CausalLM):
    """…ForSequenceClassification: the last token that is no padding counts."""

    predicts_next: ClassVar[bool] = False

    def build_head(
        self, build: Builder, config: Config, name: str, width: int, vocabulary: int, *, ties: bool, bias: bool = False
    ) -> Weights:
        """A head over the classes; one class is a score, as of a reward model."""
        self.classes = label_count(config)
        self.several = config.get("problem_type") == "multi_label_classification"
        self.padded = config.get("pad_token_id") is not None
        return build.linear("score", width, self.classes, head=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        size = batch.micro_batch_size
        return (size, self.classes) if self.several else (size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """All positions get logits; those of one position in every sequence are picked."""
        hidden = self.last_hidden_state(tape, regime, batch)
        logits = linear(tape, hidden, self.head)
        rows, length = hidden.shape[:2]
        paddings = tape.empty((rows, length), "int32", "non_pad_mask")
        order = tape.empty((length,), "int32", "token indices")
        last = tape.empty((rows,), "int64", "last_non_pad_token")
        pooled = take_rows(tape, logits, last, (rows, self.classes))
        loss = (
            mean_squared_error(tape, pooled, batch["labels"])
            if self.classes == 1 or self.several
            else cross_entropy(tape, pooled, batch["labels"])
        )
        del paddings, order
        return Outputs(loss, [pooled], tape.lifetimes.taken_cache())


class TokenClassification(CausalLM):
    """…ForTokenClassification."""

    predicts_next: ClassVar[bool] = False

    def build_head(
        self, build: Builder, config: Config, name: str, width: int, vocabulary: int, *, ties: bool, bias: bool = False
    ) -> Weights:
        """A head over the classes of tokens, behind a dropout."""
        self.classes = label_count(config)
        model_type = config.get("model_type")
        fallback = probability(config, "hidden_dropout") if model_type in DROP_AS_HIDDEN else 0.1
        self.classifier_dropout = probability(config, "classifier_dropout", default=fallback)
        self.widens = model_type not in OWN_CLASSIFIERS or model_type in LOSS_IN_FLOAT32
        name = "classifier" if model_type in OWN_CLASSIFIERS else "score"
        return build.linear(name, width, self.classes, bias=True, head=True)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The states are dropped, then classified."""
        hidden = self.last_hidden_state(tape, regime, batch)
        dropped = e.dropout(tape, hidden, self.classifier_dropout)
        logits = linear(tape, dropped, self.head)
        flat = logits.as_shape((logits.numel // self.classes, self.classes))
        wide = tape.to(flat, "float32") if self.widens else flat
        return Outputs(cross_entropy(tape, wide, batch["labels"]), [logits], tape.lifetimes.taken_cache())


class QuestionAnswering(CausalLM):
    """…ForQuestionAnswering."""

    predicts_next: ClassVar[bool] = False

    def body_name(self, config: Config) -> str:
        """Most llamas call their body `transformer` here (models/llama/modeling_llama.py)."""
        return "model" if config.get("model_type") in PLAIN_BODIES else "transformer"

    def build_head(
        self, build: Builder, config: Config, name: str, width: int, vocabulary: int, *, ties: bool, bias: bool = False
    ) -> Weights:
        """A head for the start and the end of the answer."""
        return build.linear("qa_outputs", width, PLACES, bias=True, head=True)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Tokens, mask, and the places where the answers start and end."""
        return span_inputs(super().inputs(batch), batch)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The mean of two cross entropies over the positions."""
        hidden = self.last_hidden_state(tape, regime, batch)
        outputs = span_outputs(tape, linear(tape, hidden, self.head))
        outputs.cache = tape.lifetimes.taken_cache()
        return outputs


HEADS: Mapping[str, type[Network]] = MappingProxyType(
    {"seq-cls": SequenceClassification, "token-cls": TokenClassification, "qa": QuestionAnswering}  # type: ignore[type-abstract]  # they are mixed in
)


@cache
def with_head(body: type[Network], task: str) -> type[Network]:
    """The class of a causal language model with the head of another task."""
    head = HEADS[task]
    return type(f"{body.__name__}{head.__name__}", (head, body), {"__doc__": f"{body.__name__} with another head."})
