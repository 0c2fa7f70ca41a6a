"""Words of commands after expansion."""

from __future__ import annotations

import pytest

from tests.readers.shell.reading import commands, line, shell, words
from vramlint.text import Document
from vramlint.values import Scalar


def test_continued_lines_quotes_and_redirections():
    script = r"""
    nohup torchrun --nproc_per_node=8 \
        train.py --name "a b" --lr '1e-4' \
        --path /data/x\ y 2>&1 | tee log.txt &
    """
    assert line(script.replace("| tee log.txt", "")) == [
        "torchrun", "--nproc_per_node=8", "train.py", "--name", "a b", "--lr", "1e-4", "--path", "/data/x y",
    ]  # fmt: skip


def test_a_comment_between_continued_lines_ends_the_command():
    script = """
    python train.py \\
        --a 1 \\
        # --b 2 \\
        --c 3
    """
    assert words(script) == [["python", "train.py", "--a", "1"], ["--c", "3"]]


def test_a_blank_behind_the_backslash_ends_the_command():
    assert words("python a.py \\ \n  --b 1\n") == [["python", "a.py", " "], ["--b", "1"]]


@pytest.mark.parametrize("end", ["\\", "\\\n", " \\ \n", "\\\n\n"])
def test_a_continuation_of_nothing_is_no_mistake(end: str):
    assert words("python a.py --b 1 " + end)[0][:4] == ["python", "a.py", "--b", "1"]


def test_a_backslash_at_the_very_end_is_no_word():
    assert words("python a.py --b 1 \\") == [["python", "a.py", "--b", "1"]]


def test_carriage_returns_are_line_ends():
    text = 'LR=1e-4\r\npython a.py \\\r\n  --lr $LR\r\nif [ "$X" = 1 ]; then\r\n  echo\r\nfi\r\n'
    (command,) = commands(text)
    assert [word.value for word in command.words if isinstance(word, Scalar)] == ["python", "a.py", "--lr", "1e-4"]
    assert command.word_places[2].span[:2] == (3, 3)


def test_a_value_is_placed_where_it_is_written():
    script = 'LR=1e-4\nARGS="\n  --epochs 3 \\\n  --lr $LR"\npython a.py $ARGS --wd=$LR\n'
    (command,) = commands(script)
    document = Document.of("run.sh", script)
    values = [word for word in command.words if isinstance(word, Scalar)]
    assert [word.value for word in values] == ["python", "a.py", "--epochs", "3", "--lr", "1e-4", "--wd=1e-4"]
    places = [word.place for word in values]
    assert [place and document.slice(place.span) for place in places][2:] == [
        "--epochs", "3", "--lr", "1e-4", "1e-4",
    ]  # fmt: skip
    assert [place and place.span.line for place in places] == [5, 5, 3, 3, 4, 1, 1]
    assert {document.slice(place.span) for place in command.word_places[2:6]} == {"$ARGS"}
    assert values[5].via == values[6].via == "shell-variable"


def test_unknown_parts_keep_what_is_known():
    (command,) = commands("python a.py --out=ckpt-$(date +%Y) --n=$1 --w $WORLD_SIZE\n")
    _, _, out, count, _, world = command.words
    assert (out.reason, out.prefix) == (
        "value of --out=ckpt-$(date +%Y): result of $(date +%Y)",
        "--out=ckpt-",
    )
    assert (count.reason, count.prefix) == ("positional argument 1 of run.sh", "--n=")
    assert world.reason == "environment variable WORLD_SIZE, never set in run.sh"


def test_braces():
    assert line("python a.py --{b,c}={1..3} x{y")[2:] == [
        "--b=1", "--b=2", "--b=3", "--c=1", "--c=2", "--c=3", "x{y",
    ]  # fmt: skip


def test_placeholders_are_unknown():
    assert line("python a.py --model <path to model> --n 2\n")[3] == "?placeholder <path to model>"


def test_commands_of_a_pipeline_and_of_one_line():
    assert words("cd x && python a.py | grep loss | xz; python b.py") == [
        ["python", "a.py"], ["xz"], ["python", "b.py"],
    ]  # fmt: skip


def test_folders_and_subshells():
    found = shell("(cd a; python x.py)\npython y.py\ncd b/c && cd ..\npython z.py\n").commands
    assert [command.folder and command.folder.value for command in found] == ["a", None, "b"]


def test_environment_of_a_command():
    (command,) = commands("export A=1\nB=2\nC=3 env D=4 python x.py\n")
    assert {entry.key: entry.value.value for entry in command.environment} == {
        "A": "1", "C": "3", "D": "4",
    }  # fmt: skip
