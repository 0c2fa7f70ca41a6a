from __future__ import annotations

from textwrap import indent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.surfaces.reading import facts, line, reason, says, sheet
from vramlint.surfaces.layers import LAYERS
from vramlint.surfaces.own_models import parameters
from vramlint.text import Place, Span
from vramlint.values import Call, Items, Scalar, Unknown, Value

LOOP = """
import copy
from collections import OrderedDict
import torch
import torch.nn as nn

{module}

model = {made}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for batch in loader:
    loss = model(batch)
    loss.backward()
    optimizer.step()
"""


def trained(made: str, module: str = "") -> str:
    return LOOP.replace("{module}", module).replace("{made}", made)


def of_attributes(*statements: str) -> str:
    body = "\n".join(("super().__init__()", *statements))
    return f"class Model(nn.Module):\n    def __init__(self):\n{indent(body, ' ' * 8)}\n"


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        ("nn.Linear(10, 20)", 220),
        ("nn.Linear(10, 20, bias=False)", 200),
        ("nn.Linear(in_features=10, out_features=20)", 220),
        ("nn.Bilinear(2, 3, 4)", 28),
        ("nn.Embedding(1000, 16, padding_idx=0)", 16_000),
        ("nn.Conv1d(4, 8, 3)", 104),
        ("nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)", 9_408),
        ("nn.Conv2d(32, 32, (3, 1), groups=32)", 128),
        ("nn.Conv3d(1, 2, 3)", 56),
        ("nn.ConvTranspose2d(8, 4, 2)", 132),
        ("nn.LayerNorm(768)", 1_536),
        ("nn.LayerNorm([4, 5], elementwise_affine=False)", 0),
        ("nn.LayerNorm((4, 5), bias=False)", 20),
        ("nn.RMSNorm(64)", 64),
        ("nn.BatchNorm2d(64)", 128),
        ("nn.BatchNorm1d(64, affine=False)", 0),
        ("nn.InstanceNorm2d(64)", 0),
        ("nn.GroupNorm(8, 64)", 128),
        ("nn.MultiheadAttention(512, 8)", 1_050_624),
        ("nn.MultiheadAttention(64, 4, kdim=32, vdim=16)", 11_520),
        ("nn.TransformerEncoderLayer(512, 8)", 3_152_384),
        ("nn.TransformerEncoderLayer(d_model=512, nhead=8, dim_feedforward=1024)", 2_102_784),
        ("nn.TransformerDecoderLayer(512, 8)", 4_204_032),
        ("nn.TransformerEncoder(nn.TransformerEncoderLayer(512, 8), num_layers=6)", 18_914_304),
        ("nn.Transformer()", 44_140_544),
        ("nn.LSTM(10, 20, 2)", 5_920),
        ("nn.LSTM(10, 20, 2, bidirectional=True)", 15_040),
        ("nn.GRU(10, 20, bias=False)", 1_800),
        ("nn.LSTMCell(10, 20)", 2_560),
        ("nn.PReLU()", 1),
        ("nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))", 58),
        ("nn.Sequential(OrderedDict([('a', nn.Linear(4, 8)), ('b', nn.GELU())]))", 40),
        ("nn.ModuleList([nn.Linear(4, 8) for _ in range(3)])", 120),
        ("nn.ModuleList([nn.Linear(4, 4)] * 3)", 20),
        ("nn.ModuleList([copy.deepcopy(nn.Linear(4, 4)) for _ in range(3)])", 60),
        ("nn.ModuleDict({'a': nn.Linear(4, 4), 'b': nn.Embedding(5, 4)})", 40),
        ("nn.Parameter(torch.zeros(1, 16, 8))", 128),
        ("nn.Parameter(torch.randn((16, 8)) * 0.02)", 128),
        ("nn.Parameter(torch.empty(16, 8).normal_(std=0.02))", 128),
        ("nn.Parameter(torch.tensor(0.07))", 1),
        ("nn.Parameter(torch.full((3, 4), 1.0), requires_grad=True)", 12),
        ("nn.CrossEntropyLoss()", 0),
    ],
)
def test_the_parameters_of_a_layer(layer: str, count: int) -> None:
    found = sheet(trained("Model()", of_attributes("self.head = nn.Linear(1, 1)", f"self.layer = {layer}")))
    assert says(found, "parameters") == count + 2


def test_a_model_of_layers_alone() -> None:
    assert says(sheet(trained("nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))")), "parameters") == 58


TRANSFORMER = """
class Config:
    vocab, width, layers, positions = 1000, 64, 6, 128

class Norm(nn.Module):
    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

class Block(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.norm = Norm(config.width, bias=False)
        self.up = nn.Linear(config.width, 4 * config.width)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * config.width, config.width)
        self.gate = nn.Linear(8, 1) if index % 2 == 0 else None

class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.parts = nn.ModuleDict(dict(
            tokens=nn.Embedding(config.vocab, config.width),
            positions=nn.Embedding(config.positions, config.width),
            blocks=nn.ModuleList([Block(config, index) for index in range(config.layers)]),
        ))
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        TIE
        self.apply(self.start)

    def start(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.02)

    def optimizers(self):
        groups = [{"params": [p for p in self.parameters() if p.dim() > 1]}]
        return torch.optim.AdamW(groups)
"""
BLOCK = 64 + (64 * 256 + 256) + (256 * 64 + 64)


def test_a_transformer_of_its_own() -> None:
    found = sheet(trained("Model(Config())", TRANSFORMER.replace("TIE", "pass")))
    assert says(found, "parameters") == 2 * 64_000 + 128 * 64 + 6 * BLOCK + 3 * 9
    fact = found.get("parameters")
    assert fact is not None
    assert "parts.blocks" in fact.reason
    assert "the files define the model themselves" in reason(found, "model")
    assert facts(found, "tuning", "activation_checkpointing", "bf16") == {
        "tuning": "full",
        "activation_checkpointing": False,
        "bf16": False,
    }


@pytest.mark.parametrize(
    "tie",
    [
        "self.head.weight = self.parts.tokens.weight",
        "self.parts.tokens.weight = self.head.weight",
        "self.parts['tokens'].weight = self.head.weight",
    ],
)
def test_tied_weights_count_once(tie: str) -> None:
    found = sheet(trained("Model(Config())", TRANSFORMER.replace("TIE", tie)))
    assert says(found, "parameters") == 64_000 + 128 * 64 + 6 * BLOCK + 3 * 9


def test_one_module_in_two_places_counts_once() -> None:
    module = of_attributes("self.first = nn.Linear(4, 4)", "self.second = self.first")
    assert says(sheet(trained("Model()", module)), "parameters") == 20


@pytest.mark.parametrize(
    "grown",
    [
        "for size in (4, 8, 16):\n    self.layers.append(nn.Linear(size, 2 * size))",
        "for index in range(3):\n    self.layers += [nn.Linear(4 * 2 ** index, 8 * 2 ** index)]",
        "self.layers.extend([nn.Linear(size, 2 * size) for size in (4, 8, 16)])",
    ],
)
def test_layers_that_are_added_one_by_one(grown: str) -> None:
    count = (4 * 8 + 8) + (8 * 16 + 16) + (16 * 32 + 32)
    if "+=" not in grown:
        found = sheet(trained("Model()", of_attributes("self.layers = nn.ModuleList()", grown)))
        assert says(found, "parameters") == count
    listed = "self.layers = []", grown, "self.net = nn.Sequential(*self.layers)"
    assert says(sheet(trained("Model()", of_attributes(*listed))), "parameters") == count


def test_modules_added_by_name() -> None:
    module = of_attributes("for index in range(3):\n    self.add_module(f'layer{index}', nn.Linear(4, 4))")
    assert says(sheet(trained("Model()", module)), "parameters") == 60


def test_a_class_over_a_container() -> None:
    module = """
class Unit(nn.Sequential):
    def __init__(self, inside, outside):
        super().__init__(nn.Conv2d(inside, outside, 3, bias=False), nn.BatchNorm2d(outside), nn.ReLU())

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.units = nn.ModuleList([Unit(4, 8), Unit(8, 8)])
"""
    assert says(sheet(trained("Model()", module)), "parameters") == (288 + 16) + (576 + 16)


def test_deep_models_are_counted_whole() -> None:
    config = TRANSFORMER.replace("TIE", "pass").replace(
        "layers, positions = 1000, 64, 6", "layers, positions = 1000, 64, 96"
    )
    found = sheet(trained("Model(Config())", config))
    assert says(found, "parameters") == 2 * 64_000 + 128 * 64 + 96 * BLOCK + 48 * 9


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("nn.Linear(width(), 4)", "in_features of Linear"),
        ("nn.Parameter(torch.zeros(width()))", "shape of a parameter"),
        ("timm.create_model('resnet50')", "timm.create_model"),
        ("nn.AdaptiveLogSoftmaxWithLoss(10, 20, [5])", "AdaptiveLogSoftmaxWithLoss"),
        ("nn.Linear(4, 4) if flag() else nn.Linear(8, 8)", "flag()"),
    ],
)
def test_what_cannot_be_counted_says_why(layer: str, why: str) -> None:
    module = "import timm\n" + of_attributes("self.head = nn.Linear(1, 1)", f"self.layer = {layer}")
    assert why in reason(sheet(trained("Model()", module)), "parameters")


def test_parts_that_are_known_are_counted_where_others_are_not() -> None:
    module = of_attributes("self.tokens = nn.Embedding(vocabulary(), 8)", "self.layer = nn.Linear(8, 8)")
    found = sheet(trained("Model()", module))
    assert reason(found, "parameters")
    assert says(found, "parameters_at_least") == 72


def test_the_module_that_the_optimizer_gets_is_the_trained_one() -> None:
    module = of_attributes("self.layer = nn.Linear(4, 4)") + of_attributes("self.layer = nn.Linear(9, 9)").replace(
        "Model", "Teacher"
    )
    found = sheet(trained("Model()", module + "\nteacher = Teacher()\n"))
    assert says(found, "parameters") == 20


def test_several_modules_of_which_none_is_said_to_train() -> None:
    module = of_attributes("self.layer = nn.Linear(4, 4)") + of_attributes("self.layer = nn.Linear(9, 9)").replace(
        "Model", "Other"
    )
    source = trained("Model()", module + "\nother = Other()\n").replace("model.parameters()", "weights()")
    assert sheet(source).get("parameters") is None


def test_frozen_parts_leave_open_what_trains() -> None:
    module = of_attributes("self.body = nn.Linear(4, 4)", "self.head = nn.Linear(4, 4)")
    source = trained("Model()", module).replace("optimizer =", "model.body.requires_grad_(False)\noptimizer =")
    found = sheet(source)
    assert says(found, "parameters") == 40
    assert found.get("tuning") is None or not found.get("tuning").known  # type: ignore[union-attr]


def test_a_module_of_its_own_under_lightning() -> None:
    found = sheet(
        """
        import lightning as L
        import torch
        from torch import nn

        class Module(L.LightningModule):
            def __init__(self, width=32):
                super().__init__()
                self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
                self.loss = nn.CrossEntropyLoss()

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters())

        L.Trainer(precision="16-mixed", devices=1).fit(Module(width=64), loader)
        """
    )
    assert facts(found, "parameters", "optimizer", "fp16", "tuning") == {
        "parameters": 64 * 64 + 64 + 640 + 10,
        "optimizer": "adamw_torch",
        "fp16": True,
        "tuning": "full",
    }


@pytest.mark.parametrize(
    ("statement", "dtype"),
    [("model.to(torch.bfloat16)", "bfloat16"), ("model.half()", "float16")],
)
def test_casts_of_the_module(statement: str, dtype: str) -> None:
    source = trained("Model()", of_attributes("self.layer = nn.Linear(4, 4)"))
    assert says(sheet(source.replace("optimizer =", f"{statement}\noptimizer =")), "load_dtype") == dtype


def test_the_default_dtype_of_fresh_weights() -> None:
    source = trained("Model()", of_attributes("self.layer = nn.Linear(4, 4)"))
    found = sheet(source.replace("model =", "torch.set_default_dtype(torch.bfloat16)\nmodel =", 1))
    assert says(found, "load_dtype") == "bfloat16"
    assert line(found, "load_dtype") > 0


def test_methods_of_a_compiled_module_are_its_own() -> None:
    source = trained("Model(Config())", TRANSFORMER.replace("TIE", "pass"))
    source = source.replace(
        "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)",
        "model = torch.compile(model)\noptimizer = model.optimizers()",
    )
    found = sheet(source)
    assert facts(found, "optimizer", "torch_compile") == {"optimizer": "adamw_torch", "torch_compile": True}


PAIR = """
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM, CLIPVisionModel

    class Pair(nn.Module):
        def __init__(self, vision, language):
            super().__init__()
            self.vision, self.language = vision, language
            self.bridge = nn.Linear(8, 8)

    vision = CLIPVisionModel.from_pretrained("openai/clip-vit-large-patch14")
    model = Pair(vision, AutoModelForCausalLM.from_pretrained("gpt2"))
    optimizer = torch.optim.AdamW(model.parameters())
    model(x).backward()
    optimizer.step()
"""


def test_a_module_of_several_loaded_models_is_none_of_them() -> None:
    found = sheet(PAIR)
    assert reason(found, "model")
    assert reason(found, "parameters")


def test_a_module_around_one_loaded_model_is_that_model() -> None:
    source = PAIR.replace("self.vision, self.language = vision, language", "self.language = language")
    assert says(sheet(source), "model") == "gpt2"


def test_several_modules_that_all_train() -> None:
    found = sheet(
        """
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.layer = nn.Linear(width, width)

        a, b = Net(4), Net(8)
        first, second = torch.optim.Adam(a.parameters()), torch.optim.Adam(b.parameters())
        a(x).sum().backward()
        first.step()
        """
    )
    assert says(found, "tuning") == "full"
    assert found.get("parameters") is None


ARGUMENTS = st.lists(
    st.one_of(
        st.integers(-4, 600).map(Scalar),
        st.floats(allow_nan=True).map(Scalar),
        st.text(max_size=4).map(Scalar),
        st.booleans().map(Scalar),
        st.just(Scalar(None)),
        st.just(Unknown("somewhere")),
        st.lists(st.integers(-2, 9).map(Scalar), max_size=3).map(lambda items: Items(tuple(items))),
    ),
    max_size=9,
)


@given(st.sampled_from(sorted(LAYERS)), ARGUMENTS)
def test_no_arguments_of_a_layer_raise(name: str, arguments: list[Value]) -> None:
    fact = parameters(Call(f"torch.nn.{name}", tuple(arguments), (), Place("a.py", Span(1, 1, 1, 2))))
    assert fact is None or not fact.candidates or int(str(fact.value)) > 0


DICT = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()
            self.emb = torch.nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
            self.head = torch.nn.Linear(cfg["emb_dim"], cfg["vocab_size"])

    def main(config):
        model = Net(config)
        LOAD
        optimizer = torch.optim.AdamW(model.parameters())
        for batch in rows:
            loss = torch.nn.functional.cross_entropy(model.head(model.emb(batch)), batch)
            loss.backward()
            optimizer.step()

    if __name__ == "__main__":
        SIZES = {"vocab_size": 50257, "context_length": 256, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
        main(SIZES)
"""


def test_a_dict_of_dimensions() -> None:
    found = sheet(DICT.replace("LOAD", ""))
    names = ("layers", "attention_heads", "hidden_size", "vocabulary_size", "sequence_length", "objective")
    assert facts(found, *names) == dict(zip(names, (12, 12, 768, 50257, 256, "pretrain"), strict=True))
    assert sheet(DICT.replace("LOAD", 'model.load_state_dict(torch.load("a.pt"))')).get("objective") is None


OWN_CONFIG = """
    import math
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    class NetConfig(PretrainedConfig):
        model_type = "net"

        def __init__(self, hidden_size=512, num_hidden_layers=8, **kwargs):
            super().__init__(**kwargs)
            self.hidden_size = hidden_size
            self.num_hidden_layers = num_hidden_layers
            self.num_attention_heads = kwargs.get("num_attention_heads", 8)
            self.intermediate_size = kwargs.get("intermediate_size", math.ceil(hidden_size * math.pi / 64) * 64)

    class Net(PreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.up = torch.nn.Linear(config.hidden_size, config.intermediate_size, bias=False)

    class Batches(torch.utils.data.Sampler):
        def __init__(self, rows, batch_size):
            self.rows = rows
            self.batch_size = batch_size

    model = Net(NetConfig(hidden_size=768))
    optimizer = torch.optim.AdamW(model.parameters())
    loader = torch.utils.data.DataLoader(rows, batch_sampler=Batches(rows, 16))
    for batch in loader:
        loss = model(batch).loss
        loss.backward()
        optimizer.step()
"""


def test_a_pretrained_model_class_of_the_files() -> None:
    found = sheet(OWN_CONFIG)
    names = ("layers", "attention_heads", "hidden_size", "parameters", "micro_batch_size", "torch_compile")
    assert facts(found, *names) == dict(zip(names, (8, 8, 768, 768 * 2432, 16, False), strict=True))
    assert found.get("model_type") is None


def test_a_copy_of_a_models_code_is_what_its_name_says() -> None:
    found = sheet("""
        from transformers import PreTrainedModel, Trainer, TrainingArguments

        class LlamaForCausalLM(PreTrainedModel):
            def __init__(self, config):
                super().__init__(config)

        model = LlamaForCausalLM.from_pretrained("org/llama-7b", torch_dtype="float16")
        Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows).train()
    """)
    assert facts(found, "model", "load_dtype", "objective") == {
        "model": "org/llama-7b",
        "load_dtype": "float16",
        "objective": "sft",
    }
