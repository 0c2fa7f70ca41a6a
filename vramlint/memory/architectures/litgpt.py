"""litgpt's own GPT class and its LoRA layers (litgpt 0.5 model.py and lora.py; lit-gpt of 2023 alike).

Config keys are those of the checkpoint's config.json with litgpt's switches beside them: norm_class, mlp_class, bias,
lm_head_bias, parallel_residual, shared_attention_norm, rotary_percentage, scale_embeddings, post_norms, softcapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number, ratio
from vramlint.memory.ops import attention, chunked_head, group_lora
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.group_lora import GroupedWeights
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm
from vramlint.memory.ops.rotary import rotate_first
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

Norm = Callable[[Tape, Tensor], Tensor]


@dataclass(slots=True)
class RmsNorm:
    """RMSNorm."""

    weight: Parameter

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """In float32, as since pull request 606 of October 2023."""
        return rms_norm(tape, x, self.weight)


@dataclass(slots=True)
class Block:
    """Weights of one block."""

    norm_1: Norm
    qkv: GroupedWeights
    proj: Weights
    norm_2: Norm | None
    mlp: Sequence[Weights]
    post_attention_norm: Norm | None
    post_mlp_norm: Norm | None


class GPT(CausalLM):
    """litgpt.GPT or litgpt.lora.GPT."""

    widens_logits: ClassVar[bool] = False
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"litgpt": ("query", "value")}

    def __init__(self, build: Builder, config: Config) -> None:
        self.build_options(build, config)
        self.head = build.linear("lm_head.head", self.hidden, self.vocabulary, bias=bool(config.get("lm_head_bias")))
        self.embedding = build.parameter("transformer.wte.weight", (self.vocabulary, self.hidden))
        self.blocks = [self._block(build, config, f"transformer.h.{n}") for n in build.layers(self.count)]
        self.ln_f = self._norm(build, config, "transformer.ln_f")

    def build_options(self, build: Builder, config: Config) -> None:
        """Read what the config says."""
        self.hidden = number(config, "hidden_size", "n_embd")
        self.heads = number(config, "num_attention_heads", "n_head")
        self.groups = number(config, "num_key_value_heads", default=self.heads)
        self.size = number(config, "head_dim", default=self.hidden // self.heads)
        self.inner = number(config, "intermediate_size", "ffn_hidden_size", default=4 * self.hidden)
        self.count = number(config, "num_hidden_layers", "n_layer")
        self.vocabulary = number(config, "vocab_size")
        self.rotated = int(ratio(config, "rotary_percentage", default=1.0) * self.size)
        self.mlp_class = str(config.get("mlp_class", "LLaMAMLP"))
        self.parallel = bool(config.get("parallel_residual"))
        self.scaled = bool(config.get("scale_embeddings"))
        self.softcapped = bool(config.get("softcapped"))
        limit = number(config, "max_position_embeddings", "n_positions", default=2048)
        for _ in ("cos", "sin"):
            build.buffer(4 * limit * self.rotated)

    def _norm(self, build: Builder, config: Config, name: str) -> Norm:
        if config.get("norm_class") == "LayerNorm":
            return LayerNorm.of(build, name, self.hidden)
        return RmsNorm(build.norm(f"{name}.weight", self.hidden))

    def _block(self, build: Builder, config: Config, name: str) -> Block:
        bias = bool(config.get("bias"))
        shared, post = bool(config.get("shared_attention_norm")), bool(config.get("post_norms"))
        inner = ("fc",) if self.mlp_class == "GptNeoxMLP" else ("fc_1", "fc_2")
        norm = self._norm
        return Block(
            norm_1=norm(build, config, f"{name}.norm_1"),
            qkv=group_lora.build(build, f"{name}.attn", self.hidden, self.size, (self.heads, self.groups), bias=bias),
            proj=build.linear(f"{name}.attn.projection", self.heads * self.size, self.hidden, bias=bias),
            norm_2=None if shared else norm(build, config, f"{name}.norm_2"),
            mlp=[build.linear(f"{name}.{part}.mlp", self.hidden, self.inner, bias=bias) for part in inner]
            + [build.linear(f"{name}.proj.mlp", self.inner, self.hidden, bias=bias)],
            post_attention_norm=norm(build, config, f"{name}.post_attention_norm") if post else None,
            post_mlp_norm=norm(build, config, f"{name}.post_mlp_norm") if post else None,
        )

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings, scaled where the model does."""
        embedded = embedding(tape, tokens, self.embedding)
        return e.linear_unary(tape, "mul", embedded) if self.scaled else embedded

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """The blocks and the norm behind them."""

        def layer(x: Tensor, index: int) -> Tensor:
            block = self.blocks[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, block, y), x)

        return self.ln_f(tape, tape.course.repeat(self.count, layer, embedded))

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """GPT.forward with lm_head_chunk_size=128 and chunked_cross_entropy, as litgpt/finetune has it."""
        hidden = [self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))]
        loss, logits = chunked_head.loss_of(tape, hidden, self.head, softcapped=self.softcapped)
        return Outputs(loss, logits, tape.lifetimes.taken_cache())

    def _forward(self, tape: Tape, regime: Regime, w: Block, x: Tensor) -> Tensor:
        normed = w.norm_1(tape, x)
        attended = self._attention(tape, regime, w, normed)
        if w.post_attention_norm is not None:
            attended = w.post_attention_norm(tape, attended)
        if self.parallel:
            normed = normed if w.norm_2 is None else w.norm_2(tape, x)
            return e.add(tape, e.add(tape, self._mlp(tape, w, normed), attended), x)
        x = e.add(tape, attended, x)
        fed = self._mlp(tape, w, x if w.norm_2 is None else w.norm_2(tape, x))
        return e.add(tape, fed if w.post_mlp_norm is None else w.post_mlp_norm(tape, fed), x)

    def _attention(self, tape: Tape, regime: Regime, w: Block, x: Tensor) -> Tensor:
        qkv = group_lora.project(tape, x, w.qkv)
        q, k, v = group_lora.split(tape, qkv, w.qkv)
        q, k = rotate_first(tape, q, self.rotated), rotate_first(tape, k, self.rotated)
        if self.softcapped:
            out = attention.eager(tape, q, k, v, None, 0, softcap=True)
            return linear(tape, attention.merge_heads(tape, out), w.proj)
        return linear(tape, regime.attend(tape, q, k, v, None), w.proj)

    def _mlp(self, tape: Tape, w: Block, x: Tensor) -> Tensor:
        if self.mlp_class == "GptNeoxMLP":
            return linear(tape, activation(tape, "gelu", linear(tape, x, w.mlp[0])), w.mlp[1])
        first, second = linear(tape, x, w.mlp[0]), linear(tape, x, w.mlp[1])
        gate = activation(tape, "silu" if self.mlp_class == "LLaMAMLP" else "gelu", first)
        return linear(tape, e.mul(tape, gate, second), w.mlp[2])
