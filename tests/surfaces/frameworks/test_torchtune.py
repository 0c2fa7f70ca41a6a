"""torchtune's configurations: what builders, recipes and the command line say."""

from __future__ import annotations

import pytest

from tests.api.test_launching import check
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Origin
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.torchtune import FRAMEWORK
from vramlint.surfaces.frameworks.torchtune_models import named
from vramlint.surfaces.frameworks.writing import read_data
from vramlint.text import Document

PATH, LORA = SAMPLES["torchtune"]


def read(text, release=None):
    sheet = read_config(FRAMEWORK, PATH, read_data(Document.of(PATH, text)).root, release)
    return {fact.name: fact for fact in sheet.facts}, sheet


def values(facts, *names):
    return tuple(facts[name].value for name in names)


def test_a_builder_says_model_adapters_and_where():
    facts, _ = read(LORA)
    assert values(facts, "model", "model_type", "tuning", "lora_r", "lora_alpha", "lora_dropout") == (
        "llama3_2_1b",
        "llama",
        "lora",
        64,
        128,
        0.0,
    )
    assert facts["model"].place.span.line == facts["tuning"].place.span.line == 5
    assert facts["lora_target_modules"].value == ("q_proj", "v_proj", "mlp")
    assert facts["lora_dropout"].origin is Origin.DEFAULT


@pytest.mark.parametrize(
    ("component", "tuning", "bits"),
    [
        ("torchtune.models.llama3_2.llama3_2_1b", "full", None),
        ("torchtune.models.llama3_2.qlora_llama3_2_1b", "qlora", 4),
    ],
)
def test_the_prefix_of_a_builder_says_how_the_run_tunes(component, tuning, bits):
    facts, _ = read(LORA.replace("torchtune.models.llama3_2.lora_llama3_2_1b", component))
    assert facts["tuning"].value == tuning
    assert (facts["quantization_bits"].value if bits else None) == bits


def test_a_base_quantized_by_an_argument_is_a_qlora_run():
    facts, _ = read(LORA.replace("  lora_alpha", "  quantize_base: True\n  lora_alpha"))
    assert values(facts, "tuning", "quantization_type", "double_quantization") == ("qlora", "nf4", True)


def test_weights_gradients_and_adapters_are_all_of_the_dtype():
    facts, _ = read(LORA)
    assert values(facts, "load_dtype", "trainable_dtype", "adapter_library") == ("bfloat16", "bfloat16", "torchtune")
    facts, _ = read(LORA.replace("dtype: bf16\n", ""))
    assert facts["load_dtype"].value == "float32"


def test_a_fused_optimizer_is_another_one():
    facts, _ = read(LORA)
    assert facts["optimizer"].value == "torch.optim.AdamW(fused=True)"
    facts, _ = read(LORA.replace("fused: True", "weight_decay: 0.1"))
    assert values(facts, "optimizer", "weight_decay") == ("torch.optim.AdamW", 0.1)


def test_an_unbounded_length_is_known_at_run_time_only():
    facts, _ = read(LORA.replace("max_seq_len: 2048", "max_seq_len: null"))
    assert facts["sequence_length"].origin is Origin.UNKNOWN


def test_interpolations_are_resolved():
    facts, _ = read("n: 16\n" + LORA.replace("batch_size: 4", "batch_size: ${n}"))
    assert facts["micro_batch_size"].value == 16


def test_rows_are_packed_in_a_list_of_datasets_too():
    one = "dataset:\n  _component_: torchtune.datasets.alpaca_cleaned_dataset\n  packed: False\n"
    many = "dataset:\n  - _component_: torchtune.datasets.alpaca_cleaned_dataset\n    packed: True\n"
    facts, _ = read(LORA.replace(one, many))
    assert values(facts, "packing", "attention_implementation") == (True, "flex_attention")


def test_compile_may_be_a_table_of_parts():
    facts, _ = read(LORA.replace("compile: False", "compile:\n  model: False\n  loss: True"))
    assert facts["torch_compile"].value is True


def test_keys_of_the_sharded_recipes_tell_them():
    facts, _ = read(LORA + "fsdp_cpu_offload: True\ntensor_parallel_dim: 2\n")
    assert values(facts, "parallelism", "fsdp_version", "offload_parameters", "tensor_parallel") == (
        "fsdp",
        2,
        "cpu",
        2,
    )
    assert values(facts, "fsdp_layers_alone", "sync_each_batch") == (True, True)
    facts, _ = read(LORA + "fsdp_cpu_offload: True\ncustom_sharded_layers: ['tok_embeddings', 'output']\n")
    assert facts["fsdp_layers_alone"].value is False
    facts, _ = read(LORA)
    assert "parallelism" not in facts


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("70B_lora_distributed.yaml", "fsdp"),
        ("8B_to_1B_KD_distributed.yml", "fsdp"),
        ("70B_lora_single_device.yaml", None),
        ("undistributed.yaml", None),
    ],
)
def test_a_file_may_be_named_for_a_recipe_of_several_gpus(name, told):
    document = Document.of(f"configs/{name}", LORA)
    sheet = read_config(FRAMEWORK, document.path, read_data(document).root, None)
    fact = sheet.get("parallelism")
    assert (fact and fact.value) == told
    assert fact is None or fact.origin is Origin.ASSUMED


@pytest.mark.parametrize(
    ("loss", "objective", "origin"),
    [
        ("torchtune.rlhf.loss.DPOLoss", "dpo", Origin.DERIVED),
        ("torchtune.dev.grpo.loss.GRPOSimpleLoss", "grpo", Origin.DERIVED),
        ("torchtune.modules.loss.LinearCrossEntropyLoss", "sft", Origin.ASSUMED),
    ],
)
def test_a_loss_that_one_recipe_alone_takes_says_the_objective(loss, objective, origin):
    facts, _ = read(LORA.replace("torchtune.modules.loss.LinearCrossEntropyLoss", loss))
    assert (facts["objective"].value, facts["objective"].origin) == (objective, origin)


def test_a_teacher_makes_it_a_distillation():
    facts, _ = read(LORA + "teacher_model:\n  _component_: torchtune.models.llama3_1.llama3_1_8b\n")
    assert values(facts, "objective", "reference_model") == ("distillation", "llama3_1_8b")


def test_sizes_that_the_file_gives_a_component_builder_make_the_model():
    own = """\
model:
  _component_: torchtune.models.llama3_1.llama3_1
  vocab_size: 32000
  num_layers: 4
  num_heads: 8
  num_kv_heads: 2
  embed_dim: 512
  max_seq_len: 4096
"""
    facts, sheet = read(own + LORA[LORA.index("tokenizer:") :])
    assert values(facts, "layers", "hidden_size", "key_value_heads") == (4, 512, 2)
    assert facts["intermediate_size"].value == 1536
    config = dict(sheet.tables)["model-config"]
    assert config.get("intermediate_size").value == 1536  # 4 · int(2 · 512 / 3), up to a multiple of 256


def test_a_builder_of_the_projects_own_has_no_known_sizes():
    assert named("mine.models.lora_tiny").model == "tiny"
    assert named("mine.models.llama3_8b").builder is None


def test_a_misspelt_key_is_told_and_own_keys_are_not():
    _, sheet = read(LORA + "enable_activation_offloadng: True\nmy_path: /tmp\n")
    (remark,) = sheet.remarks
    assert (remark.kind, remark.suggestion) == ("unknown-key", "enable_activation_offloading")


def test_a_removed_key_is_told_at_its_release():
    _, sheet = read(LORA + "fsdp_sharding_strategy: FULL_SHARD\n", (0, 6, 0))
    assert [remark.kind for remark in sheet.remarks] == ["removed-key"]
    _, sheet = read(LORA + "fsdp_sharding_strategy: FULL_SHARD\n", (0, 4, 0))
    assert not sheet.remarks


def test_a_configuration_for_generation_trains_nothing():
    facts, _ = read("model:\n  _component_: torchtune.models.llama2.llama2_7b\nprompt: hi\nmax_new_tokens: 300\n")
    assert facts["run_kind"].value == "inference"


def launched(command):
    (job,) = check({"run.sh": f"{command}\n", "mine.yaml": LORA}, "run.sh").jobs
    return {fact.name: fact for fact in job.facts}


def test_tune_run_says_recipe_gpus_and_overrides():
    command = "tune run --nproc_per_node 4 lora_finetune_distributed --config mine.yaml batch_size=1 model.lora_rank=8"
    facts = launched(command)
    assert values(facts, "objective", "parallelism", "world_size", "micro_batch_size", "lora_r", "lora_alpha") == (
        "sft",
        "fsdp",
        4,
        1,
        8,
        128,
    )


def test_an_override_of_a_component_names_its_builder():
    facts = launched(
        "tune run lora_finetune_single_device --config mine.yaml model=torchtune.models.llama3_2.qlora_llama3_2_3b",
    )
    assert values(facts, "model", "tuning", "lora_r", "world_size") == ("llama3_2_3b", "qlora", 64, 1)


@pytest.mark.parametrize("order", ["--config mine.yaml ~model.lora_rank", "~model.lora_rank --config mine.yaml"])
def test_a_removed_key_has_its_default(order):
    facts = launched(f"tune run lora_finetune_single_device {order} batch_size=3")
    assert values(facts, "lora_r", "lora_alpha", "micro_batch_size") == (8, 128, 3)
    assert facts["lora_r"].origin is Origin.DEFAULT


@pytest.mark.parametrize("config", ["absent.yaml", "$CONFIG", '"$1"'])
def test_of_a_configuration_that_nobody_can_read_only_the_command_line_speaks(config):
    facts = launched(f"tune run lora_finetune_single_device --config {config} batch_size=3")
    assert values(facts, "run_kind", "objective", "parallelism", "micro_batch_size") == ("training", "sft", "none", 3)
    assert not any(facts[name].candidates for name in ("model", "optimizer", "loop") if name in facts)
    assert facts["load_dtype"].origin is not Origin.DEFAULT


def test_a_packaged_configuration_is_known_by_its_name():
    facts = launched("tune run lora_dpo_single_device --config llama2/7B_lora_dpo_single_device batch_size=2")
    assert values(facts, "objective", "model", "tuning", "micro_batch_size", "sequence_length") == (
        "dpo",
        "llama2_7b",
        "lora",
        2,
        1024,
    )
    assert facts["model"].origin is Origin.DEFAULT
    assert facts["micro_batch_size"].origin is Origin.WRITTEN


def test_a_recipe_started_as_a_script_is_one_too():
    facts = launched("torchrun --nproc_per_node 2 recipes/full_finetune_distributed.py --config llama3_2/1B_full")
    assert values(facts, "model", "tuning", "world_size", "parallelism") == ("llama3_2_1b", "full", 2, "fsdp")


def test_a_copy_of_a_packaged_file_is_taken_for_its_recipe():
    sheet = read_config(FRAMEWORK, "recipes/configs/llama3/8B_full.yaml", read_data(Document.of(PATH, LORA)).root)
    fact = sheet.get("parallelism")
    assert (fact.value, fact.origin) == ("fsdp", Origin.ASSUMED)


def test_a_model_with_a_vision_tower_is_no_plain_decoder():
    _, sheet = read(LORA.replace("llama3_2.lora_llama3_2_1b", "llama3_2_vision.lora_llama3_2_vision_11b"))
    config = dict(sheet.tables)["model-config"]
    assert config.get("model_type").value == "mllama"
    assert config.get("vision_config") is not None


RECIPE = """\
from torchtune import config, training


class Recipe:
    def setup(self, cfg):
        self.model = config.instantiate(cfg.model)


@config.parse
def recipe_main(cfg):
    Recipe().setup(cfg)
"""


def test_a_recipe_of_the_project_is_read_by_its_configuration():
    command = "tune run --nproc_per_node 2 my_finetune_distributed.py --config mine.yaml batch_size=1\n"
    files = {"run.sh": command, "mine.yaml": LORA, "my_finetune_distributed.py": RECIPE}
    (job,) = check(files, "run.sh").jobs
    facts = {fact.name: fact for fact in job.facts}
    assert values(facts, "model", "world_size", "micro_batch_size", "parallelism") == ("llama3_2_1b", 2, 1, "fsdp")


def test_a_recipe_by_itself_is_no_run():
    (job,) = check({"my_dpo_distributed.py": RECIPE}, "my_dpo_distributed.py").jobs
    facts = {fact.name: fact for fact in job.facts}
    assert job.kind == "library"
    assert values(facts, "objective", "parallelism") == ("dpo", "fsdp")
    assert "model" not in facts


def test_the_asynchronous_recipe_has_its_training_in_a_table():
    inner = "\n".join(f"  {line}" for line in LORA[LORA.index("batch_size:") :].splitlines())
    text = LORA[: LORA.index("batch_size:")] + f"orchestration:\n  num_training_workers: 2\ntraining:\n{inner}\n"
    facts, _ = read(text.replace("modules.loss.LinearCrossEntropyLoss", "dev.rl.linear_grpo_loss.LinearGRPOLoss"))
    assert values(facts, "objective", "micro_batch_size", "load_dtype") == ("grpo", 4, "bfloat16")


def test_a_policy_trains_on_parts_of_its_mini_batch():
    text = LORA.replace("model:", "policy_model:").replace("batch_size: 4", "batch_size: 64\nppo_batch_size: 32")
    facts, _ = read(text.replace("torchtune.modules.loss.LinearCrossEntropyLoss", "torchtune.rlhf.loss.PPOLoss"))
    assert values(facts, "objective", "micro_batch_size", "ppo_mini_batch_size") == ("ppo", 4, 32)


def test_sequences_that_gpus_share_and_copies_of_shards_are_counted_and_matrices_refused():
    path, text = SAMPLES["torchtune"]
    run = {path: text, "run.sh": f"tune run --nproc_per_node 8 full_finetune_distributed --config {path} "}
    copies = "data_parallel_replicate_dim=2 data_parallel_shard_dim=4"
    degrees = ("", "context_parallel_dim=2", copies, "context_parallel_dim=2 tensor_parallel_dim=2")
    whole, context, hybrid, both = (
        check({**run, "run.sh": run["run.sh"] + more}, "run.sh").jobs[0].high for more in degrees
    )
    assert (whole.method, context.method, hybrid.method) == ("simulated", "simulated", "simulated")
    assert context.saved_activations < whole.saved_activations
    assert hybrid.device > whole.device
    assert both.method == "bounded"
    other = run["run.sh"].replace("full_finetune", "full_dpo") + "context_parallel_dim=2"
    assert check({**run, "run.sh": other}, "run.sh").jobs[0].high.method == "bounded"
