"""OpenRLHF: options with and without dots, read from commands and heredocs."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import line, origin, value, values

_DPO = """\
set -x

read -r -d '' training_commands <<EOF
openrlhf.cli.train_dpo \\
   --train.batch_size 64 \\
   --train.micro_batch_size 2 \\
   --model.model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \\
   --data.max_len 1024 \\
   --ds.zero_stage 3 \\
   --ds.param_dtype bf16 \\
   --ds.packing_samples \\
   --model.gradient_checkpointing_enable
EOF
# --ref.offload

if [[ ${1} != "slurm" ]]; then
    deepspeed --module $training_commands
fi
"""


def test_a_heredoc_is_the_command(explained):
    job = explained.job("dpo.sh", _DPO)

    assert values(
        job, "entry", "objective", "model", "tuning", "micro_batch_size", "global_batch_size", "sequence_length",
        "packing", "activation_checkpointing", "zero_stage", "load_dtype", "precision", "optimizer",
        "attention_implementation", "offload_optimizer", "reference_model", "offload_reference", "parallelism",
    ) == {
        "entry": "openrlhf.cli.train_dpo", "objective": "dpo", "model": "Qwen/Qwen2.5-0.5B-Instruct",
        "tuning": "full", "micro_batch_size": 2, "global_batch_size": 64, "sequence_length": 1024, "packing": True,
        "activation_checkpointing": True, "zero_stage": 3, "load_dtype": "bfloat16", "precision": "bf16-mixed",
        "optimizer": "deepspeed_adamw", "attention_implementation": "flash_attention_2", "offload_optimizer": "none",
        "reference_model": "Qwen/Qwen2.5-0.5B-Instruct", "offload_reference": "none", "parallelism": "deepspeed",
    }  # fmt: skip
    assert line(job, "micro_batch_size") == 6
    assert line(job, "objective") == 4
    assert origin(job, "reference_model") == "default"
    assert job["status"] == "unresolved"
    assert "dpo is not simulated" in job["reason"]


_OLD = """\
deepspeed --num_gpus 4 --module openrlhf.cli.train_sft \\
   --pretrain Qwen/Qwen2.5-0.5B \\
   --max_len 512 --train_batch_size 64 --micro_train_batch_size 4 \\
   --zero_stage 2 --bf16 --flash_attn --adam_offload --lora_rank 16
"""


def test_options_without_dots_are_those_of_older_releases(explained):
    job = explained.job("sft.sh", _OLD)

    assert values(
        job, "objective", "model", "sequence_length", "micro_batch_size", "gradient_accumulation_steps", "world_size",
        "tuning", "lora_r", "lora_alpha", "lora_target_modules", "optimizer", "offload_optimizer",
        "attention_implementation", "load_dtype",
    ) == {
        "objective": "sft", "model": "Qwen/Qwen2.5-0.5B", "sequence_length": 512, "micro_batch_size": 4,
        "gradient_accumulation_steps": 4, "world_size": 4, "tuning": "lora", "lora_r": 16, "lora_alpha": 16,
        "lora_target_modules": "all-linear", "optimizer": "deepspeed_cpu_adam", "offload_optimizer": "cpu",
        "attention_implementation": "flash_attention_2", "load_dtype": "bfloat16",
    }  # fmt: skip
    assert explained.findings("sft.sh", _OLD, "key") == []


def test_pinned_to_a_newer_release_old_options_are_told_with_the_new_ones(explained):
    explained.write("requirements.txt", "openrlhf==0.11.0\n")

    messages = explained.findings("sft.sh", _OLD, "key")

    assert any("zero_stage" in message and "ds.zero_stage" in message for message in messages)


def test_before_the_dtype_option_weights_keep_the_checkpoints_dtype(explained):
    explained.write("requirements.txt", "openrlhf==0.8.0\n")

    job = explained.job("sft.sh", _OLD.replace(" --bf16 --flash_attn", ""))

    assert value(job, "attention_implementation") == "eager"
    assert origin(job, "load_dtype") != "written"


def test_four_bits_are_nf4_with_quantized_constants(explained):
    job = explained.job("sft.sh", _OLD.replace("--adam_offload", "--load_in_4bit"))

    assert values(
        job, "tuning", "quantization_bits", "quantization_type", "double_quantization", "quantization_compute_dtype"
    ) == {
        "tuning": "qlora",
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "quantization_compute_dtype": "bfloat16",
    }


def test_a_misspelt_option_is_told_with_the_right_one(explained):
    (message,) = explained.findings("dpo.sh", _DPO.replace("--train.micro_batch_size", "--train.microbatch_size"))

    assert "train.microbatch_size" in message
    assert "train.micro_batch_size" in message


def test_a_reward_model_runs_both_answers_of_a_pair(explained):
    job = explained.job("rm.sh", _DPO.replace("train_dpo", "train_rm"))
    alone = explained.job("sft.sh", _DPO.replace("train_dpo", "train_sft"))

    assert values(job, "objective", "micro_batch_size") == {"objective": "reward", "micro_batch_size": 2}
    assert "reference_model" not in {fact["name"] for fact in job["facts"]}
    assert job["estimate"] is not None
    assert alone["estimate"] is not None


_PPO = """\
ray job submit --address="http://127.0.0.1:8265" --runtime-env-json='{"working_dir": "/openrlhf"}' \\
   -- python3 -m openrlhf.cli.train_ppo_ray \\
   --actor.num_nodes 2 --actor.num_gpus_per_node 4 \\
   --vllm.num_engines 4 --vllm.tensor_parallel_size 2 --vllm.gpu_memory_utilization 0.6 \\
   --train.colocate_all --actor.model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \\
   --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.init_coef 1e-3 \\
   --train.micro_batch_size 4 --train.batch_size 128 --rollout.n_samples_per_prompt 8 \\
   --data.max_len 2048 --ds.zero_stage 3 --ref.offload
"""


def test_rl_started_through_ray(explained):
    job = explained.job("grpo.sh", _PPO)

    assert values(
        job, "objective", "model", "micro_batch_size", "global_batch_size", "generations", "sequence_length", "nodes",
        "world_size", "inference_engine", "inference_tensor_parallel", "inference_memory_fraction", "kl_coefficient",
        "reference_model", "offload_reference", "gradient_accumulation_steps",
    ) == {
        "objective": "grpo", "model": "Qwen/Qwen2.5-0.5B-Instruct", "micro_batch_size": 4, "global_batch_size": 128,
        "generations": 8, "sequence_length": 2048, "nodes": 2, "world_size": 8, "inference_engine": "vllm",
        "inference_tensor_parallel": 2, "inference_memory_fraction": 0.6, "kl_coefficient": 0.001,
        "reference_model": "Qwen/Qwen2.5-0.5B-Instruct", "offload_reference": "cpu", "gradient_accumulation_steps": 4,
    }  # fmt: skip
    assert job["status"] == "unresolved"


@pytest.mark.parametrize(
    ("dynamic", "micro"), [("", 4), ("--train.dynamic_batch_enable", 1)], ids=["sequences", "tokens"]
)
def test_batches_by_tokens_have_no_number_of_sequences(explained, dynamic, micro):
    job = explained.job("grpo.sh", _PPO.replace("--ref.offload", dynamic))

    assert value(job, "micro_batch_size") == micro
    assert (origin(job, "micro_batch_size") == "assumed") is bool(dynamic)


def test_the_tokens_of_a_batch_that_is_counted_in_tokens(explained):
    dynamic = "--train.dynamic_batch_enable --train.max_tokens_per_gpu 12288"

    job = explained.job("grpo.sh", _PPO.replace("--ref.offload", dynamic))

    assert value(job, "tokens_per_batch") == 12288
    assert "tokens_per_batch" not in {fact["name"] for fact in explained.job("b.sh", _PPO)["facts"]}


def test_without_a_kl_term_no_reference_is_kept(explained):
    job = explained.job("grpo.sh", _PPO.replace("init_coef 1e-3", "init_coef 0"))

    assert "reference_model" not in {fact["name"] for fact in job["facts"]}


def test_a_script_of_its_first_releases_is_told_by_its_options(explained):
    text = _OLD.replace("--module openrlhf.cli.train_sft", "../train_sft.py")

    assert values(explained.job("sft.sh", text), "objective", "micro_batch_size", "entry") == {
        "objective": "sft",
        "micro_batch_size": 4,
        "entry": "../train_sft.py",
    }


def test_packing_that_is_asked_for_is_said_where_it_is_written(explained):
    text = _PPO.replace("--ref.offload", "--ds.packing_samples \\\n   --train.dynamic_batch_enable")

    job = explained.job("grpo.sh", text)

    assert value(job, "packing") is True
    assert line(job, "packing") == 8
    assert value(explained.job("b.sh", text.replace("--ds.packing_samples ", "")), "packing") is True


def test_options_that_a_fork_in_the_project_declares_are_known(explained):
    text = _OLD.replace("--zero_stage", "--save_pathh x --zero_stage")
    explained.write("fork/openrlhf/cli/train_sft.py", 'parser.add_argument("--save_pathh", type=str)\n')
    assert explained.findings("fork/scripts/sft.sh", text) == []
    assert explained.findings("scripts/sft.sh", text) != []


def test_the_method_of_a_trainer_by_rewards_is_said_where_it_is_started(explained):
    estimator = "--algo.advantage.estimator"
    job = explained.job("ppo.sh", "\n".join(row for row in _PPO.splitlines() if estimator not in row) + "\n")

    (objective,) = [fact for fact in job["facts"] if fact["name"] == "objective"]
    assert (objective["value"], objective["origin"]) == ("ppo", "default")
    assert [place["line"] for place in objective["also"]] == [2]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--packing_samples --ring_attn_size 2 --ring_head_stride 4", ("flash-gather", 4, 8)),
        ("--ring_attn_size 2", (None, None, 8)),
        ("--packing_samples", (None, None, 4)),
    ],
)
def test_packed_samples_go_round_a_ring_that_takes_one_batch(explained, options, found):
    """utils/deepspeed/deepspeed.py of openrlhf 0.11: accumulated_gradient multiplies by ring_attn_size."""
    job = explained.job("sft.sh", _OLD.replace("--adam_offload", options))
    facts = {fact["name"]: fact["candidates"][0]["value"] for fact in job["facts"] if fact["candidates"]}
    names = ("sequence_sharing", "sequence_head_stride", "gradient_accumulation_steps")
    assert tuple(facts.get(name) for name in names) == found


def test_preference_pairs_share_no_sequences_that_are_followed(explained):
    job = explained.job("dpo.sh", _DPO.replace("--ds.packing_samples", "--ds.packing_samples --ds.ring_attn_size 2"))
    assert value(job, "context_parallel") == 2
    assert "sequence_sharing" not in {fact["name"] for fact in job["facts"]}
