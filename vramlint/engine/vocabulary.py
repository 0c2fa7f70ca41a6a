"""The names that rules can read, in `when` and in message templates: what each stands for, and its type."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint import facts
from vramlint.engine.fact_types import DEVICE, DTYPE, FACT_TYPES, NULL, NUMBER, STRATEGY, TEXT, TOKENS, TRUTH, words
from vramlint.engine.job_terms import LARGE_VOCABULARY
from vramlint.engine.types import Kind, Type, of
from vramlint.facts import Origin
from vramlint.resolve.assume import SHORTEST

ANY = of(*Kind)
"""Of a fact that `fact_types` leaves out, which no test lets through."""
BYTES = of(Kind.NUMBER, unit="bytes")
NUMBERS = of(Kind.NUMBERS)
FACTS = Type(frozenset({Kind.TEXTS}), (*facts.NAMES, "architecture"))


RUN_KINDS = ("training", "inference", "library", "data")
"""`Run.kind`."""


class Entry(NamedTuple):
    """A name's meaning and type."""

    meaning: str
    type: Type


ORIGIN = words(*(origin.value for origin in Origin))

_RUN = MappingProxyType(
    {
        "run.name": Entry("name of the run, `train.py with ds_config.json`", TEXT),
        "run.kind": Entry("training, inference, library or data", words(*RUN_KINDS)),
        "run.path": Entry("file that the run is named after", TEXT),
        "run.unresolved": Entry("facts without which no job, or only a bounded one, can be built", FACTS),
        "run.open_facts": Entry("facts with several possible values", FACTS),
        "run.may_share_further": Entry(
            "whether no file says how the GPUs share the model's states, or how many of them do", TRUTH
        ),
        "run.settled": Entry(
            "whether it is known what trains, how the GPUs share it and which attention kernel runs: else the step may "
            "need far less than is estimated",
            TRUTH,
        ),
        "run.stage_keys": Entry("how the run's framework gives a stage of a pipeline fewer layers", TEXT),
        "run.jobs": Entry("number of jobs that the files leave possible", NUMBER),
    }
)

_GPU = MappingProxyType(
    {
        "gpu.id": Entry("catalog id of the declared GPU", TEXT),
        "gpu.name": Entry("its product name", TEXT),
        "gpu.memory_bytes": Entry("total device memory, bytes", BYTES),
        "gpu.usable_bytes": Entry("what torch sees as total memory, bytes", BYTES),
        "gpu.compute_capability": Entry("CUDA compute capability as [major, minor]", NUMBERS),
        "gpu.bf16": Entry("bfloat16 in hardware", TRUTH),
    }
)

_MACHINE = MappingProxyType(
    {
        "machine.ram": Entry("declared host memory of one machine, bytes", BYTES),
        "machine.nvme": Entry("declared NVMe of one machine, bytes", BYTES),
    }
)

_ESTIMATE = MappingProxyType(
    {
        "method": Entry("simulated or bounded", words("simulated", "bounded")),
        "why": Entry("why the step is bounded and not simulated", TEXT),
        "stand_in": Entry("the architecture that was simulated in place of an unknown one", TEXT),
        "below": Entry("bytes by which a stand-in may be too high", BYTES),
        "above": Entry("bytes by which a stand-in may be too low", BYTES),
        "allocated": Entry("peak of torch.cuda.memory_allocated, bytes", BYTES),
        "reserved": Entry(
            "peak of torch.cuda.memory_reserved, bytes; `allocated` where twice as much would fit", BYTES
        ),
        "outside": Entry("device memory outside torch's allocator, bytes", BYTES),
        "device_low": Entry("least device memory with which the step can run, bytes", BYTES),
        "device_need": Entry(
            "device memory with which the step surely runs; more than device_low for a stand-in, bytes", BYTES
        ),
        "device_high": Entry("device memory held if the allocator never gives back segments, bytes", BYTES),
        "peak_phase": Entry("phase of the step that has the peak", TEXT),
        "parameters": Entry("bytes of the model's parameters on one GPU", BYTES),
        "trainable_parameters": Entry("number of trainable parameters", NUMBER),
        "total_parameters": Entry("number of parameters", NUMBER),
        "gradients": Entry("bytes of gradients", BYTES),
        "optimizer_states": Entry("bytes of optimizer states", BYTES),
        "saved_activations": Entry("bytes kept between forward and backward", BYTES),
        "host": Entry("bytes of offloaded states in host memory, per rank", BYTES),
        "ram": Entry("host memory of one machine at its highest, bytes", BYTES),
        "ram_loading": Entry("host memory of one machine while its processes load the weights, bytes", BYTES),
        "ram_running": Entry("host memory of one machine during a step, bytes", BYTES),
        "ram_saving": Entry("host memory of one machine while its processes save, bytes", BYTES),
        "ram_rounding": Entry("what of it is rounding of page-locked tensors to powers of two, bytes", BYTES),
        "load_copies": Entry("copies of the weights on one machine while they are loaded", NUMBER),
        "disk": Entry("bytes that one machine swaps out to NVMe", BYTES),
        "training": Entry("device memory of forward, backward and optimizer step alone, bytes", BYTES),
        "evaluation": Entry("device memory of an evaluation's forward passes, bytes; 0 where there are none", BYTES),
        "generation": Entry("device memory while an evaluation generates, bytes; 0 where it does not", BYTES),
        "loading": Entry("device memory while the weights are loaded, bytes", BYTES),
        "merging": Entry("device memory while adapters are merged after training, bytes; 0 where they are not", BYTES),
        "saving": Entry(
            "device memory while weights are gathered there to be saved, bytes; 0 where they are not", BYTES
        ),
    }
)

_JOB = MappingProxyType(
    {
        "model.name": Entry("model id or path", TEXT),
        "model.model_type": Entry("architecture", TEXT),
        "model.task": Entry("causal-lm, masked-lm, seq-cls, …", TEXT),
        "model.vocabulary": Entry("tokens of the vocabulary", NUMBER | NULL),
        "model.large_vocabulary": Entry(f"whether it has at least {LARGE_VOCABULARY:,} tokens", TRUTH),
        "model.experts": Entry("experts of a layer", NUMBER | NULL),
        "model.learned_positions": Entry(
            "tokens whose positions have embeddings; null for a model that computes them",
            TOKENS | NULL,
        ),
        "model.parameter_count": Entry("number of parameters by the catalog", NUMBER | NULL),
        "precision.weights": Entry("dtype of the loaded weights", DTYPE),
        "precision.autocast": Entry("autocast dtype", DTYPE | NULL),
        "precision.grad_scaler": Entry("gradient scaler in use", TRUTH),
        "optimizer.name": Entry("canonical optimizer name", TEXT),
        "batch.micro_batch_size": Entry("sequences per GPU and forward", NUMBER),
        "batch.sequence_length": Entry("tokens per sequence", TOKENS),
        "batch.gradient_accumulation_steps": Entry("micro batches per optimizer step", NUMBER),
        "batch.padding": Entry("batches contain padding", TRUTH),
        "batch.packing": Entry("rows are filled to the sequence length", TRUTH),
        "evaluation.micro_batch_size": Entry("sequences per GPU and forward in evaluation", NUMBER | NULL),
        "attention.implementation": Entry("eager, sdpa, flash_attention_2, …", TEXT),
        "attention.use_cache": Entry("key/value cache in the forward pass", TRUTH),
        "checkpointing.mode": Entry("none, reentrant or nonreentrant", words("none", "reentrant", "nonreentrant")),
        "adapter.r": Entry("LoRA rank", NUMBER | NULL),
        "adapter.dora": Entry("DoRA", TRUTH | NULL),
        "quantization.kind": Entry("nf4, fp4 or int8", TEXT | NULL),
        "quantization.compute_dtype": Entry("dtype of the dequantized matmul", DTYPE | NULL),
        "parallelism.world_size": Entry("number of GPUs", NUMBER),
        "parallelism.strategy": Entry("none, ddp, dataparallel, deepspeed, fsdp, device_map", STRATEGY),
        "parallelism.zero.stage": Entry("ZeRO stage", NUMBER | NULL),
        "parallelism.zero.offload_optimizer": Entry("none, cpu, nvme", DEVICE | NULL),
        "parallelism.zero.offload_parameters": Entry("none, cpu, nvme", DEVICE | NULL),
        "objective.kind": Entry("training or inference", words("training", "inference")),
        "objective.loss": Entry("causal-lm, fused, chunked, or an objective by its name (dpo, grpo, …)", TEXT),
        "objective.max_grad_norm": Entry("gradient clipping bound", NUMBER),
        "objective.reference_model": Entry("a reference model is held beside the trained one", TRUTH),
    }
)

_REMARK = MappingProxyType(
    {
        "remark.subject": Entry("key or file in question", TEXT),
        "remark.message": Entry("what was seen", TEXT),
        "remark.suggestion": Entry("nearest valid spelling", TEXT),
        "remark.vocabulary": Entry("training-arguments, deepspeed, trl, …", TEXT),
    }
)
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "deepspeed")

ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        **_RUN,
        **_GPU,
        **_MACHINE,
        **{f"facts.{name}": Entry(meaning, FACT_TYPES.get(name, ANY)) for name, meaning in facts.NAMES.items()},
        **{f"origin.{name}": Entry(f"written, default, derived, …: {name}", ORIGIN) for name in facts.NAMES},
        **{f"reason.{name}": Entry(f"why it is unknown, assumed or derived: {name}", TEXT) for name in facts.NAMES},
        **{f"versions.{name}": Entry(f"version of {name} as a list of numbers", NUMBERS) for name in LIBRARIES},
        **{f"estimate.{end}.{name}": entry for end in ("low", "high") for name, entry in _ESTIMATE.items()},
        "estimate.shortest": Entry(
            f"device_low of the low end; where the files only bound its rows, that of rows of {SHORTEST} tokens", BYTES
        ),
        "estimate.fitting_length": Entry(
            "tokens of the longest rows with which the low end fits, where only shorter ones than its bound do", TOKENS
        ),
        "estimate.exact": Entry("nothing is left open: low and high are the same", TRUTH),
        "estimate.depends_on": Entry(
            "what the range comes from: open facts, and the architecture where another stands in", FACTS
        ),
        "estimate.need": Entry("the needed device memory in GiB, as text: one figure, or `a to b`", TEXT),
        **{f"job.{name}": entry for name, entry in _JOB.items()},
        **_REMARK,
        "settings.headroom": Entry("fraction of the usable memory above which a run is close to the limit", NUMBER),
        "predicate.detail": Entry("what the rule's predicate found, in words", TEXT),
        "true": Entry("the truth value", TRUTH),
        "false": Entry("the truth value", TRUTH),
        "null": Entry("no value", NULL),
    }
)
"""Every name."""
