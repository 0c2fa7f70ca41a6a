"""Hand-made reports for the renderers."""

from __future__ import annotations

from vramlint.estimate import Amount, Cost, Duration, Estimate, PhasePeak, Slowdown, Traffic
from vramlint.facts import Candidate, Fact, Origin
from vramlint.findings import Finding, Fix, JobReport, Label, Report, Severity, Step
from vramlint.text import Document, Edit, Place, Span

GIB = 1 << 30

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", dtype=torch.float32)
args = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=4, optim="adamw_torch",
\tdeepspeed="ds_config.json",
)
Trainer(model=model, args=args).train()
"""

DEEPSPEED = '{"zero_optimization": {"stage": 0}, "名前": "日本", "zero_optimisation": 1}\n'

documents = {"train.py": Document.of("train.py", SCRIPT), "ds.json": Document.of("ds.json", DEEPSPEED)}


def place(path: str, text: str, nth: int = 0) -> Place:
    """The place of the nth occurrence of a text in a sample document."""
    document = documents[path]
    start = -1
    for _ in range(nth + 1):
        start = document.text.index(text, start + 1)
    return Place(path, document.span(start, start + len(text)))


high = Estimate(
    method="simulated",
    allocated=91 * GIB,
    reserved=92 * GIB,
    outside=GIB // 2,
    peak_phase="optimizer",
    first_step=(PhasePeak("forward", 24 * GIB, 26 * GIB),),
    phases=(
        PhasePeak("forward", 30 * GIB, 31 * GIB),
        PhasePeak("backward", 60 * GIB, 61 * GIB),
        PhasePeak("optimizer", 91 * GIB, 92 * GIB),
    ),
    components=(
        Amount("weights", 25 * GIB),
        Amount("gradients", 25 * GIB),
        Amount("optimizer states", 41 * GIB - 3 * 2**20),
        Amount("buffers", 3 * 2**20),
    ),
    activations=(Amount("attention", 2 * GIB), Amount("norms", GIB)),
    tensors=(Amount("lm_head.weight", GIB // 2), Amount("logits", GIB // 4)),
    parameters=25 * GIB,
    trainable_parameters=6_738_415_616,
    total_parameters=6_738_415_616,
    gradients=25 * GIB,
    optimizer_states=41 * GIB,
    saved_activations=3 * GIB,
    notes=("attention masks of padded batches are taken as dense",),
)

low = Estimate(
    method="simulated",
    allocated=20 * GIB,
    reserved=21 * GIB,
    outside=GIB // 2,
    peak_phase="backward",
    phases=(PhasePeak("backward", 20 * GIB, 21 * GIB),),
    components=(Amount("weights", 20 * GIB),),
)

fix = Fix(
    steps=(
        Step(
            'optim="paged_adamw_8bit"',
            38 * GIB,
            "optimizer states in 8 bit",
            safe=False,
            edits=(Edit(place("train.py", '"adamw_torch"'), '"paged_adamw_8bit"'),),
            slowdown=Slowdown(0.98, 1.02, "products at one utilisation"),
        ),
        Step(
            "dtype=torch.bfloat16",
            25 * GIB,
            "weights lose precision",
            safe=False,
            edits=(Edit(place("train.py", "torch.float32"), "torch.bfloat16"),),
            slowdown=Slowdown(1.0, 1.0, "products at one utilisation", "the host's update"),
        ),
    ),
    peak=22 * GIB,
    fits=True,
)

exceeds = Finding(
    code="VRAM101",
    name="exceeds-gpu-memory",
    severity=Severity.ERROR,
    message="needs at least 91.50 GiB, NVIDIA GeForce RTX 3090 has 23.58 GiB",
    labels=(
        Label(place("train.py", '"meta-llama/Llama-2-7b-hf"'), "25.00 GiB of weights"),
        Label(place("train.py", "torch.float32"), "in 4 bytes each", primary=True),
        Label(place("train.py", '"adamw_torch"'), "41.00 GiB of optimizer states"),
        Label(Place("train.py", Span(7, 33, 7, 34)), "sets the activations"),
        Label(place("ds.json", '"stage": 0'), "nothing is sharded"),
    ),
    notes=("sequence_length 512 is the default of transformers 5.23.0",),
    help=("declare another GPU with --gpu if this is not the one",),
    fix=fix,
    estimate=high,
)

misspelt = Finding(
    code="VRAM803",
    name="unknown-deepspeed-key",
    severity=Severity.WARNING,
    message="DeepSpeed ignores the unknown key `zero_optimisation`",
    labels=(Label(place("ds.json", '"zero_optimisation"'), "did you mean `zero_optimization`?", primary=True),),
    help=("rename it\nor remove it",),
)

multiline = Finding(
    code="VRAM202",
    name="odd",
    severity=Severity.INFO,
    message="spans lines, 100% of them",
    labels=(Label(Place("train.py", Span(5, 8, 9, 2)), "this call", primary=True),),
)

facts = (
    Fact(
        "model",
        (Candidate("meta-llama/Llama-2-7b-hf", place("train.py", '"meta-llama/Llama-2-7b-hf"')),),
        Origin.WRITTEN,
        via="literal",
    ),
    Fact(
        "micro_batch_size",
        (Candidate(4, Place("train.py", Span(7, 33, 7, 34))),),
        Origin.WRITTEN,
        key="per_device_train_batch_size",
    ),
    Fact("gradient_accumulation_steps", (Candidate(1),), Origin.DEFAULT, library="transformers 5.23.0"),
    Fact("sequence_length", (Candidate(64), Candidate(4096)), Origin.ASSUMED, reason="no file bounds it"),
    Fact("world_size", (), Origin.UNKNOWN, reason="environment variable WORLD_SIZE"),
    Fact("lora_target_modules", (Candidate(("q_proj", "v_proj"), None, "args.small"),), Origin.DERIVED),
)

cost = Cost(
    forward=28 * 10**12,
    backward=56 * 10**12,
    recomputed=27 * 10**12,
    attention=9 * 10**12,
    step=3552 * 10**12,
    micro_batches=4,
    gpus=8,
    tokens=65_536,
    traffic=(
        Traffic("gradients, all-reduce", "gpus", 23 * GIB, "2 × gradients × (8 - 1)/8"),
        Traffic("optimizer's update", "memory", 188 * GIB, "3 × trained weights + 2 × states"),
    ),
    bubble=0.125,
    duration=Duration(0.75, 1.5, "32% to 59% of the card's 16-bit rate"),
    steps=1000,
    notes=("element-wise operators are left out",),
)

checked = JobReport(
    name="train.py with ds_config.json",
    path="train.py",
    status="checked",
    facts=facts,
    low=low,
    high=high,
    gpu="NVIDIA GeForce RTX 3090",
    gpu_usable=int(23.58 * GIB),
    gpu_origin="--gpu",
    versions=(("transformers", "5.23.0", "newest known"), ("torch", "2.9.1", "requirements.txt:3")),
    thumb=(("16 bytes per parameter", 107 * GIB, "counts states only"),),
    cost=cost,
    contributions=(("sequence_length", 50 * GIB),),
    kind="training",
)

undeclared = JobReport(
    name="other.py", path="other.py", status="checked", low=low, high=high, fits_on=("H200", "B200"), kind="training"
)

unresolved = JobReport(
    name="late.py",
    path="late.py",
    status="unresolved",
    reason="the model is only known at run time (command line: --model is required)",
    kind="training",
    unresolved=("model",),
)

report = Report(
    findings=(misspelt, exceeds, multiline),
    jobs=(checked, undeclared, unresolved),
    files_checked=3,
    files_skipped=3,
    suppressed=1,
    documents=documents,
)
