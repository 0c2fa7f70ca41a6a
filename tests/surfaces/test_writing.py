import ast
import json
from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.surfaces import insertion
from vramlint.surfaces.members import form_of, read_data, set_key
from vramlint.surfaces.writing import write
from vramlint.text import Document, Place, apply_edits
from vramlint.values import Table


def at(document: Document, text: str) -> Place:
    start = document.text.index(text)
    return Place(document.path, document.span(start, start + len(text)))


def fact(document: Document, name: str, value: FactValue, key: str, text: str, *, via: str = "literal") -> Fact:
    return Fact(name, (Candidate(value, at(document, text)),), Origin.WRITTEN, key, via)


def outcome(
    document: Document, changes: Mapping[str, FactValue], facts: list[Fact], call: str | None = None
) -> tuple[str, str] | None:
    anchor = at(document, call) if call else None
    written = write(changes, facts, anchor, {document.path: document})
    return (written.description, apply_edits(document, written.edits)) if written else None


def changed(
    document: Document, changes: Mapping[str, FactValue], facts: list[Fact], call: str | None = None
) -> tuple[str, str]:
    """The outcome of changes that can be written."""
    result = outcome(document, changes, facts, call)
    assert result is not None
    return result


ONE_LINE = 'args = TrainingArguments("out", bf16=True)\n'
MANY_LINES = (
    'args = TrainingArguments(\n    "out",  # where\n    bf16=True,\n    fsdp_config={\n        "a": 1,\n    },\n)\n'
)
OPEN_END = 'args = TrainingArguments(\n  "out",\n  bf16=True  # fast\n)\n'


@pytest.mark.parametrize(
    ("text", "call", "after"),
    [
        (ONE_LINE, ONE_LINE[7:-1], 'args = TrainingArguments("out", bf16=True, optim="adamw_bnb_8bit")\n'),
        (MANY_LINES, MANY_LINES[7:-1], MANY_LINES.replace("    },\n)", '    },\n    optim="adamw_bnb_8bit",\n)')),
        (
            OPEN_END,
            OPEN_END[7:-1],
            'args = TrainingArguments(\n  "out",\n  bf16=True,\n  optim="adamw_bnb_8bit"  # fast\n)\n',
        ),
        ("a = TrainingArguments()\n", "TrainingArguments()", 'a = TrainingArguments(optim="adamw_bnb_8bit")\n'),
        ("a = t.SFTConfig(x,)\n", "t.SFTConfig(x,)", 'a = t.SFTConfig(x, optim="adamw_bnb_8bit")\n'),
        (
            MANY_LINES.replace("\n", "\r\n"),
            MANY_LINES.replace("\n", "\r\n")[7:-2],
            MANY_LINES.replace("    },\n)", '    },\n    optim="adamw_bnb_8bit",\n)').replace("\n", "\r\n"),
        ),
    ],
)
def test_an_absent_keyword_is_added_in_the_files_style(text: str, call: str, after: str) -> None:
    document = Document.of("train.py", text)
    assert outcome(document, {"optimizer": "adamw_bnb_8bit"}, [], call) == ('optim="adamw_bnb_8bit"', after)


Case = tuple[str, str, str, tuple[str, str], FactValue, str]
"""path, text, the written value, (fact, key), its new value, text after"""

TWO_CALLS = """class MyTrainingArguments(TrainingArguments):
    pass

args = TrainingArguments("out", optim_args=(1, [2]))  # TrainingArguments()
trainer = Trainer(args=args)
"""


def test_the_arguments_are_found_from_the_trainer() -> None:
    document = Document.of("train.py", TWO_CALLS)
    after = TWO_CALLS.replace("(1, [2]))", "(1, [2]), bf16=True)")
    assert outcome(document, {"bf16": True}, [], "Trainer(args=args)") == ("bf16=True", after)
    twice = Document.of("train.py", TWO_CALLS + "other = SFTConfig()\n")
    assert outcome(twice, {"bf16": True}, [], "Trainer(args=args)") is None


def test_several_absent_keywords() -> None:
    document = Document.of("train.py", ONE_LINE)
    changes = {"micro_batch_size": 1, "gradient_accumulation_steps": 8}
    description, text = changed(document, changes, [], ONE_LINE[7:-1])
    assert description == "per_device_train_batch_size=1, gradient_accumulation_steps=8"
    assert text == (
        'args = TrainingArguments("out", bf16=True, per_device_train_batch_size=1, gradient_accumulation_steps=8)\n'
    )


@pytest.mark.parametrize(
    "case",
    [
        ("a.py", "T(optim='sgd')", ("'sgd'", "sgd"), ("optimizer", "optim"), "adamw_bnb_8bit",
         "T(optim='adamw_bnb_8bit')"),
        ("a.py", "f(dtype=torch.float32)", ("torch.float32", "float32"), ("load_dtype", "dtype"), "bfloat16",
         "f(dtype=torch.bfloat16)"),
        ("a.py", "T(bf16=False)", ("False", False), ("bf16", "bf16"), True, "T(bf16=True)"),
        ("a.json", '{"bf16": false}', ("false", False), ("bf16", "bf16"), True, '{"bf16": true}'),
        ("a.yaml", "bf16: no # why\n", ("no", False), ("bf16", "bf16"), True, "bf16: yes # why\n"),
        ("a.yaml", "optim: sgd\n", ("sgd", "sgd"), ("optimizer", "optim"), "adamw_bnb_8bit",
         "optim: adamw_bnb_8bit\n"),
        ("d.json", '{"zero_optimization": {"stage": 1}}', ("1", 1), ("zero_stage", "zero_optimization.stage"), 3,
         '{"zero_optimization": {"stage": 3}}'),
    ],
)  # fmt: skip
def test_a_written_value_is_replaced_in_its_own_manner(
    case: tuple[str, str, tuple[str, FactValue], tuple[str, str], FactValue, str],
) -> None:
    path, text, (old, before), (name, key), value, after = case
    document = Document.of(path, text)
    assert changed(document, {name: value}, [fact(document, name, before, key, old)])[1] == after


def test_a_literal_that_says_something_else_than_the_fact_is_left_alone() -> None:
    document = Document.of("a.py", "T(per_device_train_batch_size=8 * 2)")
    batch = fact(document, "micro_batch_size", 16, "per_device_train_batch_size", "8")
    assert outcome(document, {"micro_batch_size": 4}, [batch]) is None


def test_a_default_of_argparse_is_replaced_where_it_is_written() -> None:
    text = 'p.add_argument("--bs", default=8)\nargs = TrainingArguments("out", per_device_train_batch_size=a.bs)\n'
    document = Document.of("train.py", text)
    batch = fact(document, "micro_batch_size", 8, "per_device_train_batch_size", "8", via="argparse-default")
    assert changed(document, {"micro_batch_size": 2}, [batch])[1] == text.replace("default=8", "default=2")


@pytest.mark.parametrize(
    ("path", "text", "after"),
    [
        ("a.json", '{\n  "bf16": true\n}\n', '{\n  "bf16": true,\n  "gradient_checkpointing": true\n}\n'),
        ("a.json", '{"bf16": true}', '{"gradient_checkpointing": true, "bf16": true}'),
        ("a.yaml", "# run\nbf16: true # x\n", "# run\nbf16: true # x\ngradient_checkpointing: true\n"),
        ("a.yaml", "bf16: true", "bf16: true\ngradient_checkpointing: true"),
    ],
)
def test_an_absent_key_of_a_data_file(path: str, text: str, after: str) -> None:
    document = Document.of(path, text)
    facts = [fact(document, "bf16", True, "bf16", "true", via="config-file")]
    description, result = changed(document, {"activation_checkpointing": True}, facts)
    assert result == after
    assert "gradient_checkpointing" in description
    loaded = json.loads(result) if path.endswith("json") else yaml.safe_load(result)
    assert loaded == {"bf16": True, "gradient_checkpointing": True}


def test_an_offload_block_goes_beside_the_stage() -> None:
    text = '{\n  "zero_optimization": {\n    "stage": 3\n  }\n}\n'
    document = Document.of("ds.json", text)
    stage = fact(document, "zero_stage", 3, "zero_optimization.stage", "3", via="config-file")
    description, after = changed(document, {"offload_parameters": "cpu"}, [stage])
    assert description == '"offload_param": {"device": "cpu"}'
    assert after == text.replace('"stage": 3', '"stage": 3,\n    "offload_param": {"device": "cpu"}')


@pytest.mark.parametrize(
    ("path", "text", "after"),
    [
        (
            "a.yaml",
            "# a\nmodel: x\n\ngradient_accumulation_steps: 4 # b\r\n# c\nbf16: true\n",
            "# a\nmodel: x\n\ngradient_accumulation_steps: 4 # b\r\ngradient_checkpointing: true\r\n# c\nbf16: true\n",
        ),
        ("a.yaml", "bf16: true\nlast:\n  - 1\n", "bf16: true\ngradient_checkpointing: true\nlast:\n  - 1\n"),
        ("a.yaml", "lr: 1\nlast:\n", "lr: 1\ngradient_checkpointing: true\nlast:\n"),
        ("a.yaml", "text: |\n  a\nbf16: true", "text: |\n  a\nbf16: true\ngradient_checkpointing: true"),
        ("a.yaml", "bf16: true\ntext: |\n  a", "bf16: true\ngradient_checkpointing: true\ntext: |\n  a"),
        (
            "a.json",
            '{\r\n\t"gradient_clipping": 1,\r\n\t"bf16": true\r\n}',
            '{\r\n\t"gradient_clipping": 1,\r\n\t"gradient_checkpointing": true,\r\n\t"bf16": true\r\n}',
        ),
    ],
)
def test_a_new_key_stands_beside_its_kin(path: str, text: str, after: str) -> None:
    document = Document.of(path, text)
    root = read_data(document).root
    assert isinstance(root, Table)
    edit = set_key(document, root, "gradient_checkpointing", True, form_of(path))
    assert edit is not None
    assert apply_edits(document, [edit]) == after


def test_several_keywords_into_an_empty_call() -> None:
    document = Document.of("train.py", "a = SFTConfig()\n")
    changes = {"micro_batch_size": 1, "gradient_accumulation_steps": 8}
    text = changed(document, changes, [], "SFTConfig()")[1]
    assert text == "a = SFTConfig(per_device_train_batch_size=1, gradient_accumulation_steps=8)\n"


PARSED = "class Arguments(TrainingArguments):\n    optim: str = field(default='adamw_torch')\n"


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"activation_checkpointing": True}, "--gradient_checkpointing True"),
        (
            {"micro_batch_size": 2, "gradient_accumulation_steps": 4},
            "--per_device_train_batch_size 2 --gradient_accumulation_steps 4",
        ),
        ({"packing": True}, "--packing True"),
        (
            {"optimizer": "paged_adamw_8bit", "micro_batch_size": 1},
            "--optim paged_adamw_8bit --per_device_train_batch_size 1",
        ),
    ],
)
def test_options_of_the_scripts_own_command_line_are_said_and_not_made(
    changes: Mapping[str, FactValue], options: str
) -> None:
    document = Document.of("train.py", PARSED)
    facts = [
        fact(document, "argument_parser", "training-arguments", "", "Arguments", via="code"),
        fact(document, "optimizer", "adamw_torch", "optim", "'adamw_torch'", via="dataclass-default"),
    ]
    assert outcome(document, changes, facts) == (options, PARSED)
    assert outcome(document, changes, facts[1:]) is None


def test_what_is_no_option_is_left_in_words() -> None:
    document = Document.of("train.py", PARSED)
    parser = fact(document, "argument_parser", "training-arguments", "", "Arguments", via="code")
    assert outcome(document, {"attention_implementation": "sdpa"}, [parser]) is None
    assert outcome(document, {"activation_checkpointing": True, "tuning": "lora"}, [parser]) is None


def test_what_no_file_can_say_is_left_in_words() -> None:
    document = Document.of("train.py", ONE_LINE)
    assert outcome(document, {"quantization_bits": 4}, [], ONE_LINE[7:-1]) is None
    assert outcome(document, {"optimizer": "adamw_bnb_8bit"}, []) is None
    computed = fact(document, "bf16", False, "bf16", "True", via="computed")
    assert outcome(document, {"bf16": True}, [computed], ONE_LINE[7:-1]) is None
    by_hand = fact(document, "optimizer", "adamw_torch", "torch.optim.AdamW", '"out"')
    assert outcome(document, {"optimizer": "adamw_bnb_8bit"}, [by_hand], ONE_LINE[7:-1]) is None
    unknown = Fact("bf16", (), Origin.UNKNOWN, "bf16", reason="argument of main")
    assert outcome(document, {"bf16": True}, [unknown], ONE_LINE[7:-1]) is None


ARGUMENTS = st.lists(
    st.sampled_from(
        ["1", "x", "a=1", "b={'k': [1,\n 2]}", "c=f(1, (2))", "d='(,)'", 'e="""\n)\n"""', "g=(lambda q: q)"]
    ),
    max_size=5,
)


@given(
    ARGUMENTS,
    st.sampled_from([", ", ",\n    ", ",  # note, )\n    "]),
    st.booleans(),
    st.sampled_from(["", "\n", "\n  # end\n"]),
)
def test_any_call_keeps_its_arguments_and_gains_one(
    arguments: list[str], separator: str, trailing: bool, end: str
) -> None:
    ordered = sorted(arguments, key=lambda argument: argument not in ("1", "x"))
    opening = "" if separator == ", " else "\n"
    comma = "," if trailing and ordered else ""
    text = f"C({opening}{separator.join(ordered)}{comma}{end})"
    document = Document.of("a.py", text)
    edit = insertion.keyword(document, Place("a.py", document.span(0, len(text))), "new", "True")
    assert edit is not None
    before, after = call_of(text), call_of(apply_edits(document, [edit]))
    assert [ast.dump(argument) for argument in after.args] == [ast.dump(argument) for argument in before.args]
    assert [keyword.arg for keyword in after.keywords] == [*(keyword.arg for keyword in before.keywords), "new"]


def call_of(source: str) -> ast.Call:
    body = ast.parse(source, mode="eval").body
    assert isinstance(body, ast.Call)
    return body


@pytest.mark.parametrize(
    ("text", "key", "after"),
    [
        (
            "AutoModel.from_pretrained(x, torch_dtype=torch.float32).cuda()",
            "torch_dtype",
            "torch_dtype=torch.float16).cuda()",
        ),
        ("AutoModel.from_pretrained(x, dtype=torch.float32).cuda()", "dtype", "dtype=torch.float16).cuda()"),
        ("AutoModel.from_pretrained(x).cuda()", "from_pretrained.dtype", 'x, torch_dtype="float16").cuda()'),
        ("AutoModel.from_pretrained(x).float().cuda()", "float", None),
    ],
)
def test_the_dtype_before_a_cast_is_said_to_the_loader(text: str, key: str, after: str | None) -> None:
    document = Document.of("train.py", f"model = {text}.half()\n")
    said = Fact(
        "arrival_dtype",
        (Candidate("float32", at(document, "x")),),
        Origin.DEFAULT if "." in key else Origin.WRITTEN,
        key,
        "library" if "." in key else "code",
    )
    cast = fact(document, "load_dtype", "float16", "half", "half", via="code")
    result = outcome(document, {"arrival_dtype": "float16"}, [cast, said])
    assert (result is None) is (after is None)
    assert after is None or (result is not None and result[1].endswith(f"{after}.half()\n"))


@pytest.mark.parametrize(
    ("call", "key", "after"),
    [
        ("FullStateDictConfig()", "offload_to_cpu", "FullStateDictConfig(offload_to_cpu=True, rank0_only=True)"),
        (
            "FullStateDictConfig(offload_to_cpu=False, rank0_only=True)",
            "offload_to_cpu",
            "FullStateDictConfig(offload_to_cpu=True, rank0_only=True)",
        ),
        (
            "StateDictOptions(full_state_dict=True)",
            "cpu_offload",
            "StateDictOptions(full_state_dict=True, cpu_offload=True)",
        ),
        ("state_dict()", "state_dict", None),
    ],
)
def test_a_state_dict_is_gathered_on_the_host_of_one_process(call: str, key: str, after: str | None) -> None:
    document = Document.of("train.py", f"state = model.{call}\n")
    wrapped = fact(document, "parallelism", "fsdp", "FullyShardedDataParallel", "model", via="code")
    place = at(document, call)
    said = Fact("state_dict_on_host", (Candidate(False, place),), Origin.DEFAULT, key, "library", "torch")
    result = outcome(document, {"state_dict_on_host": True}, [wrapped, said])
    assert (result and result[1]) == (after and f"state = model.{after}\n")
