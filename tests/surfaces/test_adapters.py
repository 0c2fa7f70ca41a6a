"""What configs of adapters and quantization say."""

from __future__ import annotations

import pytest

from tests.surfaces.test_program import says, sheet
from vramlint.facts import Sheet


def tuned(config: str, attach: str = "get_peft_model(model, config)", quantization: str = "None") -> Sheet:
    return sheet(f"""
        import peft, torch
        from peft import *
        from torchao.quantization import Int4WeightOnlyConfig
        from transformers import *

        model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", quantization_config={quantization})
        config = {config}
        model = {attach}
        Trainer(model=model, args=TrainingArguments("out"), train_dataset=data).train()
    """)


def test_what_a_lora_config_says_besides_its_rank() -> None:
    found = tuned("""LoraConfig(
            r=16, bias="lora_only", lora_bias=True, rank_pattern={"q_proj": 64, "k_proj": 4},
            layers_to_transform=[0, 1], exclude_modules=["lm_head"], target_parameters=["experts.down_proj"],
            trainable_token_indices=[5, 6, 7],
        )""")
    expected = {
        "tuning": "lora",
        "adapter_bias": "lora_only",
        "lora_bias": True,
        "lora_rank_pattern": ("q_proj=64", "k_proj=4"),
        "lora_layers": ("0", "1"),
        "lora_exclude_modules": ("lm_head",),
        "lora_target_parameters": ("experts.down_proj",),
        "trained_tokens": ("embed_tokens=3",),
    }
    assert {name: says(found, name) for name in expected} == expected


def test_one_layer_and_tokens_by_module() -> None:
    found = tuned('LoraConfig(layers_to_transform=3, trainable_token_indices={"wte": [1, 2]}, bias=None)')

    assert says(found, "lora_layers") == ("3",)
    assert says(found, "trained_tokens") == ("wte=2",)
    assert found.get("adapter_bias") is None


def test_adapters_that_are_not_cast() -> None:
    found = tuned("LoraConfig(r=8)", "get_peft_model(model, config, autocast_adapter_dtype=False)")

    assert says(found, "adapter_cast") is False


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            'IA3Config(target_modules=["k_proj"], feedforward_modules=["down_proj"])',
            {
                "tuning": "ia3",
                "lora_target_modules": ("k_proj",),
                "adapter_options": ("feedforward_modules=down_proj",),
            },
        ),
        ("PromptTuningConfig(num_virtual_tokens=20)", {"tuning": "prompttuning", "virtual_tokens": 20}),
        ("AdaLoraConfig(r=8, init_r=12, total_step=10)", {"tuning": "adalora", "lora_r": 12}),
        ("VeraConfig(r=256, vera_dropout=0.1)", {"tuning": "vera", "lora_r": 256, "lora_dropout": 0.1}),
        (
            "OFTConfig(oft_block_size=64, use_cayley_neumann=True)",
            {"tuning": "oft", "adapter_options": ("oft_block_size=64", "use_cayley_neumann=True")},
        ),
    ],
)
def test_configs_of_other_methods(config: str, expected: dict[str, object]) -> None:
    found = tuned(config)

    assert {name: says(found, name) for name in expected} == expected


def test_what_makes_other_layers_of_lora_is_named() -> None:
    found = tuned("LoraConfig(layer_replication=[(0, 16), (8, 24)], use_qalora=False, arrow_config=None)")

    assert says(found, "lora_variants") == ("layer_replication",)
    assert tuned("LoraConfig(r=8, use_qalora=False)").get("lora_variants") is None


def test_an_option_that_is_computed_leaves_all_open() -> None:
    found = tuned("OFTConfig(oft_block_size=size(), coft=True)").get("adapter_options")

    assert found is not None
    assert not found.candidates


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("GPTQConfig(bits=3, group_size=64)", {"type": "gptq", "bits": 3, "group_size": 64}),
        ("AwqConfig()", {"type": "awq", "bits": 4}),
        ("HqqConfig(nbits=8, group_size=64)", {"type": "hqq", "bits": 8, "group_size": 64}),
        ('QuantoConfig(weights="int8")', {"type": "quanto", "bits": 8}),
        ('QuantoConfig(weights="float8")', {"type": "quanto", "bits": 8}),
        ('TorchAoConfig("int4_weight_only", group_size=128)', {"type": "torchao", "bits": 4, "group_size": 128}),
        ("TorchAoConfig(Int4WeightOnlyConfig(group_size=32))", {"type": "torchao", "bits": 4, "group_size": 32}),
        ("EetqConfig()", {"type": "eetq", "bits": 8}),
        ('HqqConfig(skip_modules=["lm_head"])', {"type": "hqq", "skip_modules": ("lm_head",)}),
        (
            'BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head", "vision"])',
            {"bits": 8, "skip_modules": ("lm_head", "vision")},
        ),
    ],
)
def test_other_quantization_configs(config: str, expected: dict[str, object]) -> None:
    found = tuned("LoraConfig(r=8)", quantization=config)

    assert {name: says(found, f"quantization_{name}") for name in expected} == expected


def test_qlora_is_said_where_the_base_is_quantized_too() -> None:
    found = tuned("LoraConfig(r=8)", quantization="BitsAndBytesConfig(load_in_4bit=True)")
    tuning, bits = found.get("tuning"), found.get("quantization_bits")
    assert tuning is not None
    assert bits is not None
    assert (tuning.value, tuning.also) == ("qlora", (bits.place,))
    plain = tuned("LoraConfig(r=8)").get("tuning")
    assert plain is not None
    assert (plain.value, plain.also) == ("lora", ())


@pytest.mark.parametrize("written", ['"auto_wrap full_shard"', '["auto_wrap", "full_shard"]', '"full_shard auto_wrap"'])
def test_the_order_of_fsdps_words_says_nothing(written: str) -> None:
    found = sheet(f"""
        from transformers import *
        args = TrainingArguments("out", fsdp={written})
        Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args, train_dataset=data).train()
    """)
    assert says(found, "fsdp") == "full_shard auto_wrap"
