"""Llamas under other names, whose code lies beside their checkpoints (trust_remote_code).

Parameters are exact. Attention and rotation run as llama's do, which the models' own code need not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm, number
from vramlint.memory.architectures.feed_forward import FeedForward, FusedMlp
from vramlint.memory.architectures.granite import Granite
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Layer, Llama, Norm
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_part
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Renamed(Llama):
    """A llama with other names of its weights and other keys in its config."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    renames: ClassVar[Mapping[str, str]] = {}
    """Parts of llama's names to those of the model."""

    def __init__(self, build: Builder, config: Config) -> None:
        build.renames = self.renames
        super().__init__(build, {**config, **self.translated(config)})

    def translated(self, config: Config) -> Config:
        """Llama's keys for the model's own."""
        return {}


class Fused(Renamed):
    """A renamed llama with queries, keys and values in one product: `q`, `k` and `v` are the same weights."""

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        bias, output_bias = self._biases(config)
        width = (self.heads + 2 * self.kv_heads) * self.head_size
        qkv = build.linear(f"{name}.self_attn.qkv_proj", self.hidden, width, bias=bias)
        return Layer(
            q=qkv,
            k=qkv,
            v=qkv,
            o=build.linear(f"{name}.self_attn.o_proj", self.heads * self.head_size, self.hidden, bias=output_bias),
            q_norm=None,
            k_norm=None,
            mlp=self._mlp(build, config, f"{name}.mlp"),
            input_norm=self._norm(build, f"{name}.input_layernorm"),
            post_norm=self._norm(build, f"{name}.post_attention_layernorm"),
        )

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        q, k, v = shaping.split_last(tape, linear(tape, hidden, w.q), (queries, keys, keys))
        q = attention.split_heads(tape, q, self.heads)
        k = attention.split_heads(tape, k, self.kv_heads)
        v = attention.split_heads(tape, v, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)


class Baichuan(Fused):
    """BaichuanForCausalLM (baichuan-inc/Baichuan2-7B-Base, modeling_baichuan.py); 13B has alibi instead of rotation."""

    renames: ClassVar[Mapping[str, str]] = {"qkv_proj": "W_pack"}


class Qwen(Fused):
    """QWenLMHeadModel (Qwen/Qwen-7B, modeling_qwen.py): `intermediate_size` counts gate and up together."""

    renames: ClassVar[Mapping[str, str]] = {
        "model.embed_tokens": "transformer.wte",
        "model.layers": "transformer.h",
        "model.norm": "transformer.ln_f",
        "self_attn.qkv_proj": "attn.c_attn",
        "self_attn.o_proj": "attn.c_proj",
        "gate_proj": "w2",
        "up_proj": "w1",
        "down_proj": "c_proj",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
    }

    def translated(self, config: Config) -> Config:
        """Key/value heads as many as query heads; a bias on the fused projection only, unless `no_bias` is off."""
        width, heads = number(config, "hidden_size"), number(config, "num_attention_heads")
        return {
            "intermediate_size": number(config, "intermediate_size") // 2,
            "num_key_value_heads": heads,
            "head_dim": number(config, "kv_channels", default=width // heads),
            "mlp_bias": not config.get("no_bias", True),
            "sliding_window": None,
        }

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return True, not config.get("no_bias", True)


class InternLM(Renamed):
    """InternLMForCausalLM (internlm/internlm-7b, modeling_internlm.py): one switch for the biases of attention."""

    def _biases(self, config: Config) -> tuple[bool, bool]:
        bias = bool(config.get("bias", config.get("attention_bias", True)))
        return bias, bias


class InternLM2(Fused):
    """InternLM2ForCausalLM (internlm/internlm2-7b, modeling_internlm2.py)."""

    renames: ClassVar[Mapping[str, str]] = {
        "model.embed_tokens": "model.tok_embeddings",
        "self_attn.qkv_proj": "attention.wqkv",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "lm_head": "output",
    }

    def _biases(self, config: Config) -> tuple[bool, bool]:
        bias = bool(config.get("bias", config.get("attention_bias", False)))
        return bias, bias


class ChatGLM(Fused):
    """ChatGLMForConditionalGeneration from the second one on (THUDM/chatglm3-6b, glm-4-9b, modeling_chatglm.py)."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"chatglm": ("query_key_value",)}
    renames: ClassVar[Mapping[str, str]] = {
        "model.embed_tokens": "transformer.embedding.word_embeddings",
        "model.layers": "transformer.encoder.layers",
        "model.norm": "transformer.encoder.final_layernorm",
        "self_attn.qkv_proj": "self_attention.query_key_value",
        "self_attn.o_proj": "self_attention.dense",
        "gate_up_proj": "dense_h_to_4h",
        "mlp.down_proj": "mlp.dense_4h_to_h",
        "lm_head": "transformer.output_layer",
    }

    def translated(self, config: Config) -> Config:
        """Megatron's keys."""
        if "ffn_hidden_size" not in config:
            raise NotFollowedError("the first ChatGLM")
        if config.get("add_bias_linear", False):
            raise NotFollowedError("ChatGLM with biases")
        heads = number(config, "num_attention_heads")
        groups = number(config, "multi_query_group_num", default=1) if config.get("multi_query_attention") else heads
        return {
            "num_hidden_layers": number(config, "num_layers"),
            "intermediate_size": number(config, "ffn_hidden_size"),
            "num_key_value_heads": groups,
            "head_dim": number(config, "kv_channels", default=128),
            "vocab_size": number(config, "padded_vocab_size"),
        }

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return bool(config.get("add_qkv_bias", False)), False

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        return FusedMlp.of(build, name, self.hidden, self.intermediate, "silu")

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Half of every head rotates."""
        return {FULL: rotary(tape, embedded, self.head_size // 2)}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """The rotated half is concatenated with the other."""
        return rotate_part(tape, q, k, position)


class Exaone(Renamed):
    """ExaoneForCausalLM (LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct, modeling_exaone.py)."""

    renames: ClassVar[Mapping[str, str]] = {
        "model.embed_tokens": "transformer.wte",
        "model.layers": "transformer.h",
        "model.norm": "transformer.ln_f",
        "self_attn": "attn.attention",
        "o_proj": "out_proj",
        "gate_proj": "c_fc_0",
        "up_proj": "c_fc_1",
        "down_proj": "c_proj",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
    }

    def translated(self, config: Config) -> Config:
        """GPT-2's keys."""
        return {
            "num_hidden_layers": number(config, "num_layers", "num_hidden_layers"),
            "hidden_act": config.get("activation_function") or config.get("hidden_act") or "silu",
        }


class Orion(Renamed):
    """OrionForCausalLM (OrionStarAI/Orion-14B-Base, modeling_orion.py): layer norms."""

    def _norm(self, build: Builder, name: str) -> Norm:
        return LayerNorm.of(build, name, self.hidden)


class MiniCPM(Granite):
    """MiniCPMForCausalLM (openbmb/MiniCPM-2B-sft-bf16, modeling_minicpm.py): scaled embedding, branches and states."""

    def __init__(self, build: Builder, config: Config) -> None:
        if number(config, "num_experts", default=0):
            raise NotFollowedError("experts of MiniCPM")
        super().__init__(build, config)

    def logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        """Logits of states divided by a constant."""
        return linear(tape, e.linear_unary(tape, "div", hidden), self.head)


class DeepSeek(Renamed):
    """DeepseekForCausalLM without experts (deepseek-ai/deepseek-moe-16b-base, modeling_deepseek.py)."""

    def __init__(self, build: Builder, config: Config) -> None:
        if config.get("n_routed_experts"):
            raise NotFollowedError("experts of the first DeepSeek")
        super().__init__(build, config)
