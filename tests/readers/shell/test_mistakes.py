"""Syntax errors: what bash refuses is said once, what it runs is not."""

from __future__ import annotations

import pytest

from vramlint.readers.shell import read_shell
from vramlint.text import Document
from vramlint.values import Scalar


@pytest.mark.parametrize(
    ("script", "message", "line"),
    [
        ('echo "a\nb\n', 'no matching " up to the end', 1),
        ("if true; then\n  echo\n", "fi is missing", 3),
        ("for x in a; do\n  echo\n", "done is missing", 3),
    ],
)
def test_mistakes(script: str, message: str, line: int):
    _, problems = read_shell(Document.of("run.sh", script))
    assert [(problem.kind, problem.message, problem.place.span.line) for problem in problems] == [
        ("syntax-error", message, line),
    ]


@pytest.mark.parametrize(
    "script",
    [
        "",
        "\n",
        "python a.py \\",
        "python a.py \\\n\n",
        'if [ "a" \\< "b" ]; then echo; fi\n',
        'V="${A:$N+1}"\n',
        'log "x $(ls "${that s}"/*.json)"\n',
        'read -r -a A <<< "$B"\nif (( $(date +%s) - x < Y )) || \\\n  false; then echo; fi\n',
        'while [[ ! -e "$1" ]]; do sleep 1; done\n',
        'X=1 Y=2\n[ -n "$X" ] && echo\n',
        'echo 模型 "$MODEL模型" # ünïcödé\n',
        "case $x in a) echo ;; esac\n",
        "cat <<EOF\n\"unbalanced ' ( { $(\nEOF\n",
        "# it's a comment\necho ok # isn't it\n",
        "function f { echo; }; f() ( echo ); { echo; }\n",
        "a=(1 2\n # three\n 3)\n",
        "[[ $a =~ ^(x|y)$ ]] && echo\n",
        "echo $((1+(2*3))) ${a[$((i+1))]} `echo \\`date\\``\n",
        "if true; then :; fi; done_flag=1; echo done fi esac\n",
    ],
)
def test_what_bash_runs_is_no_mistake(script: str):
    assert read_shell(Document.of("run.sh", script))[1] == ()


@pytest.mark.parametrize(
    "script",
    [
        "A=<PATH>\npython a.py\n",
        "python a.py --model <MODEL> --out <path> -n 2\n",
        "srun -A <ACCOUNT> python a.py --b 1\n",
    ],
)
def test_placeholders_of_a_template_are_no_mistakes(script: str):
    found, problems = read_shell(Document.of("run.sh", script))
    assert len(found.commands) == 1
    assert problems == ()


def test_the_rest_of_a_broken_script_is_read():
    script = 'DATA=<where it is> \npython a.py --data $DATA\nif [ -n "$X" ]; then\npython b.py\n'
    found, problems = read_shell(Document.of("run.sh", script))
    assert problems
    assert [command.words[1].value for command in found.commands] == ["a.py", "b.py"]


def test_a_placeholder_that_ends_a_line_takes_nothing_of_the_next():
    found, problems = read_shell(Document.of("run.sh", "cd <PATH_TO_REPOSITORY>\n\npython a.py --b 1\n"))
    assert [[word.value for word in command.words if isinstance(word, Scalar)] for command in found.commands] == [
        ["python", "a.py", "--b", "1"]
    ]
    assert problems == ()  # whoever runs it fills the placeholder in
