"""What `fit` prints for hand-made plans."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
from msgspec.structs import replace

from tests.report.samples import documents, place
from tests.report.test_machine_formats import schema
from vramlint.estimate import Slowdown
from vramlint.plans import Change, FitReport, Fitting, Largest, Plan, Refused, WhyNot
from vramlint.report import View, fit, fit_json
from vramlint.text import Edit

GIB = 1 << 30
VIEW = View(version="0.1.0")
Golden = Callable[[str, str], None]

batch = Change("micro-batch-1", "per_device_train_batch_size=1", "", "same global batch", by_hand=False)
zero = Change("zero-3", "DeepSpeed ZeRO stage 3", "", "needs DeepSpeed", by_hand=True)
states = Change(
    "8bit-optimizer",
    'optim="adamw_bnb_8bit"',
    "the optimizer's states have 8 bits",
    "same speed",
    by_hand=False,
    package="bitsandbytes",
)
edit = Edit(place("train.py", "4, "), "1, ")
plans = (
    Plan((batch, zero), 21 * GIB, Slowdown(1.25, 1.4, "links"), 0, (edit,), 80 * GIB, 60 * GIB),
    Plan((states,), 22 * GIB, Slowdown(0.98, 0.98, "work", "an assumption"), 1, (edit,), 0, 22 * GIB),
)
planned = Fitting(
    "train.py", "train.py", "plans", "RTX 3090", 24 * GIB, 23 * GIB, 91 * GIB, "", plans,
    larger_gpus=("A100", "H100"), more_gpus=8, notes=("1 GPU is assumed",), simulations=12,
)  # fmt: skip
nothing = replace(
    planned,
    name="b.py",
    status="nothing",
    plans=(),
    nearest=plans[0],
    more_gpus=None,
    allowances=("lora", "gpus"),
    allowed_gpus=4,
    more_gpus_changed=16,
)
machine = replace(batch, name="gpu", description="accelerators: H100:8")
offered = Fitting(
    "train.py", "train.py", "plans", offers=4, notes=("1 GPU is assumed",),
    plans=(
        replace(
            plans[0], changes=(machine, *plans[0].changes), gpu="h100x8", gpus=8, tokens_per_second=(54321.0, 98765.4)
        ),
        replace(plans[1], changes=(), gpu="h200", tokens_per_second=(1234.5, 1234.5), price=(0.0521, 0.1)),
    ),
    refused=(Refused("t4", 30 * GIB, 14 * GIB), Refused("h100x2", reason="its files start 4 processes")),
)  # fmt: skip
report = FitReport(
    (
        planned,
        nothing,
        replace(nothing, name="c.py", nearest=None),
        replace(planned, name="d.py", status="tight", plans=plans[1:], notes=()),
        Fitting("e.py", "train.py", "fits", "RTX 3090", 24 * GIB, 23 * GIB, 9 * GIB),
        Fitting("f.py", "train.py", "unresolved", "RTX 3090", reason="model is not known\x1b"),
        replace(planned, name="g.py", largest=Largest("micro-batch", 1, 37, plans[0], "no larger one was tried")),
        replace(planned, name="h.py", largest=Largest("seq-len", 4096, None)),
        replace(
            planned,
            name="i.py",
            why_not=WhyNot("8bit-adam", "8-bit AdamW", "plan 1 changes less", 91 * GIB, 80 * GIB, None, "8 bits"),
        ),
        replace(planned, name="j.py", why_not=WhyNot("lora", "LoRA", "it does not apply")),
        replace(offered, name="k.py"),
        replace(offered, name="l.py", plans=offered.plans[:1], refused=()),
        replace(offered, name="m.py", status="nothing", plans=()),
    ),
    documents,
)


def test_text(golden: Golden) -> None:
    golden("fit.txt", fit.render("train.py", report, VIEW))


def test_colour_only_paints() -> None:
    import re

    painted = fit.render("train.py", report, View(color=True))
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == fit.render("train.py", report, VIEW)


def test_json_is_of_the_published_form(golden: Golden) -> None:
    text = fit_json.render("train.py", report, VIEW)
    jsonschema.validate(json.loads(text), schema("fit-1"))
    golden("fit.json", text)
