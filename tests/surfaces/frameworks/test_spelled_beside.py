"""Changes whose keys depend on what else a file has: Axolotl's plugins, torchtune's optimizers."""

from __future__ import annotations

import pytest

from tests.api.test_launching import check, facts
from vramlint.facts import FactValue
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.writing import write_facts
from vramlint.text import Document, apply_edits

AXOLOTL = "base_model: NousResearch/Meta-Llama-3-8B\nsequence_len: 2048  # tokens\nmicro_batch_size: 2\n%s"
LIGER = "liger_rope: true\nliger_rms_norm: true\nliger_glu_activation: true\nliger_fused_linear_cross_entropy: true\n"
PLUGIN = "axolotl.integrations.liger.LigerPlugin"
TUNE = """\
model:
  _component_: torchtune.models.llama3_2.llama3_2_1b
batch_size: 4
optimizer:
  _component_: torch.optim.AdamW%s
  lr: 2e-5  # rate
loss:
  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss
"""


def after(framework: str, text: str, fact: str, value: bool | int | str) -> str | None:
    """The file once a fact is changed; the file read again says so, and the same change then changes nothing."""
    job = check({"c.yaml": text}, "c.yaml").jobs[0]
    document = Document.of("c.yaml", text)
    said = write_facts(framework_of(framework), {fact: value}, job.facts, {"c.yaml": document})
    return None if said is None else apply_edits(document, said.edits)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", f"plugins: [{PLUGIN}]\n{LIGER}"),
        ("plugins: [a.B]\n", f"plugins: [a.B, {PLUGIN}]\n{LIGER}"),
        ("plugins:\n  - a.B  # b\n# end\n", f"plugins:\n  - a.B  # b\n  - {PLUGIN}\n# end\n{LIGER}"),
        (f"plugins:\n- {PLUGIN}\nliger_rope: false\n", f"plugins:\n- {PLUGIN}\n{LIGER}"),
    ],
)
def test_axolotls_liger_is_a_plugin_with_its_kernels(before: str, expected: str) -> None:
    text = after("axolotl", AXOLOTL % before, "fused_loss", True)
    assert text is not None
    rest = text.removeprefix(AXOLOTL % "")
    assert sorted(rest.splitlines()) == sorted(expected.splitlines())
    found = facts(check({"c.yaml": text}, "c.yaml").jobs[0])
    assert (found["fused_loss"], found["liger_rope"], found["liger_swiglu"], found["liger_fused_head"]) == (True,) * 4


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("attn_implementation: flash_attention_2  # fast\n", "attn_implementation: sdpa  # fast\n"),
        ("flash_attention: true\n# end\n", "# end\nattn_implementation: sdpa\n"),
        ("flash_attention: true\nsdp_attention: false\n", "sdp_attention: false\nattn_implementation: sdpa\n"),
        (
            "context_parallel_size: 1\nattn_implementation: flash_attention_2\n",
            "context_parallel_size: 1\nattn_implementation: sdpa\n",
        ),
    ],
)
def test_axolotls_attention_takes_the_place_of_its_switches(before: str, expected: str) -> None:
    text = after("axolotl", AXOLOTL % before, "attention_implementation", "sdpa")
    assert text is not None
    assert text.startswith(AXOLOTL % "")
    assert sorted(text.removeprefix(AXOLOTL % "").splitlines()) == sorted(expected.splitlines())
    assert facts(check({"c.yaml": text}, "c.yaml").jobs[0])["attention_implementation"] == "sdpa"


@pytest.mark.parametrize(
    "before",
    [
        "gemma4_hybrid_attn_impl: true\nattn_implementation: flash_attention_2\n",
        "gemma4_hybrid_attn_impl: true\n",
        "scaling_softmax: true\nattn_implementation: flex_attention\n",
        "context_parallel_size: 2\nattn_implementation: flash_attention_2\n",
        "sequence_parallel_degree: 4\nflash_attention: true\n",
    ],
)
def test_where_axolotl_takes_only_one_attention_no_other_is_written(before: str) -> None:
    assert after("axolotl", AXOLOTL % before, "attention_implementation", "sdpa") is None


@pytest.mark.parametrize(
    "before",
    ["plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n", "plugins: {a: 1}\n"],
)
def test_beside_another_loss_it_is_not_written(before: str) -> None:
    assert after("axolotl", AXOLOTL % before, "fused_loss", True) is None


@pytest.mark.parametrize(
    ("arguments", "value", "expected"),
    [
        ("", "adamw_bnb_8bit", TUNE.replace("torch.optim.AdamW%s", "bitsandbytes.optim.AdamW8bit")),
        ("", "paged_adamw_8bit", TUNE.replace("torch.optim.AdamW%s", "bitsandbytes.optim.PagedAdamW8bit")),
        (
            "\n  fused: True  # quick\n  weight_decay: 0.1", "paged_adamw_8bit",
            TUNE.replace("torch.optim.AdamW%s", "bitsandbytes.optim.PagedAdamW8bit\n  weight_decay: 0.1"),
        ),
        ("\n  fused: False", "adamw_torch_fused", TUNE % "\n  fused: True"),
        ("\n  own: 1", "paged_adamw_8bit", None),
        ("", "galore_adamw", None),
    ],
)  # fmt: skip
def test_torchtunes_optimizer_loses_what_the_other_one_does_not_take(
    arguments: str, value: str, expected: str | None
) -> None:
    assert after("torchtune", TUNE % arguments, "optimizer", value) == expected


def test_other_optimizers_of_torchtune_have_no_fused_update() -> None:
    text = (TUNE % "").replace("torch.optim.AdamW", "torchao.optim.AdamW8bit")
    assert after("torchtune", text, "optimizer", "adamw_torch_fused") is None


@pytest.mark.parametrize(
    ("before", "value", "expected"),
    [
        ("", "lora", "adapter: lora\nlora_r: 16\nlora_alpha: 32\nlora_target_linear: true\n"),
        ("", "qlora", "adapter: qlora\nload_in_4bit: true\nlora_r: 16\nlora_alpha: 32\nlora_target_linear: true\n"),
        ("lora_r: 8\n", "lora", "adapter: lora\nlora_r: 8\nlora_alpha: 32\nlora_target_linear: true\n"),
        (
            "lora_target_modules: [q_proj]\n", "lora",
            "adapter: lora\nlora_r: 16\nlora_alpha: 32\nlora_target_modules: [q_proj]\n",
        ),
        ("adapter: lora\nlora_r: 8\n", "qlora", "adapter: qlora\nload_in_4bit: true\nlora_r: 8\n"),
        ("", "adaption_prompt", None),
    ],
)  # fmt: skip
def test_axolotls_adapters(before: str, value: str, expected: str | None) -> None:
    text = after("axolotl", AXOLOTL % before, "tuning", value)
    if expected is None:
        assert text is None
        return
    assert text is not None
    assert sorted(text.splitlines()) == sorted((AXOLOTL % expected).splitlines())
    found = facts(check({"c.yaml": text}, "c.yaml").jobs[0])
    assert (found["tuning"], found["quantization_bits"]) == (value, 4 if value == "qlora" else 16)


def test_a_key_that_says_several_facts_is_written_once() -> None:
    job = check({"c.yaml": AXOLOTL % ""}, "c.yaml").jobs[0]
    document = Document.of("c.yaml", AXOLOTL % "")
    changes: dict[str, FactValue] = {"tuning": "lora", "lora_r": 16, "lora_target_modules": "all-linear"}
    said = write_facts(framework_of("axolotl"), changes, job.facts, {"c.yaml": document})
    assert said is not None
    assert said.description == "adapter: lora, lora_r: 16, lora_alpha: 32, lora_target_linear: true"
    assert apply_edits(document, said.edits).count("lora_r: 16") == 1


TITAN = (
    '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 4\nseq_len = 8192\n%s[optimizer]\nlr = 1\n'
)
SMALLER: dict[str, FactValue] = {"micro_batch_size": 1, "gradient_accumulation_steps": 4}


def titan(text: str, changes: dict[str, FactValue]) -> str | None:
    job = check({"t.toml": text}, "t.toml", gpu="h100x8").jobs[0]
    document = Document.of("t.toml", text)
    said = write_facts(framework_of("torchtitan"), changes, job.facts, {"t.toml": document})
    return None if said is None else apply_edits(document, said.edits)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "global_batch_size = 32\n"),
        ("global_batch_size = 64  # all\n", "global_batch_size = 64  # all\n"),
        ("global_batch_size = -1\n", "global_batch_size = 32\n"),
        ("gradient_accumulation_steps = 1\n", "gradient_accumulation_steps = 4\n"),
        (
            "[parallelism]\ntensor_parallel_degree = 2\n",
            "global_batch_size = 16\n[parallelism]\ntensor_parallel_degree = 2\n",
        ),
    ],
)  # fmt: skip
def test_torchtitans_smaller_batches_keep_the_global_one(before: str, expected: str) -> None:
    text = titan(TITAN % before, SMALLER)
    assert text is not None
    assert sorted(text.splitlines()) == sorted(
        (TITAN % expected).replace("local_batch_size = 4", "local_batch_size = 1").splitlines()
    )
    found = facts(check({"t.toml": text}, "t.toml", gpu="h100x8").jobs[0])
    assert found["micro_batch_size"] == 1


@pytest.mark.parametrize(
    "text",
    [
        (TITAN % "").replace("local_batch_size", "batch_size"),
        (TITAN % "[parallelism]\ntensor_parallel_degree = 3\n"),
    ],
)
def test_what_torchtitan_cannot_say_is_left(text: str) -> None:
    assert titan(text, SMALLER) is None


def test_torchtitans_checkpoints_are_of_every_layer() -> None:
    text = TITAN % '[activation_checkpoint]\nmode = "none"  # quick\n'
    after = titan(text, {"activation_checkpointing": True})
    assert after == text.replace('"none"', '"full"')
    assert titan(text, {"activation_checkpointing": False}) is None


FACTORY = (
    "model_name_or_path: gpt2\nstage: sft\nfinetuning_type: full\ncutoff_len: 512\nper_device_train_batch_size: 2\n"
)


@pytest.mark.parametrize("key", ["use_galore", "use_apollo", "use_badam"])
def test_llama_factorys_optimizers_of_all_weights_take_no_adapters(key: str) -> None:
    text = after("llama-factory", f"{FACTORY}{key}: false\n", "tuning", "lora")
    assert text is not None
    assert "finetuning_type: lora\n" in text
    assert after("llama-factory", f"{FACTORY}{key}: true\n", "tuning", "lora") is None


def test_llama_factory_quantizes_no_base_that_computes_in_8_bits() -> None:
    text = after("llama-factory", FACTORY, "quantization_bits", 4)
    assert text is not None
    assert "quantization_bit: 4\n" in text
    assert after("llama-factory", f"{FACTORY}fp8: true\n", "quantization_bits", 4) is None
