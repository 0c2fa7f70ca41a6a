"""torchtitan's own decoders under FSDP 2, torch.compile and selective checkpoints."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.job import Batch, Checkpointing, Job, Mesh, Model, Objective, Optimizer, Parallelism, Precision
from vramlint.memory.ops.head_chunks import BY_CHUNK
from vramlint.memory.ops.inductor import COMPILED
from vramlint.memory.simulate import simulate
from vramlint.surfaces.frameworks.torchtitan_models import network, sizes_of
from vramlint.surfaces.model_config import config_values

GIB = 2**30


def job(flavor: str = "8B", gpus: int = 8, loss: str = "causal-lm", name: str = "llama3") -> Job:
    sizes = sizes_of(name, flavor)
    assert sizes is not None
    table = network(name, sizes, 8192)
    assert table is not None
    config = config_values(table)
    return Job(
        Model(f"{name}/{flavor}", str(config["model_type"]), config),
        precision=Precision("float32", "bfloat16"),
        optimizer=Optimizer("adamw_torch_fused"),
        batch=Batch(2, 8192, packing=True),
        checkpointing=Checkpointing("nonreentrant", selective=True),
        parallelism=Parallelism(gpus, "fsdp", fsdp_version=2, fsdp_reduce_dtype="float32"),
        objective=Objective(loss=loss, loop="plain"),
        compiled=True,
    )


@pytest.mark.parametrize(
    ("name", "flavor", "parameters"),
    [
        ("llama3", "8B", 8_030_261_248),
        ("llama3", "70B", 70_553_706_496),
        ("qwen3", "0.6B", 596_049_920),
        ("qwen3", "8B", 8_190_735_360),
        ("qwen3", "30B-A3B", 30_532_122_624),
        ("llama4", "17bx16e", 107_769_861_120),
        ("llama4", "17bx128e", 400_711_848_960),
        ("deepseek_v3", "16B", 15_706_484_224),
        ("deepseek_v3", "671B", 671_026_404_352),
    ],
)
def test_flavors_have_the_published_sizes(name: str, flavor: str, parameters: int) -> None:
    found = simulate(job(flavor, name=name), reserved=False)
    assert (found.method, found.total_parameters) == ("simulated", parameters)


@pytest.mark.parametrize(
    ("gpus", "compiled", "published"), [(8, True, 77.0), (128, True, 62.0), (8, False, 82.4), (128, False, 67.0)]
)
def test_layers_under_fsdp_are_near_the_published_figures(gpus: int, compiled: bool, published: float) -> None:
    """benchmarks/llama3_h100_202412_torchtitan.md: Llama 3.1 8B, batch 2, 8192 tokens, reserved; an eager loss."""
    found = simulate(replace(job(gpus=gpus), compiled=compiled))
    assert found.reserved / GIB == pytest.approx(published, rel=0.03)


COUNTED = (
    (Checkpointing(), 7604.2, 8105.2),
    (Checkpointing("nonreentrant", stops_early=False), 6355.1, 6856.1),
    (Checkpointing("nonreentrant", selective=True, stops_early=False), 6788.1, 7289.1),
)
"""MiB at the peaks of forward and backward that torchtitan 0.2.2's own model and `parallelize_llama` held over fake
tensors (torch 2.13, by `python -m bench.sharding.titan`): four layers of the 8B, batch 1, 2048 tokens, 8 ranks."""


@pytest.mark.parametrize(("checkpointing", "forward", "backward"), COUNTED)
def test_fully_shard_as_torchtitan_applies_it_is_counted_to_the_tenth_of_a_mebibyte(
    checkpointing: Checkpointing, forward: float, backward: float
) -> None:
    whole = job()
    run = replace(
        whole,
        model=replace(
            whole.model, config={**whole.model.config, "num_hidden_layers": 4, "max_position_embeddings": 2048}
        ),
        batch=Batch(1, 2048, packing=True),
        checkpointing=checkpointing,
        compiled=False,
    )
    estimate = simulate(run, reserved=False, observed=True)
    peaks = {phase.phase: phase.allocated / 2**20 for phase in estimate.phases}
    assert peaks["forward"] == pytest.approx(forward, abs=0.2)
    assert peaks["backward"] == pytest.approx(backward, abs=0.2)


_FULL = Checkpointing("nonreentrant", stops_early=False)
_BY_OPERATOR = Checkpointing("nonreentrant", selective=True, stops_early=False)
DIVIDED = (
    ("8B", 4, Batch(2, 2048), 2, Mesh(4), Checkpointing(), 5644.9, 5895.5),
    ("8B", 4, Batch(2, 2048), 2, Mesh(4), _FULL, 4828.4, 5129.9),
    ("8B", 4, Batch(2, 2048), 2, Mesh(4), _BY_OPERATOR, 5204.9, 5455.4),
    ("8B", 4, Batch(2, 2048), 2, Mesh(4, loss_parallel=False), _FULL, 8084.8, 9086.8),
    ("70B", 3, Batch(1, 8192), 4, Mesh(8), _FULL, 3869.9, 5018.2),
    ("70B", 3, Batch(2, 4096), 4, Mesh(8), _BY_OPERATOR, 4618.7, 5016.2),
    ("8B", 6, Batch(1, 8192), 16, Mesh(2), Checkpointing(), 12782.3, 13784.4),
)
"""The same of `apply_tp` and `apply_fsdp` together, on rank 0: MiB of forward and backward."""


@pytest.mark.parametrize(
    ("flavor", "layers", "batch", "shards", "mesh", "checkpointing", "forward", "backward"), DIVIDED
)
def test_a_rank_of_tensor_parallelism_is_counted_to_the_tenth_of_a_mebibyte(
    flavor: str,
    layers: int,
    batch: Batch,
    shards: int,
    mesh: Mesh,
    checkpointing: Checkpointing,
    forward: float,
    backward: float,
) -> None:
    run = on_mesh(job(flavor), mesh, shards)
    sizes = {"num_hidden_layers": layers, "max_position_embeddings": batch.sequence_length}
    model = replace(run.model, config={**run.model.config, **sizes})
    run = replace(run, model=model, batch=batch, checkpointing=checkpointing, compiled=False)
    estimate = simulate(run, reserved=False, observed=True)
    peaks = {phase.phase: phase.allocated / 2**20 for phase in estimate.phases}
    assert peaks["forward"] == pytest.approx(forward, abs=0.2)
    assert peaks["backward"] == pytest.approx(backward, abs=0.2)


def on_mesh(whole: Job, mesh: Mesh, shards: int) -> Job:
    parallelism = replace(whole.parallelism, world_size=shards, mesh=mesh, model_shards=mesh.tensor)
    return replace(whole, parallelism=parallelism)


@pytest.mark.parametrize(
    ("mesh", "shards", "reason"),
    [
        (Mesh(1, pipeline=2, schedule="of a.csv", micro_batches=2), 4, "the pipeline schedule of a.csv"),
        (Mesh(1, pipeline=4, micro_batches=2), 4, "1F1B of 2 micro batches over 4 stages"),
        (Mesh(1, pipeline=2, layers_per_stage=7, micro_batches=2), 4, "5 stages over 2 ranks"),
        (Mesh(1, pipeline=2, layers_per_stage=9, micro_batches=2), 4, "1F1B of 2 stages a rank"),
        (Mesh(1, context=3), 4, "3 pairs of pieces"),
        (Mesh(2, expert=2), 4, "tensor and expert parallelism of a model without experts"),
        (Mesh(3), 4, "over 3 ranks"),
    ],
)
def test_what_is_not_followed_is_bounded_with_its_reason(mesh: Mesh, shards: int, reason: str) -> None:
    found = simulate(on_mesh(job(), mesh, shards), reserved=False)
    assert found.method != "simulated"
    assert any(reason in note for note in found.notes), found.notes


def test_a_compiled_loss_holds_no_float32_logits() -> None:
    plain, compiled, by_chunk = (
        simulate(job(loss=loss), reserved=False).allocated for loss in ("causal-lm", COMPILED, BY_CHUNK)
    )
    logits = 2 * 8192 * 128_256 * 2
    assert plain - compiled > 3 * logits
    assert compiled - by_chunk > 0.9 * logits


def test_what_is_not_compiled_holds_more() -> None:
    compiled = job(loss=COMPILED)
    assert (
        simulate(replace(compiled, compiled=False), reserved=False).allocated
        > simulate(compiled, reserved=False).allocated
    )
