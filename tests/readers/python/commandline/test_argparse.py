"""argparse and its relatives with a command line."""

from __future__ import annotations

import pytest

from tests.readers.python.commandline.starting import given, place_text, started, used
from tests.readers.python.reading import shown
from vramlint.text import Place, Span
from vramlint.values import Alternatives, Invocation, Option, Scalar

SCRIPT = """
    import argparse, json, lib

    def str2bool(v):
        if isinstance(v, bool):
            return v
        if v.lower() in ("yes", "true", "t", "1"):
            return True
        if v.lower() in ("no", "false", "f", "0"):
            return False
        raise argparse.ArgumentTypeError("boolean expected")

    def parse():
        parser = argparse.ArgumentParser()
        parser.add_argument("-b", "--batch-size", type=int, default=8)
        parser.add_argument("--learning_rate", type=float, default=3e-5)
        parser.add_argument("--bf16", action="store_true")
        parser.add_argument("--no-shuffle", action="store_false", dest="shuffle")
        parser.add_argument("--flash", action=argparse.BooleanOptionalAction, default=True)
        parser.add_argument("--packed", type=str2bool, nargs="?", const=True, default=False)
        parser.add_argument("--targets", nargs="+", default=["q"])
        parser.add_argument("--pair", nargs=2, type=int)
        parser.add_argument("--kwargs", type=json.loads, default={})
        parser.add_argument("--half", type=lambda v: int(v) // 2, default=1)
        parser.add_argument("--flag", action="append", default=[])
        parser.add_argument("-v", action="count", default=0)
        parser.add_argument("--level", action="store_const", const=3, default=1)
        parser.add_argument("--model", required=True)
        parser.add_argument("data")
        parser.add_argument("extra", nargs="*", default=None)
        return parser.parse_args()

    args = parse()
    lib.use(**vars(args))
"""


def test_every_kind_of_option() -> None:
    line = (
        "data.json -b4 --learn 1e-4 --bf16 --no-shuffle --no-flash --packed no --targets q v --pair 1 2 "
        """--kwargs '{"a":1}' --half 9 --flag a --flag=b -vv --level --model=gpt2 more"""
    )
    assert given(started(SCRIPT, line)) == {
        "batch_size": 4,
        "learning_rate": 1e-4,
        "bf16": True,
        "shuffle": False,
        "flash": False,
        "packed": False,
        "targets": ["q", "v"],
        "pair": [1, 2],
        "kwargs": {"a": 1},
        "half": 4,
        "flag": ["a", "b"],
        "v": 2,
        "level": 3,
        "model": "gpt2",
        "data": "data.json",
        "extra": ["more"],
    }


def test_what_is_not_given_keeps_its_default() -> None:
    found = given(started(SCRIPT, "d.json --model m --packed"))
    assert (found["batch_size"], found["learning_rate"], found["packed"], found["targets"]) == (8, 3e-5, True, ["q"])
    assert found["shuffle"] is True
    assert found["extra"] is None
    missing = given(started(SCRIPT, ""))
    assert missing["model"] == "? command line: --model is required"


def test_values_stand_where_the_command_line_has_them() -> None:
    line = "d.json --batch-size 4 --learning_rate=2e-5 --bf16 --model='gpt2'"
    call = used(started(SCRIPT, line))
    texts = {name: place_text(line, call.argument(name)) for name in ("batch_size", "learning_rate", "bf16", "data")}
    assert texts == {"batch_size": "4", "learning_rate": "2e-5", "bf16": "--bf16", "data": "d.json"}
    assert place_text(line, call.argument("model")) == "gpt2"
    value = call.argument("batch_size")
    assert isinstance(value, Scalar)
    assert value.via == "cli"


def test_settings_show_what_is_in_force() -> None:
    found = {entry.key: shown(entry.value) for entry in started(SCRIPT, "d --model m -b 2").settings}
    assert (found["batch_size"], found["model"], found["bf16"]) == (2, "m", False)


def test_a_word_that_came_by_a_variable_keeps_its_road() -> None:
    place = Place("run.sh", Span(1, 5, 1, 6))
    found = started(SCRIPT, (Scalar("d"), Scalar("--batch-size"), Scalar("4", place, "shell-variable")))
    assert used(found).argument("batch_size") == Scalar(4, place, "shell-variable")


def test_unknown_words() -> None:
    found = given(started(SCRIPT, "d --model ? --learning_rate=? --bf16"))
    assert found["model"] == "? environment variable X"
    assert found["learning_rate"] == "? environment variable X"
    assert (found["bf16"], found["batch_size"]) == (True, 8)


def test_a_word_that_may_be_any_flags_hides_only_what_nothing_says() -> None:
    found = given(started(SCRIPT, "? --bf16"))
    assert (found["bf16"], found["batch_size"]) == (True, 8)
    assert found["model"] == "? environment variable X"


def test_alternatives() -> None:
    size = Alternatives((Option(Scalar("4"), "$BIG"), Option(Scalar("2"), "not ($BIG)")))
    flag = Alternatives((Option(Scalar("--bf16"), "$BIG"), Option(Scalar("--no-shuffle"), "not ($BIG)")))
    found = given(started(SCRIPT, (Scalar("d"), Scalar("--model"), Scalar("m"), Scalar("-b"), size, flag)))
    assert found["batch_size"] == {"$BIG": 4, "not ($BIG)": 2}
    assert found["bf16"] == {"$BIG": True, "not ($BIG)": False}
    assert found["shuffle"] == {"$BIG": True, "not ($BIG)": False}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--lr 1 train --steps 5 gpt2", {"lr": 1.0, "command": "train", "steps": 5, "model": "gpt2"}),
        ("eval --tasks a b", {"lr": 0.1, "command": "eval", "tasks": ["a", "b"]}),
        ("t gpt2", {"lr": 0.1, "command": "t", "steps": 10, "model": "gpt2"}),
    ],
)
def test_subcommands(line: str, expected: dict[str, object]) -> None:
    text = """
        import argparse, lib
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.1)
        commands = parser.add_subparsers(dest="command", required=True)
        train = commands.add_parser("train", aliases=["t"])
        train.add_argument("--steps", type=int, default=10)
        train.add_argument("model")
        evaluate = commands.add_parser("eval")
        evaluate.add_argument("--tasks", nargs="+")
        args = parser.parse_args()
        lib.use(**vars(args))
    """
    assert given(started(text, line)) == expected


def test_subcommands_dispatch_to_their_function() -> None:
    text = """
        import argparse, lib
        def train(args):
            lib.use(steps=args.steps)
        def evaluate(args):
            lib.other(args.steps)
        parser = argparse.ArgumentParser()
        commands = parser.add_subparsers()
        for_train = commands.add_parser("train")
        for_train.add_argument("--steps", type=int, default=10)
        for_train.set_defaults(func=train)
        for_eval = commands.add_parser("eval")
        for_eval.set_defaults(func=evaluate)
        args = parser.parse_args()
        args.func(args)
    """
    assert given(started(text, "train --steps 3")) == {"steps": 3}


def test_explicit_and_left_over_words() -> None:
    text = """
        import argparse, lib
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.1)
        a = parser.parse_args(["--lr", "5"])
        b, rest = parser.parse_known_args()
        lib.use(a=a.lr, b=b.lr, rest=rest)
    """
    assert given(started(text, "--lr 2 --other 3")) == {"a": 5.0, "b": 2.0, "rest": ["--other", "3"]}
    assert given(started(text, None)) == {"a": 5.0, "b": 0.1, "rest": []}


def test_words_in_files() -> None:
    text = """
        import argparse, lib
        parser = argparse.ArgumentParser(fromfile_prefix_chars="@")
        parser.add_argument("--lr", type=float, default=0.1)
        parser.add_argument("--steps", type=int, default=1)
        args = parser.parse_args()
        lib.use(lr=args.lr, steps=args.steps)
    """
    found = started(text, "--steps 2 @run.args", {"run.args": "--lr\n0.5\n"})
    assert given(found) == {"lr": 0.5, "steps": 2}
    rate = used(found).argument("lr")
    assert isinstance(rate, Scalar)
    assert rate == Scalar(0.5, Place("run.args", Span(2, 1, 2, 4)), "config-file")


def test_configargparse() -> None:
    text = """
        import configargparse, lib
        parser = configargparse.ArgParser()
        parser.add("-c", "--config", is_config_file=True)
        parser.add_argument("--batch-size", type=int, default=1)
        parser.add_argument("--lr", type=float, default=0.1)
        parser.add_argument("--bf16", action="store_true")
        args = parser.parse_args()
        lib.use(batch=args.batch_size, lr=args.lr, bf16=args.bf16)
    """
    files = {"a.ini": "# settings\nbatch-size = 4\nlr: 0.5\nbf16 = true\n", "b.yaml": "batch_size: 6\nlr: 1e-3\n"}
    assert given(started(text, "-c a.ini --lr 2", files)) == {"batch": 4, "lr": 2.0, "bf16": True}
    assert given(started(text, "--config=b.yaml", files)) == {"batch": 6, "lr": 1e-3, "bf16": False}


def test_deepspeed_adds_its_own_options() -> None:
    text = """
        import argparse, deepspeed, lib
        parser = argparse.ArgumentParser()
        parser = deepspeed.add_config_arguments(parser)
        args = parser.parse_args()
        lib.use(on=args.deepspeed, config=args.deepspeed_config)
    """
    assert given(started(text, "--deepspeed --deepspeed_config ds.json")) == {"on": True, "config": "ds.json"}


def test_a_parser_of_the_files_own_class() -> None:
    text = """
        import argparse, lib
        class Parser(argparse.ArgumentParser):
            def __init__(self):
                super().__init__()
                self.add_argument("--steps", type=int, default=1)
        args = Parser().parse_args()
        lib.use(steps=args.steps)
    """
    assert given(started(text, "--steps 7")) == {"steps": 7}


def test_sys_argv_itself() -> None:
    text = """
        import sys, lib
        lib.use(count=len(sys.argv), first=sys.argv[1], rest=sys.argv[2:])
    """
    assert given(started(text, "a b c")) == {"count": 4, "first": "a", "rest": ["b", "c"]}


def test_no_arguments_is_a_command_line_too() -> None:
    found, _ = Invocation(()), None
    assert found.arguments == ()
    assert given(started(SCRIPT, ""))["batch_size"] == 8
