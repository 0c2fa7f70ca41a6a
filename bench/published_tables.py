"""A TSV of measurements that projects published next to their configs, as rows that `published_rows` understands.

Columns: framework, repo, commit, measured_in, config, gpu, n_gpus, metric, value, unit, note. A config is looked for in
`<root>/<framework>/<owner>__<repo>/<config>`; what it says is put into the words of the rows.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Words = dict[str, Any]
UNITS = {"bytes": 1, "GB": 10**9, "GiB": 1 << 30, "GiB (printed as GB)": 1 << 30}
METRICS = (
    (r"max allocated", "allocated"),
    (r"max_memory_reserved", "reserved"),
    (r"peak active", "active"),
    (r"mem-max-allocated", "allocated"),
)
"""What a metric's column means; what is in no line does not say what was read."""


def rows_of_table(path: Path, root: Path) -> Iterator[Mapping[str, Any]]:
    """One row for every line of the table."""
    with path.open(encoding="utf-8", newline="") as lines:
        for number, line in enumerate(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), 2):
            yield _row(line, root, number)


def _row(line: Mapping[str, str], root: Path, number: int) -> Words:
    config = line["config"].partition(" ")[0]
    metric = next((name for pattern, name in METRICS if re.search(pattern, line["metric"])), "unknown")
    gpus = int(line["n_gpus"]) if line["n_gpus"].isdigit() else 1
    row: Words = {
        "id": f"{number}:{config}",
        "group": line["framework"],
        "task": "train",
        "metric": metric,
        "confidence": "medium",
        "gpu": "" if line["gpu"] == "?" else line["gpu"],
        "n_gpus": gpus,
        "model": "?",
        "parallel": "none" if gpus == 1 else "not said",
        **_amount(line),
    }
    folder = root / line["framework"] / line["repo"].replace("/", "__")
    read = READERS.get(line["framework"])
    if read is None:
        return row | {"skip": f"configs of {line['framework']} alone do not say what was run"}
    if not (folder / config).is_file():
        return row | {"skip": "the config is not beside the table"}
    return row | read(folder / config, line["note"])


def _amount(line: Mapping[str, str]) -> Words:
    if line["value"] == "OOM":
        return {"metric": "verdict", "verdict": "oom"}
    return {"value_mib": float(line["value"]) * UNITS.get(line["unit"], 1 << 30) / (1 << 20)}


def _litgpt(config: Path, note: str) -> Words:
    recipe = yaml.safe_load(config.read_text(encoding="utf-8"))
    train = recipe.get("train", {})
    ranks = [part for part in ("query", "key", "value", "projection", "mlp", "head") if recipe.get(f"lora_{part}")]
    precision = str(recipe.get("precision", ""))
    words: Words = {
        "framework": "litgpt",
        "date": "2024-06",
        "versions": "bitsandbytes 0.42.0",
        "model": str(recipe["checkpoint_dir"]).removeprefix("checkpoints/"),
        "params_dtype": {"bf16-true": "bfloat16", "16-true": "float16"}.get(precision, "float32"),
        "autocast": "bf16" if precision == "bf16-mixed" else "none",
        "optimizer": "AdamW (torch)",
        "micro_batch": train.get("micro_batch_size"),
        "seq_len": train.get("max_seq_length"),
        "attention": "SDPA",
    }
    batch = train.get("global_batch_size")
    devices = int(recipe.get("devices", 1))
    words["grad_accum"] = max(1, batch // (words["micro_batch"] * devices)) if batch else 1
    if recipe.get("lora_r"):
        words["peft"] = f"LoRA r={recipe['lora_r']} dropout={recipe.get('lora_dropout', 0)} targets={','.join(ranks)}"
    if recipe.get("quantize"):
        words["quant"] = f"bitsandbytes {str(recipe['quantize']).removeprefix('bnb.')}"
    return words


def _peft(config: Path, note: str) -> Words:
    """PEFT's method comparison: the adapter is a file, the rest stands in the note."""
    adapter = json.loads(config.read_text(encoding="utf-8"))
    said = dict(re.findall(r"(\w+) ([^;]+)", note))
    targets = adapter.get("target_modules") or ("q_proj", "v_proj")
    listed = targets if isinstance(targets, str) else ",".join(targets)
    kind = str(adapter.get("peft_type", "?"))
    return {
        "framework": "PEFT method_comparison",
        "date": "2026-07",
        "versions": "torch 2.13.0, transformers 5.13.1, peft 0.19.2",
        "model": said.get("model", "?"),
        "params_dtype": said.get("dtype", "?"),
        "optimizer": said.get("optimizer", "?"),
        "micro_batch": int(said.get("batch", 0)) or None,
        "seq_len": int(said.get("max_seq", 0)) or None,
        "attention": "SDPA",
        "peft": f"LoRA r={adapter['r']} targets={listed}" if kind == "LORA" and adapter.get("r") else kind,
        "adapter": adapter,
    }


def _axolotl(config: Path, note: str) -> Words:
    recipe = yaml.safe_load(config.read_text(encoding="utf-8"))
    linear = "all linear" if recipe.get("lora_target_linear") else ",".join(recipe.get("lora_target_modules") or ())
    packed = "sample packing" if recipe.get("sample_packing") else "real sample lengths"
    plugins = " ".join(recipe.get("plugins") or ())
    words: Words = {
        "framework": "axolotl",
        "date": "2026-05",
        "model": str(recipe.get("base_model")),
        "params_dtype": "bfloat16",
        "autocast": "bf16",
        "optimizer": str(recipe.get("optimizer")),
        "micro_batch": recipe.get("micro_batch_size"),
        "grad_accum": recipe.get("gradient_accumulation_steps", 1),
        "seq_len": recipe.get("sequence_len"),
        "seq_note": packed,
        "grad_ckpt": bool(recipe.get("gradient_checkpointing")),
        "attention": recipe.get("attn_implementation") or "flash_attention_2",
        "extra": "CutCrossEntropy" if "CutCrossEntropy" in plugins else "",
    }
    if recipe.get("adapter"):
        words["peft"] = f"LoRA r={recipe.get('lora_r')} dropout={recipe.get('lora_dropout') or 0} targets={linear}"
    if recipe.get("load_in_4bit"):
        experts = ", experts too" if recipe.get("quantize_moe_experts") else ""
        words["quant"] = f"bitsandbytes nf4 + double quant{experts}"
    if recipe.get("load_in_8bit"):
        words["quant"] = "LLM.int8"
    return words


READERS: Mapping[str, Callable[[Path, str], Words]] = {"litgpt": _litgpt, "peft": _peft, "axolotl": _axolotl}
"""How the configs of a framework are read; those of the others say too little by themselves."""
