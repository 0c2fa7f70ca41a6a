"""Facts: what the files say about a run, each with its place and origin.

A surface turns located values into facts; `resolve` joins the facts of several files, fills in library
defaults and builds jobs from them. Fact names are the product's vocabulary; `NAMES` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.text import Document, Place
from vramlint.values import Scalar, Table

FactValue = str | int | float | bool | None | tuple[str, ...]


class Origin(str, Enum):
    """Where a value comes from."""

    WRITTEN = "written"
    """A file of the run says so."""
    DEFAULT = "default"
    """The default of a library at a version; `Fact.library` names both."""
    DERIVED = "derived"
    """Follows from other facts or from the model catalog."""
    ASSUMED = "assumed"
    """Nothing says so; vramlint took it and says that it did."""
    UNKNOWN = "unknown"
    """Only known at run time; `Fact.reason` says why."""


class Candidate(Struct, frozen=True):
    """One possible value of a fact."""

    value: FactValue
    place: Place | None = None
    condition: str = ""
    """Source text of the undecided condition under which it holds."""


class Fact(Struct, frozen=True):
    """One thing known about the run. Several candidates: any of them may hold. None: unknown."""

    name: str
    candidates: tuple[Candidate, ...]
    origin: Origin
    key: str = ""
    """The key in the vocabulary that said it: `per_device_train_batch_size`, `zero_optimization.stage`."""
    via: str = ""
    """literal, argparse-default, dataclass-default, function-default, config-file, code, library …"""
    library: str = ""
    """For defaults: `transformers 5.23.0`."""
    reason: str = ""
    """For unknown, assumed and derived facts: why."""
    through: tuple[Place, ...] = ()
    """Where the file that says it is named: the flag `--deepspeed ds.json`, the command that starts the script."""
    decided: tuple[Place, ...] = ()
    """Where the settings are written that decided it: those of the branch that it stands in, or of one that is not
    taken, those that it is computed from."""
    also: tuple[Place, ...] = ()
    """Further places that say it: where the setting is declared, where it is passed on, a file that agrees."""

    @property
    def value(self) -> FactValue:
        """The only candidate's value, None when unknown or ambiguous."""
        return self.candidates[0].value if len(self.candidates) == 1 else None

    @property
    def known(self) -> bool:
        """Exactly one value is possible."""
        return len(self.candidates) == 1

    def holds(self, value: FactValue) -> bool:
        """Whether it surely is so already, as the files say or by a library's default."""
        sure = self.known and self.origin in (Origin.WRITTEN, Origin.DEFAULT, Origin.DERIVED)
        return sure and self.value == value and isinstance(self.value, bool) == isinstance(value, bool)

    @property
    def place(self) -> Place | None:
        """Where the first candidate is written."""
        return self.candidates[0].place if self.candidates else None


NAMES = MappingProxyType(
    {
        "run_kind": "training, inference or library (code that neither trains nor generates by itself)",
        "objective": "what is optimised: sft, pretrain, mlm, span-corruption, seq2seq, seq-cls, qa, dpo, orpo, grpo, …",
        "model": "model id or path",
        "model_type": "architecture, the config.json key of that name",
        "layers": "transformer layers of a model that the files define themselves",
        "attention_heads": "attention heads of such a model",
        "key_value_heads": "key and value heads of such a model",
        "hidden_size": "width of such a model",
        "vocabulary_size": "tokens in the vocabulary of such a model, or of one whose embeddings are resized",
        "dropout": "dropout probability of such a model",
        "parameters": "parameters of such a model, counted from its modules",
        "parameters_at_least": "parameters of those of its modules whose sizes are known",
        "tuning": "full, lora, qlora, other adapters by their PEFT name, frozen",
        "frozen_parameters": "regular expressions of parameters that the program freezes by hand",
        "float32_parameters": "regular expressions of parameters that the program widens to float32",
        "load_dtype": "dtype in which the weights are loaded: float32, bfloat16, float16, auto",
        "cast_on_device": "the program casts the model after it moved to the GPU",
        "arrival_dtype": "dtype in which it lies there before",
        "sharded_on_device": "FSDP shards a model that lies whole on the GPU",
        "trainable_dtype": "dtype in which trainable weights are kept",
        "norm_dtype": "dtype that the program casts norms to",
        "precision": "fp32, bf16-mixed, fp16-mixed, bf16-pure, fp16-pure",
        "bf16": "bf16 autocast flag",
        "fp16": "fp16 autocast flag",
        "fp8": "matrix products in 8-bit floats",
        "product_format": "format of matrix products' operands where layers convert them: float8, mxfp8, nvfp4",
        "optimizer": "canonical optimizer name (catalog row)",
        "optimizer_arguments": "further arguments of the optimizer, as `optim_args` has them: name=value, …",
        "optimizer_target_modules": "modules that a low-rank optimizer (GaLore, APOLLO) projects",
        "weight_decay": "weight decay factor",
        "micro_batch_size": "sequences per GPU and forward",
        "batch_adapts": "the program shrinks the micro batch until a step fits",
        "eval_micro_batch_size": "sequences per GPU and forward in evaluation",
        "eval_accumulation_steps": "evaluation batches after which collected logits move to the host",
        "evaluation_keeps_logits": "metrics are computed from the logits of all samples",
        "evaluation_generates": "evaluation generates text for every sample",
        "gradient_accumulation_steps": "micro batches per optimizer step",
        "max_steps": "optimizer steps of the run",
        "global_batch_size": "sequences per optimizer step over all GPUs",
        "sequence_length": "tokens per sequence (bound)",
        "target_length": "decoder tokens per sequence of an encoder-decoder",
        "prompt_length": "prompt tokens per sequence (bound)",
        "completion_length": "generated or answer tokens per sequence (bound)",
        "generations": "completions sampled per prompt",
        "packing": "rows are filled to the sequence length",
        "packing_strategy": "how rows are filled: bfd, bfd_split, ffd, wrapped",
        "padding_free": "the sequences of a batch lie end to end in one row",
        "padding": "whether batches contain padding",
        "activation_checkpointing": "activations recomputed in backward",
        "checkpointing_reentrant": "torch.utils.checkpoint's use_reentrant",
        "checkpointing_every_n_layers": "only every n-th layer is recomputed",
        "activation_offloading": "what autograd keeps waits in host memory for its backward",
        "checkpointing_early_stop": "a layer that is recomputed stops where all is there that backward needs",
        "checkpointing_selective": "what is costly is kept, not recomputed: results of products and of attention",
        "checkpointing_offload": "what checkpointing keeps lies in host memory",
        "attention_implementation": "eager, sdpa, flash_attention_2, …",
        "use_cache": "key/value cache in the forward pass",
        "experts_implementation": "what computes fused experts: eager, batched_mm, grouped_mm, …",
        "router_logits": "the model returns its routers' logits, and adds the loss that balances experts",
        "max_grad_norm": "gradient clipping bound, 0 for none",
        "quantization_bits": "bits of a quantized weight, 16 for none",
        "quantization_type": "nf4, fp4, int8, gptq, awq, …",
        "double_quantization": "quantized quantization constants",
        "quantization_compute_dtype": "dtype of the dequantized matmul",
        "quantization_skip_modules": "modules that are not quantized",
        "quantization_group_size": "elements of a weight that share a scale",
        "prepared_for_kbit": "prepare_model_for_kbit_training was called",
        "lora_r": "LoRA rank",
        "lora_alpha": "LoRA alpha",
        "lora_dropout": "LoRA dropout probability",
        "lora_target_modules": "names, `all-linear` or a regular expression",
        "lora_modules_to_save": "modules trained in full beside the adapters",
        "use_dora": "DoRA",
        "adapter_bias": "biases of the base that train beside the adapters: none, all, lora_only",
        "lora_bias": "LoRA's second factor has a bias",
        "lora_rank_pattern": "ranks of single modules, as `pattern=rank`",
        "lora_layers": "numbers of the layers that get adapters",
        "lora_exclude_modules": "modules that get no adapter: names or a regular expression",
        "lora_target_parameters": "parameters that get an adapter by their own names",
        "lora_variants": "what makes LoRA's layers other ones: use_qalora, layer_replication, …",
        "trained_tokens": "rows of embeddings that train, as `module=count`",
        "adapter_by_trainer": "the trainer attaches the adapter itself (`peft_config`)",
        "adapter_library": "who makes the adapters: peft, torchtune, litgpt, …",
        "adapter_cast": "adapters of a 16-bit base are kept in float32",
        "virtual_tokens": "tokens that prompt or prefix tuning adds to every sequence",
        "adapter_options": "what else an adapter's config says about its size, as `key=value`",
        "merges_adapter": "the adapter is merged into the weights after training",
        "label_smoothing": "label smoothing factor",
        "loss_type": "what a trainer of TRL minimises: nll, dft, chunked_nll, …",
        "full_logits": "the logits of all tokens are one tensor",
        "reference_model": "frozen model that a preference objective compares with: id, or adapter off",
        "fused_loss": "Liger or another loss that never materialises the logits",
        "unsloth": "Unsloth loads the model, and its layers and loss take the place of the model's own",
        "liger": "Liger's kernels take the place of a model's own operators",
        "liger_rope": "Liger rotates queries and keys",
        "liger_rms_norm": "Liger computes norms",
        "liger_swiglu": "Liger computes MLPs with a SiLU gate",
        "liger_geglu": "Liger computes MLPs with a GELU gate",
        "liger_cross_entropy": "Liger takes the loss of given logits",
        "liger_fused_head": "Liger fuses the head with the loss",
        "loop": "trainer, lightning, accelerate, fabric, plain (autocast around the call), script (outputs stay bound)",
        "torch_compile": "torch.compile",
        "replaced_attention": "model types whose attention the program replaces, each with a kernel: llama=sdpa",
        "argument_parser": "class of transformers or TRL whose fields are options of the script's own command line",
        "allocator_settings": "PYTORCH_CUDA_ALLOC_CONF",
        "expandable_segments": "the allocator's segments grow instead of being many",
        "world_size": "number of GPUs of the run",
        "tensor_parallel": "GPUs that share every matrix",
        "context_parallel": "GPUs that share every sequence",
        "sequence_sharing": "how they do so around a model's attention: ulysses (DeepSpeed's), ring (torch's), swift, "
        "verl and xtuner (their own Ulysses), flash-ring and flash-gather (ring-flash-attn's)",
        "data_parallel_shard": "GPUs over which FSDP shards the model",
        "data_parallel_replicate": "groups of GPUs each of which holds the model",
        "divided_by": "what divides one model among GPUs: dtensor, accelerate, tp_plan, lightning, gpt-neox",
        "loss_parallel": "logits stay divided by the vocabulary in the loss",
        "fsdp_version": "FSDP 1 or 2",
        "fsdp_backward_prefetch": "when FSDP 1 gathers backward's next unit: backward_pre, backward_post, no_prefetch",
        "gradient_as_bucket_view": "DDP's gradients lie in its buckets",
        "fsdp_layers_alone": "FSDP 2 groups layers, and all else in the root; else embedding and head are apart, too",
        "fsdp_reduce_dtype": "dtype in which FSDP 2 reduces gradients",
        "parallelism": "none, ddp, dataparallel, deepspeed, fsdp, megatron, device_map",
        "zero_stage": "DeepSpeed ZeRO stage",
        "offload_optimizer": "none, cpu, nvme",
        "offload_parameters": "none, cpu, nvme",
        "reduce_bucket_size": "ZeRO gradient bucket, elements",
        "allgather_bucket_size": "ZeRO-1/2 gather bucket, elements",
        "prefetch_bucket_size": "ZeRO-3 prefetch, elements",
        "parameter_persistence_threshold": "ZeRO-3 parameters below this many elements stay gathered",
        "max_live_parameters": "ZeRO-3 bound on gathered parameters, elements",
        "max_reuse_distance": "ZeRO-3 reuse window, elements",
        "sub_group_size": "ZeRO-3 optimizer step granularity, elements",
        "overlap_comm": "second ZeRO bucket",
        "hpz_partition_size": "ZeRO++: GPUs that share a second copy of the weights",
        "quantized_weight_gathers": "ZeRO++: weights are gathered in 8 bits",
        "quantized_frozen_weights": "ZeRO++: weights that do not train are stored in 8 bits",
        "quantized_gradients": "ZeRO++: gradients are reduced in 4 bits between machines",
        "mics_shard_size": "MiCS: GPUs that share one copy of the model",
        "gather_16bit_on_save": "ZeRO-3 gathers the weights to save them",
        "offload_pinned": "what ZeRO offloads of the optimizer is page-locked",
        "optimizer_swap_buffers": "host buffers of an optimizer that ZeRO-3 keeps on NVMe",
        "swap_buffers": "host buffers of parameters that ZeRO-3 keeps on NVMe",
        "swap_buffer_size": "elements of such a buffer",
        "parameters_in_ram": "elements of such parameters that stay in host memory",
        "ram_efficient_loading": "one process of a machine loads the weights for all (FSDP)",
        "zenflow_topk_ratio": "ZenFlow: part of the gradient columns that the GPU updates by itself",
        "zenflow_overlap": "ZenFlow: the optimizer on the host runs beside forward and backward",
        "gradient_accumulation_dtype": "DeepSpeed data_types.grad_accum_dtype",
        "sequence_head_stride": "heads of keys that such ranks gather at a time",
        "sequence_reduce_dtype": "DeepSpeed seq_parallel_communication_data_type",
        "fsdp": "FSDP options as written",
        "fsdp_state_dict": "what FSDP saves: the whole state dict, or shares",
        "state_dict_on_host": "a whole state dict of FSDP that a program gathers comes to the host; else to each GPU",
        "host_memory": "host memory of one machine that the job may take, bytes",
        "fsdp_wrap_class": "class of the layers that are FSDP units of their own, or the policy that finds them",
        "deepspeed_config": "path of the DeepSpeed JSON",
        "accelerate_config": "path of Accelerate's configuration",
        "trust_remote_code": "the model's code comes from its repository",
        "device_map": "how the model is spread at load",
        "entry": "the program that a launcher starts: script, module or command",
        "launcher": "what starts the processes: torchrun, accelerate, deepspeed, srun, mpirun, python; of Accelerate's "
        "configuration by itself, its distributed_type",
        "gpu": "declared GPU",
        "declared_memory": "memory of a device that a comment names, GiB",
        "measured_memory": "memory that the run took by a comment, GiB",
        "nodes": "machines of the run",
        "gpus_per_node": "GPUs of one machine",
        "intermediate_size": "width of the MLP of such a model",
        "tied_embeddings": "such a model's head shares the weights of its embeddings",
        "vocabulary_multiple": "the vocabulary is padded to a multiple of this",
        "activation": "activation function of such a model's MLP",
        "attention_kind": "form of such a model's attention: mla, gqa, …",
        "experts": "experts of a layer of such a model",
        "experts_per_token": "experts that a token is sent to",
        "expert_intermediate_size": "width of one expert's MLP",
        "shared_expert_intermediate_size": "width of the MLP that every token passes beside the experts",
        "moe_layers": "layers that have experts",
        "mtp_layers": "layers that predict further tokens",
        "pipeline_parallel": "stages that the layers are split into",
        "pipeline_schedule": "in which order a rank runs its stages, by torch's name",
        "pipeline_micro_batch_size": "rows of a micro batch of the pipeline",
        "pipeline_micro_batches": "micro batches that a rank's batch is cut into",
        "pipeline_stage_layers": "layers of a stage, with what embedding and head count for",
        "pipeline_embedding_layers": "layers that the embedding counts for when stages are cut",
        "pipeline_head_layers": "layers that the head counts for when stages are cut",
        "pipeline_layout": "which layers each stage has, as written",
        "pipeline_engine": "DeepSpeed's pipeline engine runs the stages, a single one too",
        "expert_parallel": "GPUs that share the experts",
        "expert_tensor_parallel": "GPUs that share every expert's matrices",
        "sequence_parallel": "norms and dropouts are split along the sequence among the GPUs that share matrices",
        "distributed_optimizer": "optimizer states are shared over data parallelism",
        "distributed_optimizer_instances": "groups of GPUs that each hold all of its states",
        "recompute": "what Megatron recomputes: none, selective, full",
        "recompute_method": "which layers Megatron recomputes: uniform (all, in groups), block (a stage's first)",
        "precise_optimizer": "Adam keeps master weights and states in dtypes of their own",
        "master_dtype": "dtype of its master weights",
        "average_dtype": "dtype of its averages of gradients",
        "variance_dtype": "dtype of its averages of their squares",
        "optimizer_offload_fraction": "part of the weights that are updated on the host",
        "expert_dispatcher": "how Megatron's tokens get to experts on other GPUs: alltoall, allgather",
        "grouped_experts": "one product takes all experts of a GPU",
        "recompute_modules": "parts of a layer that selective recomputation runs again",
        "distributed_checkpoints": "tensor-parallel ranks share the inputs of recomputed layers",
        "recompute_layers": "layers of such a group, or how many of a stage",
        "pipeline_chunks": "model chunks of a pipeline's stage",
        "chunk_alternation": "micro batches after which such chunks take turns",
        "gradient_accumulation_fusion": "products for a weight's gradient add to Megatron's buffer at once",
        "cublas_workspace": "CUBLAS_WORKSPACE_CONFIG",
        "optimizer_in_backward": "the optimizer steps on each gradient during backward",
        "optimizer_rank": "rank of a low-rank optimizer",
        "quantized_experts": "experts in one tensor, which are no linear layers, are quantized too",
        "quantization_storage_dtype": "dtype in which packed weights are stored",
        "fake_quantization": "quantizer whose rounding the forward pass takes part in (quantization-aware training)",
        "quantization_method": "who quantizes: bnb, hqq, gptq, …",
        "use_rslora": "LoRA scaled by the root of its rank",
        "sync_each_batch": "FSDP reduces the gradients of every micro batch, not of the last one alone",
        "fsdp_use_orig_params": "FSDP 1 keeps parameters apart inside its flat ones",
        "fsdp_reshard_after_forward": "FSDP frees gathered parameters behind a layer's forward",
        "fsdp_mixed_precision": "FSDP's own dtypes, as written",
        "tiled_mlp": "MLPs run over parts of the sequence",
        "partition_activations": "checkpoints are shared among the GPUs that share matrices",
        "inference_engine": "what generates beside the trainer: vllm, sglang, …, or none",
        "inference_memory_fraction": "part of the device that it may take",
        "inference_placement": "where it runs: colocate (on the trainer's GPUs), server",
        "inference_sleeps": "it gives its memory back while the trainer steps",
        "steps_per_generation": "micro batches for which samples are generated at once",
        "generation_batch_size": "samples that all GPUs generate at once",
        "inference_tensor_parallel": "GPUs that share its matrices",
        "ppo_mini_batch_size": "samples per optimizer step of a policy",
        "offload_reference": "where the reference model waits: none, cpu",
        "draft_model": "config of the draft model that trains beside a target; empty where it follows from the target",
        "precomputes_reference": "the reference model's log probabilities are computed in advance, and it is let go",
        "kl_coefficient": "weight of the distance to the reference model",
        "image_size": "pixels of a side of an image",
        "tokens_per_batch": "tokens of one forward of a GPU, where batches are counted in tokens",
        "model_class": "class that loads the model",
        "pad_to_maximum": "rows are padded to the sequence length",
    }
)
"""Every fact name with its meaning."""


class Link(Struct, frozen=True):
    """A file that another file names."""

    kind: str
    """deepspeed, fsdp, accelerate, training-args, model-config, model-directory, script."""
    target: str
    """The path as written."""
    place: Place | None = None


def passed_on(facts: Iterable[Fact], place: Place | None) -> Iterator[Fact]:
    """Facts of a file that is named at `place`; as they are where nothing names it."""
    return (fact if place is None else replace(fact, through=(*fact.through, place)) for fact in facts)


def seconded(fact: Fact, other: Fact | None) -> Fact:
    """The fact with the place of another one that says the same."""
    if other is None or other.place is None or not (fact.known and other.known) or fact.value != other.value:
        return fact
    return fact if other.place == fact.place else replace(fact, also=(*fact.also, other.place))


TAKES_EFFECT = "what it says takes effect"
"""The cost of a key that is spelled as it was meant."""


class Repair(Struct, frozen=True):
    """A change of the file that takes away the cause of a remark, to be said in the file's own words."""

    safe: bool
    """It leaves the run as it is, or as it was meant beyond doubt."""
    rename: str = ""
    """The new name of the key at the remark's place, without the tables that it stands in."""
    value: Scalar | None = None
    """What is to stand at the remark's place instead."""
    put: tuple[tuple[str, str | tuple[str, str]], ...] = ()
    """Dotted keys of the file with new values: texts, or tables of a key and its text. A key that is renamed too goes
    by its old name."""
    remove: tuple[str, ...] = ()
    """Dotted keys of the file that go."""
    cut: tuple[Place, ...] = ()
    """Parts of comments that go."""
    cost: str = ""
    """What comes with it."""
    once: bool = False
    """Of the key at the remark's place the one before it goes."""
    strict: bool = False
    """What goes beyond JSON goes."""


class Remark(Struct, frozen=True):
    """Something odd that a surface saw while it read keys; rules turn remarks into findings by their kind."""

    kind: str
    """unknown-key, misplaced-key, wrong-type, deprecated-key, removed-key, duplicate-key, conflicting-keys,
    contradicting-values, unknown-gpu, missing-file, syntax-error, unreadable-file, empty-file,
    too-large, not-utf8."""
    subject: str
    """The key or file in question."""
    message: str
    place: Place
    suggestion: str = ""
    """The nearest valid spelling."""
    vocabulary: str = ""
    """training-arguments, deepspeed, trl …"""
    repair: Repair | None = None


class Started(Struct, frozen=True):
    """By which launcher the program of a sheet is started."""

    path: str
    """The launcher's file."""
    name: str
    """What tells the job from others: `run.sh`, `run.sh:12 [MODEL=gpt2]`, `Makefile (train)`."""
    place: Place
    """The command."""
    folders: tuple[str, ...] = ()
    """Folders that it may be started in, the likeliest first."""
    written: tuple[tuple[str, Document], ...] = ()
    """Files that the launcher writes before, by their names without folders."""
    made: frozenset[str] = frozenset()
    """Names without folders of files that other commands of the launcher write or handle before, and of which only
    run time knows what is in them."""


class LeftOut(Struct, frozen=True):
    """Settings because of which a program leaves out what would make a fact another one."""

    name: str
    """The fact."""
    by: tuple[Place, ...]


class Recognised(Struct, frozen=True):
    """In which vocabulary a file was taken to be written."""

    kind: str
    """Kind of its sheet: axolotl, llama-factory, deepspeed-json, …"""
    confidence: float
    """From 0 to 1; 1 where the settings say so."""
    why: str


class Sheet(Struct, frozen=True):
    """What one surface read from one file about one run."""

    path: str
    kind: str
    """python-script, deepspeed-json, training-args-json, training-args-yaml, training-args-cli, accelerate-config,
    model-config, peft, or the name of a framework (`surfaces/frameworks`)."""
    facts: tuple[Fact, ...] = ()
    links: tuple[Link, ...] = ()
    remarks: tuple[Remark, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    """Whole tables that resolve hands to another surface: an inline DeepSpeed dict, a config.json."""
    started: Started | None = None
    """The launcher, where the sheet is of a program that one starts."""
    sources: tuple[str, ...] = ()
    """Other files that were read for it: imported modules, data files that the program loads."""
    defines: bool = False
    """A Python file that only defines a training step: whoever calls it says of which model."""
    left_out: tuple[LeftOut, ...] = ()
    replaced: bool = False
    """A library that it imports puts classes of its own, with further keys, in the place of those of `tables`."""
    recognised: Recognised | None = None
    """Of a data file: how its vocabulary was told."""
    label: str = ""
    """The trial of a search over settings: `batch_size=8`."""

    def get(self, name: str) -> Fact | None:
        """The fact of that name."""
        return next((fact for fact in self.facts if fact.name == name), None)
