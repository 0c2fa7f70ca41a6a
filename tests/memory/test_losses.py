"""The loss stage: which copies of the logits each version of transformers makes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.catalog.gpus import find_gpu
from vramlint.catalog.liger import FUSED_HEAD, RMS_NORM, SWIGLU, kernels_of
from vramlint.estimate import Estimate
from vramlint.job import Attention, Batch, Gpu, Job, Libraries, Model, Objective, Precision
from vramlint.memory import simulate
from vramlint.memory.ops.liger_head import chunk_tokens

VOCABULARY = 64_000
TOKENS = 1024
LOGITS = TOKENS * VOCABULARY
"""Elements of the logits of a batch."""


def job(model_type: str, transformers: tuple[int, ...]) -> Job:
    base = llama({"num_hidden_layers": 1, "vocab_size": VOCABULARY, "tie_word_embeddings": False})
    return replace(
        base,
        model=Model("test", model_type, base.model.config),
        precision=Precision("bfloat16"),
        batch=Batch(1, TOKENS),
        libraries=Libraries(transformers=transformers),
    )


def saved(model_type: str, *transformers: int) -> int:
    return simulate(job(model_type, transformers), reserved=False).saved_activations


@pytest.mark.parametrize(
    ("model_type", "until"), [("mistral", (4, 48, 0)), ("granite", (4, 48, 0)), ("starcoder2", (4, 47, 0))]
)
def test_a_loss_of_the_models_own_saves_what_the_shared_one_does_as_long_as_both_widen(model_type, until):
    major, minor, _ = until

    assert saved(model_type, major, minor - 1, 0) == pytest.approx(saved(model_type, major, minor, 0), rel=0.01)


def test_a_loss_of_the_models_own_that_widens_nothing_saves_half_the_bytes():
    own, shared = saved("stablelm", 4, 47, 1), saved("stablelm", 4, 48, 0)

    assert shared - own == pytest.approx(2 * LOGITS, rel=0.01)


def test_the_labels_are_shifted_instead_of_the_logits_from_4_49_on():
    before, after = (
        simulate(replace(job("llama", release), batch=Batch(2, TOKENS // 2)), reserved=False).allocated
        for release in ((4, 48, 3), (4, 49, 0))
    )

    assert before > after


AUTOCAST = Precision("float32", "bfloat16")


def sft(
    trl: tuple[int, ...], loss: str = "causal-lm", micro_batch_size: int = 4, precision: Precision = AUTOCAST
) -> Estimate:
    base = job("llama", (5, 23, 0))
    return simulate(
        replace(
            base,
            precision=precision,
            batch=Batch(micro_batch_size, TOKENS // micro_batch_size),
            objective=Objective(sft=True, loss=loss),
            libraries=Libraries(trl=trl),
        ),
        reserved=False,
    )


def forward(estimate: Estimate) -> int:
    return next(phase.allocated for phase in estimate.phases if phase.phase == "forward")


def test_each_figure_that_trl_takes_of_the_logits_needs_room_for_it():
    shifted = 4 * VOCABULARY * (TOKENS - 4)
    before, accuracy, twice, view = (forward(sft(release)) for release in ((0, 14), (0, 19), (1, 4), (1, 6)))

    assert before < accuracy < view < twice
    assert twice - accuracy == pytest.approx(shifted, rel=0.02)


def test_a_view_of_one_sequence_without_its_last_position_is_no_copy():
    assert forward(sft((1, 6), micro_batch_size=1)) < forward(sft((1, 6), micro_batch_size=4))


@pytest.mark.parametrize("release", [(1, 7, 1), (1, 13, 0), (1, 16, 0)])
def test_the_head_of_trl_holds_no_logits_of_the_batch(release):
    assert sft(release, "chunked").saved_activations < sft(release).saved_activations - 3.5 * LOGITS


def test_a_chunk_that_widens_the_whole_weight_needs_more_than_one_that_widens_its_logits():
    halves = Precision("bfloat16")
    widens, narrow = (sft((1, minor, 0), "chunked", precision=halves) for minor in (12, 13))

    assert widens.allocated > narrow.allocated


def with_liger(base: Job) -> Estimate:
    kernels = kernels_of(base.model.model_type, {})
    return simulate(replace(base, kernels=kernels, objective=Objective(loss="fused")), reserved=False)


@pytest.mark.parametrize("kernel", [RMS_NORM, SWIGLU])
def test_each_of_ligers_kernels_keeps_less(kernel):
    base = job("llama", (5, 23, 0))
    patched = simulate(replace(base, kernels=(kernel,)), reserved=False)

    assert patched.saved_activations < simulate(base, reserved=False).saved_activations


def test_a_gated_product_keeps_its_inputs_alone():
    base = job("llama", (5, 23, 0))
    width = base.model.config["intermediate_size"]
    plain, patched = (
        simulate(replace(base, kernels=kernels), reserved=False).saved_activations for kernels in ((), (SWIGLU,))
    )

    assert plain - patched == 2 * TOKENS * width


def test_ligers_experts_are_named_as_not_simulated():
    estimate = with_liger(job("mixtral", (5, 23, 0)))

    assert estimate.method == "bounded"
    assert "mixture of experts" in estimate.notes[0]


def test_liger_leaves_a_model_alone_that_it_does_not_know():
    assert kernels_of("opt", {}) == ()
    assert kernels_of("granite", {}) == ("rope", "rms_norm", "swiglu", "cross_entropy")
    assert kernels_of("llama", {"rope": False, "geglu": True}) == ("rms_norm", "swiglu", FUSED_HEAD)


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "width", "chunk"), [(4096, 32000, 4096, 512), (1024, 151936, 1024, 8), (16, 100, 64, 8)]
)
def test_tokens_of_a_chunk_of_ligers_head(tokens, vocabulary, width, chunk):
    assert chunk_tokens(tokens, vocabulary, width) == chunk


def test_old_cards_add_a_chunks_product_to_the_gradient_by_themselves():
    def allocated(card: str) -> int:
        gpu = find_gpu(card)
        assert isinstance(gpu, Gpu)
        return with_liger(replace(job("llama", (5, 23, 0)), gpu=gpu, precision=Precision("float16"))).allocated

    assert allocated("t4") > allocated("a100-80gb")


def test_heads_of_older_releases_of_liger_hold_more():
    def forward_of(*release: int) -> int:
        base = job("llama", (5, 23, 0))
        return forward(with_liger(replace(base, libraries=Libraries(liger_kernel=release))))

    buffered, product, added, scaled, widened = (
        forward_of(*release) for release in ((0, 8, 5), (0, 7, 0), (0, 5, 10), (0, 5, 2), (0, 4, 2))
    )

    assert buffered < added < scaled < widened
    assert added < product


def test_dynamic_fine_tuning_keeps_the_logits_and_what_it_makes_of_them():
    plain, dynamic = sft((0, 24, 0)), sft((0, 24, 0), "dft")

    assert dynamic.method == "simulated"
    assert dynamic.saved_activations == pytest.approx(plain.saved_activations, rel=0.02)


def test_dynamic_fine_tuning_with_ligers_head_is_named_as_not_simulated():
    base = replace(job("llama", (5, 23, 0)), objective=Objective(loss="dft"), kernels=(FUSED_HEAD,))

    assert "dft with Liger's head" in simulate(base, reserved=False).notes[0]


def test_label_smoothing_beside_trls_head_runs_the_model_twice():
    base = job("llama", (5, 23, 0))
    smoothed = replace(base, objective=Objective(loss="chunked", sft=True, label_smoothing=0.1))
    log = simulate(smoothed, reserved=False, log=True).log

    assert log is not None
    assert any(name.startswith("log_softmax") for name in log.names)
    assert any(name.startswith("head statistics") for name in log.names)


def test_logits_of_one_sequence_without_the_last_position_are_a_view():
    def forward_of(micro_batch_size: int) -> int:
        base = job("llama", (4, 48, 3))
        batch = Batch(micro_batch_size, TOKENS // micro_batch_size)
        return forward(simulate(replace(base, batch=batch), reserved=False))

    assert forward_of(2) - forward_of(1) == pytest.approx(4 * LOGITS, rel=0.01)


def test_flash_attention_of_padded_batches_keeps_its_result_with_and_without_padding():
    base = replace(job("llama", (5, 23, 0)), attention=Attention("flash_attention_2"))
    plain, padded = (
        simulate(replace(base, batch=Batch(2, TOKENS // 2, padding=padding)), reserved=False).saved_activations
        for padding in (False, True)
    )
    indices = 8 * TOKENS

    assert padded - plain == 2 * TOKENS * base.model.config["hidden_size"] + indices


def test_offloaded_activations_are_named_and_may_be_less():
    base = job("llama", (5, 23, 0))
    plain = simulate(base, reserved=False)
    estimate = simulate(replace(base, offloads_activations=True), reserved=False)

    assert estimate.allocated == plain.allocated
    assert 0 < estimate.below <= plain.saved_activations
    assert "offloaded" in estimate.notes[0]
