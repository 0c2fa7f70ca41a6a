"""Which settings decided a branch or chose a value, what was left out, and where values are passed on."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.readers.python.reading import at, call, document, program
from vramlint.readers.python import read_program
from vramlint.text import Document, Place
from vramlint.values import Decision, Invocation, Scalar

PARSER = """
import argparse
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
parser = argparse.ArgumentParser()
parser.add_argument("--lora", type=bool, default=False)
parser.add_argument("--bits", type=int, default=16)
parser.add_argument("--quant", default="none")
parser.add_argument("--adapter", default=None)
args = parser.parse_args()
"""


def texts(text: str, places: tuple[Place, ...]) -> list[str]:
    return [at(text, place) for place in places]


def deciding(text: str, name: str) -> list[str]:
    """The settings because of which `name` is left out."""
    found = [decision for decision in program(text).decisions if name in decision.skipped]
    return [word for decision in found for word in texts(text, decision.by)]


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("args.lora", ["False"]),
        ("not args.lora is False", ["False"]),
        ("args.bits == 4", ["16"]),
        ("args.bits in (4, 8)", ["16"]),
        ('args.quant.lower() == "4bit"', ['"none"']),
        ("args.adapter is not None", ["None"]),
        ("getattr(args, 'lora', False)", ["False"]),
        ("int(args.bits) < 16", ["16"]),
        ("args.lora and args.bits == 4", ["False", "16"]),
        ("args.bits == 16 and args.lora", ["False"]),
        ("args.lora or args.bits == 4", ["False", "16"]),
        ("args.bits > 8 and not (args.bits == 16)", ["16"]),
        ("False", []),
        ("len([1]) > 3", []),
    ],
)
def test_settings_that_leave_a_call_out(test: str, expected: list[str]) -> None:
    text = f"{PARSER}if {test}:\n    model = get_peft_model(model, LoraConfig())\n"
    assert deciding(text, "get_peft_model") == expected


def test_what_a_side_that_is_left_out_names() -> None:
    text = f"""{PARSER}
kwargs = {{}}
def quantized():
    return BitsAndBytesConfig(load_in_4bit=True)
if args.bits == 4:  # get_peft_model(...)
    kwargs["quantization_config"] = quantized()
    args.adapter = "nf4"
"""
    (decision,) = program(text).decisions
    assert {"quantization_config", "BitsAndBytesConfig", "load_in_4bit", "adapter", "nf4"} <= decision.skipped
    assert "get_peft_model" not in decision.skipped


def test_rest_of_a_function_that_a_setting_ends() -> None:
    text = f"""{PARSER}
def config():
    if args.bits == 16:
        return None
    return BitsAndBytesConfig(load_in_4bit=True)
config()
"""
    assert deciding(text, "load_in_4bit") == ["16"]


def test_conditional_expression() -> None:
    text = f"{PARSER}model = load(config=BitsAndBytesConfig(load_in_4bit=True) if args.lora else None)\n"
    assert deciding(text, "load_in_4bit") == ["False"]
    (decision,) = (item for item in program(text).decisions if "load_in_4bit" in item.skipped)
    assert texts(text, decision.taken) == ["None"]


def test_command_line_decides_what_is_called() -> None:
    text = f"{PARSER}if args.lora:\n    get_peft_model(model)\nelse:\n    train_all(model)\n"
    word = Place("run.sh", document(text).span(0, 1))
    invocation = Invocation((Scalar("--lora", word), Scalar("True", word)))
    found, _ = read_program(document(text), {}, invocation=invocation)
    assert found is not None
    assert call(found, "peft.get_peft_model").decided == (word,)


def test_calls_outside_of_branches_are_decided_by_nothing() -> None:
    text = (
        f"{PARSER}get_peft_model(model)\nif __name__ == '__main__':\n    AutoModelForCausalLM.from_pretrained('gpt2')\n"
    )
    assert [made.decided for made in program(text).calls if made.callee.startswith(("peft", "transformers"))] == [
        (),
        (),
    ]


def test_match_statement() -> None:
    text = f"""{PARSER}
match args.quant:
    case "4bit":
        config = BitsAndBytesConfig(load_in_4bit=True)
    case "none":
        config = None
"""
    assert deciding(text, "load_in_4bit") == ['"none"']


def taken(text: str, value: str) -> list[str]:
    """The settings that selected what reads `value`."""
    found: list[Decision] = [item for item in program(text).decisions if value in texts(text, item.taken)]
    return [word for item in found for word in texts(text, item.by)]


@pytest.mark.parametrize(
    "choice",
    [
        'DTYPES = {"none": torch.float32, "4bit": torch.bfloat16}\nx = DTYPES[args.quant]',
        'x = {"none": torch.float32}.get(args.quant, torch.float16)',
    ],
)
def test_table_that_a_setting_looks_up(choice: str) -> None:
    text = f"{PARSER}import torch\n{choice}\n"
    assert taken(text, "torch.float32") == ['"none"']


def test_default_behind_or() -> None:
    assert taken(f"{PARSER}x = args.adapter or 'base'\n", "'base'") == ["None"]


def test_value_that_is_computed_from_settings() -> None:
    text = f"{PARSER}total = args.bits * 4\nx = total // 2\n"
    assert taken(text, "total // 2") == ["args.bits * 4", "16"]


def test_variable_that_an_environment_variable_sets() -> None:
    text = 'import os\nif os.environ.get("USE_LIGER", "0") == "1":\n    apply_liger_kernel_to_llama()\n'
    assert deciding(text, "apply_liger_kernel_to_llama") == ['"0"']


def test_where_a_value_is_passed_on() -> None:
    text = """
SIZE = 4
NAME = "gpt2"
trainer = Arguments(
    batch=SIZE,
)
model = load(NAME)
direct = Arguments(batch=8)
options = {"micro": SIZE, "macro": 1}
"""
    found = {(item.name, at(text, item.value)): texts(text, item.places) for item in program(text).passed}
    assert found == {("batch", "4"): ["batch"], ("", '"gpt2"'): ["NAME"], ("micro", "4"): ['"micro"']}


def test_loops_around_a_call() -> None:
    text = "for epoch in range(3):\n    for batch in loader:\n        loss.backward()\n"
    (backward,) = (made for made in program(text).calls if made.callee == ".backward")
    assert texts(text, backward.loops) == ["range(3)", "loader"]


def test_call_that_leads_into_another_module() -> None:
    module = Document.of("models.py", "import torch\ndef build(net):\n    return torch.compile(net)\n")
    text = "from models import build\nnet = 1\nbuild(net)\n"
    found, _ = read_program(document(text), {}, lambda name: module if name == "models" else None)
    assert found is not None
    made = call(found, "torch.compile")
    assert made.place.path == "models.py"
    assert made.entered is not None
    assert at(text, made.entered) == "build(net)"


def test_data_file_that_a_setting_names() -> None:
    text = 'import json\nPATH = "ds.json"\nx = json.load(open(PATH))\n'
    files = {"ds.json": Document.of("ds.json", dedent('{"stage": 2}'))}
    found, _ = read_program(document(text), {}, files=files.get)
    assert found is not None
    ((path, place),) = found.files
    assert (path, at(text, place)) == ("ds.json", '"ds.json"')


def test_values_that_the_program_only_passes_about_are_no_settings() -> None:
    text = f"""{PARSER}
def build(net, adapted=False):
    if adapted:
        return get_peft_model(net)
    return net
def found():
    return None
class Engine:
    def __init__(self):
        self.engine = None
        if self.engine is not None:
            get_peft_model(self.engine)
def main():
    Engine()
    rest = found()
    if rest is not None:
        get_peft_model(rest)
    build(net)
main()
"""
    assert deciding(text, "get_peft_model") == []


def test_variable_of_the_function_itself_is_a_setting() -> None:
    text = f"{PARSER}\ndef main():\n    adapted = False\n    if adapted:\n        get_peft_model(net)\nmain()\n"
    assert deciding(text, "get_peft_model") == ["False"]


def test_function_that_is_called_elsewhere_too_is_not_left_out() -> None:
    text = f"""{PARSER}
def evaluate():
    torch.compile(model)
def adapt():
    get_peft_model(model)
if args.lora:
    evaluate()
    adapt()
evaluate()
"""
    assert deciding(text, "get_peft_model") == ["False"]
    assert deciding(text, "compile") == []


@pytest.mark.parametrize(("devices", "shards"), [(1, False), (2, True)])
def test_a_function_that_only_skipped_code_hands_on_does_nothing(devices: int, shards: bool) -> None:
    text = dedent(
        f"""
        from lightning.fabric.strategies import ModelParallelStrategy
        from torch.distributed.fsdp import fully_shard

        def setup(devices: int = {devices}):
            if devices > 1:
                strategy = ModelParallelStrategy(parallelize_fn=parallelize_fn)
            else:
                strategy = "auto"
            return strategy

        def parallelize_fn(model, mesh):
            return fully_shard(model, mesh=mesh)
        """
    )

    assert any(call.callee.endswith("fully_shard") for call in program(text).calls) is shards
