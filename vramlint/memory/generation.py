"""Generation: a prompt's forward pass without a graph, then one token after the other over a growing cache.

transformers 5.23 generation/utils.py and cache_utils.py (DynamicCache).
"""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.job import Batch, Checkpointing
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.forward import Forward
from vramlint.memory.lifetimes import Kept
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

LAST_LOGITS_FROM = (4, 45)
"""Since then generate() asks for the logits of the last position only; before, of the whole prompt, in float32."""
SAMPLED_COPIES = 3
"""float32 copies of one position's logits: the copy itself, processed scores, probabilities."""


def generate(forward: Forward, batch: Batch, tokens: int) -> None:
    """Record the generation of `tokens` tokens behind each of a batch's prompts, greedily or by sampling.

    Encoder-decoders and encoders do nothing here: their generation is not followed.
    """
    network, tape = forward.network, forward.tape
    if not isinstance(network, CausalLM):
        return
    recorder = tape.recorder
    inside = recorder.blocks[-1].phase if recorder.blocks else ""
    recorder.phase(inside or "prefill")
    inputs = forward.inputs(batch)
    regime = replace(forward.regime, use_cache=True, checkpointing=Checkpointing())
    tape.course.start()
    with tape.autocasting(forward.autocast):
        logits = network.next_logits(tape, regime, inputs, whole=regime.transformers < LAST_LOGITS_FROM)
    scores = _scores(tape, logits)
    del logits, scores
    cache = tape.lifetimes.taken_cache()
    recorder.phase(inside or "decode")
    for length in sorted({tokens - 1, tokens} - {-1, 0}):
        _grow(tape, cache, batch.sequence_length + length)
    scores = _scores(tape, Tensor((batch.micro_batch_size, network.head.out_features), "float32", None))
    tape.lifetimes.drop(cache)
    del inputs, scores


def _scores(tape: Tape, logits: Tensor) -> list[Tensor]:
    """What choosing a token makes of the last position's logits."""
    shape = (logits.shape[0], logits.shape[-1])
    return [tape.empty(shape, "float32", "scores", "logits and loss") for _ in range(SAMPLED_COPIES)]


def _grow(tape: Tape, cache: list[Kept], length: int) -> None:
    """Bring every layer's keys and values to `length`; each is a new tensor beside the one before it."""
    course = tape.course
    unit = course.unit
    for number, kept in enumerate(cache):
        course.go_on_in(kept.unit)
        before = kept.tensor
        *outer, _, size = before.shape
        grown = tape.empty((*outer, length, size), before.dtype, "cat", "key/value cache")
        cache[number] = Kept(grown, kept.unit)
        del before, kept, grown
    course.go_on_in(unit)
