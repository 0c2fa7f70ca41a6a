"""Decided and undecided branches."""

from __future__ import annotations

import pytest

from tests.readers.python.reading import call, callees, program, shown, value
from vramlint.values import Plain

DTYPE = """
    import torch
    if torch.cuda.is_bf16_supported():
        x = torch.bfloat16
    else:
        x = torch.float16
"""
CAPABILITY = """
    import torch
    x = torch.cuda.get_device_capability()[0] >= 8
"""


def test_undecided_branch_gives_both_values() -> None:
    assert shown(value(DTYPE)) == {
        "torch.cuda.is_bf16_supported()": "torch.bfloat16",
        "not (torch.cuda.is_bf16_supported())": "torch.float16",
    }


@pytest.mark.parametrize(("answer", "expected"), [(True, "torch.bfloat16"), (False, "torch.float16")])
def test_probe_is_answered_by_what_is_known(answer: bool, expected: str) -> None:
    assert shown(value(DTYPE, {"torch.cuda.is_bf16_supported()": answer})) == expected


@pytest.mark.parametrize(
    "function", ["transformers.utils.is_torch_bf16_gpu_available", "unsloth.is_bfloat16_supported"]
)
def test_other_names_of_the_same_probe(function: str) -> None:
    module, _, name = function.rpartition(".")
    text = f"from {module} import {name}\nx = {name}()"
    assert shown(value(text, {"torch.cuda.is_bf16_supported()": True})) is True


@pytest.mark.parametrize(("major", "expected"), [(8, True), (7, False)])
def test_compute_capability(major: int, expected: bool) -> None:
    known: dict[str, Plain] = {
        "torch.cuda.get_device_capability()[0]": major,
        "torch.cuda.get_device_capability()[1]": 6,
    }
    assert shown(value(CAPABILITY, known)) is expected
    tuples = "import torch\nx = torch.cuda.get_device_capability() >= (8, 0)"
    assert shown(value(tuples, known)) is expected
    assert shown(value(CAPABILITY)) == "? compute capability of the GPU"


@pytest.mark.parametrize(("world", "expected"), [("1", 32), ("4", 8), (None, 32)])
def test_world_size_from_the_environment(world: str | None, expected: int) -> None:
    text = """
        import os
        x = 32
        world_size = int(os.environ.get("WORLD_SIZE", 1))
        ddp = world_size != 1
        if ddp:
            x = x // world_size
    """
    assert shown(value(text, {'os.environ["WORLD_SIZE"]': world})) == expected
    assert shown(value(text)) == {"ddp": "? environment variable WORLD_SIZE", "not ddp": 32}


def test_environment_membership() -> None:
    text = "import os\nx = 'LOCAL_RANK' in os.environ"
    assert shown(value(text, {'os.environ["LOCAL_RANK"]': None})) is False
    assert shown(value(text)) == "? environment variable LOCAL_RANK"


def test_calls_in_an_undecided_branch_carry_its_condition() -> None:
    text = """
        import peft, transformers
        def main(use_lora):
            model = transformers.AutoModel.from_pretrained("gpt2")
            if use_lora:
                model = peft.get_peft_model(model, peft.LoraConfig(r=8))
            transformers.Trainer(model=model)
        main(undefined)
    """
    found = program(text)
    assert call(found, "peft.LoraConfig").conditions == ("use_lora",)
    assert call(found, "transformers.Trainer").conditions == ()
    assert shown(call(found, "transformers.Trainer").argument("model")) == {
        "use_lora": "<peft.get_peft_model>",
        "not use_lora": "<transformers.AutoModel.from_pretrained>",
    }


def test_the_same_condition_comes_out_the_same_way() -> None:
    text = """
        import peft
        config = peft.LoraConfig(r=8) if flag else None
        if flag:
            peft.get_peft_model(config)
    """
    assert shown(call(program(text), "peft.get_peft_model").args[0]) == "<peft.LoraConfig>"


def test_a_condition_known_by_its_variable_narrows_as_well() -> None:
    text = """
        kind = "a" if flag else "b"
        x = "none"
        if kind == "a":
            x = kind
    """
    assert shown(value(text)) == {'kind == "a"': "a", 'not (kind == "a")': "none"}


def test_a_branch_that_raises_drops_out() -> None:
    text = """
        import sys
        if flag == 1:
            x = 1
        elif flag == 2:
            x = 2
        else:
            sys.exit("no")
    """
    assert shown(value(text)) == {"flag == 1": 1, "not (flag == 1)": 2}


def test_what_the_defaults_alone_run_into_is_not_taken() -> None:
    text = """
        path = None
        if path is None:
            raise ValueError("give a path")
        x = 1
    """
    assert shown(value(text)) == 1


def test_an_early_return_makes_the_rest_conditional() -> None:
    text = """
        import torch
        def main():
            if done:
                return
            torch.compile(1)
        main()
    """
    assert call(program(text), "torch.compile").conditions == ("not done",)


def test_several_returns() -> None:
    text = """
        def pick(kind):
            if kind == "a":
                return 1
            elif kind == "b":
                return 2
            return 3
        x = pick(undefined)
        y = pick("b")
    """
    found = {entry.key: shown(entry.value) for entry in program(text).constants}
    assert found["y"] == 2
    assert found["x"] == {
        'kind == "a"': 1,
        'not (kind == "a") and kind == "b"': 2,
        'not (kind == "a") and not (kind == "b")': 3,
    }


def test_a_keyword_that_one_branch_leaves_out() -> None:
    text = """
        import transformers
        extra = {}
        if flag:
            extra["load_in_4bit"] = True
        transformers.AutoModel.from_pretrained("gpt2", **extra)
    """
    found = call(program(text), "transformers.AutoModel.from_pretrained")
    assert shown(found.argument("load_in_4bit")) == {"flag": True, "not flag": "? not given"}
    assert not found.open_keywords


def test_unseen_mapping_leaves_the_keywords_open() -> None:
    assert call(program("import a\na.B(**undefined)"), "a.B").open_keywords


def test_or_with_an_unknown_left() -> None:
    assert shown(value("x = undefined or 4")) == {
        "undefined": "? name undefined, which nothing defines",
        "not undefined": 4,
    }
    assert shown(value("x = undefined and False")) is False


def test_match_statement() -> None:
    text = """
        match {subject}:
            case "a" | "b":
                x = 1
            case _:
                x = 2
    """
    assert shown(value(text.format(subject="'b'"))) == 1
    assert shown(value(text.format(subject="'c'"))) == 2
    assert list(shown(value(text.format(subject="undefined"))).values()) == [1, 2]  # type: ignore[attr-defined]  # a dict


def test_try_takes_its_body() -> None:
    text = """
        try:
            import flash_attn
            x = "flash_attention_2"
        except ImportError:
            x = "sdpa"
    """
    assert shown(value(text)) == "flash_attention_2"


def test_assert_narrows_and_never_ends_the_program() -> None:
    assert shown(value('x = ""\nassert x, "give it"')) == ""
    assert shown(value("assert flag\nx = 1 if flag else 2")) == 1


def test_main_guard_and_order() -> None:
    text = """
        import a
        def helper():
            a.second()
        def main():
            a.first()
            helper()
        def never():
            a.last()
        if __name__ == "__main__":
            main()
        else:
            a.not_this()
    """
    assert callees(program(text)) == ["a.first", "a.second", "a.last"]


def test_a_spare_entry_point_does_not_repeat_the_program() -> None:
    text = """
        import a
        def main():
            a.first()
        def _mp_fn(index):
            main()
        if __name__ == "__main__":
            main()
    """
    assert callees(program(text)) == ["a.first"]


def test_library_versions() -> None:
    text = """
        import torch
        from packaging import version
        x = [torch.__version__ >= "2", version.parse(torch.__version__) >= version.parse("2.10")]
    """
    assert shown(value(text, {"torch.__version__": "2.9.1"})) == [True, False]


def test_conditions_of_nested_branches_survive_them() -> None:
    text = """
        import torch
        def main(kind):
            if kind == 1:
                return
            elif kind == 2:
                return
            torch.compile(1)
        main(undefined)
    """
    assert call(program(text), "torch.compile").conditions == ("not (kind == 1)", "not (kind == 2)")
