import pytest
from msgspec.structs import replace

from vramlint.catalog import find_gpu, find_model
from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Job,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Quantization,
    Zero,
)
from vramlint.thumb import RULES, Dimensions, applicable, dimensions, figures

P = 7_000_000_000


@pytest.fixture
def job() -> Job:
    row = find_model("meta-llama/Llama-2-7b-hf")
    assert row is not None
    return Job(Model(row.id, row.model_type, row.config), Precision("float32", "bfloat16"), batch=Batch(2, 1024))


def named(job: Job) -> dict[str, int]:
    return {result.rule.name: result.value for result in applicable(job, P)}


def test_mixed_precision_shows_what_the_articles_disagree_about(job):
    shown = named(job)
    assert shown["weights"] == 28 * 10**9
    assert (shown["states-16"], shown["states-18"], shown["states-20"]) == (112 * 10**9, 126 * 10**9, 140 * 10**9)
    assert shown["activations-selective"] == 2 * 1024 * 4096 * 32 * 34
    assert "states-24" not in shown


def test_plain_fp32_and_pure_16_bit(job):
    assert named(replace(job, precision=Precision("float32")))["states-24"] == 168 * 10**9
    assert named(replace(job, precision=Precision("bfloat16")))["states-with-updates"] == 112 * 10**9


def test_the_activation_rule_follows_kernel_and_checkpointing(job):
    eager = named(replace(job, attention=Attention("eager")))
    assert eager["activations"] == 2 * 1024 * 4096 * 32 * (34 + 5 * 32 * 1024 // 4096)
    assert named(replace(job, checkpointing=Checkpointing("reentrant")))["activations-full"] == 2 * 2 * 1024 * 4096 * 32


def test_adapters_have_no_rule_about_states(job):
    lora = named(replace(job, adapter=Adapter(), quantization=Quantization()))
    assert set(lora) == {"weights", "activations-selective"}
    assert lora["weights"] == P // 2


def test_other_optimizers_have_no_adam_states(job):
    assert not {"states-16", "states-18"} & set(named(replace(job, optimizer=Optimizer("sgd"))))


def test_zero_divides(job):
    shown = named(replace(job, parallelism=Parallelism(8, "deepspeed", Zero(2))))
    assert shown["zero-sharded"] == 4 * P + 16 * P // 8


def test_inference(job):
    shown = named(replace(job, objective=Objective("inference"), precision=Precision("float16")))
    assert shown == {"weights": 14 * 10**9, "inference": int(16.8 * 10**9)}


def test_figures_beyond_bytes(job):
    gpu = find_gpu("rtx3090")
    found = {result.rule.name: result for result in figures(replace(job, gpu=gpu), P)}
    assert found["largest-model"].value == gpu.memory_bytes // 16
    assert found["largest-model-half-card"].value == gpu.memory_bytes // 32
    assert found["training-compute"].value == 6 * P * 2048
    assert {result.rule.unit for result in applicable(replace(job, gpu=gpu), P)} == {"bytes"}


def test_unknown_dimensions_leave_activations_out(job):
    assert "activations-selective" not in named(replace(job, model=Model("x", "", {})))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_embd": 768, "n_layer": 12, "n_head": 12}, Dimensions(768, 12, 12)),
        ({"d_model": 512, "num_layers": 6, "num_heads": 8}, Dimensions(512, 6, 8)),
        ({"text_config": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}}, Dimensions(8, 2, 1)),
        ({"hidden_size": 8}, None),
        ({"hidden_size": "8", "num_hidden_layers": 2, "num_attention_heads": 1}, None),
    ],
)
def test_dimensions(config, expected):
    assert dimensions(Model("x", "", config)) == expected


def test_every_result_says_what_it_is_and_why_it_differs(job):
    for result in applicable(job, P):
        assert result.name == result.rule.label
        assert result.bytes == result.value
        assert result.why.endswith(".")
    assert all(rule.formula and rule.article and rule.coarse.endswith(".") for rule in RULES.values())
