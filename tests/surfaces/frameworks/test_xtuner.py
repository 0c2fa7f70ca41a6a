from __future__ import annotations

from textwrap import dedent

import pytest

from tests.api.test_launching import check
from tests.surfaces.frameworks.reading import sheet
from vramlint.catalog.xtuner import packaged
from vramlint.facts import Origin

_QLORA = dedent(
    """\
    import torch
    from mmengine.optim import AmpOptimWrapper
    from peft import LoraConfig
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from xtuner.dataset import process_hf_dataset
    from xtuner.model import SupervisedFinetune

    base = "meta-llama/Llama-2-7b-hf"
    max_length = 2048
    batch_size = 2
    accumulative_counts = 8
    accumulative_counts *= 2

    model = dict(
        type=SupervisedFinetune,
        llm=dict(
            type=AutoModelForCausalLM.from_pretrained,
            pretrained_model_name_or_path=base,
            torch_dtype=torch.float16,
            quantization_config=dict(
                type=BitsAndBytesConfig, load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_quant_type="nf4"
            ),
        ),
        lora=dict(type=LoraConfig, r=64, lora_alpha=16, lora_dropout=0.1, bias="none"),
    )
    data = dict(type=process_hf_dataset, max_length=max_length)
    train_dataloader = dict(batch_size=batch_size, dataset=data)
    optim_wrapper = dict(
        type=AmpOptimWrapper,
        optimizer=dict(type=AdamW, lr=2e-4),
        clip_grad=dict(max_norm=1),
        accumulative_counts=accumulative_counts,
        dtype="float16",
    )
    """
)

_CALCULATOR = """\
nodes: 2
gpu_per_node: 8
zero_stage: 3
MBS: 1
L: 8192
MBN: 4
model: "Qwen3-8B"
vocab_size: 151936
hidden_size: 4096
LN: 36
num_attention_heads: 32
num_key_value_heads: 8
head_dim: 128
intermediate_size: 12288
recompute: true
chunk_loss_size: 1024
master_type: 4
"""


def _facts(files, *given):
    (job,) = check(files, *given).jobs
    return {fact.name: fact for fact in job.facts}


def _values(facts, *names):
    return tuple(facts[name].value for name in names)


def test_dicts_of_a_python_file_say_the_run_without_being_executed():
    facts = _facts({"cfg.py": _QLORA}, "cfg.py")

    assert _values(facts, "model", "tuning", "lora_r", "quantization_bits", "quantization_type") == (
        "meta-llama/Llama-2-7b-hf",
        "qlora",
        64,
        4,
        "nf4",
    )
    assert _values(facts, "micro_batch_size", "gradient_accumulation_steps", "sequence_length") == (2, 16, 2048)
    assert _values(facts, "precision", "load_dtype", "optimizer", "max_grad_norm") == (
        "fp16-mixed",
        "float16",
        "adamw_torch",
        1,
    )
    assert _values(facts, "packing", "activation_checkpointing", "lora_target_modules") == (True, True, "all-linear")
    assert facts["packing"].origin is Origin.DEFAULT


def test_lora_on_an_unquantized_base_makes_it_float32():
    plain = _QLORA.replace("load_in_4bit=True", "load_in_4bit=False")

    assert _values(_facts({"cfg.py": plain}, "cfg.py"), "tuning", "load_dtype") == ("lora", "float32")


@pytest.mark.parametrize(
    ("name", "objective"), [("DPO", "dpo"), ("ORPO", "orpo"), ("RewardModel", "reward"), ("LLaVAModel", "sft-vlm")]
)
def test_the_class_of_the_model_says_the_objective(name, objective):
    text = _QLORA.replace("SupervisedFinetune", name)

    assert _facts({"cfg.py": text}, "cfg.py")["objective"].value == objective


def test_a_script_that_only_imports_xtuner_is_no_configuration():
    report = check({"tool.py": "from xtuner.utils import PROMPT_TEMPLATE\noptim_wrapper = None\n"}, "tool.py")

    assert all(job.kind != "training" for job in report.jobs)


def test_a_packaged_configuration_is_known_by_its_name():
    command = "NPROC_PER_NODE=8 xtuner train llama2_7b_chat_qlora_alpaca_e3 --deepspeed deepspeed_zero2\n"
    facts = _facts({"run.sh": command}, "run.sh")

    assert _values(facts, "model", "tuning", "world_size", "zero_stage") == (
        "meta-llama/Llama-2-7b-chat-hf",
        "qlora",
        8,
        2,
    )
    assert facts["model"].origin is Origin.DEFAULT
    assert facts["gradient_accumulation_steps"].value == 16
    assert "nowhere_7b" not in packaged()


def test_a_file_of_the_project_under_options_of_the_command():
    command = "xtuner train cfg.py --cfg-options train_dataloader.batch_size=4\n"
    facts = _facts({"run.sh": command, "cfg.py": _QLORA}, "run.sh")

    assert _values(facts, "micro_batch_size", "sequence_length") == (4, 2048)


def test_the_calculators_input_is_a_run_of_the_engine():
    found = sheet("xtuner", _CALCULATOR)
    facts = {fact.name: fact for fact in found.facts}

    assert _values(facts, "layers", "hidden_size", "world_size", "fsdp", "load_dtype") == (
        36,
        4096,
        16,
        "full_shard",
        "float32",
    )
    assert _values(facts, "sequence_length", "gradient_accumulation_steps", "fused_loss", "liger") == (
        8192,
        4,
        True,
        False,
    )
    assert found.remarks == ()


def test_the_calculators_experts_make_a_mixture():
    experts = _CALCULATOR.replace("intermediate_size: 12288", "num_experts: 128\nmoe_intermediate_size: 768\ntopk: 8")
    table = next(table for name, table in sheet("xtuner", experts).tables if name == "model-config")

    words = {entry.key: getattr(entry.value, "value", None) for entry in table}
    assert (words["model_type"], words["num_experts"], words["num_experts_per_tok"]) == ("qwen3_moe", 128, 8)


_ENGINE = dedent(
    """\
    from xtuner.v1.config import AdamWConfig, FSDPConfig
    from xtuner.v1.datasets.config import DataloaderConfig
    from xtuner.v1.loss import CELossConfig
    from xtuner.v1.model import Qwen3Dense8BConfig
    from xtuner.v1.train import TrainerConfig

    model_cfg = Qwen3Dense8BConfig(num_hidden_layers=4)
    trainer = TrainerConfig(
        model_cfg=model_cfg,
        optim_cfg=AdamWConfig(lr=1e-4),
        fsdp_cfg=FSDPConfig(recompute_ratio=0.0),
        dataloader_cfg=DataloaderConfig(pack_max_length=4096),
        loss_cfg=CELossConfig(mode="chunk"),
        global_batch_size=8,
    )
    """
)


def test_objects_of_the_engine_say_the_run():
    facts = _facts(
        {"run.sh": "torchrun --nproc-per-node 8 -m xtuner.v1.train.cli.sft --config a.py", "a.py": _ENGINE}, "run.sh"
    )

    assert _values(facts, "model", "sequence_length", "world_size", "parallelism", "fsdp_version") == (
        "Qwen/Qwen3-8B",
        4096,
        8,
        "fsdp",
        2,
    )
    assert _values(facts, "activation_checkpointing", "global_batch_size", "loss_type") == (False, 8, "chunked_nll")


_DUMPED = dedent(
    """\
    accumulative_counts = 4
    batch_size = 1
    launcher = 'none'
    model = dict(
        llm=dict(
            pretrained_model_name_or_path='meta-llama/Llama-2-7b-hf',
            quantization_config=dict(
                bnb_4bit_compute_dtype='torch.float16', bnb_4bit_quant_type='nf4', load_in_4bit=True,
                type='transformers.BitsAndBytesConfig'),
            torch_dtype='torch.float16',
            type='transformers.AutoModelForCausalLM.from_pretrained'),
        lora=dict(lora_alpha=16, r=32, type='peft.LoraConfig'),
        type='xtuner.model.SupervisedFinetune')
    optim_wrapper = dict(
        optimizer=dict(lr=0.0002, type='bitsandbytes.optim.PagedAdamW32bit'), type='DeepSpeedOptimWrapper')
    strategy = dict(
        config=dict(
            bf16=dict(enabled=True), fp16=dict(enabled=False), zero_optimization=dict(overlap_comm=True, stage=2)),
        gradient_accumulation_steps=4,
        train_micro_batch_size_per_gpu=1,
        type='DeepSpeedStrategy')
    train_dataloader = dict(
        batch_size=1,
        dataset=dict(max_length=1024, pack_to_max_length=True, type='xtuner.dataset.process_hf_dataset'))
    """
)


def test_what_a_run_has_written_down_is_a_configuration_too():
    facts = _facts({"work_dirs/run/cfg.py": _DUMPED}, "work_dirs/run/cfg.py")

    assert _values(facts, "model", "objective", "tuning", "load_dtype") == (
        "meta-llama/Llama-2-7b-hf",
        "sft",
        "qlora",
        "float16",
    )
    assert _values(facts, "micro_batch_size", "gradient_accumulation_steps", "sequence_length") == (1, 4, 1024)
    assert _values(facts, "optimizer", "precision", "zero_stage") == ("paged_adamw_32bit", "bf16-mixed", 2)


def test_a_dump_of_another_library_is_none():
    other = _DUMPED.replace("xtuner.model.SupervisedFinetune", "mmdet.models.DETR")

    assert all(job.kind != "training" for job in check({"cfg.py": other}, "cfg.py").jobs)


@pytest.mark.parametrize(
    ("more", "form"),
    [("sequence_parallel_size = 4", "xtuner"), ("sequence_parallel_size = 1", None), ("", None)],
)
def test_ranks_of_the_runner_share_sequences_in_its_own_way(more, form):
    (job,) = check({"config.py": f"{_QLORA}{more}\n"}, "config.py").jobs
    found = {fact.name: fact.value for fact in job.facts}
    assert found.get("sequence_sharing") == form
