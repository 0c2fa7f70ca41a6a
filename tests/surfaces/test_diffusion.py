"""Diffusion, SetFit and timm: what trains, at which size, and that none of it is priced as language modelling."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import sheet

UNET = """
import argparse, torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel
{imports}
parser = argparse.ArgumentParser()
parser.add_argument("--resolution", type=int, default=768)
args = parser.parse_args()
accelerator = Accelerator(mixed_precision="bf16")
text_encoder = CLIPTextModel.from_pretrained("stabilityai/stable-diffusion-2-1", subfolder="text_encoder")
vae = AutoencoderKL.from_pretrained("stabilityai/stable-diffusion-2-1", subfolder="vae")
unet = UNet2DConditionModel.from_pretrained("stabilityai/stable-diffusion-2-1", subfolder="unet")
vae.requires_grad_(False)
text_encoder.requires_grad_(False)
{adapter}
optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-5)
loader = torch.utils.data.DataLoader(dataset, batch_size=4)
unet, optimizer, loader = accelerator.prepare(unet, optimizer, loader)
for batch in loader:
    loss = F.mse_loss(unet(batch["latents"], batch["t"], batch["text"]).sample, batch["noise"])
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
"""


def _facts(text):
    return {fact.name: fact.value for fact in sheet(text).facts}


def test_a_unet_trains_whole():
    facts = _facts(UNET.format(imports="", adapter="unet.enable_gradient_checkpointing()"))

    assert facts["objective"] == "diffusion"
    assert facts["model"] == "stabilityai/stable-diffusion-2-1"
    assert facts["tuning"] == "full"
    assert facts["image_size"] == 768
    assert facts["micro_batch_size"] == 4
    assert facts["activation_checkpointing"] is True
    assert facts["load_dtype"] == "float32"
    assert "sequence_length" not in facts


def test_an_adapter_on_a_cast_unet():
    adapter = """
unet.requires_grad_(False)
unet.to(accelerator.device, dtype=torch.bfloat16)
unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
"""
    facts = _facts(UNET.format(imports="from peft import LoraConfig", adapter=adapter))

    assert (facts["tuning"], facts["lora_r"], facts["load_dtype"]) == ("lora", 4, "bfloat16")
    assert facts["activation_checkpointing"] is False
    assert facts["adapter_cast"] is False


def test_adapters_that_are_widened():
    adapter = """
unet.requires_grad_(False)
unet.to(accelerator.device, dtype=torch.float16)
unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q"]))
cast_training_params([unet], dtype=torch.float32)
"""
    imports = "from peft import LoraConfig\nfrom diffusers.training_utils import cast_training_params"
    assert _facts(UNET.format(imports=imports, adapter=adapter))["adapter_cast"] is True


def test_a_frozen_unet_beside_what_trains():
    facts = _facts(UNET.format(imports="", adapter="unet.requires_grad_(False)"))
    assert facts["frozen_parameters"] == ("^",)
    whole = _facts(UNET.format(imports="", adapter="unet.requires_grad_(False)\nunet.requires_grad_(True)"))
    assert "frozen_parameters" not in whole


@pytest.mark.parametrize(
    ("loaded", "objective"),
    [
        (
            'FluxTransformer2DModel.from_pretrained("black-forest-labs/FLUX.1-dev", subfolder="transformer")',
            "diffusion",
        ),
        ('SD3Transformer2DModel.from_pretrained("stabilityai/stable-diffusion-3-medium-diffusers")', "diffusion"),
        ('ControlNetModel.from_pretrained("lllyasviel/sd-controlnet-canny")', None),
    ],
)
def test_classes_that_predict_noise(loaded, objective):
    text = UNET.format(imports=f"from diffusers import {loaded.partition('.')[0]}", adapter="")
    own = text.replace(
        'UNet2DConditionModel.from_pretrained("stabilityai/stable-diffusion-2-1", subfolder="unet")', loaded
    )

    assert _facts(own).get("objective") == objective


def test_setfit_tunes_its_encoder_on_pairs():
    facts = _facts("""
from setfit import SetFitModel, Trainer, TrainingArguments
model = SetFitModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", labels=["a", "b"])
args = TrainingArguments(batch_size=(32, 2), num_epochs=1, use_amp=True)
Trainer(model=model, args=args, train_dataset=dataset).train()
""")

    assert facts["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert facts["objective"] == "embedding-pairs"
    assert facts["micro_batch_size"] == 32
    assert facts["fp16"] is True


def test_setfit_takes_sixteen_pairs_by_default():
    facts = _facts("""
from setfit import SetFitModel, Trainer
Trainer(model=SetFitModel.from_pretrained("BAAI/bge-small-en-v1.5"), train_dataset=dataset).train()
""")

    assert (facts["model"], facts["micro_batch_size"]) == ("BAAI/bge-small-en-v1.5", 16)


def test_sparse_encoders_go_by_an_objective_of_their_own():
    facts = _facts("""
from sentence_transformers import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments
model = SparseEncoder("distilbert/distilbert-base-uncased")
args = SparseEncoderTrainingArguments(output_dir="out", per_device_train_batch_size=8)
SparseEncoderTrainer(model=model, args=args, train_dataset=dataset).train()
""")

    assert (facts["model"], facts["objective"]) == ("distilbert/distilbert-base-uncased", "sparse-embedding")


def test_timm_classifies_images():
    facts = _facts("""
import timm, torch
model = timm.create_model("resnet50", pretrained=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for images, labels in torch.utils.data.DataLoader(dataset, batch_size=128):
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
""")

    assert (facts["objective"], facts["micro_batch_size"]) == ("image-cls", 128)


def test_adapters_in_processors_of_attention():
    adapter = """
unet.requires_grad_(False)
unet.set_attn_processor({"mid": LoRAAttnProcessor(hidden_size=320, cross_attention_dim=768, rank=8)})
"""
    facts = _facts(
        UNET.format(imports="from diffusers.models.attention_processor import LoRAAttnProcessor", adapter=adapter)
    )

    assert (facts["tuning"], facts["lora_r"]) == ("lora", 8)
