"""A configuration of each framework, as people write it: the file's name and its text."""

from __future__ import annotations

SAMPLES: dict[str, tuple[str, str]] = {
    "axolotl": (
        "axolotl/qlora.yml",
        """\
# a first try
base_model: NousResearch/Llama-2-7b-hf   # the base
load_in_4bit: true
adapter: qlora
sequence_len: 1024
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05

datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca

micro_batch_size: 2      # per GPU
gradient_accumulation_steps: 4
optimizer: 'paged_adamw_8bit'
gradient_checkpointing: true
""",
    ),
    "custom-yaml": (
        "config/training.yaml",
        """\
model:
  name: meta-llama/Llama-2-7b-hf   # any of the hub
  max_seq_length: 2048

training:
  batch_size: 4
  grad_accum_steps: 2
  learning_rate: 2e-4
  num_epochs: 3
  gradient_checkpointing: true

lora:
  r: 16
  alpha: 32

quantization:
  load_in_4bit: true
""",
    ),
    "fairseq": (
        "config/pretraining/small.yaml",
        """\
# @package _group_
common:
  fp16: true
  log_interval: 200

task:
  _name: masked_lm
  data: ???
  tokens_per_sample: 512

criterion: masked_lm

dataset:
  batch_size: 16

optimizer:
  _name: adam
  weight_decay: 0.01

optimization:
  lr: [0.0005]
  update_freq: [4]   # steps

model:
  _name: roberta
  checkpoint_activations: false
""",
    ),
    "gpt-neox": (
        "configs/410M.yml",
        """\
# small enough for one node
{
   "pipe-parallel-size": 1,
   "model-parallel-size": 1,

   "num-layers": 24,
   "hidden-size": 1024,
   "num-attention-heads": 16,
   "seq-length": 2048,   # tokens
   "max-position-embeddings": 2048,
   "pos-emb": "rotary",
   "no-weight-tying": true,

   "optimizer": {
     "type": "Adam",
     "params": {
       "lr": 0.0003,
       "betas": [0.9, 0.95],
     }
   },
   "zero_optimization": {
     "stage": 1,
     "allgather_bucket_size": 500000000,
     "overlap_comm": True,
  },

   "train_micro_batch_size_per_gpu": 8,
   "gradient_accumulation_steps": 2,
   "checkpoint-activations": true,
   "checkpoint-num-layers": 1,
   "bf16": {"enabled": true},
}
""",
    ),
    "torchtitan": (
        "train_configs/small.toml",
        """\
# 8 GPUs
[job]
description = "a small Llama"
dump_folder = "./outputs"

[model]
name = "llama3"
flavor = "8B"       # the sizes
# converters = ["float8"]

[optimizer]
name = "AdamW"
lr = 3e-4

[training]
local_batch_size = 2
seq_len = 4096
max_norm = 1.0  # clipping
steps = 1000

[parallelism]
data_parallel_shard_degree = -1
tensor_parallel_degree = 1

[activation_checkpoint]
mode = "selective"
selective_ac_option = "op"

[compile]
enable = false
""",
    ),
    "torchtune": (
        "configs/custom_lora.yaml",
        """\
# tune run lora_finetune_single_device --config configs/custom_lora.yaml
base: /tmp/Llama-3.2-1B-Instruct

model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_1b
  lora_attn_modules: [q_proj, v_proj]
  apply_lora_to_mlp: True
  lora_rank: 64   # more parameters
  lora_alpha: 128

tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  path: ${base}/original/tokenizer.model
  max_seq_len: 2048

dataset:
  _component_: torchtune.datasets.alpaca_cleaned_dataset
  packed: False
batch_size: 4
gradient_accumulation_steps: 8

optimizer:
  _component_: torch.optim.AdamW
  fused: True
  lr: 3e-4
loss:
  _component_: torchtune.modules.loss.LinearCrossEntropyLoss

dtype: bf16
enable_activation_checkpointing: True
compile: False
""",
    ),
    "lightning": (
        "configs/fit.yaml",
        """\
# lightning.pytorch==2.5.0
seed_everything: 7
trainer:
  accelerator: gpu
  devices: 2
  precision: bf16-mixed
  max_epochs: 3
  accumulate_grad_batches: 4   # steps
model:
  class_path: project.Module
  init_args:
    model_name_or_path: openai-community/gpt2
    learning_rate: 5.0e-05
data:
  class_path: project.Data
  init_args:
    batch_size: 8
""",
    ),
    "litgpt": (
        "config_hub/finetune/lora.yaml",
        """\
# The path to the base model (type: <class 'Path'>)
checkpoint_dir: checkpoints/microsoft/phi-2

precision: bf16-true
quantize:

devices: 1   # one GPU
lora_r: 8
lora_alpha: 16
lora_dropout: 0.05

train:
  # samples between optimizer steps
  global_batch_size: 8
  micro_batch_size: 4
  max_seq_length: 512

optimizer:
  class_path: torch.optim.AdamW
  init_args:
    lr: 0.0002
""",
    ),
    "timm": (
        "args/vit_base.yaml",
        """\
model: vit_base_patch16_224
batch_size: 128   # of a GPU
grad_accum_steps: 2
grad_checkpointing: false
clip_grad: 1.0
opt: adamw
weight_decay: 0.05
amp: true
amp_dtype: bfloat16
smoothing: 0.1
""",
    ),
    "open-instruct": (
        "configs/train_configs/sft.yaml",
        """\
model_name_or_path: allenai/OLMo-2-1124-7B
tokenizer_name: allenai/OLMo-2-1124-7B
use_slow_tokenizer: false
dataset_mixer:
    allenai/tulu-3-sft-olmo-2-mixture: 1.0   # all of it
max_seq_length: 4096
per_device_train_batch_size: 1
gradient_accumulation_steps: 4
learning_rate: 1.0e-05
with_tracking: true
gradient_checkpointing: true
""",
    ),
    "qlora-pipe": (
        "examples/mine.toml",
        """\
# Paths
model = 'models/Llama-3.1-8B'
output_dir = 'runs'
lora_rank = 64   # of every layer
lora_alpha = 64
micro_batch_size_per_gpu = 1
gradient_accumulation_steps = 4
pipeline_stages = 1
model_weight_dtype = 'bfloat16'
lora_weight_dtype = 'bfloat16'
activation_checkpointing = true

[quantization.bnb]
load_in_4bit = true

[optimizer]
type = 'adamw_kahan'
lr = 5e-5

[[datasets]]
name = 'text'
dataset_type = 'textfile'
dataset_path = 'data/*.txt'
sequence_len = 2048
""",
    ),
    "specforge": (
        "examples/configs/my-eagle3.yaml",
        """\
model:
  target_model_path: Qwen/Qwen3-8B
  draft_model_config: configs/my-eagle3.json
  target_backend: sglang
  torch_dtype: bfloat16
data:
  hidden_states_path: ./cache/hidden_states   # made before
  max_length: 2048
training:
  strategy: eagle3
  batch_size: 1
  ttt_length: 7
deployment:
  trainer:
    nproc_per_node: 2
""",
    ),
    "verl": (
        "config/my_grpo.yaml",
        """\
defaults:
  - ppo_trainer
  - _self_

algorithm:
  adv_estimator: grpo   # no critic
data:
  train_batch_size: 256
  max_prompt_length: 512
actor_rollout_ref:
  model:
    path: Qwen/Qwen2.5-0.5B-Instruct
    enable_gradient_checkpointing: true
  actor:
    ppo_micro_batch_size_per_gpu: 4
  rollout:
    name: vllm
    n: 8
""",
    ),
    "megatron": (
        "tests/gpt_tp2/model_config.yaml",
        """\
ENV_VARS:
  CUDA_DEVICE_MAX_CONNECTIONS: 1
MODEL_ARGS:
  --num-layers: 12   # as GPT-2
  --hidden-size: 512
  --num-attention-heads: 8
  --micro-batch-size: 4
  --global-batch-size: 32
  --seq-length: 1024
  --max-position-embeddings: 1024
  --tensor-model-parallel-size: 2
  --attention-backend: unfused
  --bf16: true
TEST_TYPE: regular
""",
    ),
    "llama-factory": (
        "llama_factory/qwen_lora.yaml",
        """\
### model
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct   # small enough
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_target: all

### dataset
dataset: identity
template: qwen
cutoff_len: 1024

### train
output_dir: saves/qwen
per_device_train_batch_size: 2      # per GPU
gradient_accumulation_steps: 4
optim: 'adamw_torch'
bf16: true
""",
    ),
    "llama-factory-v1": (
        "llama_factory/v1.yaml",
        """\
model: Qwen/Qwen3-0.6B
model_class: llm
peft_config:
  name: lora
  r: 16   # rank
  target_modules: all
dist_config:
  name: fsdp2
train_dataset: data/mine.yaml
micro_batch_size: 2
cutoff_len: 1024
""",
    ),
    "lmflow": (
        "lmflow/dpo.yaml",
        """\
model_name_or_path: meta-llama/Llama-3.2-1B-Instruct
conversation_template: llama3
dataset_path_list:
  - data/one
max_length: 1024   # prompt and answer
bf16: true
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
optim: paged_adamw_32bit
""",
    ),
    "ms-swift": (
        "swift/sft.yaml",
        """\
# a first try
model: Qwen/Qwen2.5-0.5B-Instruct   # small enough
tuner_type: lora
dataset:
  - AI-ModelScope/alpaca-gpt4-data-en
torch_dtype: bfloat16
per_device_train_batch_size: 2      # per GPU
gradient_accumulation_steps: 8
lora_rank: 16
max_length: 1024
split_dataset_ratio: 0.01
""",
    ),
    "ms-swift-megatron": (
        "swift/megatron.yaml",
        """\
model: Qwen/Qwen2.5-0.5B-Instruct
tuner_type: lora
dataset: AI-ModelScope/alpaca-gpt4-data-en
micro_batch_size: 1
global_batch_size: 16
tensor_model_parallel_size: 2   # of one machine
max_length: 1024
no_save_optim: true
""",
    ),
    "llm-foundry": (
        "yamls/mpt-small.yaml",
        """\
variables:
  max_seq_len: 1024

max_seq_len: ${variables.max_seq_len}

model:
  name: mpt_causal_lm
  d_model: 512
  n_heads: 8   # of 64
  n_layers: 6
  expansion_ratio: 4
  max_seq_len: ${variables.max_seq_len}
  vocab_size: 50368
  attn_config:
    attn_impl: flash

train_loader:
  name: text
  dataset:
    max_seq_len: ${variables.max_seq_len}

optimizer:
  name: decoupled_adamw
  weight_decay: 0.0

algorithms:
  gradient_clipping:
    clipping_threshold: 1.0

global_train_batch_size: 64
device_eval_batch_size: 8
device_train_microbatch_size: 8
precision: amp_bf16

fsdp_config:
  sharding_strategy: FULL_SHARD
  mixed_precision: PURE
  activation_checkpointing: false
""",
    ),
    "megatron-bridge": (
        "conf/llama_override.yaml",
        """\
# on top of the recipe
model:
  seq_length: 4096
  tensor_model_parallel_size: 2

train:
  train_iters: 20
  global_batch_size: 8
  micro_batch_size: 1   # per GPU

peft:
  dim: 16
  alpha: 32

scheduler:
  lr_warmup_iters: 10
""",
    ),
    "nemo": (
        "conf/gpt_tuning.yaml",
        """\
trainer:
  devices: 8
  num_nodes: 1
  precision: bf16
  gradient_clip_val: 1.0

model:
  restore_from_path: gpt.nemo
  megatron_amp_O2: true
  mcore_gpt: true
  micro_batch_size: 2   # per GPU
  global_batch_size: 64
  tensor_model_parallel_size: 2
  encoder_seq_length: 2048
  peft:
    peft_scheme: lora
    lora_tuning:
      adapter_dim: 32
      alpha: 16
  optim:
    name: distributed_fused_adam
""",
    ),
}
