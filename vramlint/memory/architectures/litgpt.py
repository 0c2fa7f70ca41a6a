"""litgpt's own GPT class and its LoRA layers (litgpt 0.5.13 model.py and lora.py; lit-gpt of 2023 alike).

Config keys are the arguments of litgpt's Config, completed as its __post_init__ does (catalog/litgpt_models.py), what
its scripts decide, `lm_head_chunk_size`, `tie_embeddings` and `stable_embedding`, and `norm_widens_weights`, off in old
releases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number, ratio
from vramlint.memory.ops import attention, chunked_head, group_lora
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.group_lora import GroupedWeights
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm, rms_norm_scaled_wide
from vramlint.memory.ops.rotary import rotate_first
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

Norm = Callable[[Tape, Tensor], Tensor]
_REFUSED = (("n_expert", "litgpt's mixture of experts"), ("latent_attention", "litgpt's latent attention"))


class RmsNorm(Struct):
    """RMSNorm."""

    weight: Parameter
    widens: bool
    """The weight is multiplied in float32 too, as in releases since the middle of 2024."""

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """In float32, as since pull request 606 of October 2023."""
        return (
            rms_norm_scaled_wide(tape, x, self.weight, widens=True) if self.widens else rms_norm(tape, x, self.weight)
        )


def _identity(tape: Tape, x: Tensor) -> Tensor:
    return x


class Block(Struct):
    """Weights of one block."""

    norm_1: Norm
    qkv: GroupedWeights
    norm_q: Norm | None
    norm_k: Norm | None
    proj: Weights
    norm_2: Norm | None
    """None: the attention's input serves the MLP too."""
    mlp: Sequence[Weights]
    post_attention_norm: Norm
    post_mlp_norm: Norm


class GPT(CausalLM):
    """litgpt.GPT or litgpt.lora.GPT."""

    widens_logits: ClassVar[bool] = False
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"litgpt": ("query", "value")}

    def __init__(self, build: Builder, config: Config) -> None:
        self.build_options(build, config)
        self.embedding = build.parameter("transformer.wte.weight", (self.vocabulary, self.hidden))
        self.embedding_norm = self._stable(build) if config.get("stable_embedding") else None
        tied = self.embedding if config.get("tie_embeddings") else None
        bias = bool(config.get("lm_head_bias"))
        self.head = build.linear("lm_head.head", self.hidden, self.vocabulary, bias=bias, tied_to=tied)
        self.blocks: list[tuple[Block, bool]] = []
        for position in build.layers(self.slides):
            self.blocks.append((self._block(build, config, f"transformer.h.{position}"), self.slides[position]))
        self.ln_f = self._norm(build, config, "transformer.ln_f")

    def _stable(self, build: Builder) -> LayerNorm:
        """The StableEmbedding of bitsandbytes in place of the frozen one (pull request 1770 of October 2024).

        It is made after the optimizer, so it gets gradients that nobody uses or clears.
        """
        norm = LayerNorm.of(build, "transformer.wte.norm", self.hidden)
        for parameter in (self.embedding, *norm.parameters()):
            parameter.requires_grad, parameter.stepped = True, False
        return norm

    def build_options(self, build: Builder, config: Config) -> None:
        """Read what the config says."""
        for key, part in _REFUSED:
            if config.get(key):
                raise NotFollowedError(part)
        self.hidden, self.heads = number(config, "n_embd"), number(config, "n_head")
        self.groups = number(config, "n_query_groups", default=self.heads)
        self.size = number(config, "head_size", default=self.hidden // self.heads)
        self.inner = number(config, "intermediate_size", default=4 * self.hidden)
        self.count = number(config, "n_layer")
        self.vocabulary = number(config, "padded_vocab_size")
        self.rotated = int(ratio(config, "rotary_percentage", default=1.0) * self.size)
        self.mlp_class = str(config.get("mlp_class_name", "LLaMAMLP"))
        self.parallel = bool(config.get("parallel_residual"))
        self.scaled = bool(config.get("scale_embeddings"))
        self.softcapped = config.get("attention_logit_softcapping") is not None
        self.caps_logits = config.get("final_logit_softcapping") is not None
        self.norm_qk = str(config.get("norm_qk_type") or "default") if config.get("norm_qk") else ""
        self.chunk = number(config, "lm_head_chunk_size", default=chunked_head.CHUNK)
        self.slides = self._slides(config)
        tables = 2 if config.get("rope_local_base_freq") is not None else 1
        limit = number(config, "max_position_embeddings", "block_size", default=2048)
        for _ in ("cos", "sin"):
            build.buffer(4 * limit * self.rotated * tables)

    def _slides(self, config: Config) -> Sequence[bool]:
        """Which layers take a mask of their own for their window."""
        if config.get("sliding_window_size") is None:
            return (False,) * self.count
        stated = config.get("sliding_window_indices")
        listed = stated if isinstance(stated, Sequence) and not isinstance(stated, str) else (1,) * self.count
        return tuple([bool(item) for item in listed[: self.count]])

    def _norm(self, build: Builder, config: Config, name: str, size: int = 0) -> Norm:
        size = size or self.hidden
        if config.get("norm_class_name") != "LayerNorm":
            return RmsNorm(build.norm(f"{name}.weight", size), config.get("norm_widens_weights") is not False)
        return LayerNorm(None, None) if config.get("elementwise_affine") is False else LayerNorm.of(build, name, size)

    def _block(self, build: Builder, config: Config, name: str) -> Block:
        bias = bool(config.get("bias"))
        inner = ("fc",) if self.mlp_class == "GptNeoxMLP" else ("fc_1", "fc_2")

        def norm(part: str, *, on: bool = True, size: int = 0) -> Norm:
            return self._norm(build, config, f"{name}.{part}", size) if on else _identity

        heads = (self.heads, self.groups)
        whole = heads if self.norm_qk == "olmo2" else (1, 1)
        q_size, k_size = (self.size * count for count in whole)
        biased = bias or bool(config.get("attn_bias"))
        return Block(
            norm_1=norm("norm_1", on=config.get("norm_1") is not False),
            qkv=group_lora.build(build, f"{name}.attn", self.hidden, self.size, heads, bias=biased),
            norm_q=norm("attn.norm_q", size=q_size) if self.norm_qk else None,
            norm_k=norm("attn.norm_k", size=k_size) if self.norm_qk else None,
            proj=build.linear(f"{name}.attn.projection", self.heads * self.size, self.hidden, bias=bias),
            norm_2=None
            if config.get("shared_attention_norm")
            else norm("norm_2", on=config.get("norm_2") is not False),
            mlp=[build.linear(f"{name}.{part}.mlp", self.hidden, self.inner, bias=bias) for part in inner]
            + [build.linear(f"{name}.proj.mlp", self.inner, self.hidden, bias=bias)],
            post_attention_norm=norm("post_attention_norm", on=bool(config.get("post_attention_norm"))),
            post_mlp_norm=norm("post_mlp_norm", on=bool(config.get("post_mlp_norm"))),
        )

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings, scaled where the model does."""
        embedded = embedding(tape, tokens, self.embedding)
        if self.embedding_norm is not None:
            embedded = self.embedding_norm(tape, embedded)
        return e.linear_unary(tape, "mul", embedded) if self.scaled else embedded

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """The blocks and the norm behind them."""

        def layer(x: Tensor, index: int) -> Tensor:
            block, slides = self.blocks[index]
            return regime.layer(tape, partial(self._forward, tape, regime, block, slides), x)

        return self.ln_f(tape, tape.course.repeat(self.slides, layer, [embedded]))

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """GPT.forward and chunked_cross_entropy, as litgpt/finetune and litgpt/pretrain.py have them."""
        hidden = [self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))]
        take = chunked_head.loss_of if self.chunk else chunked_head.loss_of_whole
        loss, logits = take(tape, hidden, self.head, softcapped=self.caps_logits)
        return Outputs(loss, logits, tape.lifetimes.taken_cache())

    def _forward(self, tape: Tape, regime: Regime, w: Block, slides: bool, x: Tensor) -> Tensor:
        normed = w.norm_1(tape, x)
        attended = w.post_attention_norm(tape, self._attention(tape, regime, w, slides, normed))
        if self.parallel:
            normed = normed if w.norm_2 is None else w.norm_2(tape, x)
            return e.add(tape, w.post_mlp_norm(tape, self._mlp(tape, w, normed)), e.add(tape, attended, x))
        x = e.add(tape, attended, x)
        fed = self._mlp(tape, w, x if w.norm_2 is None else w.norm_2(tape, x))
        return e.add(tape, w.post_mlp_norm(tape, fed), x)

    def _attention(self, tape: Tape, regime: Regime, w: Block, slides: bool, x: Tensor) -> Tensor:
        qkv = group_lora.project(tape, x, w.qkv)
        norms = (w.norm_q, w.norm_k)
        flat, by_head = (norms, None) if self.norm_qk == "olmo2" else (None, norms)
        q, k, v = group_lora.split(tape, qkv, w.qkv, flat=flat, by_head=by_head)
        q, k = rotate_first(tape, q, self.rotated), rotate_first(tape, k, self.rotated)
        length = x.shape[1]
        mask = tape.empty((1, 1, length, length), q.dtype, "attention mask") if slides or self.softcapped else None
        if self.softcapped:
            out = attention.eager(tape, q, k, v, mask, 0, softcap=True)
            return linear(tape, attention.merge_heads(tape, out), w.proj)
        return linear(tape, regime.attend(tape, q, k, v, mask), w.proj)

    def _mlp(self, tape: Tape, w: Block, x: Tensor) -> Tensor:
        if self.mlp_class == "GptNeoxMLP":
            return linear(tape, activation(tape, "gelu", linear(tape, x, w.mlp[0])), w.mlp[1])
        first, second = linear(tape, x, w.mlp[0]), linear(tape, x, w.mlp[1])
        gate = activation(tape, "silu" if self.mlp_class == "LLaMAMLP" else "gelu", first)
        return linear(tape, e.mul(tape, gate, second), w.mlp[2])
