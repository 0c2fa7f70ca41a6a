"""What must hold of every estimate, whatever the architecture and the regime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.cases import job_of
from tests.memory.runs import PRECISIONS, jobs
from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.engine.loader import load_rules
from vramlint.estimate import Estimate
from vramlint.findings import JobReport
from vramlint.job import Adapter, Checkpointing, Job, Optimizer
from vramlint.memory import simulate
from vramlint.memory.architectures import find_family
from vramlint.memory.playback import Playback
from vramlint.memory.reserve import Held, play
from vramlint.settings import Settings

quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
CHECKPOINTED = [Checkpointing(mode) for mode in ("reentrant", "nonreentrant")]
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers", "n_layers")
"""Keys of config.json that count layers of the same kind."""
LAYER_BY_LAYER = ("layer_types", "layers_block_type", "no_rope_layers", "mlp_layer_types")
"""Keys of config.json that say something of each layer."""
WITHOUT_CHECKPOINTING = frozenset({"albert", "convnext", "mpnet", "resnet"})
"""Architectures of which transformers refuses to checkpoint layers."""
WITHOUT_REENTRANT = frozenset({"deberta-v2"})
"""Architectures whose layers share a tensor with a history, which torch refuses to differentiate again."""
TEXT = frozenset({"causal-lm", "embedding-pairs", "masked-lm", "seq-cls", "token-cls", "qa", "seq2seq-lm"})


def _traced() -> dict[tuple[str, str], dict[str, Any]]:
    """One traced row of each architecture and task."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((Path(__file__).parents[2] / "bench" / "data").glob("traced_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = (row["config"]["model_type"], row["task"])
            if find_family(*key) is not None:
                rows.setdefault(key, row)
    return rows


ROWS = _traced()


@st.composite
def traced_jobs(draw: st.DrawFn) -> Job:
    """A job of any architecture, in a regime of its own."""
    job = job_of(ROWS[draw(st.sampled_from(sorted(ROWS)))])
    batch = job.batch
    if job.model.task in TEXT:
        batch = replace(batch, sequence_length=draw(st.sampled_from([16, 100, 128])), target_length=None)
    known = [mode for mode in CHECKPOINTED if checkpoints(job, mode)]
    return replace(
        job,
        precision=draw(st.sampled_from(PRECISIONS)),
        batch=replace(batch, micro_batch_size=draw(st.integers(1, 3))),
        checkpointing=draw(st.sampled_from([Checkpointing(), *known])),
        adapter=None,
        quantization=None,
        frozen_parameters=(),
    )


def checkpoints(job: Job, checkpointing: Checkpointing) -> bool:
    """Whether the model runs with its layers checkpointed so."""
    if checkpointing.mode == "reentrant":
        refusing = WITHOUT_REENTRANT | (frozenset({"whisper"}) if job.libraries.transformers < (5, 0) else frozenset())
        return job.model.model_type not in WITHOUT_CHECKPOINTING | refusing
    return job.model.model_type not in WITHOUT_CHECKPOINTING


def followed(job: Job) -> Estimate:
    """The estimate, which must not be a bound."""
    estimate = simulate(job, reserved=False)
    assert estimate.method == "simulated", estimate.notes
    return estimate


def peak(job: Job) -> int:
    return followed(job).allocated


def with_layers(job: Job, count: int) -> Job:
    """The job with `count` layers in every stack."""
    config = {key: value for key, value in job.model.config.items() if key not in LAYER_BY_LAYER}
    counts = {key: count for key in LAYERS if isinstance(config.get(key), int)}
    return replace(job, model=replace(job.model, config={**config, **counts}))


def with_batch(job: Job, **changes: Any) -> Job:
    return replace(job, batch=replace(job.batch, **changes))


@quick
@given(st.one_of(jobs(), traced_jobs()))
def test_components_sum_to_the_peak(job: Job):
    estimate = followed(job)

    assert sum(part.bytes for part in estimate.components) == estimate.allocated
    assert all(part.bytes > 0 for part in estimate.components)
    assert estimate.allocated == max(phase.allocated for phase in estimate.phases)


@quick
@given(st.one_of(jobs(), traced_jobs()))
def test_the_range_contains_the_point(job: Job):
    estimate = simulate(job)

    assert estimate.device_low <= estimate.device <= estimate.device_need <= estimate.device_high
    assert estimate.allocated <= estimate.reserved


@quick
@given(st.one_of(jobs(), traced_jobs()))
def test_a_larger_batch_never_needs_less(job: Job):
    assert peak(with_batch(job, micro_batch_size=job.batch.micro_batch_size + 1)) >= peak(job)


@quick
@given(st.one_of(jobs(), traced_jobs().filter(lambda job: job.model.task in TEXT)))
def test_longer_sequences_never_need_less(job: Job):
    assert peak(with_batch(job, sequence_length=2 * job.batch.sequence_length)) >= peak(job)


@quick
@given(st.one_of(jobs(), traced_jobs()))
def test_more_layers_never_need_less(job: Job):
    config = {key: value for key, value in job.model.config.items() if key not in LAYER_BY_LAYER}
    counts = {key: count for key in LAYERS if isinstance(count := config.get(key), int)}
    base, deeper = (
        replace(job, model=replace(job.model, config={**config, **{key: n + more for key, n in counts.items()}}))
        for more in (0, 4)
    )

    assert peak(deeper) >= peak(base)


@quick
@given(jobs(), st.integers(1, 32))
def test_a_higher_rank_never_needs_less(job: Job, rank: int):
    adapted = replace(job, adapter=Adapter(rank, 0.0, "all-linear"))

    assert peak(replace(job, adapter=Adapter(2 * rank, 0.0, "all-linear"))) >= peak(adapted)


@quick
@given(st.one_of(jobs(), traced_jobs()), st.sampled_from(CHECKPOINTED))
def test_checkpointing_never_keeps_more(job: Job, checkpointing: Checkpointing):
    assume(checkpoints(job, checkpointing))
    kept = followed(replace(job, checkpointing=Checkpointing())).saved_activations

    assert followed(replace(job, checkpointing=checkpointing)).saved_activations <= kept


FIRST_OF_TYPE = {key[0]: row for key, row in reversed(ROWS.items())}
"""One traced row of each architecture."""


@pytest.mark.parametrize("mode", ["none", "reentrant", "nonreentrant"])
@pytest.mark.parametrize("model_type", sorted(FIRST_OF_TYPE))
def test_the_played_allocator_neither_leaks_nor_loses_a_tensor(model_type, mode, monkeypatch):
    """Repeated layers hand tensors to each other; what a step ends with, the next one ends with too."""
    assume_checkpoints = mode == "none" or model_type not in WITHOUT_CHECKPOINTING
    job = with_layers(job_of(FIRST_OF_TYPE[model_type]), 9)
    job = replace(job, checkpointing=Checkpointing(mode if assume_checkpoints else "none"), adapter=None)
    played: list[Playback] = []
    monkeypatch.setattr("vramlint.memory.summary.peak_held", lambda playback: played.append(playback) or Held(0, 0))
    estimate = simulate(replace(job, quantization=None, optimizer=Optimizer("adamw_torch_fused")))
    if estimate.method != "simulated":
        pytest.skip(estimate.why)

    (playback,) = played
    twice, thrice = (play(playback._replace(times=times), playback.depth) for times in (2, 3))
    assert thrice.tensors == twice.tensors
    assert twice.peak_tensors == pytest.approx(estimate.allocated, rel=0.02)


SCRIPT = """\
import os
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="float32")
args = TrainingArguments(output_dir="out", per_device_train_batch_size=BATCH, bf16=True)
Trainer(model=model, args=args, train_dataset=dataset).train()
"""
EITHER = '16 if os.environ.get("BIG") else 1'


def reported(batch: str) -> JobReport:
    source = SourceFile("train.py", "python", SCRIPT.replace("BATCH", batch).encode(), explicit=True)
    report = lint([source], Settings(), load_rules(), Surroundings(hardware=Hardware("a100-80gb")))
    (job,) = report.jobs
    return job


@pytest.mark.parametrize("batch", ["1", "16"])
def test_an_open_choice_is_a_range_around_each_of_its_values(batch):
    unknown, known = reported(EITHER), reported(batch)
    assert unknown.low is not None
    assert unknown.high is not None
    assert known.low is not None
    assert known.high is not None

    assert unknown.low.device_low < unknown.high.device_high
    assert unknown.low.device_low <= known.low.device_low
    assert known.high.device_high <= unknown.high.device_high
