"""What decides how an architecture's forward runs: kernels, masks, checkpointing, library versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from vramlint.job import Checkpointing, Job, SharedSequence
from vramlint.memory import checkpoint
from vramlint.memory.frame import Inputs, Segment
from vramlint.memory.kernels import FLASH_MAX_HEAD, Kernels
from vramlint.memory.ops import attention, sdpa, shared_sequences
from vramlint.memory.ops.unpadding import unpadded
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

if TYPE_CHECKING:
    from vramlint.memory.ops.prefixes import Prefix

GQA_IN_SDPA = (4, 48)
"""Since then transformers lets sdpa share key/value heads instead of copying them (integrations/sdpa_attention.py)."""
ENCODER_MASKS_FROM = (5, 0)
"""Since then encoders build masks as decoders do; before it sdpa got an additive mask, eager attention always one."""
INPUTS_REQUIRE_GRAD_FROM = (5, 0)
"""Since then checkpointing makes the embeddings' output require a gradient without adapters too (modeling_utils.py)."""
BROADCAST_MASKS_FROM = (5, 0)
"""Since then a mask that is the same for all sequences is expanded, not copied, to them (masking_utils.py)."""
PACKED_MASK_FROM, PACKED_MASK_UNTIL = (4, 53), (5, 0)
"""Between these versions of transformers a forward without attention_mask and without cache looks for packed sequences
and always builds a mask (masking_utils.py, find_packed_sequence_indices)."""


class Regime(Struct, frozen=True):
    """The settings of one forward pass."""

    implementation: str
    padding: bool
    attention_mask: bool
    padding_free: bool
    """Positions tell where the sequences of a row begin; sdpa needs a mask for it (masking_utils.py)."""
    kernels: Kernels
    checkpointing: Checkpointing
    use_cache: bool
    transformers: tuple[int, ...]
    flash_dtype: str = "bfloat16"
    """What flash attention casts float32 queries to where autocast is off (integrations/flash_attention.py)."""
    loss: str = "causal-lm"
    """Objective.loss of the job."""
    trl: tuple[int, ...] = ()
    """Version of TRL, whose SFTTrainer has losses of its own."""
    liger: tuple[int, ...] = ()
    """Version of liger-kernel."""
    inputs_require_grad: bool = False
    """Peft's enable_input_require_grads, which checkpointing of a frozen base needs."""
    prefix: Prefix | None = None
    """Keys and values that train before those of the text."""
    sequence: SharedSequence | None = None
    """Ranks that share every sequence."""

    @classmethod
    def of(cls, job: Job) -> Regime:
        """The regime of a job."""
        return cls(
            implementation=job.attention.implementation,
            padding=job.batch.padding and not job.batch.padding_free,
            attention_mask=job.batch.attention_mask and not job.batch.padding_free,
            padding_free=job.batch.padding_free,
            kernels=Kernels.of(job),
            checkpointing=job.checkpointing,
            use_cache=job.attention.use_cache and job.checkpointing.mode == "none",
            transformers=job.libraries.transformers,
            flash_dtype="float16" if job.precision.weights == "float16" else "bfloat16",
            loss=job.objective.loss,
            trl=job.libraries.trl,
            liger=job.libraries.liger_kernel,
            sequence=job.parallelism.sequence,
            inputs_require_grad=job.checkpointing.mode != "none"
            and (job.adapter is not None or job.libraries.transformers >= INPUTS_REQUIRE_GRAD_FROM),
        )

    def without_sdpa(self) -> Regime:
        """The regime in a model that has no sdpa: transformers falls back to eager attention."""
        return replace(self, implementation="eager") if self.implementation == "sdpa" else self

    def mask(self, tape: Tape, like: Tensor, window: int | None, *, always: bool = False) -> Tensor | None:
        """The causal mask [B, 1, S, S] of a decoder, None where the kernel's own causality will do.

        `like` is the embedding's output [B, S, H]. A sliding window forces a mask once the sequence
        reaches it (transformers 5.23 masking_utils.py); `always` builds one for sdpa whatever the case.
        """
        batch, length = like.shape[0], like.shape[1]
        if self.sequence is not None and self.sequence.form == shared_sequences.SWIFT:
            length *= self.sequence.ranks  # a rank attends to all tokens, and its mask is taken
        if window is not None and self.sequence is not None and self.sequence.form == shared_sequences.RING:
            raise NotFollowedError("a shared sequence with sliding windows, which Accelerate refuses,")
        shape = (batch, 1, length, length + (0 if self.prefix is None else self.prefix.length))
        if self.implementation == "eager":
            return tape.empty(shape, like.dtype, "attention mask")
        if self.prefix is not None and self.implementation == "sdpa":
            return tape.empty(shape, "bool", "attention mask")
        if self.implementation != "sdpa":
            return None
        packed = not self.attention_mask and PACKED_MASK_FROM <= self.transformers < PACKED_MASK_UNTIL
        windowed = window is not None and length >= window
        always = always or (self.padding_free and self.transformers >= PACKED_MASK_FROM)
        if (self.padding and self.attention_mask) or (packed and not self.use_cache) or windowed or always:
            if not self.attention_mask and self.transformers >= BROADCAST_MASKS_FROM:
                return tape.empty((1, 1, length, length), "bool", "attention mask").as_shape(shape)
            return tape.empty(shape, "bool", "attention mask")
        return None

    def unshared_mask(self, tape: Tape, like: Tensor) -> Tensor | None:
        """The causal mask of models that build it themselves: additive, whatever the implementation.

        What GPT-J's _update_causal_mask does (transformers 4.57 models/gptj) in all models that copied it.
        """
        batch, length = like.shape[0], like.shape[1]
        if self.implementation == "eager" and not self.attention_mask:
            whole = tape.empty((1, 1, length, length + 1), like.dtype, "attention mask")
            return whole.as_shape((1, 1, length, length))  # layers leave the last column out
        if self.implementation == "eager" or (self.implementation == "sdpa" and self.padding and self.attention_mask):
            return tape.empty((batch, 1, length, length), like.dtype, "attention mask")
        return None

    def bidirectional_mask(self, tape: Tape, like: Tensor, *, queries: int | None = None) -> Tensor | None:
        """The padding mask over the keys `like` [B, S, H] for `queries` positions (None: S).

        All-ones masks are dropped.
        """
        batch, length = like.shape[0], like.shape[1]
        shape = (batch, 1, queries or length, length)
        padded = self.padding and self.attention_mask
        if self.transformers < ENCODER_MASKS_FROM:
            if self.implementation == "eager":
                return tape.empty((batch, 1, 1, length), like.dtype, "attention mask")
            return tape.empty(shape, like.dtype, "attention mask") if padded else None
        if not padded or self.implementation not in ("eager", "sdpa"):
            return None
        return tape.empty(shape, "bool" if self.implementation == "sdpa" else like.dtype, "attention mask")

    def decoder_mask(self, tape: Tape, like: Tensor, *, finds_packing: bool = False) -> Tensor | None:
        """The causal mask over shifted labels `like` [B, T, H], which come without an attention_mask.

        `finds_packing`: the model passes its positions on, so some versions look for packed sequences in them.
        """
        attention_mask = not finds_packing
        return replace(self, padding=False, attention_mask=attention_mask).mask(tape, like, None)

    def attend(
        self,
        tape: Tape,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        dropout: float = 0.0,
        *,
        softcap: bool = False,
        shares_heads: bool = False,
        widens: bool = True,
        narrows: bool = False,
    ) -> Tensor:
        """Attention of [B, heads, S, d] queries over keys and values, merged to [B, S, heads·d].

        `softcap` says whether the scores are capped, which sdpa leaves out and flash attention does inside;
        `shares_heads` that the model hands its key/value heads to sdpa as they are, mask or not, without enable_gqa;
        `widens` that eager attention takes its softmax in float32, `narrows` that it casts one of another dtype back.
        """
        if self.sequence is not None and shared_sequences.is_shared(tape, self.sequence):
            return shared_sequences.attend(tape, q, k, v, mask, self, self.sequence, dropout)
        if self.prefix is not None:
            k, v = self.prefix.before(tape, k), self.prefix.before(tape, v)
        elif self.use_cache:
            k, v = self.cached(tape, k, k.dtype), self.cached(tape, v, k.dtype)
        if self.implementation == "eager":
            out = attention.eager(tape, q, k, v, mask, dropout, softcap=softcap, widens=widens, narrows=narrows)
        else:
            shared = mask is None and q.shape[3] <= FLASH_MAX_HEAD and self.transformers >= GQA_IN_SDPA
            if not shared and not shares_heads and self.implementation == "sdpa":
                repeats = q.shape[1] // k.shape[1]
                k, v = attention.repeat_heads(tape, k, repeats), attention.repeat_heads(tape, v, repeats)
            if self.implementation != "sdpa" and tape.autocast is None:
                q, k, v = (tape.to(x, self.flash_dtype) if x.dtype == "float32" else x for x in (q, k, v))
            attend = partial(
                sdpa.scaled_dot_product,
                tape,
                mask=mask,
                probability=dropout,
                kernels=self.kernels,
                enable_gqa=not shares_heads,
            )
            if self.implementation != "sdpa" and self.padding and self.attention_mask:
                q, k, v = (tape.lower(x) for x in (q, k, v))
                return attention.merge_heads(tape, unpadded(tape, q, k, v, attend))
            out = attend(q, k, v)
        return attention.merge_heads(tape, out)

    def attend_unshared(
        self,
        tape: Tape,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        dropout: float,
        *,
        masks_in_place: bool = False,
    ) -> Tensor:
        """Attention of models with attention classes of their own, which copy all key/value heads.

        What transformers 4.57 models/{stablelm,nemotron} do. With a mask sdpa gets everything in one piece.
        """
        if self.implementation not in ("eager", "sdpa"):
            return self.attend(tape, q, k, v, mask, dropout)
        if self.use_cache:
            k, v = self.cached(tape, k, k.dtype), self.cached(tape, v, k.dtype)
        repeats = q.shape[1] // k.shape[1]
        k, v = attention.repeat_heads(tape, k, repeats), attention.repeat_heads(tape, v, repeats)
        if self.implementation == "eager":
            out = attention.eager(tape, q, k, v, mask, dropout, masks_in_place=masks_in_place)
            tape.held.pop()  # the weights are forgotten where nobody asks for them
        else:
            if mask is not None:
                q, k, v = (attention.contiguous(tape, x) for x in (q, k, v))
            out = sdpa.scaled_dot_product(tape, q, k, v, mask, dropout, self.kernels)
        return attention.merge_heads(tape, out)

    def cached(self, tape: Tape, x: Tensor, dtype: str) -> Tensor:
        """DynamicCache.update: a concatenation with the empty cache, which has the keys' dtype (cache_utils.py)."""
        out = attention.cached(tape, x, dtype)
        tape.lifetimes.keep(out)
        return out

    def layer(
        self, tape: Tape, forward: Callable[..., Tensor], *inputs: Tensor | None, arguments: object = None
    ) -> Tensor:
        """Run one layer, checkpointed if the run checkpoints its layers.

        `inputs` are its positional arguments, which a reentrant checkpoint saves and differentiates; keyword
        arguments belong to `forward`, and live as long as the graph. `arguments` are those that it does not use.
        """
        return self.segment(tape, lambda *tensors, _=arguments: (forward(*tensors),), inputs)[0]

    def segment(self, tape: Tape, forward: Segment, inputs: Inputs) -> tuple[Tensor, ...]:
        """Run one layer that returns several tensors."""

        def scoped(*tensors: Tensor | None) -> tuple[Tensor, ...]:
            try:
                return forward(*tensors)
            finally:
                tape.held.clear()

        if self.checkpointing.mode == "none" or not tape.grad_enabled or not tape.course.recomputes:
            return scoped(*inputs)
        if self.checkpointing.mode == "reentrant":
            return checkpoint.reentrant(tape, scoped, inputs, offload=self.checkpointing.offload)
        return checkpoint.nonreentrant(tape, scoped, inputs, self.checkpointing)
