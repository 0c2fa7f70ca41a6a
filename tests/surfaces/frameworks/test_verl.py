"""verl: overrides on command lines, and the YAML of its package."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import line, origin, value, values

_GRPO = """\
set -x
MODEL=${MODEL:-Qwen/Qwen2.5-0.5B-Instruct}
GPUS=4

DATA=(
    data.train_batch_size=64
    data.max_prompt_length=256
    data.max_response_length=768
)

python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo "${DATA[@]}" \\
    actor_rollout_ref.model.path="$MODEL" \\
    actor_rollout_ref.actor.ppo_mini_batch_size=32 \\
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8 \\
    actor_rollout_ref.actor.use_kl_loss=True \\
    actor_rollout_ref.actor.kl_loss_coef=0.001 \\
    actor_rollout_ref.rollout.name=vllm \\
    actor_rollout_ref.rollout.n=8 \\
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \\
    actor_rollout_ref.ref.fsdp_config.param_offload=True \\
    trainer.n_gpus_per_node=$GPUS trainer.nnodes=2 $@
"""


def test_grpo_is_read_from_overrides_in_arrays_and_variables(explained):
    job = explained.job("run.sh", _GRPO)

    assert values(
        job, "objective", "model", "tuning", "micro_batch_size", "ppo_mini_batch_size", "global_batch_size",
        "prompt_length", "completion_length", "sequence_length", "generations", "gradient_accumulation_steps",
        "reference_model", "offload_reference", "kl_coefficient", "inference_engine", "inference_tensor_parallel",
        "world_size", "nodes", "parallelism", "fsdp", "fsdp_version", "entry",
    ) == {
        "objective": "grpo", "model": "Qwen/Qwen2.5-0.5B-Instruct", "tuning": "full", "micro_batch_size": 8,
        "ppo_mini_batch_size": 32, "global_batch_size": 64, "prompt_length": 256, "completion_length": 768,
        "sequence_length": 1024, "generations": 8, "gradient_accumulation_steps": 4,
        "reference_model": "Qwen/Qwen2.5-0.5B-Instruct", "offload_reference": "cpu", "kl_coefficient": 0.001,
        "inference_engine": "vllm", "inference_tensor_parallel": 1, "world_size": 8, "nodes": 2,
        "parallelism": "fsdp", "fsdp": "full_shard", "fsdp_version": 1, "entry": "verl.trainer.main_ppo",
    }  # fmt: skip
    assert line(job, "completion_length") == 8
    assert line(job, "model") == 2


def test_a_recipe_is_told_by_its_overrides(explained):
    job = explained.job("run.sh", _GRPO.replace("verl.trainer.main_ppo", "recipe.dapo.main_dapo"))

    assert values(job, "objective", "micro_batch_size", "world_size", "entry") == {
        "objective": "grpo", "micro_batch_size": 8, "world_size": 8, "entry": "recipe.dapo.main_dapo",
    }  # fmt: skip


def test_what_is_not_said_is_verls_default(explained):
    job = explained.job("run.sh", "python -m verl.trainer.main_ppo actor_rollout_ref.model.path=Qwen/Qwen2.5-0.5B\n")

    assert values(
        job, "objective", "load_dtype", "precision", "optimizer", "activation_checkpointing", "generations"
    ) == {
        "objective": "ppo",
        "load_dtype": "float32",
        "precision": "bf16-mixed",
        "optimizer": "adamw_torch",
        "activation_checkpointing": True,
        "generations": 1,
    }
    assert origin(job, "load_dtype") == "default"
    assert value(job, "inference_memory_fraction") == 0.5


def test_rl_is_a_bound_not_a_prediction(explained):
    job = explained.job("run.sh", _GRPO)

    assert job["status"] == "unresolved"
    assert "grpo is not simulated" in job["reason"]
    assert job["estimate"] is not None


def test_without_a_kl_term_there_is_no_reference_model(explained):
    job = explained.job("run.sh", _GRPO.replace("use_kl_loss=True", "use_kl_loss=False"))

    assert "reference_model" not in {fact["name"] for fact in job["facts"]}


def test_with_lora_the_base_is_the_reference(explained):
    job = explained.job("run.sh", _GRPO.replace("trainer.nnodes=2", "actor_rollout_ref.model.lora_rank=32"))

    assert values(job, "tuning", "lora_r", "lora_alpha", "lora_target_modules", "reference_model") == {
        "tuning": "lora",
        "lora_r": 32,
        "lora_alpha": 16,
        "lora_target_modules": "all-linear",
        "reference_model": "adapter off",
    }


def test_the_last_of_two_overrides_holds(explained):
    text = _GRPO.replace("$@", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2")

    assert value(explained.job("run.sh", text), "micro_batch_size") == 2


def test_batches_by_tokens_have_no_number_of_sequences(explained):
    text = _GRPO.replace("$@", "actor_rollout_ref.actor.use_dynamic_bsz=True")

    job = explained.job("run.sh", text)

    assert origin(job, "micro_batch_size") == "assumed"
    assert "16384 tokens" in next(fact["reason"] for fact in job["facts"] if fact["name"] == "micro_batch_size")


def test_megatron_splits_the_model(explained):
    text = _GRPO.replace("main_ppo algorithm", "main_ppo --config-name=ppo_megatron_trainer.yaml algorithm").replace(
        "$@",
        "actor_rollout_ref.actor.megatron.tensor_model_parallel_size=2 "
        "+actor_rollout_ref.actor.megatron.override_transformer_config.recompute_granularity=full",
    )

    job = explained.job("run.sh", text)

    assert values(
        job, "parallelism", "tensor_parallel", "pipeline_parallel", "load_dtype", "recompute",
        "activation_checkpointing", "gradient_accumulation_steps", "sequence_parallel",
    ) == {
        "parallelism": None, "tensor_parallel": 2, "pipeline_parallel": 1, "load_dtype": "bfloat16",
        "recompute": "full", "activation_checkpointing": True, "gradient_accumulation_steps": 8,
        "sequence_parallel": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("release", "padding_free", "engine"), [("0.5.0", False, "vllm"), ("0.7.0", True, None)], ids=["0.5", "0.7"]
)
def test_defaults_are_those_of_the_release(explained, release, padding_free, engine):
    explained.write("requirements.txt", f"verl=={release}\n")

    job = explained.job("run.sh", "python -m verl.trainer.main_ppo actor_rollout_ref.model.path=gpt2\n")

    assert value(job, "padding_free") is padding_free
    assert (
        next((fact["candidates"][0]["value"] for fact in job["facts"] if fact["name"] == "inference_engine"), None)
        == engine
    )


def test_a_misspelt_key_is_told_with_the_right_one(explained):
    text = _GRPO.replace("ppo_micro_batch_size_per_gpu", "ppo_micro_batchsize_per_gpu")

    (message,) = explained.findings("run.sh", text, "unknown")

    assert "actor_rollout_ref.actor.ppo_micro_batchsize_per_gpu" in message
    assert "ppo_micro_batch_size_per_gpu" in message


def test_keys_of_the_users_own_are_no_findings(explained):
    assert (
        explained.findings("run.sh", _GRPO.replace("$@", "+trainer.my_tool.port=8000 +reward.kind=math"), "unknown")
        == []
    )


def test_a_file_beside_the_packages_is_found_through_hydra(explained):
    explained.write(
        "configs/my_grpo.yaml",
        """\
        defaults:
          - ppo_trainer
          - _self_
        data:
          max_prompt_length: 128
          max_response_length: ${data.max_prompt_length}
        algorithm:
          adv_estimator: rloo
        actor_rollout_ref:
          model:
            path: Qwen/Qwen2.5-0.5B
        """,
    )

    job = explained.job(
        "run.sh",
        'python -m verl.trainer.main_ppo --config-path="$(pwd)/configs" --config-name=my_grpo \\\n'
        "data.max_prompt_length=64\n",
    )

    assert values(job, "objective", "model", "prompt_length", "completion_length") == {
        "objective": "rloo",
        "model": "Qwen/Qwen2.5-0.5B",
        "prompt_length": 64,
        "completion_length": 64,
    }


def test_a_file_by_itself_is_told_by_its_keys(explained):
    job = explained.job(
        "grpo.yaml",
        """\
        defaults: [ppo_trainer, _self_]
        actor_rollout_ref:
          actor:
            ppo_micro_batch_size_per_gpu: 4
            strategy: fsdp2
          model: {path: Qwen/Qwen2.5-0.5B}
        """,
    )

    assert job["vocabulary"]["name"] == "verl"
    assert values(job, "micro_batch_size", "fsdp_version") == {"micro_batch_size": 4, "fsdp_version": 2}


_SFT = """\
torchrun --standalone --nnodes=1 --nproc_per_node=2 -m verl.trainer.fsdp_sft_trainer \\
    data.train_files=train.parquet \\
    data.micro_batch_size_per_gpu=2 data.train_batch_size=32 data.max_length=512 \\
    model.partial_pretrain=Qwen/Qwen2.5-0.5B-Instruct
"""


def test_sft_is_predicted(explained):
    job = explained.job("sft.sh", _SFT)

    assert values(
        job, "objective", "micro_batch_size", "sequence_length", "gradient_accumulation_steps", "global_batch_size",
        "world_size", "fsdp_version", "load_dtype", "precision",
    ) == {
        "objective": "sft", "micro_batch_size": 2, "sequence_length": 512, "gradient_accumulation_steps": 8,
        "global_batch_size": 32, "world_size": 2, "fsdp_version": 2, "load_dtype": "float32",
        "precision": "bf16-mixed",
    }  # fmt: skip
    assert job["status"] == "checked" or job["estimate"] is not None
    assert "not simulated" not in (job["reason"] or "")


def test_sft_over_engines_fills_micro_batches_by_tokens(explained):
    job = explained.job(
        "sft.sh",
        """\
        torchrun --nproc_per_node=1 -m verl.trainer.sft_trainer \\
            data.max_length=2048 data.max_token_len_per_gpu=8192 model.path=Qwen/Qwen2.5-0.5B engine.strategy=fsdp2
        """,
    )

    assert values(job, "micro_batch_size", "sequence_length", "padding_free", "padding", "fsdp_version") == {
        "micro_batch_size": 4,
        "sequence_length": 2048,
        "padding_free": True,
        "padding": False,
        "fsdp_version": 2,
    }


def _part(job, name):
    parts = job["estimate"]["low"]["components"]
    return next((part["bytes"] for part in parts if part["name"] == name), 0)


def test_the_bound_counts_what_lies_on_one_gpu(explained):
    offloaded = explained.job("run.sh", _GRPO)
    resident = explained.job("run.sh", _GRPO.replace("ref.fsdp_config.param_offload=True", "ref.strategy=fsdp"))
    parameters = 494_032_768

    assert _part(offloaded, "weights") == pytest.approx(4 * parameters / 8, rel=0.001)
    assert _part(offloaded, "gradients") == pytest.approx(4 * parameters / 8, rel=0.001)
    assert _part(offloaded, "reference model") == 0
    assert _part(resident, "reference model") == pytest.approx(4 * parameters / 8, rel=0.001)


def test_a_placeholder_is_no_model(explained):
    job = explained.job("run.sh", _GRPO.replace('"$MODEL"', '"<path_to_model>"'))

    assert value(job, "model") is None
    assert value(job, "reference_model") is None
    assert "placeholder" in job["reason"]


def test_a_part_of_configurations_is_told_and_is_no_run(explained):
    job = explained.job(
        "config/optim/mine.yaml",
        """\
        _target_: verl.workers.config.FSDPOptimizerConfig
        optimizer: AdamW8bit
        optimizer_impl: bitsandbytes.optim
        lr: 1e-6
        lr_warmup_steps_ratio: 0.1
        """,
    )

    assert job["vocabulary"]["name"] == "verl"
    assert job["kind"] == "library"


def test_a_recipes_configuration_is_told_by_what_recipes_add(explained):
    job = explained.job(
        "dapo.yaml",
        """\
        hydra:
          searchpath: [file://verl/trainer/config]
        defaults: [ppo_trainer, _self_]
        data: {gen_batch_size: 64}
        algorithm:
          filter_groups: {enable: true, metric: acc}
        """,
    )

    assert job["vocabulary"]["name"] == "verl"
    assert job["kind"] == "training"


def test_sft_on_megatron_is_not_predicted(explained):
    job = explained.job(
        "sft.sh",
        """\
        torchrun --nproc_per_node=4 -m verl.trainer.sft_trainer engine=megatron optim=megatron \\
            engine.tensor_model_parallel_size=2 data.max_length=1024 model.path=Qwen/Qwen2.5-0.5B
        """,
    )

    assert values(job, "tensor_parallel", "distributed_optimizer", "load_dtype") == {
        "tensor_parallel": 2,
        "distributed_optimizer": True,
        "load_dtype": "bfloat16",
    }
    assert job["status"] == "unresolved"
    assert job["estimate"]["low"]["method"] == "bounded"


def test_what_hydra_makes_objects_of_is_no_strange_key(explained):
    text = """\
        defaults: [ppo_trainer, _self_]
        actor_rollout_ref:
          actor: {_target_: verl.workers.config.FSDPActorConfig, ppo_micro_batch_size_per_gpu: 4}
        algorithm:
          kl_ctrl: {_target_: verl.trainer.config.KLControlConfig, kl_coef: 0.001}
        """

    assert explained.findings("grpo.yaml", text, "key") == []


def test_a_file_of_a_clone_is_found_in_the_repository_itself(explained):
    explained.write("examples/config/my_grpo.yaml", "algorithm: {adv_estimator: rloo}\n")

    job = explained.job(
        "examples/run.sh",
        """\
        DIR="$(pwd)/verl"
        python -m verl.trainer.main_ppo --config-path="$DIR/examples/config" --config-name=my_grpo \\
            actor_rollout_ref.model.path=Qwen/Qwen2.5-0.5B
        """,
    )

    assert value(job, "objective") == "rloo"


_FORK = """\
import hydra


@hydra.main(config_path="config", config_name="ppo_trainer", version_base=None)
def main(config):
    run_ppo(config)
"""
_FORK_CONFIG = """\
defaults:
  - _self_
data:
  max_prompt_length: 2048
  max_turn_length: 64
actor_rollout_ref:
  model:
    path: ~/models/base
    enable_gradient_checkpointing: False
  rollout:
    n: 6
    prompt_length: ${data.max_prompt_length}
    n_agent: 2
algorithm:
  adv_estimator: grpo
trainer:
  n_gpus_per_node: 8
"""
_FORK_RUN = """\
python3 -m verl.trainer.main_ppo \\
    actor_rollout_ref.model.path=Qwen/Qwen2.5-0.5B-Instruct \\
    actor_rollout_ref.rollout.n_agent=4 \\
    data.max_prompt_length=512
"""


def test_a_fork_in_the_project_has_defaults_of_its_own(explained):
    explained.write("verl/trainer/main_ppo.py", _FORK)
    explained.write("verl/trainer/config/ppo_trainer.yaml", _FORK_CONFIG)
    job = explained.job("scripts/run.sh", _FORK_RUN)

    assert values(job, "objective", "model", "generations", "prompt_length", "activation_checkpointing") == {
        "objective": "grpo",
        "model": "Qwen/Qwen2.5-0.5B-Instruct",
        "generations": 6,
        "prompt_length": 512,
        "activation_checkpointing": False,
    }
    assert (origin(job, "objective"), origin(job, "prompt_length")) == ("default", "written")


def test_keys_that_a_fork_in_the_project_takes_are_known(explained):
    explained.write("fork/verl/trainer/main_ppo.py", _FORK)
    explained.write("fork/verl/trainer/config/ppo_trainer.yaml", _FORK_CONFIG)
    assert explained.findings("fork/scripts/run.sh", _FORK_RUN) == []
    assert explained.findings("scripts/run.sh", _FORK_RUN) != []


def test_a_batch_by_tokens_says_how_many_they_are(explained):
    job = explained.job(
        "run.sh",
        _GRPO.replace(
            "ppo_micro_batch_size_per_gpu=8",
            "use_dynamic_bsz=True actor_rollout_ref.actor.ppo_max_token_len_per_gpu=24000",
        ),
    )
    assert value(job, "tokens_per_batch") == 24000


def test_the_switch_of_its_kernels_is_named_for_the_model_that_is_not_compiled(explained):
    text = _GRPO.replace("trainer.nnodes=2", "trainer.nnodes=2 actor_rollout_ref.actor.use_torch_compile=False")

    job = explained.job("run.sh", text)

    assert value(job, "torch_compile") is False
    assert line(job, "torch_compile") == 21


_PLAIN = "torchrun --nproc_per_node 8 -m verl.trainer.fsdp_sft_trainer model.partial_pretrain=Qwen/Qwen2.5-0.5B"
_ENGINE = "torchrun --nproc_per_node 8 -m verl.trainer.sft_trainer model.path=Qwen/Qwen2.5-0.5B"


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (f"{_PLAIN} ulysses_sequence_parallel_size=2 use_remove_padding=true", "verl"),
        (f"{_PLAIN} ulysses_sequence_parallel_size=2", None),
        (f"{_PLAIN} use_remove_padding=true", None),
        (f"{_ENGINE} engine.ulysses_sequence_parallel_size=2", "verl"),
        (f"{_ENGINE} engine.ulysses_sequence_parallel_size=2 model.use_remove_padding=false", None),
    ],
)
def test_sequences_are_shared_once_their_padding_is_taken_out(explained, line, form):
    facts = {fact["name"]: fact["candidates"] for fact in explained.job("run.sh", f"{line}\n")["facts"]}
    assert (facts["sequence_sharing"][0]["value"] if "sequence_sharing" in facts else None) == form
