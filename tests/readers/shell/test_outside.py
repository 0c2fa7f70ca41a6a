"""What comes from outside of a script: environment, arguments, files that it sources."""

from __future__ import annotations

import pytest

from tests.readers.shell.reading import shown
from vramlint.readers.shell import read_shell
from vramlint.text import Document, Place, Span
from vramlint.values import Alternatives, Entry, Option, Scalar, Unknown

ELSEWHERE = Place("job.yaml", Span(4, 7, 4, 8))


def script(text: str) -> Document:
    return Document.of("scripts/run.sh", text)


def test_the_environment():
    environment = (
        Entry("GPUS", None, Scalar(8, ELSEWHERE)),
        Entry("MODE", None, Alternatives((Option(Scalar("a"), "x"), Option(Scalar("b"), "! x")))),
        Entry("HOST", None, Unknown("a secret", ELSEWHERE)),
    )
    found, _ = read_shell(script("python a.py $GPUS ${GPUS:-1} $MODE ${HOST}x $((GPUS*2))\n"), environment)
    (command,) = found.commands
    assert [shown(word) for word in command.words[2:]] == ["8", "8", ("a", "b"), "?value of ${HOST}x: a secret", "16"]
    first = command.words[2]
    assert isinstance(first, Scalar)
    assert (first.place, first.via) == (ELSEWHERE, "environment")
    assert [entry.key for entry in command.environment] == ["GPUS", "MODE", "HOST"]


def test_arguments():
    arguments = (Scalar("gpt2", ELSEWHERE), Scalar("--n"), Scalar("2"))
    text = """MODEL=$1; shift
while [ $# -gt 0 ]; do case $1 in --n) N=$2; shift 2;; esac; done
python a.py $MODEL $N $# ${3:-none}
"""
    (command,) = read_shell(script(text), arguments=arguments)[0].commands
    assert [shown(word) for word in command.words[2:]] == ["gpt2", "2", "0", "none"]
    assert command.words[2].place == ELSEWHERE


def test_sourced_files():
    files = {"scripts/env.sh": "export LR=1e-4\nN=${1:-4}\nreturn\nN=5\n"}

    def sources(path: str) -> Document | None:
        return Document.of(path, files[path]) if path in files else None

    text = 'source "$(dirname "$0")/env.sh"\n. missing.sh\npython a.py $LR $N $M\n'
    (command,) = read_shell(script(text), sources=sources)[0].commands
    assert [shown(word) for word in command.words[2:]] == [
        "1e-4",
        "4",
        "?environment variable M, never set in run.sh (missing.sh, which it sources, is not read)",
    ]
    assert command.words[2].place == Place("scripts/env.sh", Span(1, 11, 1, 15))


def test_reasons_use_the_given_name():
    (command,) = read_shell(script("python $1\n"), name="cell 3")[0].commands
    assert [shown(word) for word in command.words] == ["python", "?positional argument 1 of cell 3"]


def test_a_file_is_written_before_the_commands_that_follow():
    text = 'for n in 1 2; do\n  echo "{\\"n\\": $n}" > ds.json\n  deepspeed a.py\ndone\n'
    found, _ = read_shell(script(text))
    assert [(file.after, file.document.text.strip()) for file in found.files] == [(0, '{"n": 1}'), (1, '{"n": 2}')]


def test_reasons_do_not_name_what_the_reader_made_up():
    text = '# MODEL=gpt2\nargs="--cache $HOME/.cache --model $MODEL"\ncmd="python a.py $args"\neval $cmd\n'
    (command,) = read_shell(script(text))[0].commands
    assert [shown(word) for word in command.words[3::2]] == [
        "?value of $HOME/.cache: environment variable HOME",
        "?environment variable MODEL, set in a comment only in run.sh",
    ]


@pytest.mark.parametrize("evaluated", ["$cmd", '"$cmd"'])
def test_a_value_of_undecided_branches_is_not_lost_in_an_evaluated_text(evaluated):
    text = f'if [ $1 -eq 7 ]; then L=32; else L=40; fi\ncmd="python a.py --layers $L --heads 8"\neval {evaluated}\n'
    found = read_shell(script(text))[0].commands
    told = [[shown(word) for word in command.words] for command in found]
    assert all(len(words) == 6 and words[4:] == ["--heads", "8"] for words in told)
    assert all(size in str(told) for size in ("32", "40"))
