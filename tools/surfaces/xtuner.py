"""XTuner: inputs of its memory calculator, and what the configurations of its package say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tools.surfaces.declared import Part, reader
from tools.surfaces.rows import lines_of
from tools.surfaces.source import Source
from tools.surfaces.trees import Tree
from vramlint.catalog.frameworks import FOLDER
from vramlint.surfaces.frameworks.python_configs import read_python
from vramlint.text import Document
from vramlint.values import plain

_HEADING = (
    "Configurations that `xtuner train NAME` finds in its package, xtuner 1.0.1 (InternLM/xtuner b934f4620) "
    "xtuner/configs/**/*.py: their keys that",
    "decide memory; of several data sets the first. A form is its number and its keys (JSON), `@` for the model; "
    "a configuration its name, form and model.",
)
_SAID = re.compile(
    r"max_length|sequence_parallel_size|use_varlen_attn"
    r"|model\.(?:type|beta|freeze_llm|label_smoothing|loss_type|penalty_type|max_position_embeddings|model_path"
    r"|quantization_(?:llm|vit)|use_varlen_attn)"
    r"|model\.llm\.(?:type|attn_implementation|expert_in_one_shard|moe_implementation|torch_dtype"
    r"|pretrained_model_name_or_path|load_in_8bit)"
    r"|model\.llm\.quantization_config\.(?:load_in_\dbit|bnb_\w+)"
    r"|model\.(?:llm_|visual_encoder_)?lora\.(?:r|lora_alpha|lora_dropout|type)"
    r"|model\.visual_encoder\.(?:type|pretrained_model_name_or_path)"
    r"|optim_wrapper\.(?:type|dtype|accumulative_counts|clip_grad\.max_norm|optimizer\.(?:type|weight_decay))"
    r"|train_dataloader\.(?:batch_size|pin_memory|batch_sampler\.(?:type|batch_size|drop_last))"
    r"|train_dataloader\.dataset\.(?:type|max_length|pack_to_max_length|use_varlen_attn)"
)
"""What is kept of a configuration."""
_DEFAULTS: Mapping[str, object] = {
    "sequence_parallel_size": 1,
    "use_varlen_attn": False,
    "model.use_varlen_attn": False,
    "model.llm.type": "AutoModelForCausalLM.from_pretrained",
    "model.llm.load_in_8bit": False,
    "model.llm.quantization_config.load_in_8bit": False,
    "model.lora.type": "LoraConfig",
    "model.llm_lora.type": "LoraConfig",
    "optim_wrapper.optimizer.type": "AdamW",
    "optim_wrapper.optimizer.weight_decay": 0,
    "train_dataloader.dataset.use_varlen_attn": False,
}
"""What goes without saying."""


def whole(tree: Tree) -> Mapping[str, str]:
    """What the configurations of a state say; nothing where it has none."""
    lines = list(_lines(tree))
    return {f"{FOLDER}/xtuner_configs.tsv": lines_of(_HEADING, lines)} if lines else {}


def _lines(tree: Tree) -> Iterator[str]:
    said = {
        path.rpartition("/")[2].removesuffix(".py"): _said(path, text)
        for path, text in tree.files("xtuner/configs/**.py")
    }
    forms: dict[str, int] = {}
    named: list[str] = []
    for name, config in sorted(said.items()):
        if not config:
            continue
        form, model = _form(config)
        named.append(f"{name}\t{forms.setdefault(form, len(forms) + 1)}\t{model}")
    yield from (f"{number}\t{form}" for form, number in forms.items())
    yield from named


def _said(path: str, text: str) -> dict[str, Any]:
    root = read_python(Document.of(path, text)).root
    config = plain(root) if root is not None else None
    if not isinstance(config, dict) or not {"model", "train_dataloader"} <= config.keys():
        return {}
    loader = config["train_dataloader"]
    while isinstance(inner := loader["dataset"].get("datasets"), list):
        loader["dataset"] = inner[0]
    if "max_length" in loader["dataset"]:
        config.pop("max_length", None)
    return _kept(config, "")


def _kept(table: Mapping[str, Any], above: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in sorted(table.items()):
        path = f"{above}{key}"
        if isinstance(value, dict):
            if inner := _kept(value, f"{path}."):
                found[key] = inner
        elif _SAID.fullmatch(path) and value is not None:
            word = _class(value) if key == "type" else value
            if path not in _DEFAULTS or word != _DEFAULTS[path]:
                found[key] = word
    return found


def _class(name: str) -> str:
    """The last part of a dotted name, of a method its class too."""
    return re.sub(r"^.*?(\w+(?:\.from_pretrained)?)$", r"\1", name)


def _form(config: dict[str, Any]) -> tuple[str, str]:
    text = json.dumps(config, separators=(",", ":"))
    model = config["model"].get("llm", {}).get("pretrained_model_name_or_path", "")
    return text.replace(json.dumps(model), '"@"'), model


SOURCE = Source(
    "xtuner",
    ("xtuner",),
    "InternLM/xtuner",
    reader("xtuner", (Part("xtuner/tools/llm_calc/llm_calculator.py", ("Config",)),)),
    whole=whole,
)
