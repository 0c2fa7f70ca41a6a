"""Which commands run: tests, loops, functions, evaluated strings; each held against bash 5.2."""

from __future__ import annotations

import pytest

from tests.readers.shell.reading import commands, shell, words
from vramlint.readers.shell import read_shell
from vramlint.text import Document

DECIDED = [
    ('N=3; if [ $N -eq 3 ] && [[ "$N" != 4 ]]; then p a; elif true; then p b; else p c; fi', ["a"]),
    ("N=3; if [[ $N -lt 2 || $N == 3 ]]; then p d; fi; if (( N > 2 )); then p f; fi", ["d", "f"]),
    ('N=3; [ "$N" = 3 ] && p g || p h; [ "$N" = 4 ] && p i || p j', ["g", "j"]),
    ("N=3; case $N in 1|2) p k;; [3-5]) p l;;& 3) p m;; *) p n;; esac", ["l", "m"]),
    ("case x in x) p o;& y) p q;; esac; case 7b in (7b|8b) p r;; esac", ["o", "q", "r"]),
    ("! false && p neg; if ! [ -z x ]; then p e; fi", ["neg", "e"]),
    ("[[ abc =~ ^a.c$ ]] && p re; [ 1 -eq 1 -a 2 -eq 2 ] && p and; [ ! 1 -eq 2 ] && p not", ["re", "and", "not"]),
    ('[ a = a -o b = c ] && p or; test -n "x" && p tn; [[ ! ( a == b ) ]] && p par', ["or", "tn", "par"]),
    ("p a; exit; p never", ["a"]),
    ('EMPTY=; [[ -z $EMPTY && "a b" == a* ]] && p z; [[ -n $EMPTY ]] || p n', ["z", "n"]),
    ("for x in a b c; do [ $x = b ] && continue; p $x; done", ["a", "c"]),
    ("for x in a b c; do if [ $x = b ]; then break; fi; p $x; done; p $x", ["a", "b"]),
    ("for ((i=0; i<3; i++)); do p $i; done; p $i", ["0", "1", "2", "3"]),
    ("i=0; while [ $i -lt 2 ]; do p w$i; i=$((i+1)); done; until [ $i -eq 0 ]; do ((i--)); p u$i; done",
     ["w0", "w1", "u1", "u0"]),
    ('f() { local a=$1; b=$2; p $a$b$#; shift; p "$@"; return; p no; }; a=0; f 1 2; p $a$b', ["122", "2", "02"]),
    ("function h { p h; }; h; g() (X=1; p in); X=2; g; p $X", ["h", "in", "2"]),
    ("set -- a b c; p $#$1; shift 2; p $1; set -- z; p $*", ["3a", "c", "z"]),
    ('set -- -n 2; while [ $# -gt 0 ]; do case "$1" in -n) N=$2; shift 2;; *) shift;; esac; done; p $N', ["2"]),
    ('set -- -n 2; while (( "$#" )); do case "$1" in -n) N=$2; shift 2;; esac; done; p $N', ["2"]),
    ("i=0; while ((i < 2)); do p w$i; ((i++)); done; until ((i == 0)); do ((i--)); p u$i; done",
     ["w0", "w1", "u1", "u0"]),
    ("for ((i=0; i<2; i++)) { p b$i; }", ["b0", "b1"]),
    ("""CMD="p a"; $CMD; eval $CMD; eval "p x; p 'y'"; C=p; C+=" b"; $C""", ["a", "a", "x", "y", "b"]),
    ('(X=5; p $X); p "${X:-none}"; X=$(Y=3; echo $Y); p $X${Y:-no}; { Z=4; }; p $Z', ["5", "none", "3no", "4"]),
    ("IFS=','; L=1,2; for x in $L; do p $x; done; unset IFS; p $L", ["1", "2", "1,2"]),
    ("IFS=, read -ra G <<< 0,1,2; p ${#G[@]}${G[1]}; read x y <<< '1 2 3'; p $x; p \"$y\"", ["31", "1", "2 3"]),
    ("declare -i I=2+3; I+=4; p $I; let 'z=3*4' w=z+1; p $z$w", ["9", "1213"]),
    ("S=a; S+=b; S=${S}c; p $S; X=1 Y=2\np $X$Y; unset X; p ${X:-gone}", ["abc", "12", "gone"]),
    ("A=(); A+=(1); A+=('3 4'); A[5]=y; p ${#A[@]}; p \"${A[1]}\"", ["3", "3 4"]),
    ("bash -c 'p $0; p in' ; sh -ec \"p sh\"", ["in", "sh"]),
    ("env A=1 nohup timeout -s 9 3h stdbuf -oL p x; exec p y", ["x", "y"]),
    ("p a > log; 2>/dev/null p b; p c 2>&1 >>log; p d &> x &\np e&", ["a", "b", "c", "d", "e"]),
]  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), DECIDED)
def test_decided(script: str, expected: list[str]):
    found = shell(script + "\n").commands
    assert [str(word) for command in words(script + "\n") for word in command[1:] if command[0] == "p"][
        -len(expected) :
    ] == expected
    assert not any(command.conditions for command in found)


def test_undecided_branches_give_conditions():
    script = """
    if [ "$MODE" = lora ]; then
        torchrun lora.py
    elif [[ $MODE == full ]]; then
        torchrun full.py
    else
        exit 1
    fi
    python after.py
    """
    assert [(command.words[1].value, command.conditions) for command in commands(script)] == [
        ("lora.py", ('[ "$MODE" = lora ]',)),
        ("full.py", ('! [ "$MODE" = lora ]', "[[ $MODE == full ]]")),
        ("after.py", ()),
    ]


def test_a_value_set_in_two_branches_is_either():
    script = 'if [[ $M == a ]]; then X=1; Y=1; else X=2; Y=3; fi\np $X r-$X-$Y "$@"\n'
    (command,) = commands(script)
    assert [(option.value.value, option.condition) for option in command.words[1].options] == [
        ("1", "[[ $M == a ]]"), ("2", "! [[ $M == a ]]"),
    ]  # fmt: skip
    assert words(script) == [["p", ("1", "2"), ("r-1-1", "r-2-3"), "?arguments of run.sh"]]


def test_words_that_are_there_under_a_condition():
    script = """
    ARGS="--a 1"
    LIST=(--b 2)
    if [ "$FP16" = 1 ]; then
        ARGS="$ARGS --fp16"
        LIST+=(--dtype half)
    else
        LIST+=(--dtype float)
    fi
    p $ARGS "${LIST[@]}" --end
    """
    assert words(script) == [
        ["p", "--a", "1", (["--fp16"], []), "--b", "2", "--dtype", ("half", "float"), "--end"],
    ]


@pytest.mark.parametrize(
    "script",
    [
        'while [[ "$1" != "" ]]; do case $1 in --n) shift; N=$1;; esac; shift; done',
        'while [ $# -gt 0 ]; do case "$1" in --n) N="$2"; shift 2;; *) exit 1;; esac; done',
        'while (( "$#" )); do case "$1" in --n) N="$2"; shift 2;; esac; done',
        'while getopts "n:" opt; do case $opt in n) N=$OPTARG;; esac; done',
        'OPTS=$(getopt -o n: -- "$@"); eval set -- "$OPTS"\n'
        'while true; do case "$1" in -n) N=$2; shift 2;; --) shift; break;; esac; done',
        'for arg in "$@"; do case $arg in --n=*) N="${arg#*=}";; esac; done',
        'if [ -n "$1" ]; then N=$1; fi',
        '[ -z "$1" ] || N=$1',
        "if [ $# -ge 1 ]; then N=$1; fi",
        'case "$1" in ?*) N=$1;; esac',
        "N=${1:-$N}",
    ],
)
def test_options_that_nobody_gives_leave_the_defaults(script: str):
    assert words(f"N=8\n{script}\np $N\n") == [["p", "8"]]


def test_a_usage_message_is_not_the_end():
    assert words('if [ $# -lt 1 ]; then echo "usage"; exit 1; fi\np $1\n') == [
        ["p", "?positional argument 1 of run.sh"],
    ]


def test_an_environment_variable_with_a_default():
    script = 'if [ -z "$WORLD_SIZE" ]; then\n  export WORLD_SIZE=1\nfi\np $WORLD_SIZE\n'
    assert words(script) == [["p", "1"]]


def test_an_environment_variable_that_is_passed_on():
    script = 'if [ "x$DIR" = x ]; then\n  export DIR=out\nelse\n  export DIR=$DIR\nfi\np $DIR\n'
    assert words(script) == [["p", "out"]]


def test_what_is_partly_known_is_not_empty():
    script = 'A=x$(date); [ -z "$A" ] && A=no; [ -n "$A" ] || A=no; p $A\n'
    assert words(script) == [["p", "?value of x$(date): result of $(date)"]]


def test_loops_give_one_command_for_each_turn():
    script = "for M in gpt2 opt; do for B in 1 2; do python a.py $M $B; done; done\n"
    assert [command.label for command in commands(script)] == [
        "M=gpt2, B=1", "M=gpt2, B=2", "M=opt, B=1", "M=opt, B=2",
    ]  # fmt: skip


def test_long_loops_end_in_an_unknown_turn():
    found = words("for i in {1..200}; do python a.py $i; done\npython b.py\n")
    assert len(found) == 66
    assert found[63] == ["python", "a.py", "64"]
    assert found[64] == ["python", "a.py", "?value 65 and later of i in a long loop"]


def test_loops_over_unknown_words_run_once():
    script = "n=0\nfor f in data/*.json; do n=$((n+1)); python a.py $f $n; done\n"
    (found,) = words(script)
    assert found[2] == "?value of f in a loop over data/*.json: what data/*.json stands for"
    assert found[3] == "?value of n, which a loop changes"


def test_functions_that_nothing_calls_do_not_run():
    assert words("f() { python a.py; }\npython b.py\n") == [["python", "b.py"]]


def test_recursion_ends():
    found, problems = read_shell(Document.of("run.sh", "f() { p x; f; f; }\nf\n"))
    assert len(found.commands) < 6000
    assert [problem.kind for problem in problems] == ["too-large"]


def test_a_launcher_in_front_of_a_shell_is_kept():
    assert words('LR=1\nsrun -N 2 bash -c "cd x && python a.py --lr $LR; python b.py"\n') == [
        ["srun", "-N", "2", "python", "a.py", "--lr", "1"],
        ["srun", "-N", "2", "python", "b.py"],
    ]


def test_scripts_that_a_shell_reads_from_its_input():
    script = """
    LR=1
    export N=2
    srun -N 2 bash <<EOF
    python a.py --lr $LR --n \\$N
    EOF
    sbatch -p gpu <<'EOF'
    #!/bin/bash
    #SBATCH --gres=gpu:4
    torchrun b.py $N
    EOF
    echo "python c.py" | bash
    """
    assert words(script.replace("\n    ", "\n")) == [
        ["srun", "-N", "2", "python", "a.py", "--lr", "1", "--n", "2"],
        ["sbatch", "-p", "gpu"],
        ["torchrun", "b.py", "2"],
        ["python", "c.py"],
    ]


def test_failure_of_a_command_is_a_condition():
    assert [command.conditions for command in commands("python a.py || python b.py\n")] == [(), ("! { python a.py; }",)]


def test_jobs_that_are_submitted_in_a_substitution_count():
    assert words("ID=$(sbatch --parsable run.slurm)\nsbatch --dependency=$ID b.slurm\n") == [
        ["sbatch", "--parsable", "run.slurm"],
        ["sbatch", "?result of $(sbatch --parsable run.slurm)", "b.slurm"],
    ]
