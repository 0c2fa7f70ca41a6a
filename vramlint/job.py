"""A training or inference run in the field's own terms: the one thing the memory model takes.

Every value here is concrete. Where the files leave several possibilities, `resolve` builds one `Job` per
possibility and the estimates of all of them make the range.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

DTYPE_BYTES: Mapping[str, int] = {
    "float64": 8,
    "complex64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8": 1,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes per element, by torch's name of the dtype."""

Argument = str | int | float | bool | None
"""A constructor's argument."""
ConfigValue = str | int | float | bool | None | tuple["ConfigValue", ...] | Mapping[str, "ConfigValue"]


class Model(Struct, frozen=True):
    """The network: the keys of its config.json, defaults filled in where the catalog knows them."""

    name: str
    """Hub id or path as the user wrote it."""
    model_type: str
    """`model_type` of config.json; empty when unknown."""
    config: Mapping[str, ConfigValue] = field(default_factory=dict)
    """config.json keys under their hub names (hidden_size, num_hidden_layers, …)."""
    parameter_count: int | None = None
    """Exact number of parameters, tied tensors once, where the catalog has it."""
    task: str = "causal-lm"
    """causal-lm, masked-lm, seq-cls, token-cls, qa, seq2seq-lm, embedding, embedding-pairs,
    embedding-triplets, image-cls, speech-seq2seq."""


class Precision(Struct, frozen=True):
    """Dtypes of the run."""

    weights: str = "float32"
    """dtype in which the (unquantized) weights are loaded."""
    autocast: str | None = None
    """bfloat16 or float16 when the forward runs under torch.autocast."""
    grad_scaler: bool = False
    trained: str | None = None
    """dtype to which a program casts what trains, where other weights stay as they are loaded."""
    widened: tuple[str, ...] = ()
    """Patterns of the parameters that the program widens to float32."""
    products: str | None = None
    """Format of the operands of matrix products (float8, mxfp8, nvfp4), where it is not the dtype they come in."""

    @property
    def bf16(self) -> bool:
        """Whether the run computes in bfloat16."""
        return "bfloat16" in {self.weights, self.autocast}


class Optimizer(Struct, frozen=True):
    """The optimizer, by its catalog name (`adamw_torch_fused`, `paged_adamw_8bit`, …)."""

    name: str = "adamw_torch_fused"
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Further arguments of its constructor, or `optim_args` (momentum, amsgrad, foreach, rank, …); what is not given
    has the library's, or the Trainer's, default."""
    weight_decay: float = 0.0
    wide_embeddings: bool = False
    """The Trainer gives embeddings 32-bit states where a bitsandbytes optimizer quantizes the others."""
    target_modules: tuple[str, ...] | str | None = None
    """What a low-rank optimizer projects: the Trainer's `optim_target_modules`."""


class Batch(Struct, frozen=True):
    """What one GPU processes."""

    micro_batch_size: int = 1
    sequence_length: int = 512
    gradient_accumulation_steps: int = 1
    target_length: int | None = None
    padding: bool = False
    """Some attention_mask entries are zero, so a mask reaches the attention kernel."""
    attention_mask: bool = True
    """An attention_mask tensor is passed at all."""
    packing: bool = False
    """Rows are filled up to the sequence length."""
    varies: bool = False
    """Rows are as long as their samples: the sequence length only bounds them, and the data decides whether one
    reaches it."""
    padding_free: bool = False
    """The sequences of a batch lie end to end in one row (flash attention's varlen kernels)."""
    generated_tokens: int = 0
    """Of inference: tokens that are generated behind a prompt of `sequence_length`."""


class Attention(Struct, frozen=True):
    """The attention implementation: eager, sdpa, flash_attention_2."""

    implementation: str = "sdpa"
    use_cache: bool = False


class Checkpointing(Struct, frozen=True):
    """Activation checkpointing: which layers are recomputed in backward, and where their inputs are kept."""

    mode: str = "none"
    """none, reentrant, nonreentrant."""
    every_n_layers: int = 1
    """1: every layer; n: every n-th."""
    selective: bool = False
    """Only what is cheap is recomputed: results of matrix products (every second one) and of attention are kept
    (torchtitan's op-level selective checkpointing)."""
    offload: bool = False
    """What is kept lies in host memory."""
    stops_early: bool = True
    """A layer that runs again stops where all is there that backward needs (torch's default; not torchtitan's)."""
    within_units: bool = False
    """torch's checkpoint_wrapper runs a layer, inside of FSDP's unit, and no method of the model."""


class Adapter(Struct, frozen=True):
    """What is trained instead of the frozen base."""

    r: int = 8
    dropout: float = 0.0
    target_modules: tuple[str, ...] | str | None = None
    """Module names (suffix match), a regular expression, `all-linear`, or None for PEFT's table."""
    modules_to_save: tuple[str, ...] = ()
    dora: bool = False
    bias: str = "none"
    """Which biases of the base train: none, all, or those under an adapter (lora_only)."""
    lora_bias: bool = False
    """The second factor has a bias."""
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Ranks of modules whose names end in a pattern."""
    layers_to_transform: tuple[int, ...] = ()
    """Numbers of the layers that get adapters; none: all."""
    exclude_modules: tuple[str, ...] | str | None = None
    target_parameters: tuple[str, ...] = ()
    """Parameters (suffix match) that an adapter is added to, whatever their module is."""
    variants: tuple[str, ...] = ()
    """What makes LoRA's layers other ones, by LoraConfig's names: use_qalora, layer_replication, …"""
    trained_tokens: Mapping[str, int] = field(default_factory=dict)
    """How many rows of an embedding train (`trainable_token_indices`), by the embedding's name."""
    autocast_adapter_dtype: bool = True
    """PEFT keeps the adapters of a 16-bit base in float32."""
    from_peft: bool = True
    """PEFT makes the adapters, over a quantized base in float32; those of other libraries take the weights' dtype."""
    dtype: str | None = None
    """What a trainer makes of everything that trains, DoRA's magnitudes aside; None: nothing else."""
    method: str = "lora"
    """lora, or another of PEFT's methods by the name of its config."""
    virtual_tokens: int = 0
    """Of prompt and prefix tuning."""
    options: Mapping[str, ConfigValue] = field(default_factory=dict)
    """What a method other than LoRA is given besides, by PEFT's names."""
    merged: bool = False
    """`merge_and_unload` follows the training."""
    originals_on_host: bool = False
    """The frozen originals of `modules_to_save` are in host memory, as Unsloth moves them."""


class Quantization(Struct, frozen=True):
    """A quantized frozen base."""

    kind: str = "nf4"
    """nf4, fp4, int8, gptq, awq, hqq, quanto, torchao; nf4-tensor is torchao's NF4."""
    double_quantization: bool = False
    compute_dtype: str = "float32"
    prepared_for_kbit: bool = False
    """prepare_model_for_kbit_training upcast the remaining 16-bit parameters to float32."""
    narrowed_embeddings: bool = False
    """TRL's peft_module_casting_to_bf16 then made the embeddings and the head bfloat16 again."""
    only_norms: bool = False
    """That preparation upcast norms alone, as TRL's own of version 0.25 did."""
    source_dtype: str | None = None
    """dtype in which the weights were quantized; None: that of the other weights."""
    group_size: int = 128
    """Elements that share a scale, of GPTQ, AWQ and HQQ; -1: a whole row."""
    skipped_modules: tuple[str, ...] = ()
    """Modules that are not quantized; where any are named, the output head is unless it is among them."""
    bits: int = 4
    """Of a weight that bitsandbytes did not quantize."""
    experts: bool = False
    """Experts in one tensor, which are no linear layers, are quantized too, as axolotl does while it loads them."""


class Zero(Struct, frozen=True):
    """DeepSpeed ZeRO."""

    stage: int = 0
    offload_optimizer: str = "none"
    offload_parameters: str = "none"
    reduce_bucket_size: int = 500_000_000
    """elements"""
    allgather_bucket_size: int = 500_000_000
    prefetch_bucket_size: int = 50_000_000
    parameter_persistence_threshold: int = 100_000
    max_live_parameters: int = 1_000_000_000
    max_reuse_distance: int = 1_000_000_000
    sub_group_size: int = 1_000_000_000
    overlap_comm: bool | None = None
    gradient_accumulation_dtype: str | None = None
    sequence_reduce_dtype: str = "float32"
    """dtype in which stage 3 reduces gradients of ranks that share sequences (seq_parallel_communication_data_type)."""
    optimizer_pinned: bool = True
    """What an offloaded optimizer has on the host is page-locked (`offload_optimizer.pin_memory`)."""
    optimizer_swap_buffers: int = 4
    """Buffers on the host through which an optimizer on NVMe goes."""
    swap_buffers: int = 5
    """Those of parameters on NVMe."""
    swap_buffer_size: int = 100_000_000
    """elements"""
    parameters_in_ram: int = 1_000_000_000
    """elements of parameters on NVMe that stay in host memory (`max_in_cpu`)"""
    gathers_on_save: bool = False
    """Stage 3 gathers the weights on one host to save them."""
    hpz_partition_size: int = 1
    """Ranks that share a second copy of the weights, which backward gathers from (ZeRO++ hpZ); 1: there is none."""
    quantized_weights: bool = False
    """Weights are gathered in 8 bits (ZeRO++ qwZ)."""
    quantized_frozen_weights: bool = False
    """Weights that do not train are stored in 8 bits."""
    mics_shard_size: int | None = None
    """Ranks that share one copy of the model at stage 3 (MiCS); None: all."""
    quantized_gradients: bool = False
    """Gradients of matrices are reduced in 4 bits, where there are several machines (ZeRO++ qgZ)."""


class Loading(Struct, frozen=True):
    """How the weights come into the memory of the host."""

    dtype: str = "float32"
    """dtype in which they are there before they move to the device."""
    mapped: bool | None = None
    """They stay in the checkpoint's file, which all processes of a machine map; None: its dtype is not known."""
    by_one: bool = False
    """One process of a machine loads them for all: FSDP's RAM-efficient loading."""
    arrives: str | None = None
    """dtype in which all of them are on the device before the program casts them there; None: it does not."""
    whole: bool = False
    """All of them are on the device of every rank before FSDP shards them."""


class PreciseAdam(Struct, frozen=True):
    """Transformer Engine's Adam with states of chosen dtypes (use_precision_aware_optimizer)."""

    master: str = "float32"
    average: str = "float32"
    variance: str = "float32"
    remainders: bool = True
    """Of a float32 master weight only what its bfloat16 weight lacks is kept."""


class Megatron(Struct, frozen=True):
    """Megatron-Core: how its ranks share one model, and what its optimizer and gradient buffers are."""

    tensor: int = 1
    """Ranks that share every matrix."""
    sequence: bool = False
    """They share what lies between the matrices, too, by its sequence (sequence parallelism)."""
    context: int = 1
    """Ranks that share a sequence from the first layer to the last."""
    pipeline: int = 1
    """Ranks that share the layers, as stages."""
    chunks: int = 1
    """Model chunks of a stage: virtual pipeline stages."""
    expert: int = 1
    """Ranks that share the experts of a layer."""
    expert_tensor: int | None = None
    """Ranks that share every expert's matrices; None: those that share the others."""
    distributed_optimizer: bool = False
    """Ranks with the same parameters share master weights and optimizer states."""
    instances: int = 1
    """Groups of such ranks, each of which holds all states."""
    wide_gradients: bool = True
    """Gradients of 16-bit weights are accumulated in float32."""
    fused_gradients: bool = True
    """Products for a weight's gradient add to the buffer at once (gradient_accumulation_fusion)."""
    precise: PreciseAdam | None = None
    host_fraction: float = 0.0
    """Part of the weights that are updated on the host (optimizer_offload_fraction); 0: none."""
    recompute: str = "none"
    """none, selective (`recompute_modules`), full."""
    recompute_modules: tuple[str, ...] = ("core_attn",)
    """What selective recomputation runs again: core_attn, layernorm, mlp, moe, moe_act, shared_experts, mla_up_proj."""
    distributes_checkpoints: bool = False
    """Ranks that share every matrix share the inputs of recomputed layers (distribute_saved_activations)."""
    recompute_method: str = "uniform"
    """uniform (all layers, in groups) or block (the first layers of a stage, one by one)."""
    recompute_layers: int = 1
    """Layers of a group, or how many of the stage."""
    fused_loss: bool = False
    """The cross entropy is one fused function over 16-bit logits."""
    deferred: int | None = None
    """Micro batches whose gradient of the head's weight waits until all have run; 0: of all of them; None: of none."""
    dispatcher: str = "alltoall"
    """How tokens get to experts, where the model's own sizes do not say it: alltoall, allgather."""
    grouped: bool = True
    """One product takes all experts of a rank, likewise."""
    predictions: int = 0
    """Layers that predict further tokens, where the model's own sizes do not say it."""
    layout: str = ""
    """Which parts of the model the stages have, one letter for each (pipeline_model_parallel_layout)."""
    first_layers: int | None = None
    """Layers of the first stage, if it has others than those between."""
    last_layers: int | None = None
    """Layers of the last stage, likewise."""
    counts_embedding: bool = False
    """The embedding takes the place of a layer when layers are divided."""
    counts_loss: bool = False
    """The head does."""
    alternation: int | None = None
    """Micro batches after which the model chunks take turns (microbatch_group_size_per_vp_stage); None: the stages."""
    in_flight: tuple[int, ...] = (1,)
    """Of the rank that is simulated: forwards of each model chunk that it has run when its first backward begins."""


class NeoX(Struct, frozen=True):
    """gpt-neox: how its ranks share one model, which DeepSpeed's engines train."""

    tensor: int = 1
    """Ranks that share every matrix."""
    sequence: bool = False
    """They share what lies between the matrices, too, by its sequence."""
    pipeline: int = 1
    """Ranks that share the layers, as stages."""
    engine: bool = True
    """DeepSpeed's pipeline engine runs the stages, a single one too; else the layers are a plain sequence."""
    method: str = "type:transformer|mlp"
    """How the layers are cut into stages: uniform, parameters, or by names that are counted."""
    interval: int = 0
    """Layers of a checkpoint; 0: none."""
    partitions_checkpoints: bool = False
    """Ranks that share matrices share checkpoints, too."""
    offloads_checkpoints: bool = False
    """Checkpoints wait in host memory."""
    in_flight: int = 1
    """Of the rank that is simulated: forwards that it has run when its first backward begins."""


class Turn(Struct, frozen=True):
    """A backward of one rank of torch's pipelines, and what of each of its model chunks is alive when it begins."""

    action: str
    """By torch's letters: B a whole backward, I one of the inputs, W one of the weights."""
    chunk: int
    waiting: tuple[int, ...]
    """Forwards that await their backward, the own one included."""
    halves: tuple[int, ...]
    """Backwards of the inputs that await those of the weights, the own one included."""
    gradients: tuple[str, ...]
    """What there is of the weights' gradients: none, reduced, fresh, kept, both (memory/torch_turns.py)."""
    passed: int = 0
    """Gradients that backwards of the inputs have sent to the stage before, and left at what they received."""


class Mesh(Struct, frozen=True):
    """torch's device mesh, beside its data-parallel dimensions: how many ranks share one model by DTensors."""

    tensor: int = 1
    """Ranks that share every matrix and, between the matrices, the sequence."""
    context: int = 1
    """Ranks that share a sequence from the first layer to the last."""
    pipeline: int = 1
    """Ranks that share the layers, as stages."""
    expert: int = 1
    """Ranks that share the experts of a layer."""
    expert_tensor: int = 1
    """Ranks that share the matrices of each of these: all that share the others, or one."""
    loss_parallel: bool = True
    """Logits stay divided by the vocabulary in the loss."""
    schedule: str = "1F1B"
    """torch's schedule of a pipeline, by its name."""
    layers_per_stage: int | None = None
    """Layers of a stage, with what embedding and head count for; None: as many as make one or two stages a rank."""
    embedding_layers: int = 1
    """Layers that the embedding counts for when stages are cut."""
    head_layers: int = 1
    """Layers that the last norm and the head count for."""
    parts: tuple[tuple[str, ...], ...] = ()
    """Names of the modules of every stage, where they are written out."""
    micro_batches: int = 1
    """Into how many a rank's batch is cut for the pipeline; `Batch.micro_batch_size` is that of one of them."""
    turns: tuple[Turn, ...] = ()
    """Of the rank that is simulated: backwards at which most is alive."""
    form: str = "titan"
    """titan (torchtitan's own models); plan (models of transformers by their plans, `tp_plan="auto"`); autotp (the same
    by DeepSpeed's AutoTP)."""


class SharedSequence(Struct, frozen=True):
    """Ranks that share every sequence from the first layer to the last, around the attention of a model of its own."""

    ranks: int = 1
    form: str = "ulysses"
    """ulysses (DeepSpeed's, for transformers), ring (torch's context_parallel), flash-ring and flash-gather (two of
    ring-flash-attn's), swift, verl and xtuner (their Ulysses)."""
    stride: int = 1
    """Heads of keys that ranks gather at a time, where they gather them by heads (flash-gather)."""
    of_rank: bool = False
    """The batch is what one of them has."""

    @property
    def by_heads(self) -> bool:
        """Whether a rank attends to all tokens with some of the heads; else keys and values go round."""
        return self.form in {"ulysses", "swift", "verl", "xtuner"}


class Parallelism(Struct, frozen=True):
    """How many GPUs, and what each of them holds."""

    world_size: int = 1
    strategy: str = "none"
    """none, ddp, dataparallel, deepspeed, fsdp, megatron, device_map."""
    zero: Zero | None = None
    megatron: Megatron | None = None
    neox: NeoX | None = None
    mesh: Mesh | None = None
    """Where a program divides its own model by DTensors (torchtitan)."""
    sequence: SharedSequence | None = None
    fsdp_sharding: str = "full"
    """full, grad-op, none."""
    fsdp_adapters_apart: bool = True
    """Every adapter is an FSDP unit of its own, as PEFT's wrap policy makes it; else it is one flat parameter with the
    frozen rest of its layer, which then has a gradient too."""
    fsdp_version: int = 1
    """1: FullyShardedDataParallel; 2: fully_shard."""
    fsdp_wraps_layers: bool = True
    """Every layer is a unit; else the whole model is one."""
    fsdp_prefetches: bool = True
    """FSDP 1 gathers the next unit of backward before the gradients of the unit that runs are there: BACKWARD_PRE,
    torch's default and not accelerate's. BACKWARD_POST gathers it once that unit is freed, as no prefetching does."""
    fsdp_by_layers_alone: bool = False
    """FSDP 2 by a program's own hand: layers, and all else in the root; accelerate takes embedding and head apart."""
    fsdp_reduce_dtype: str | None = None
    """dtype in which FSDP 2 reduces gradients; None: that of the computation."""
    rank: int | None = None
    """The rank that is followed, where ranks differ; None: the one that holds most."""
    replicas: int = 1
    """Groups of ranks of which each holds the whole model in shares: hybrid sharding."""
    bucket_view: bool = False
    """DDP's gradient_as_bucket_view: gradients lie in the buckets, of which there is no second copy."""
    fsdp_offload: bool = False
    """FSDP's CPUOffload: shares, their gradients and the optimizer are on the host."""
    fsdp_gathers_on_save: bool = False
    """The whole state dict comes together on one host to be saved (FULL_STATE_DICT)."""
    fsdp_saves_on_device: bool = False
    """It comes together on every GPU, where a program does not say otherwise."""
    model_shards: int = 1
    """GPUs that share one model by its matrices, layers or experts, beside what the strategy shares."""
    sequence_shards: int = 1
    """GPUs that share every sequence in a way that is not followed."""
    optimizer_shards: int = 1
    """GPUs that share the optimizer's states alone: Megatron's distributed optimizer."""
    sync_each_batch: bool = False
    """FSDP reduces the gradients of every micro-batch, not of the last one alone."""
    nodes: int = 1
    """Machines of the run."""

    @property
    def data_parallel(self) -> int:
        """Ranks that have the same parameters."""
        shared = 1 if self.neox is None else self.neox.tensor * self.neox.pipeline
        return max(1, self.world_size // shared)

    @property
    def sharing(self) -> int:
        """Ranks that share one copy of the model under FSDP."""
        return max(1, self.world_size // self.replicas)

    @property
    def gpus(self) -> int:
        """All that take part; `world_size` leaves out those that share a mesh's matrices and layers."""
        return max(1, self.world_size) * (1 if self.mesh is None else self.mesh.tensor * self.mesh.pipeline)

    @property
    def processes(self) -> int:
        """Processes of the run; one has several GPUs under DataParallel and where a device map spreads the model."""
        if self.strategy in {"dataparallel", "device_map"}:
            return 1
        return self.gpus

    @property
    def ranks_per_node(self) -> int:
        """GPUs of one machine that take part."""
        return -(-self.gpus // max(1, self.nodes))


class Objective(Struct, frozen=True):
    """What happens in one step."""

    kind: str = "training"
    """training or inference."""
    loss: str = "causal-lm"
    """causal-lm; fused (Liger's head: logits never materialised); chunked (the head of TRL's SFTTrainer); unsloth
    (Unsloth's head); cut (Cut Cross Entropy); liger-cross-entropy (Liger's kernel over given logits); in-place (others
    that write the gradient over the logits); or an objective whose step is another one: dpo, orpo, grpo, …"""
    loop: str = "trainer"
    """trainer (Accelerate wraps forward), plain (autocast around the call), script (hand-written loop in which
    `outputs` stays bound until the next forward)."""
    max_grad_norm: float = 1.0
    reference_model: bool = False
    label_smoothing: float = 0.0
    sft: bool = False
    """TRL's SFTTrainer runs the step: it measures token accuracy and entropy besides."""


class Evaluation(Struct, frozen=True):
    """What happens in an evaluation during training."""

    micro_batch_size: int = 8
    keeps_logits: bool = False
    """Metrics are computed from the logits of all samples, which are collected on the device."""
    accumulation_batches: int | None = None
    """`eval_accumulation_steps`: collected logits move to the host after so many batches; None: never."""
    samples: int | None = None
    """Samples of the evaluation set, where the files say it."""
    generated_tokens: int = 0
    """`predict_with_generate`: tokens generated for every sample."""


class Allocator(Struct, frozen=True):
    """PYTORCH_CUDA_ALLOC_CONF."""

    expandable_segments: bool = False
    garbage_collection_threshold: float = 0.0
    """Part of `memory_fraction` above which segments that lie free are given back; without that it does nothing."""
    memory_fraction: float = 0.0
    """Part of the device's memory that the process may take (set_per_process_memory_fraction); 0: no bound."""
    divisions: int = 0
    """`roundup_power2_divisions`: parts between two powers of two that requests are rounded to; 0: none."""


class Libraries(Struct, frozen=True):
    """Versions that decide what is allocated, as (major, minor, patch)."""

    torch: tuple[int, ...] = (2, 13, 0)
    transformers: tuple[int, ...] = (5, 23, 0)
    peft: tuple[int, ...] = (0, 21, 2)
    trl: tuple[int, ...] = (1, 16, 0)
    accelerate: tuple[int, ...] = (1, 15, 0)
    bitsandbytes: tuple[int, ...] = (0, 50, 2)
    deepspeed: tuple[int, ...] = (0, 19, 8)
    liger_kernel: tuple[int, ...] = (0, 8, 5)


class Gpu(Struct, frozen=True):
    """A device, from its catalog row. Bytes are integers."""

    id: str
    name: str
    memory_bytes: int
    """Total device memory as the driver prints it."""
    usable_bytes: int
    """What torch sees as total memory: the ceiling before the CUDA context."""
    compute_capability: tuple[int, int] | None
    bf16: bool
    context_bytes: int
    """Held by a CUDA process outside torch's allocator, as far as it is known of the card."""
    cublas_workspace_bytes: int
    """One cuBLAS workspace (per handle and stream), counted by torch as allocated."""
    multiprocessors: int | None = None
    """Streaming multiprocessors, where they are known: torch sizes the buffers of its reductions by them."""


class Job(Struct, frozen=True):
    """One concrete run on one kind of GPU."""

    model: Model
    precision: Precision = field(default_factory=Precision)
    optimizer: Optimizer = field(default_factory=Optimizer)
    batch: Batch = field(default_factory=Batch)
    attention: Attention = field(default_factory=Attention)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    adapter: Adapter | None = None
    quantization: Quantization | None = None
    parallelism: Parallelism = field(default_factory=Parallelism)
    objective: Objective = field(default_factory=Objective)
    libraries: Libraries = field(default_factory=Libraries)
    gpu: Gpu | None = None
    evaluation: Evaluation | None = None
    allocator: Allocator = field(default_factory=Allocator)
    kernels: tuple[str, ...] = ()
    """Liger's kernels in place of the model's own operators, by the names of its options (catalog/liger.py); or
    Unsloth's layers (catalog/unsloth.py)."""
    compiled: bool = False
    """torch.compile runs the layers and the loss; followed where an architecture says how (torchtune's decoder)."""
    offloads_activations: bool = False
    """What autograd keeps waits in host memory for its backward (TRL's activation_offloading)."""
    loading: Loading | None = None
    """None where nobody knows, as in frameworks that load shares by themselves."""
    frozen_parameters: tuple[str, ...] = ()
    """Regular expressions of parameters with requires_grad = False."""
