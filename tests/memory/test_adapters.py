"""Adapters and quantized bases: what trains, what is kept, which variants are refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA, llama
from vramlint.estimate import Estimate
from vramlint.job import Adapter, Batch, Checkpointing, Job, Libraries, Model, Precision, Quantization
from vramlint.memory import simulate
from vramlint.memory.adapters import factored, rank_of, targets
from vramlint.memory.quantization import converts, stored_tensors

WIDTH, INNER, LAYERS, ROWS = 256, 704, 6, 2 * 128
BF16 = Precision("bfloat16")
QUERY, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.3.mlp.down_proj"


def run(adapter: Adapter, **overrides: Any) -> Estimate:
    return simulate(llama(**{"precision": BF16, "adapter": adapter, **overrides}), reserved=False)


@pytest.mark.parametrize(
    ("adapter", "name", "reached"),
    [
        (Adapter(target_modules=("q_proj",)), QUERY, True),
        (Adapter(target_modules=("q_proj",)), "model.layers.1.self_attn.xq_proj", False),
        (Adapter(target_modules="all-linear", exclude_modules=("down_proj",)), DOWN, False),
        (Adapter(target_modules="all-linear", exclude_modules=r".*layers\.[0-2].*"), QUERY, False),
        (Adapter(target_modules="all-linear", layers_to_transform=(3,)), QUERY, False),
        (Adapter(target_modules="all-linear", layers_to_transform=(3,)), DOWN, True),
        (Adapter(target_modules=("lm_head",), modules_to_save=("lm_head",)), "lm_head", False),
        (Adapter(target_modules=("mlp.experts.0.w1",), layers_to_transform=(1,)), "a.layers.1.mlp.experts.0.w1", True),
    ],
)
def test_which_modules_an_adapter_reaches(adapter: Adapter, name: str, reached: bool) -> None:
    assert targets(adapter, (), name, head=False) is reached


def test_a_rank_pattern_fits_the_end_of_a_name() -> None:
    adapter = Adapter(r=8, rank_pattern={"q_proj": 64, r"3\.mlp\.down_proj": 4, "(": 1})

    assert [rank_of(adapter, name) for name in (QUERY, DOWN, "model.layers.2.mlp.down_proj")] == [64, 4, 8]


def test_layers_that_are_told_apart_are_counted_one_by_one() -> None:
    one, all_of_them = (run(Adapter(8, 0.0, ("q_proj",), layers_to_transform=layers)) for layers in ((2,), ()))

    assert one.trainable_parameters == 8 * 2 * WIDTH
    assert all_of_them.trainable_parameters == LAYERS * one.trainable_parameters


@pytest.mark.parametrize(
    ("bias", "trained"), [("none", 0), ("lora_only", LAYERS * WIDTH), ("all", LAYERS * (WIDTH + 2 * WIDTH // 2))]
)
def test_biases_that_train_beside_adapters(bias: str, trained: int) -> None:
    model = Model("small", "qwen2", LLAMA)
    job = llama(precision=BF16, model=model, adapter=Adapter(8, 0.0, ("q_proj",), bias=bias))

    assert simulate(job).trainable_parameters == LAYERS * 8 * 2 * WIDTH + trained


def test_saved_modules_of_tied_weights_are_copies_of_their_own() -> None:
    tied = {"tie_word_embeddings": True}
    plain = run(Adapter(8, 0.0, ("q_proj",)), model=llama(tied).model)
    one, both = (
        run(Adapter(8, 0.0, ("q_proj",), modules_to_save=names), model=llama(tied).model)
        for names in (("lm_head",), ("embed_tokens", "lm_head"))
    )

    table = LLAMA["vocab_size"] * WIDTH
    assert one.total_parameters - plain.total_parameters == table
    assert both.total_parameters - plain.total_parameters == 2 * table


def test_dora_holds_an_identity_and_dense_weights_while_a_layer_runs() -> None:
    adapter = Adapter(8, 0.0, ("down_proj",))
    checkpointing = Checkpointing("nonreentrant")
    plain, dora = (
        run(item, checkpointing=checkpointing, model=llama({"vocab_size": 64}).model)
        for item in (adapter, replace(adapter, dora=True))
    )

    assert dora.trainable_parameters - plain.trainable_parameters == LAYERS * WIDTH
    dense = 4 * INNER * (INNER + 3 * WIDTH)
    assert dora.allocated - plain.allocated > dense * 0.8


def test_the_rank_of_adalora_trains_since_peft_0_21() -> None:
    adapter = Adapter(12, method="adalora", target_modules=("q_proj",))
    before, after = (run(adapter, libraries=Libraries(peft=version)) for version in ((0, 20, 0), (0, 21, 0)))
    assert after.trainable_parameters - before.trainable_parameters == LLAMA["num_hidden_layers"]
    assert before.saved_activations < after.saved_activations


def test_dora_before_peft_0_14_computes_the_base_twice() -> None:
    adapter = Adapter(8, 0.0, "all-linear", dora=True)
    before, after = (run(adapter, libraries=Libraries(peft=version)) for version in ((0, 13, 2), (0, 14, 0)))

    assert before.saved_activations > after.saved_activations


def test_trained_tokens_are_copied_into_the_table_for_the_look_up() -> None:
    adapter = Adapter(8, 0.0, ("q_proj",))
    plain, trained = run(adapter), run(replace(adapter, trained_tokens={"embed_tokens": 10}))

    assert trained.trainable_parameters - plain.trainable_parameters == 10 * WIDTH
    assert trained.saved_activations - plain.saved_activations < 2 * LLAMA["vocab_size"] * WIDTH  # it goes at once


@pytest.mark.parametrize(
    ("adapter", "trained"),
    [
        (Adapter(method="ia3"), 2 * 128 + INNER),
        (Adapter(16, method="vera", target_modules=("q_proj",)), 16 + WIDTH),
        (Adapter(4, method="loha", target_modules=("q_proj",)), 2 * 4 * 2 * WIDTH),
        (Adapter(8, method="miss", target_modules=("q_proj",)), 8 * WIDTH),
        (Adapter(8, method="miss", target_modules=("q_proj",), options={"init_weights": "mini", "mini_r": 64}), 8 * 64),
        (Adapter(0, method="oft", target_modules=("q_proj",), options={"oft_block_size": 32}), 8 * 496),
        (Adapter(8, method="fourierft", target_modules=("q_proj",), options={"n_frequency": 100}), 100),
        (Adapter(12, method="adalora", target_modules=("q_proj",)), 12 * (2 * WIDTH + 1) + 1),
        (Adapter(8, method="lokr", target_modules=("q_proj",)), 16 * 16 + 16 * 16),
        (Adapter(2, method="lokr", target_modules=("q_proj",)), 16 * 16 + 2 * 2 * 16),
        (Adapter(method="lntuning", target_modules=("input_layernorm",)), WIDTH),
    ],
    ids=lambda value: value.method if isinstance(value, Adapter) else None,
)
def test_what_methods_train_in_a_layer(adapter: Adapter, trained: int) -> None:
    estimate = run(adapter)

    assert estimate.method == "simulated"
    assert estimate.trainable_parameters == LAYERS * trained


@pytest.mark.parametrize(
    ("adapter", "trained"),
    [
        (Adapter(method="prompttuning", virtual_tokens=20), 20 * WIDTH),
        (
            Adapter(method="promptencoder", virtual_tokens=20, options={"encoder_hidden_size": 64}),
            20 * WIDTH + 2 * 64 * WIDTH + 64 * 64 + 2 * 64 + WIDTH,
        ),
    ],
)
def test_virtual_tokens_make_every_sequence_longer(adapter: Adapter, trained: int) -> None:
    prompt, longer = run(adapter), run(replace(adapter, virtual_tokens=1), batch=Batch(2, 147))

    assert prompt.trainable_parameters == trained
    assert prompt.saved_activations == pytest.approx(longer.saved_activations, rel=1e-2)


def test_a_prefix_is_keys_and_values_of_every_layer() -> None:
    adapter = Adapter(method="prefixtuning", virtual_tokens=20)
    plain, projected = run(adapter), run(replace(adapter, options={"prefix_projection": True}))

    keys = WIDTH // 2
    assert plain.trainable_parameters == 20 * 2 * LAYERS * keys
    inner = WIDTH
    layers = inner * keys + inner + 2 * LAYERS * keys * (inner + 1)
    assert projected.trainable_parameters == 20 * keys + layers


def test_a_prefix_refuses_checkpoints_as_peft_does() -> None:
    adapter = Adapter(method="prefixtuning", virtual_tokens=20)

    assert run(adapter, checkpointing=Checkpointing("nonreentrant")).method == "bounded"


def test_vera_shares_two_frozen_factors() -> None:
    names = ("q_proj", "down_proj")
    estimate = run(Adapter(16, method="vera", target_modules=names))
    plain = run(Adapter(16, method="ia3", target_modules=names))

    buffers = 4 * 16 * (INNER + WIDTH)
    assert estimate.allocated > plain.allocated - 10**6 + buffers


@pytest.mark.parametrize(("size", "factor", "parts"), [(256, -1, (16, 16)), (128, -1, (8, 16)), (127, -1, (1, 127))])
def test_sizes_of_kronecker_factors(size: int, factor: int, parts: tuple[int, int]) -> None:
    assert factored(size, factor) == parts


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        (Adapter(method="psoft"), "the psoft adapter"),
        (Adapter(8, 0.0, ("q_proj",), variants=("use_qalora",)), "LoRA with use_qalora"),
        (Adapter(method="prefixtuning"), "this form of prefix tuning"),
        (Adapter(method="prompttuning"), "a prompt whose length is not known"),
        (
            Adapter(method="promptencoder", virtual_tokens=1, options={"encoder_reparameterization_type": "LSTM"}),
            "p-tuning with an LSTM",
        ),
        (Adapter(7, method="miss", target_modules=("q_proj",)), "the form of MiSS"),
        (Adapter(0, method="oft", target_modules=("q_proj",), options={"coft": True}), "the form of OFT"),
        (Adapter(8, 0.0, ("embed_tokens",), dora=True), "DoRA on an embedding"),
    ],
)
def test_what_is_not_followed_is_said(adapter: Adapter, why: str) -> None:
    estimate = run(adapter)

    assert estimate.method == "bounded"
    assert why in estimate.why


def eight_bit(version: tuple[int, ...], **overrides: Any) -> Job:
    return llama(
        precision=BF16,
        adapter=Adapter(8, 0.0, "all-linear"),
        quantization=Quantization("int8", compute_dtype="bfloat16"),
        libraries=Libraries(bitsandbytes=version),
        **overrides,
    )


def test_eight_bit_products_keep_their_inputs_even_under_checkpointing() -> None:
    checkpointing = Checkpointing("nonreentrant")
    eight = simulate(eight_bit((0, 50, 2), checkpointing=checkpointing), reserved=False)
    four = replace(eight_bit((0, 50, 2)), checkpointing=checkpointing, quantization=Quantization("nf4"))

    inputs = 2 * ROWS * (3 * WIDTH + INNER)  # both norms' results, attention's, and what the MLP multiplies
    kept = eight.saved_activations - simulate(four, reserved=False).saved_activations
    assert kept == LAYERS * inputs


def test_before_0_45_eight_bit_products_kept_columns_quantized_too() -> None:
    before, after = (simulate(eight_bit(version), reserved=False) for version in ((0, 44, 1), (0, 45, 0)))

    columns = ROWS * (6 * WIDTH + INNER)  # of each of the seven products
    assert before.saved_activations - after.saved_activations == pytest.approx(LAYERS * columns, rel=0.1)


@pytest.mark.parametrize(("from_peft", "width"), [(True, 4), (False, 2)])
def test_adapters_over_a_quantized_base_are_float32_if_peft_makes_them(from_peft, width):
    adapter = Adapter(8, 0.0, ("q_proj",), autocast_adapter_dtype=False, from_peft=from_peft)
    quantized = Quantization("nf4", False, "bfloat16", prepared_for_kbit=False)
    estimate = simulate(llama(precision=BF16, adapter=adapter, quantization=quantized), reserved=False)

    assert estimate.gradients == estimate.trainable_parameters * width


OTHERS = {
    "hqq": (Quantization("hqq", bits=4, group_size=64), 0.5 + 4 / 64),
    "quanto": (Quantization("quanto", bits=8), 1 + 2 / WIDTH),
    "torchao": (Quantization("torchao", bits=8), 1 + 2 / WIDTH),
    "awq": (Quantization("awq", bits=4, group_size=64), 0.5 + 0.5 / 64 + 2 / 64),
}


def quantized(base: Quantization | None, **overrides: Any) -> Estimate:
    adapter = Adapter(8, 0.0, ("q_proj",))
    precision = Precision("float16" if base is not None and base.kind == "awq" else "bfloat16")
    return run(adapter, precision=precision, quantization=base, **overrides)


@pytest.mark.parametrize("kind", OTHERS)
def test_bytes_of_quantized_weights(kind: str) -> None:
    base, width = OTHERS[kind]

    assert sum(stored_tensors(base, (INNER, WIDTH))) == width * INNER * WIDTH
    assert quantized(base).parameters < quantized(None).parameters


@pytest.mark.parametrize("kind", OTHERS)
def test_what_products_of_quantized_weights_keep(kind: str) -> None:
    base, _ = OTHERS[kind]
    plain, packed = quantized(None), quantized(base)

    # torchao's casts and every plain weight are there once more or not at all; the others keep inputs instead
    casts = 2 * LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * INNER)
    first = 2 * (WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2)  # nothing before the first adapter needs a gradient
    kept = packed.saved_activations - plain.saved_activations
    if kind == "torchao":
        assert kept == pytest.approx(casts - first, rel=0.1)
    else:
        assert 0 < kept < 2 * LAYERS * ROWS * (3 * WIDTH + INNER)


@pytest.mark.parametrize(
    ("base", "why"),
    [
        (Quantization("quanto", bits=4), "the 4-bit quanto quantization"),
        (Quantization("torchao", bits=4), "the 4-bit torchao quantization"),
        (Quantization("eetq", bits=8), "the 8-bit eetq quantization"),
    ],
)
def test_quantizations_that_are_not_followed(base: Quantization, why: str) -> None:
    estimate = quantized(base)

    assert estimate.method == "bounded"
    assert why in estimate.why


def test_preparation_widens_norms_over_bitsandbytes_only() -> None:
    four, hqq = (
        quantized(Quantization(kind, compute_dtype="bfloat16", prepared_for_kbit=True)) for kind in ("nf4", "hqq")
    )

    tables = 2 * LLAMA["vocab_size"] * WIDTH
    assert four.parameters - hqq.parameters > tables


@pytest.mark.parametrize(("method", "followed"), [("ia3", True), ("vera", True), ("loha", False), ("fourierft", False)])
def test_other_methods_over_four_bits(method: str, followed: bool) -> None:
    adapter = Adapter(method=method, target_modules=("q_proj", "down_proj"))
    four = Quantization("nf4", compute_dtype="bfloat16")

    estimates = [run(adapter, quantization=base) for base in (four, replace(four, kind="gptq"))]

    assert [estimate.method == "simulated" for estimate in estimates] == [followed, False]


def test_ia3_over_four_bits_copies_what_it_scales() -> None:
    adapter = Adapter(method="ia3", target_modules=("up_proj",))
    precision = Precision("float32")
    four, eight = (
        run(adapter, precision=precision, quantization=Quantization(kind, compute_dtype="float32"))
        for kind in ("nf4", "int8")
    )

    assert four.method == eight.method == "simulated"
    assert four.trainable_parameters == eight.trainable_parameters == LAYERS * INNER


HEAD, UP = "lm_head", "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("skipped", "version", "name", "expected"),
    [
        ((), (5, 23), HEAD, False),
        ((), (5, 23), UP, True),
        (("up_proj",), (5, 23), HEAD, True),
        (("up_proj",), (5, 23), UP, False),
        (("proj",), (5, 23), UP, False),
        (("proj",), (4, 57), UP, True),
        (("up_proj",), (4, 57), UP, False),
        (("model.layers.0",), (5, 23), UP, False),
        (("layers.0",), (4, 57), UP, False),
        (("model.layers.[1-9]",), (5, 23), UP, True),
        (("(",), (5, 23), UP, True),
    ],
)
def test_modules_that_are_not_quantized(
    skipped: tuple[str, ...], version: tuple[int, ...], name: str, expected: bool
) -> None:
    base = Quantization("nf4", skipped_modules=skipped)

    assert converts(base, name, version, head=name == HEAD) is expected
