"""Changes of programs that no key says."""

from __future__ import annotations

import ast

import pytest

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.surfaces.code_changes import write_checkpointing, write_optimizer
from vramlint.surfaces.holding import Holder
from vramlint.surfaces.literals import PYTHON
from vramlint.text import Document, Place, apply_edits

HEAD = "import bitsandbytes as bnb\r\nfrom torch.optim import AdamW\r\ndef f():\r\n"
LOAD = 'AutoModelForCausalLM.from_pretrained("gpt2")'


def place(document: Document, text: str) -> Place:
    start = document.text.index(text)
    return Place(document.path, document.span(start, start + len(text)))


def optimizer(text: str, call: str, value: FactValue = "adamw_bnb_8bit", via: str = "code") -> str | None:
    document = Document.of("train.py", text)
    fact = Fact("optimizer", (Candidate("adamw_torch", place(document, call)),), Origin.WRITTEN, "AdamW", via)
    said = write_optimizer(value, fact, {"train.py": document})
    if said is None:
        return None
    after = apply_edits(document, said[1])
    ast.parse(after)
    return after


@pytest.mark.parametrize(
    ("before", "call", "value", "expected"),
    [
        (
            '"""Doc."""\nfrom __future__ import annotations\n\nimport torch\no = torch.optim.AdamW(p, lr=1e-5)  # o\n',
            "torch.optim.AdamW(p, lr=1e-5)", "adamw_bnb_8bit",
            '"""Doc."""\nfrom __future__ import annotations\n\nimport bitsandbytes as bnb\nimport torch\n'
            "o = bnb.optim.AdamW8bit(p, lr=1e-5)  # o\n",
        ),
        (
            f"{HEAD}    return AdamW(\r\n        params=p)\r\n",
            "AdamW(\r\n        params=p)", "paged_adamw_8bit", None,
        ),
        (
            f"{HEAD}    return AdamW(\r\n        p, eps=1)\r\n",
            "AdamW(\r\n        p, eps=1)", "paged_adamw_8bit",
            f"{HEAD}    return bnb.optim.PagedAdamW8bit(\r\n        p, eps=1)\r\n",
        ),
        (
            "import torch.optim as optim\no = optim.AdamW(p, lr=1)\n", "optim.AdamW(p, lr=1)", "adamw_torch_fused",
            "import torch.optim as optim\no = optim.AdamW(p, lr=1, fused=True)\n",
        ),
        (
            "import torch\no = torch.optim.AdamW(p, fused=False)\n", "torch.optim.AdamW(p, fused=False)",
            "adamw_torch_fused",
            "import torch\no = torch.optim.AdamW(p, fused=True)\n",
        ),
    ],
)  # fmt: skip
def test_another_optimizer_takes_the_arguments(before: str, call: str, value: str, expected: str | None) -> None:
    assert optimizer(before, call, value) == expected


@pytest.mark.parametrize(
    ("before", "call"),
    [
        ("from transformers import AdamW\no = AdamW(p)\n", "AdamW(p)"),
        ("from torch.optim import AdamW as A\no = A(p)\n", "A(p)"),
        ("import torch\no = torch.optim.AdamW(p, fused=True)\n", "torch.optim.AdamW(p, fused=True)"),
        ("import torch\no = torch.optim.AdamW(p, 1e-5)\n", "torch.optim.AdamW(p, 1e-5)"),
        ("import torch\no = torch.optim.AdamW(p, **more)\n", "torch.optim.AdamW(p, **more)"),
        ("import torch\no = torch.optim.SGD(p)\n", "torch.optim.SGD(p)"),
        ("import torch\no = make(p)\n(", "make(p)"),
    ],
)
def test_what_is_not_sure_is_left(before: str, call: str) -> None:
    assert optimizer(before, call) is None


def test_only_what_a_call_says_is_changed() -> None:
    text = "import torch\no = torch.optim.AdamW(p)\n"
    assert optimizer(text, "torch.optim.AdamW(p)", via="literal") is None
    assert optimizer(text, "torch.optim.AdamW(p)", "galore_adamw") is None
    assert (
        optimizer(
            "import torch\no = torch.optim.AdamW(p, foreach=True)\n",
            "torch.optim.AdamW(p, foreach=True)",
            "adamw_torch_fused",
        )
        is None
    )


@pytest.mark.parametrize(("tuning", "further"), [("full", ""), ("lora", "    model.enable_input_require_grads()\n")])
def test_checkpoints_are_switched_on_behind_the_load(tuning: str, further: str) -> None:
    document = Document.of("train.py", f"def main():\n    model = {LOAD}  # m\n    use(model)\n")
    load = Holder("from-pretrained", PYTHON, document, place(document, LOAD))
    facts = {"tuning": Fact("tuning", (Candidate(tuning),), Origin.DERIVED)}
    said = write_checkpointing(facts, load)
    assert said is not None
    assert said[0] == "model.gradient_checkpointing_enable()"
    expected = (
        f"def main():\n    model = {LOAD}  # m\n    model.gradient_checkpointing_enable()\n{further}    use(model)\n"
    )
    assert apply_edits(document, said[1]) == expected
    assert write_checkpointing(facts, None) is None
    assert write_checkpointing({**facts, "loop": Fact("loop", (Candidate("trainer"),), Origin.DERIVED)}, load) is None
