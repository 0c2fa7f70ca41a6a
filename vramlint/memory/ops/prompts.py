"""Virtual tokens before the text: prompt tuning and p-tuning (peft 0.21 peft_model.py, PeftModelForCausalLM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.embedding import look_up
from vramlint.memory.ops.linear import matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Prompt(Struct):
    """A table [tokens, width] of embeddings, and the layers (weight, bias) that p-tuning sends them through."""

    table: Parameter
    layers: Sequence[tuple[Parameter, Parameter]] = ()
    held: list[Tensor] = field(default_factory=list)
    """What PeftModelForCausalLM.forward names, until it returns."""

    def extended(self, tape: Tape, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Labels and mask as long as the embeddings; the mask becomes float32, as the ones before it are."""
        longer = dict(batch)
        for name, dtype in (("labels", "int64"), ("attention_mask", "float32")):
            if name in batch:
                rows, length = batch[name].shape
                prefix = tape.empty((rows, self.table.shape[0]), dtype, name)
                longer[name] = tape.empty((rows, self.table.shape[0] + length), dtype, name)
                self.held += [prefix, longer[name]]
        return longer

    def __call__(self, tape: Tape, embedded: Tensor) -> Tensor:
        """`torch.cat((prompts, inputs_embeds), dim=1)`."""
        rows, length, width = embedded.shape
        count = self.table.shape[0]
        prompts = look_up(tape, tape.empty((1, count), "int64", "prompt tokens"), self.table)
        for number, (weight, bias) in enumerate(self.layers):
            prompts = e.unary_of_result(tape, "relu", prompts) if number else prompts
            prompts = matmul_weight(tape, prompts, weight, bias)
        repeated = tape.apply("repeat", (prompts,), (rows, count, width), prompts.dtype, _repeat_backward)
        del prompts
        narrow = tape.to(repeated, embedded.dtype)
        del repeated
        whole = shaping.concatenate(tape, (narrow, embedded), (rows, count + length, width))
        self.held += [narrow, whole]
        return whole


def _repeat_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,), edge = gradients, node.edges[0]
    return (None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "repeat backward"),)
