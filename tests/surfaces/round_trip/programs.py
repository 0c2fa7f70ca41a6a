"""Programs that define their settings by themselves, and the commands that start them."""

from __future__ import annotations

from tests.surfaces.round_trip.rendering import Data, Style, as_python, finished
from vramlint.api import SourceFile, Surroundings, lint
from vramlint.discovery.forms import form_of
from vramlint.engine.loader import load_rules
from vramlint.facts import Fact
from vramlint.settings import Settings
from vramlint.text import Document

DIFFUSION = """\
import argparse
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from peft import LoraConfig


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrained_model_name_or_path", type=str, default=None)
    parser.add_argument("--train_batch_size", type=int, default=16)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--use_8bit_adam", action="store_true")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--max_grad_norm", default=1.0, type=float)
    parser.add_argument("--mixed_precision", type=str, default=None, choices=["no", "fp16", "bf16"])
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
    )
    unet = UNet2DConditionModel.from_pretrained(args.pretrained_model_name_or_path, subfolder="unet")
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    if args.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if args.use_8bit_adam:
        import bitsandbytes as bnb

        optimizer_cls = bnb.optim.AdamW8bit
    else:
        optimizer_cls = torch.optim.AdamW
    optimizer = optimizer_cls(unet.parameters())
    loader = torch.utils.data.DataLoader(dataset, shuffle=True, batch_size=args.train_batch_size)
    for batch in loader:
        loss = unet(batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), args.max_grad_norm)
        optimizer.step()


main()
"""
"""In the form of diffusers' examples/text_to_image/train_text_to_image_lora.py."""
LOADED = """\
import argparse
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

"""
TRAINS = """\
model = AutoModelForCausalLM.from_pretrained("gpt2")
optimizer = torch.optim.AdamW(model.parameters())
for batch in train_loader:
    model(**batch).loss.backward()
    optimizer.step()
"""
RULES = load_rules()


def started(document: Document) -> tuple[Fact, ...]:
    """The facts of the program that a launcher starts."""
    files = {document.path: document.text.encode(), "train.py": DIFFUSION.encode()}
    source = SourceFile(document.path, form_of(document.path), files[document.path], explicit=True)
    around = Surroundings(load=files.get, names=lambda _: sorted(files), around=lambda _: tuple(files))
    (job,) = lint([source], Settings(), RULES, around).jobs
    return job.facts


def constants(data: Data, style: Style) -> str:
    """Settings as names of the module."""
    note = "  # tuned" if style.comments else ""
    rows = [f"{key} = {as_python(value, style)}{note}\n" for key, value in data.items()]
    return finished(f"{LOADED}{''.join(rows)}{TRAINS}", style)


def options(data: Data, style: Style) -> str:
    """Settings as defaults of the command line."""
    rows = [f'parser.add_argument("--{key}", type=int, default={value!r})\n' for key, value in data.items()]
    return finished(
        f"{LOADED}parser = argparse.ArgumentParser()\n{''.join(rows)}args = parser.parse_args()\n{TRAINS}", style
    )


def loop(data: Data, style: Style) -> str:
    """What a loop hands to torch."""
    size, bound = data.get("batch_size", 1), data.get("max_norm", 1.0)
    clips = f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={bound!r})"
    loaders = f"train_loader = DataLoader(rows, shuffle=True, batch_size={size!r})\n"
    return finished(f"{LOADED}{loaders}{TRAINS}    {clips}\n", style)
