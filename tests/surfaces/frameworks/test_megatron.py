"""Megatron's flags in all their forms."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import values
from tests.surfaces.frameworks.reading import fact, line, model, remarks, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.megatron_layers import frequencies, hybrid_pattern
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.values import Entry, Scalar, Table

_PATH, _TEXT = SAMPLES["megatron"]

_LATENT = """\
MODEL_ARGS:
  --num-layers: 6
  --hidden-size: 1024
  --ffn-hidden-size: 4096
  --num-attention-heads: 16
  --multi-latent-attention: true
  --q-lora-rank: 384
  --kv-lora-rank: 128
  --qk-head-dim: 64
  --qk-pos-emb-head-dim: 32
  --v-head-dim: 64
  --swiglu: true
  --disable-bias-linear: true
  --untie-embeddings-and-output-weights: true
  --num-experts: 16
  --moe-layer-freq: ([0]*2+[1]*4)
  --moe-ffn-hidden-size: 512
  --moe-shared-expert-intermediate-size: 1024
  --moe-router-topk: 4
  --mtp-num-layers: 1
  --micro-batch-size: 1
  --seq-length: 4096
  --tensor-model-parallel-size: 2
  --pipeline-model-parallel-size: 2
  --pipeline-model-parallel-layout: Et|(t|)*5L
  --expert-model-parallel-size: 8
  --expert-tensor-parallel-size: 1
  --use-distributed-optimizer: true
  --recompute-granularity: selective
  --cross-entropy-loss-fusion: true
  --fp16: true
"""


def command(**flags: object) -> Table:
    return Table(tuple(Entry(name, None, Scalar(value)) for name, value in flags.items()))  # type: ignore[arg-type]


def test_a_functional_test():
    found = sheet("megatron", _TEXT, _PATH)
    assert says(found, "layers", "hidden_size", "intermediate_size", "micro_batch_size", "sequence_length") == {
        "layers": 12,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "micro_batch_size": 4,
        "sequence_length": 1024,
    }
    assert says(found, "precision", "recompute", "tensor_parallel", "pipeline_parallel", "optimizer") == {
        "precision": "bf16-mixed",
        "recompute": "none",
        "tensor_parallel": 2,
        "pipeline_parallel": 1,
        "optimizer": "adamw_apex_fused",
    }
    assert line(found, "layers") == 4
    assert fact(found, "recompute").origin is Origin.DEFAULT
    assert fact(found, "vocabulary_size").origin is Origin.ASSUMED
    assert model(found)["model_type"] == "gpt2"
    assert model(found)["vocab_size"] == 50432  # 50257 filled up to a multiple of 2 · 128
    assert remarks(found) == []


def test_experts_and_latent_attention():
    found = sheet("megatron", _LATENT)
    assert says(
        found,
        "attention_kind",
        "experts",
        "experts_per_token",
        "expert_intermediate_size",
        "shared_expert_intermediate_size",
        "moe_layers",
        "mtp_layers",
        "expert_tensor_parallel",
        "pipeline_layout",
        "recompute",
        "fused_loss",
        "full_logits",
    ) == {
        "attention_kind": "multi-latent (q rank 384, kv rank 128)",
        "experts": 16,
        "experts_per_token": 4,
        "expert_intermediate_size": 512,
        "shared_expert_intermediate_size": 1024,
        "moe_layers": 4,
        "mtp_layers": 1,
        "expert_tensor_parallel": 1,
        "pipeline_layout": "Et|(t|)*5L",
        "recompute": "selective",
        "fused_loss": True,
        "full_logits": True,
    }
    assert model(found)["model_type"] == "deepseek_v3"
    assert model(found)["first_k_dense_replace"] == 2
    assert model(found)["n_shared_experts"] == 2


@pytest.mark.parametrize(
    ("text", "layers", "found"),
    [
        ("1", 3, (1, 1, 1)),
        ("2", 4, (1, 0, 1, 0)),
        ("([0]*1+[1]*2)", None, (0, 1, 1)),
        ("[0] + 2*[1]", None, (0, 1, 1)),
        ("[1, 0]*3", None, (1, 0) * 3),
        ("__import__('os')", 3, ()),
        ("[1]*1000000000", 3, ()),
        ("([0]*3+", 3, ()),
    ],
)
def test_which_layers_have_experts(text, layers, found):
    assert frequencies(text, layers) == found


def test_patterns_of_hybrid_models():
    pattern = hybrid_pattern("M-M*E|MM/*E/*E")
    assert (pattern.mamba, pattern.attention, pattern.mlp, pattern.experts, pattern.predictions) == (4, 1, 1, 1, 2)
    assert pattern.layers == 7


def test_a_hybrid_model_is_counted():
    found = sheet(
        "megatron",
        """\
        --hybrid-layer-pattern: M-*-
        --hidden-size: 1024
        --num-attention-heads: 16
        --vocab-size: 1000
        --make-vocab-size-divisible-by: 1
        --untie-embeddings-and-output-weights: true
        """,
    )
    mamba = 1024 * (2048 + 2048 + 2 * 8 * 128 + 32) + (2048 + 2 * 8 * 128) * 5 + 3 * 32 + 2048 + 2048 * 1024 + 1024
    attention, mlp = 4 * 1024 * 1024 + 1024, 2 * (2 * 1024 * 4096 + 1024)
    assert says(found, "layers", "parameters") == {
        "layers": 4,
        "parameters": mamba + attention + mlp + 2 * 1000 * 1024 + 1024,
    }


def test_overrides_of_a_nemo_recipe():
    found = sheet(
        "megatron",
        """\
        MODEL_ARGS:
          trainer.num_nodes: 2
          trainer.devices: 8
          trainer.strategy.tensor_model_parallel_size: 4
          data.micro_batch_size: 2
          data.seq_length: 2048
          model.config.num_moe_experts: 8
        """,
    )
    assert says(found, "world_size", "tensor_parallel", "micro_batch_size", "sequence_length", "experts") == {
        "world_size": 16,
        "tensor_parallel": 4,
        "micro_batch_size": 2,
        "sequence_length": 2048,
        "experts": 8,
    }


def test_groups_of_a_yaml_configuration():
    found = sheet(
        "megatron", "language_model:\n  num_layers: 24\nmodel_parallel:\n  context_parallel_size: 2\nbf16: True\n"
    )
    assert says(found, "layers", "context_parallel", "precision") == {
        "layers": 24,
        "context_parallel": 2,
        "precision": "bf16-mixed",
    }


def test_micro_batches_by_the_launchers_gpus():
    given = command(global_batch_size=64, micro_batch_size=2, tensor_model_parallel_size=2, hidden_size=8)
    launched = Fact("world_size", (), Origin.UNKNOWN)
    unknown = read_config(framework_of("megatron"), "run.sh", given, around=(launched,))
    assert fact(unknown, "gradient_accumulation_steps").origin is Origin.UNKNOWN
    eight = Fact("world_size", (Candidate(8),), Origin.WRITTEN)
    known = read_config(framework_of("megatron"), "run.sh", given, around=(eight,))
    assert says(known, "gradient_accumulation_steps") == {"gradient_accumulation_steps": 8}


@pytest.mark.parametrize(
    ("flags", "objective"),
    [
        ("--perform-rl-step: true", "grpo"),
        ("--sft: true", "sft"),
        ("--export-kd-teacher-load: teacher", "distillation"),
        ("--bert-no-binary-head: true", "mlm"),
        ("--decoder-seq-length: 128", "span-corruption"),
        ("--num-layers: 2", "pretrain"),
    ],
)
def test_objectives(flags, objective):
    assert says(sheet("megatron", f"--hidden-size: 8\n{flags}\n"), "objective") == {"objective": objective}


def _followed(text: str) -> dict[str, object]:
    """The model that ranks build, by the flags of a functional test."""
    built = model(sheet("megatron", text))["megatron"]
    assert isinstance(built, dict)
    return built


def test_what_ranks_build_of_latent_attention_and_of_some_layers_with_experts():
    built = _followed(_LATENT.replace("  --mtp-num-layers: 1\n", ""))
    sizes = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "sparse_layers")
    assert [built[name] for name in sizes] == [384, 128, 64, 32, 64, [0, 0, 1, 1, 1, 1]]


def test_layers_that_predict_further_are_the_ranks_too():
    followed = model(sheet("megatron", _LATENT))["megatron"]

    assert isinstance(followed, dict)
    assert followed["predictions"] == 1


@pytest.mark.parametrize(
    "written",
    ["'[layernorm moe_act]'", "layernorm moe_act", "[layernorm, moe_act]"],
)
def test_the_modules_of_selective_recomputation_are_named(written: str):
    found = sheet("megatron", _LATENT + f"  --recompute-modules: {written}\n")

    assert fact(found, "recompute_modules").value == ("layernorm", "moe_act")


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--recompute-modules: '[gdn_norm_out]'", "recomputing gdn_norm_out"),
        ("--fp8-format: hybrid", "8-bit products"),
        ("--overlap-moe-expert-parallel-comm: true", "communication beside another micro batch"),
        ("--mtp-use-repeated-layer: true", "one layer that predicts all further tokens"),
    ],
)
def test_what_is_not_followed_says_why(flag: str, reason: str):
    found = sheet("megatron", f"{_LATENT}  {flag}\n")

    assert reason in fact(found, "parallelism").reason
    assert "megatron" not in model(found)


def test_the_precision_aware_optimizer_says_its_dtypes():
    flags = "  --use-precision-aware-optimizer: true\n  --main-grads-dtype: bf16\n  --exp-avg-dtype: bf16\n"
    flags += "  --exp-avg-sq-dtype: fp8\n"
    found = sheet("megatron", _LATENT.replace("--fp16", "--bf16") + flags)

    assert says(found, "precise_optimizer", "master_dtype", "average_dtype", "variance_dtype", "wide_gradients") == {
        "precise_optimizer": True,
        "master_dtype": "float32",
        "average_dtype": "bfloat16",
        "variance_dtype": "float8",
        "wide_gradients": False,
    }


def test_a_part_of_the_optimizer_is_on_the_host():
    flags = "  --optimizer-cpu-offload: true\n  --optimizer-offload-fraction: 0.25\n"
    found = sheet("megatron", _LATENT + flags)

    assert says(found, "offload_optimizer", "optimizer_offload_fraction", "parallelism") == {
        "offload_optimizer": "cpu",
        "optimizer_offload_fraction": 0.25,
        "parallelism": "megatron",
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--bf16: true", {"wide_gradients": True}),
        ("--bf16: true\n--grad-reduce-in-bf16: true", {"wide_gradients": False}),
        ("--fp16: true", {"wide_gradients": False}),
        ("--fp16: true\n--accumulate-allreduce-grads-in-fp32: true", {"wide_gradients": True}),
        ("--defer-embedding-wgrad-compute: true\n--wgrad-deferral-limit: 2", {"deferred_micro_batches": 2}),
        ("--defer-embedding-wgrad-compute: true", {"deferred_micro_batches": 0}),
        ("--decoder-first-pipeline-num-layers: 1", {"first_stage_layers": 1}),
        ("--decoder-last-pipeline-num-layers: 1", {"last_stage_layers": 1}),
        (
            "--account-for-loss-in-pipeline-split: true\n--pipeline-model-parallel-size: 2"
            "\n--num-layers-per-virtual-pipeline-stage: 2",
            {"loss_as_layer": True, "pipeline_chunks": 2},
        ),
    ],
)
def test_how_ranks_run_their_part(flags, said):
    assert says(sheet("megatron", f"--hidden-size: 8\n--num-layers: 7\n{flags}\n"), *said) == said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--transformer-impl: local\n--bert-no-binary-head: true", ("transformer_engine", "", 0)),
        ("--spec: local\n--bert-no-binary-head: true", ("local", "", 0)),
        ("--transformer-impl: local\n--apply-query-key-layer-scaling: true", ("local", "", 0)),
        (
            "--transformer-impl: local\n--attention-softmax-in-fp32: true\n--no-masked-softmax-fusion: true",
            ("local", "float32", 0),
        ),
    ],
)
def test_whose_modules_ranks_build(flags, said):
    built = _followed(f"--hidden-size: 64\n--num-layers: 2\n--num-attention-heads: 4\n{flags}\n")
    assert (built["implementation"], built["softmax"], built["token_types"]) == said


def test_defaults_by_release():
    text = Table((Entry("use_megatron_fsdp", None, Scalar(True)),))
    old = read_config(framework_of("megatron"), "run.sh", text, (0, 15, 0))
    new = read_config(framework_of("megatron"), "run.sh", text, (0, 19, 0))
    assert (says(old, "fsdp"), says(new, "fsdp")) == ({"fsdp": "no_shard"}, {"fsdp": "optim_grads_params"})


def test_flags_that_it_does_not_know_or_no_longer():
    found = sheet(
        "megatron",
        "--num-layers: 2\n--micro-batch-sizes: 4\n--checkpoint-num-layers: 1\n--my-own-flag: 1\n",
        release="0.17.0",
    )
    assert remarks(found) == [
        ("unknown-key", "micro_batch_sizes", "micro_batch_size"),
        ("removed-key", "checkpoint_num_layers", "recompute_num_layers"),
    ]


def test_a_deepspeed_configuration_of_megatron_deepspeed():
    flags = command(deepspeed=True, deepspeed_config="ds.json", num_layers=2)
    found = read_config(framework_of("megatron"), "run.sh", flags)
    assert [(link.kind, link.target) for link in found.links] == [("deepspeed", "ds.json")]
    assert found.get("parallelism") is None


def test_the_allocator_of_a_functional_test_and_a_pattern_that_says_the_layers_again():
    found = sheet(
        "megatron",
        """\
        ENV_VARS:
          PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True
        MODEL_ARGS:
          --num-layers: 4
          --hybrid-layer-pattern: M-*E/*E
          --mtp-num-layers: 1
          --hidden-size: 64
          --num-attention-heads: 4
          --num-experts: 4
          --tokenizer-type: ${TOKENIZER_TYPE}
        """,
    )
    assert says(found, "allocator_settings", "layers", "mtp_layers", "moe_layers") == {
        "allocator_settings": "expandable_segments:True",
        "layers": 4,
        "mtp_layers": 1,
        "moe_layers": 1,
    }
    assert 6 in {place.span.line for place in fact(found, "mtp_layers").also}
    assert "$" not in fact(found, "vocabulary_size").reason
    assert remarks(found) == []


@pytest.mark.parametrize("flag", ["--checkpoint-activations: true", "--activations-checkpoint-method: uniform"])
def test_flags_of_before_the_core_recompute_every_layer(flag):
    text = _TEXT.replace("  --bf16: true\n", f"  --bf16: true\n  {flag}\n")
    found = sheet("megatron", text, _PATH, release="0.3")

    assert says(found, "recompute", "activation_checkpointing") == {
        "recompute": "full",
        "activation_checkpointing": True,
    }


_FORK_RUN = """\
torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 12 --hidden-size 768 --num-attention-heads 12 \\
  --seq-length 1024 --micro-batch-size 4 --context-parallel-size 1 --data-impl mmap
"""


def test_flags_that_a_fork_in_the_project_declares_are_known(explained):
    explained.write("fork/pretrain_gpt.py", "from megatron.training import pretrain\n")
    explained.write("fork/megatron/arguments.py", "group.add_argument('--data-impl', type=str, default='infer')\n")
    assert explained.findings("fork/examples/run.sh", _FORK_RUN) == []
    assert explained.findings("examples/run.sh", _FORK_RUN) != []


def test_flags_beside_deepspeed_are_those_of_the_fork_with_it(explained):
    assert explained.findings("run.sh", _FORK_RUN.replace(" --data-impl", " --deepspeed --data-impl")) == []


def test_a_configuration_of_megatron_deepspeed_whose_name_only_run_time_knows(explained):
    job = explained.job(
        "run.slurm",
        """\
        #!/bin/bash
        config_json="./ds_config.$SLURM_JOBID.json"
        torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 12 --hidden-size 768 --num-attention-heads 12 \\
          --seq-length 1024 --micro-batch-size 4 --fp16 --deepspeed --deepspeed_config $config_json --zero-stage 1
        """,
    )
    assert values(job, "parallelism", "zero_stage") == {"parallelism": "deepspeed", "zero_stage": 1}
    assert job["unresolved"] == ["deepspeed_config"]


def test_overrides_of_a_nemo_recipe_are_not_held_against_megatrons_flags() -> None:
    text = "MODEL_ARGS:\n  trainer.max_steps: 50\n  data.micro_batch_size: 1\n  trainer.devices: 8\nTEST_TYPE: a\n"
    found = sheet("megatron", text)
    assert not remarks(found)
    assert says(found, "micro_batch_size") == {"micro_batch_size": 1}


def test_the_model_of_another_program_is_not_that_of_the_flags():
    found = sheet("megatron", _TEXT.replace("MODEL_ARGS:", "MODEL_ARGS:\n  --model-provider: llava_vlm"), _PATH)

    assert not [name for name, _ in found.tables if name == "model-config"]
    assert "trains a part of it" in fact(found, "model").reason
