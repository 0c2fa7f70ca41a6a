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


@pytest.mark.parametrize("kind", ["ImportError", "(ImportError, OSError)", "Exception as error", ""])
def test_what_is_installed_only_run_time_knows(kind: str) -> None:
    text = f"""
        try:
            import flash_attn
            x = "flash_attention_2"
        except {kind}:
            x = "sdpa"
    """
    assert shown(value(text)) == {
        "import flash_attn": "flash_attention_2",
        "not (import flash_attn)": "sdpa",
    }


@pytest.mark.parametrize(
    "text",
    [
        "import flash_attn\ntry:\n    import flash_attn.layers\n    x = 1\nexcept ImportError:\n    x = 2",
        "try:\n    import torch\n    x = 1\nexcept ImportError:\n    x = 2",
        "try:\n    import tomllib\n    x = 1\nexcept ImportError:\n    x = 2",
        "try:\n    import flash_attn\n    x = 1\nexcept ValueError:\n    x = 2",
        "try:\n    x = 1\nexcept Exception:\n    x = 2",
        "try:\n    x = int('a')\nexcept ValueError:\n    x = 1",
        "try:\n    x = {'a': 2}['b']\nexcept KeyError:\n    x = 1",
        "def f():\n    return int('a')\ntry:\n    x = 3\n    y = f()\n    x = 2\nexcept ValueError:\n    x = x - 2",
    ],
)
def test_try_takes_its_body_or_the_handler_where_the_body_surely_raises(text: str) -> None:
    assert shown(value(text)) == 1


def test_a_handler_that_only_defines_a_stand_in_is_left_alone() -> None:
    text = """
        try:
            from liger import LigerTrainer as Trainer
        except ImportError:
            from transformers import Trainer
        x = [Trainer]
    """
    assert shown(value(text)) == ["liger.LigerTrainer"]


def test_functions_that_try_return_either() -> None:
    text = """
        def attention():
            try:
                import flash_attn
                return "flash_attention_2"
            except ImportError:
                return "sdpa"
        x = attention()
    """
    assert list(shown(value(text)).values()) == ["flash_attention_2", "sdpa"]  # type: ignore[attr-defined]  # a dict


@pytest.mark.parametrize(
    "text",
    [
        "x = 0\nfor i in [1, 2, 3]:\n    x += i",
        "x = []\nfor i in [1, 2, 3]:\n    x.append(i)\nx = sum(x)",
        "x = 0\nfor i in range(9):\n    if i == 4:\n        break\n    x += i",
        "x = 0\nfor i in range(6):\n    if i % 2:\n        continue\n    x += i",
        "x = 0\nwhile x < 6:\n    x += 1",
        "x = 0\nwhile True:\n    x += 1\n    if x == 6:\n        break",
        "x = 0\nfor k in {'a': 1, 'b': 2}:\n    x += 3",
        "def f(n):\n    for k, v in {'a': 5, 'b': 6}.items():\n        if k == n:\n            return v\nx = f('b')",
        "def f():\n    for i in [1, 2, 3]:\n        yield i\nx = sum(f())",
        "def g():\n    yield 1\n    yield 2\ndef f():\n    yield from g()\n    yield 3\nx = sum(list(f()))",
    ],
)
def test_loops_over_known_elements_take_their_turns(text: str) -> None:
    assert shown(value(text)) == 6


def test_turns_that_only_run_time_ends_are_not_taken() -> None:
    text = "x = []\nfor i in [1, 2]:\n    if run(i):\n        continue\n    x.append(i)"
    assert shown(value(text)) == "? changes in a loop"
    assert shown(value("def f():\n    if run():\n        yield 1\nx = list(f())")) == "? items of f()"


def test_contexts() -> None:
    text = """
        from contextlib import contextmanager

        class Timer:
            def __enter__(self):
                self.size = 1
                return self
            def __exit__(self, *rest):
                pass

        @contextmanager
        def size(n):
            yield n

        with Timer() as timer, size(2) as two:
            x = [timer.size, two]
    """
    assert shown(value(text)) == [1, 2]


def test_deleted_keys_are_gone() -> None:
    assert shown(value("x = {'a': 1, 'b': 2}\ndel x['a']")) == {"b": 2}


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


@pytest.mark.parametrize("end", ["sys.exit(main())", "raise SystemExit(main(4))", "main()"])
def test_a_program_may_run_inside_its_exit(end: str) -> None:
    text = f"""
        import sys, a
        def main(n=4):
            a.train(n)
        def other():
            a.other()
        if __name__ == "__main__":
            {end}
    """
    found = program(text)
    assert callees(found) == ["a.train", "a.other"]
    assert shown(call(found, "a.train").args[0]) == 4


def test_a_function_whose_result_is_used_gives_it_every_time() -> None:
    text = """
        import a
        def config():
            return a.config(4)
        class Tuner:
            def load(self):
                self.model = a.load(config())
            def train(self):
                self.load()
                a.train(self.model)
    """
    (train,) = (call for call in program(text).calls if call.callee == "a.train")
    assert "Unknown" not in repr(train.args)


def test_a_dtype_is_no_text() -> None:
    text = """
        import torch
        HALF = [16, "fp16", torch.float16]
        def to_dtype(word):
            if word in HALF:
                return torch.float16
            elif word in ("fp32", torch.float32):
                return torch.float32
        x = to_dtype("fp32")
    """
    assert shown(value(text)) == "torch.float32"
