"""A case's model, adapters and batches, made by the real libraries from its config with random weights."""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.gpu.table import Row

CLASSES: Mapping[str, str] = {
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "seq-cls": "AutoModelForSequenceClassification",
    "token-cls": "AutoModelForTokenClassification",
    "qa": "AutoModelForQuestionAnswering",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "image-cls": "AutoModelForImageClassification",
    "audio-cls": "AutoModelForAudioClassification",
    "ctc": "AutoModelForCTC",
    "speech-seq2seq": "AutoModelForSpeechSeq2Seq",
    "contrastive": "AutoModel",
}
PEFT_TASKS: Mapping[str, str] = {"causal-lm": "CAUSAL_LM", "seq2seq-lm": "SEQ_2_SEQ_LM", "seq-cls": "SEQ_CLS"}
DTYPES: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
WORDS = 100
"""Random token ids are below this, which every vocabulary of the table is longer than."""
RAM_DISK = Path("/dev/shm")  # noqa: S108  the fastest place for a checkpoint that is read once


def dtype_of(word: str) -> Any:
    """Torch's dtype of fp32, bf16, fp16."""
    return getattr(import_module("torch"), DTYPES[word])


def config_of(row: Row) -> Any:
    """The config object of transformers."""
    keys = dict(row["config"])
    return import_module("transformers").AutoConfig.for_model(keys.pop("model_type"), **keys)


def make_model(row: Row, config: Any, device: str) -> Any:
    """The model on the device, quantized where the case says so, without adapters."""
    transformers = import_module("transformers")
    case = row["case"]
    made = getattr(transformers, CLASSES[row["task"]])
    word = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"
    options = {word: dtype_of(case["param_dtype"]), "attn_implementation": case["attn"]}
    if case.get("quant"):
        return _quantized(case, made, config, options, device)
    with import_module("torch").device(device):
        model = made.from_config(config, **options)
    model.config.use_cache = case["use_cache"]
    return model


def _quantized(case: dict[str, Any], made: Any, config: Any, options: dict[str, Any], device: str) -> Any:
    """Random weights saved and loaded again by `from_pretrained`, which quantizes while it loads."""
    torch, transformers = import_module("torch"), import_module("transformers")
    wanted = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=case["quant"],
        bnb_4bit_use_double_quant=case.get("double_quant", True),
        bnb_4bit_compute_dtype=dtype_of(case.get("bnb_compute_dtype", "bf16")),
    )
    with tempfile.TemporaryDirectory(dir=RAM_DISK if RAM_DISK.is_dir() else None) as folder:
        with torch.device(device):
            made.from_config(config, **options).save_pretrained(folder)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model = made.from_pretrained(folder, quantization_config=wanted, device_map={"": device}, **options)
    model.config.use_cache = case["use_cache"]
    return model


def adapt(row: Row, model: Any) -> Any:
    """Adapters, frozen parameters and kernels of the case."""
    case = row["case"]
    if case.get("liger"):
        _apply_liger(model, case["liger"])
    if case.get("quant"):
        checkpointing = case["checkpointing"]
        model = import_module("peft").prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=checkpointing != "none",
            gradient_checkpointing_kwargs={"use_reentrant": checkpointing == "reentrant"},
        )
    if case.get("peft"):
        model = _with_adapters(row, model)
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in case.get("freeze", ())):
            parameter.requires_grad_(False)
    return model


def _with_adapters(row: Row, model: Any) -> Any:
    peft = import_module("peft")
    wanted = row["case"]["peft"]
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=wanted.get("r", 8),
            lora_alpha=16,
            lora_dropout=wanted.get("dropout", 0.0),
            target_modules=wanted.get("targets"),
            modules_to_save=wanted.get("modules_to_save"),
            use_dora=wanted.get("dora", False),
            task_type=PEFT_TASKS.get(row["task"]),
        ),
    )


def _apply_liger(model: Any, kernels: list[str]) -> None:
    """As the Trainer does it (transformers 5.23 integrations/liger.py)."""
    names = ("rope", "rms_norm", "swiglu", "cross_entropy", "fused_linear_cross_entropy")
    apply = import_module("liger_kernel.transformers")._apply_liger_kernel_to_instance
    apply(model=model, **{name: name in kernels for name in names})


def checkpointed(case: dict[str, Any], model: Any) -> None:
    """Switch activation checkpointing on, as the Trainer does it."""
    mode = case["checkpointing"]
    if mode == "none":
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": mode == "reentrant"})
    if case.get("peft"):
        model.enable_input_require_grads()


def make_batch(row: Row, config: Any, device: str, rows: int | None = None) -> dict[str, Any]:
    """One micro batch of random content."""
    torch = import_module("torch")
    case, task = row["case"], row["task"]
    count, length = rows or case["batch"], case["seq"]
    target = case.get("target_seq", length)

    def whole(*shape: int, below: int = WORDS) -> Any:
        return torch.randint(1, below, shape, device=device)

    def real(*shape: int) -> Any:
        return torch.rand(*shape, device=device)

    if task == "image-cls":
        return {"pixel_values": _pixels(real, config, count), "labels": whole(count, below=2)}
    if task == "contrastive":
        images = _pixels(real, config.vision_config, count)
        tokens = {"input_ids": whole(count, length), "attention_mask": _mask(case, torch, count, length, device)}
        return {**tokens, "pixel_values": images}
    if task == "speech-seq2seq":
        spectra = real(count, config.num_mel_bins, 2 * config.max_source_positions)
        return {"input_features": spectra, "labels": whole(count, length)}
    if task == "ctc":
        return {"input_values": real(count, length), "labels": whole(count, target, below=config.vocab_size)}
    batch = {"input_ids": whole(count, length)}
    if case["mask"] != "none":
        batch["attention_mask"] = _mask(case, torch, count, length, device)
    if task == "seq-cls":
        return {**batch, "labels": whole(count, below=2)}
    return {**batch, "labels": whole(count, target if task == "seq2seq-lm" else length)}


def _mask(case: dict[str, Any], torch: Any, count: int, length: int, device: str) -> Any:
    """All ones, or with the last tokens of every second row left out."""
    mask = torch.ones(count, length, dtype=torch.int64, device=device)
    if case["mask"] == "pad":
        mask[::2, -max(1, length // 8) :] = 0
    return mask


def _pixels(real: Any, config: Any, count: int) -> Any:
    size = getattr(config, "image_size", 224)
    return real(count, config.num_channels, size, size)


def bytes_by_dtype(tensors: Any) -> dict[str, int]:
    """Bytes of the storages behind tensors, each once."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen:
            continue
        seen.add(storage.data_ptr())
        name = str(tensor.dtype).removeprefix("torch.")
        found[name] = found.get(name, 0) + storage.nbytes()
    return found
