"""Unsloth's loaders, and the classes that it puts in the place of TRL's."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import facts, says, sheet
from vramlint.catalog.gpus import find_gpu
from vramlint.job import Gpu
from vramlint.resolve import resolve
from vramlint.resolve.context import Context

SCRIPT = """
    from unsloth import FastLanguageModel
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Meta-Llama-3.1-8B"{given})
    args = SFTConfig(per_device_train_batch_size=2{keys})
    SFTTrainer(model=model, args=args, train_dataset=data).train()
"""


def test_four_bits_are_nf4_with_double_quantization() -> None:
    found = sheet(SCRIPT.format(given=", dtype=None, load_in_4bit=True", keys=""))
    expected = {
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
    }
    assert facts(found, *expected) == expected


@pytest.mark.parametrize(
    ("given", "gpu", "dtype"),
    [("", "h100", "bfloat16"), ("", "t4", "float16"), (", full_finetuning=True", "t4", "float32")],
)
def test_the_dtype_is_what_the_gpu_computes_in(given: str, gpu: str, dtype: str) -> None:
    found = find_gpu(gpu)
    assert isinstance(found, Gpu)
    (run,) = resolve([sheet(adapted(given=given))], Context(lambda _: None, lambda _: (), gpu=found))
    fact = run.get("load_dtype")
    assert fact is not None
    assert fact.value == dtype


def test_what_is_given_holds() -> None:
    found = sheet(SCRIPT.format(given=', dtype="float16", load_in_4bit=False', keys=""))
    assert says(found, "load_dtype") == "float16"
    assert found.get("quantization_type") is None


@pytest.mark.parametrize(
    ("keys", "remarked"),
    [
        (", max_seq_length=512, vllm_sampling_params=sampling", []),  # Unsloth's classes take them
        (", gradient_acumulation_steps=4", ["gradient_acumulation_steps"]),
    ],
)
def test_only_misspellings_are_sure_of_replaced_classes(keys: str, remarked: list[str]) -> None:
    found = sheet(SCRIPT.format(given="", keys=keys))
    (run,) = resolve([found], Context(lambda _: None, lambda _: ()))
    assert [remark.subject for remark in run.remarks] == remarked


@pytest.mark.parametrize(
    ("given", "bits", "kind"),
    [
        ("", 4, "nf4"),
        (", load_in_16bit=True, load_in_4bit=False", 16, None),
        (", load_in_8bit=True, load_in_4bit=False", 8, "int8"),
        (", load_in_fp8=True", 8, "fp8"),
        (", full_finetuning=True", 16, None),
        (", full_finetuning=True, load_in_4bit=True", 16, None),
    ],
)
def test_how_weights_are_stored(given: str, bits: int, kind: str | None) -> None:
    found = sheet(SCRIPT.format(given=given, keys=""))
    assert says(found, "quantization_bits") == bits
    assert (says(found, "quantization_type") if found.get("quantization_type") else None) == kind


def test_full_training_in_float32_is_asked_for() -> None:
    found = sheet(SCRIPT.format(given=", full_finetuning=True, float32_mixed_precision=True", keys=""))
    assert says(found, "load_dtype") == "float32"


def test_an_engine_beside_the_trainer() -> None:
    found = sheet(SCRIPT.format(given=", fast_inference=True", keys=""))
    assert facts(found, "inference_engine", "inference_memory_fraction") == {
        "inference_engine": "vllm",
        "inference_memory_fraction": 0.5,
    }


ADAPTED = """
    from unsloth import {name}
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = {name}.from_pretrained("{model}"{given})
    model = {name}.get_peft_model(model{adapter})
    args = SFTConfig(per_device_train_batch_size=2, max_length=2048)
    SFTTrainer(model=model, args=args, train_dataset=data).train()
"""


def adapted(*, name: str = "FastLanguageModel", model: str = "unsloth/mistral-7b-v0.3", given="", adapter="") -> str:
    return ADAPTED.format(name=name, model=model, given=given, adapter=adapter)


def test_adapters_have_defaults_of_their_own() -> None:
    found = sheet(adapted())
    assert says(found, "lora_r") == 16
    assert says(found, "lora_target_modules") == (
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    )
    assert facts(found, "activation_checkpointing", "checkpointing_offload") == {
        "activation_checkpointing": True,
        "checkpointing_offload": True,
    }


@pytest.mark.parametrize(("word", "offloads"), [('"unsloth"', True), ("True", False)])
def test_only_its_own_checkpoints_wait_in_host_memory(word: str, offloads: bool) -> None:
    found = sheet(adapted(adapter=f", r=8, use_gradient_checkpointing={word}"))
    assert says(found, "lora_r") == 8
    assert says(found, "checkpointing_offload") is offloads


def test_layers_without_vision_are_a_pattern() -> None:
    found = sheet(adapted(name="FastVisionModel", adapter=", finetune_vision_layers=False"))
    assert "language" in str(says(found, "lora_target_modules"))
    assert says(sheet(adapted(name="FastVisionModel")), "lora_target_modules") == "all-linear"


def run_of(script: str):
    (run,) = resolve([sheet(script)], Context(lambda _: None, lambda _: ()))
    return run


def test_its_own_layers_are_simulated() -> None:
    run = run_of(adapted())
    assert not run.unresolved
    assert {job.kernels for job in run.jobs} == {("unsloth",)}
    assert {(job.objective.loss, job.checkpointing.offload) for job in run.jobs} == {("unsloth", True)}


def test_layers_that_a_checkpoint_keeps_are_not_known() -> None:
    run = run_of(adapted(model="unsloth/Qwen3-14B"))
    assert run.unresolved == ("quantization_skip_modules",)
    fact = run.get("quantization_skip_modules")
    assert fact is not None
    assert "unsloth/Qwen3-14B-unsloth-bnb-4bit" in fact.reason
    assert not run_of(adapted(model="unsloth/Qwen3-14B", given=", load_in_4bit=False")).unresolved


def test_embeddings_among_the_targets_train_as_a_whole() -> None:
    (job, *_) = run_of(adapted(adapter=', target_modules=["q_proj", "embed_tokens"]')).jobs
    assert job.adapter is not None
    assert job.adapter.target_modules == ("q_proj",)
    assert job.adapter.modules_to_save == ("embed_tokens",)
    assert job.adapter.originals_on_host


def test_a_figure_of_other_kernels_is_no_verdict_that_it_does_not_fit() -> None:
    found = sheet(SCRIPT.format(given="", keys=", max_length=500_000"))
    (run,) = resolve([found], Context(lambda _: None, lambda _: ()))
    assert "attention_implementation" in run.unresolved
    fact = run.get("attention_implementation")
    assert fact is not None
    assert "kernels of its own" in fact.reason


@pytest.mark.parametrize(
    ("loader", "given", "trained"),
    [
        ("FastModel", ", auto_model=WhisperForConditionalGeneration", "speech-seq2seq"),
        ("FastModel", "", "sft"),
        ("FastSentenceTransformer", "", "embedding-pairs"),
    ],
)
def test_the_class_that_is_loaded_says_what_trains(loader: str, given: str, trained: str) -> None:
    found = sheet(f"""
        from unsloth import {loader}
        from transformers import Trainer, TrainingArguments, WhisperForConditionalGeneration

        model, tokenizer = {loader}.from_pretrained("unsloth/some-model"{given})
        Trainer(model=model, args=TrainingArguments("out"), train_dataset=data).train()
    """)
    assert facts(found, "objective") == {"objective": trained}


@pytest.mark.parametrize(
    ("name", "given", "tuning"),
    [
        ("FastVisionModel", ", full_finetuning=True", "full"),
        ("FastVisionModel", ", full_finetuning=False, load_in_4bit=False", "lora"),
        ("FastLanguageModel", ", full_finetuning=True, load_in_4bit=True", "full"),
    ],
)
def test_adapters_do_nothing_where_all_weights_train(name: str, given: str, tuning: str) -> None:
    found = sheet(ADAPTED.format(name=name, model="unsloth/Llama-3.2-1B", given=given, adapter=", r=64", keys=""))

    assert says(found, "tuning") == tuning
    assert (found.get("lora_r") is None) is (tuning == "full")
    assert says(found, "checkpointing_offload") is True
