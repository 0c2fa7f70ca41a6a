from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.catalog.gpus import find_gpu
from vramlint.job import Batch, Gpu, Precision
from vramlint.memory.kernels import Kernels
from vramlint.memory.simulate import simulate


@pytest.mark.parametrize(
    ("capability", "dtype", "head", "drops", "flash"),
    [
        ((8, 0), "bfloat16", 128, False, True),
        ((8, 0), "float16", 256, True, True),
        ((8, 0), "float32", 128, False, False),
        ((8, 0), "float16", 288, False, False),
        ((7, 5), "float16", 64, False, False),
        ((8, 6), "bfloat16", 208, False, False),
        ((8, 6), "bfloat16", 256, False, True),
        ((8, 9), "bfloat16", 256, True, False),
        ((9, 0), "bfloat16", 208, False, True),
        ((12, 0), "bfloat16", 224, False, False),
    ],
)
def test_flash_attention_depends_on_card_dtype_and_head_size(capability, dtype, head, drops, flash):
    kernels = Kernels(capability)
    assert kernels.flash(dtype, head, head, differentiates=True, drops=drops) is flash
    assert not kernels.flash(dtype, head, head // 2, differentiates=True, drops=drops)


def test_small_cards_refuse_large_heads_only_where_they_differentiate():
    assert Kernels((8, 6)).flash("bfloat16", 208, 208, differentiates=False, drops=False)


def test_the_flash_attention_package_is_not_asked_for_the_card():
    assert Kernels((8, 6), package=True).flash("bfloat16", 208, 208, differentiates=True, drops=False)


@pytest.mark.parametrize(
    ("capability", "dtype", "head", "efficient"),
    [
        ((8, 0), "float32", 100, True),
        ((8, 0), "float32", 90, False),
        ((8, 0), "bfloat16", 100, False),
        ((7, 5), "float32", 90, True),
        ((7, 5), "float16", 96, True),
        ((7, 5), "float16", 100, False),
        ((6, 1), "float16", 99, True),
        ((7, 5), "bfloat16", 96, False),
    ],
)
def test_the_memory_efficient_kernel_needs_aligned_heads(capability, dtype, head, efficient):
    assert Kernels(capability).efficient(dtype, head, head, shares_heads=False) is efficient


def test_shared_heads_need_a_new_torch():
    assert not Kernels(torch=(2, 13)).efficient("bfloat16", 128, 128, shares_heads=True)
    assert Kernels(torch=(2, 14)).efficient("bfloat16", 128, 128, shares_heads=True)


def saved(gpu: str, precision: Precision, heads: int = 8) -> int:
    job = llama({"num_key_value_heads": heads}, batch=Batch(2, 512), precision=precision)
    card = find_gpu(gpu)
    assert isinstance(card, Gpu)
    return simulate(replace(job, gpu=card), reserved=False).saved_activations


SCORES = 2 * 8 * 512 * 512 * 2 * 6
"""Bytes of 16-bit attention probabilities of all layers."""


def test_half_precision_keeps_no_scores_on_turing_but_bfloat16_does():
    assert saved("t4", Precision("float16")) < saved("a100-40gb", Precision("float16")) + SCORES // 8
    assert saved("t4", Precision("bfloat16")) > saved("a100-40gb", Precision("bfloat16")) + SCORES


def test_shared_heads_keep_scores_on_turing():
    assert saved("t4", Precision("float16"), heads=4) > saved("a100-40gb", Precision("float16"), heads=4) + SCORES
