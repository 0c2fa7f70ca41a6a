"""What micro batches move through a GPU's memory: scores, logits, unpacked weights."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.cost.builders import estimate, gpu, job
from vramlint.cost import slowdown
from vramlint.cost.timing import UNPACKING
from vramlint.cost.traffic import UNPACKED, computed
from vramlint.estimate import Work
from vramlint.job import Attention, Batch, Model, Objective, Precision, Quantization

SIZES = {"hidden_size": 768, "num_attention_heads": 12, "vocab_size": 50257}


def moved(subject, found=None) -> dict[str, int]:
    return {item.name: item.bytes for item in computed(subject, found or estimate())}


def test_eager_attention_moves_every_score_back_and_forth():
    scores = 2 * 12 * 128 * 128
    parts = (("forward", 4), ("backward", 8))
    work = tuple(Work(part, "attention", "bfloat16", True, times * 64 * scores) for part, times in parts)
    eager = job(model=Model("m", "gpt2", SIZES), attention=Attention("eager"))
    assert moved(eager, estimate(work=work))["scores of eager attention"] == 4 * (24 + 28) * scores
    wide = replace(eager, precision=Precision("float32"))
    assert moved(wide, estimate(work=work))["scores of eager attention"] == 4 * (32 + 32) * scores
    assert "scores of eager attention" not in moved(replace(eager, attention=Attention("sdpa")), estimate(work=work))


def test_attention_without_scores_is_as_much_faster_as_was_measured():
    """GPT-2 small at 1024 tokens on A100: FlashAttention trains 3.5 times as fast as Hugging Face's model of 2022, 2.0
    times as fast as Megatron-LM, which has a fused softmax (https://arxiv.org/abs/2205.14135, table 2)."""
    layers, tokens, heads = 12, 8 * 1024, 12
    scores, weights = layers * 8 * heads * 1024 * 1024, 124e6
    work = tuple(
        Work(part, kind, "bfloat16", True, int(times * flops))
        for kind, flops in (("linear", 2 * weights * tokens), ("attention", 4 * 64 * scores))
        for part, times in (("forward", 1), ("backward", 2))
    )
    found = estimate(work=work, gradients=0, optimizer_states=0)
    sdpa = job(model=Model("m", "gpt2", SIZES), batch=Batch(8, 1024), gpu=gpu("a100-40gb"))
    eager = replace(sdpa, attention=Attention("eager"))
    faster = slowdown((sdpa, found), (eager, found))
    assert faster is not None
    assert 1.5 < faster.least <= faster.most < 3.5


def test_a_fused_loss_moves_less_than_a_third_of_the_bytes_of_a_logit():
    plain = job(model=Model("m", "llama", SIZES))
    count = 4 * 2 * 128 * 50257
    assert moved(plain)["logits and loss"] == 42 * count
    assert moved(replace(plain, objective=Objective(loss="fused")))["logits and loss"] == 12 * count


@pytest.mark.parametrize(
    ("name", "parameters", "lora", "qlora", "batches"),
    [
        ("falcon-7b", 7.22e9, 24.84, 50.85, 8000),
        ("gemma-2b", 2.51e9, 9.41, 12.91, 2000),
        ("llama-2-7b", 6.74e9, 32.82, 45.67, 4000),
        ("mistral-7b", 7.24e9, 31.01, 44.75, 4000),
        ("phi-2", 2.78e9, 3.78, 4.51, 500),
        ("phi-3", 3.82e9, 6.46, 7.47, 500),
    ],
)
def test_unpacking_takes_what_litgpt_published(name, parameters, lora, qlora, batches):
    """Minutes of LoRA and QLoRA over Alpaca's 2000 samples on an A10G of 600 GB/s: config_hub/finetune/README.md."""
    frozen = estimate(total_parameters=int(parameters), trainable_parameters=0)
    once = job(quantization=Quantization("nf4"), batch=Batch(1, 128))
    seconds = moved(once, frozen)[UNPACKED] / 600e9
    more = 60 * (qlora - lora) / batches
    assert seconds / UNPACKING[1] * 0.95 <= more <= seconds / UNPACKING[0] * 1.05
