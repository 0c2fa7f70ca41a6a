"""Expansions, each held against what bash 5.2 prints for it."""

from __future__ import annotations

import pytest

from tests.readers.shell.reading import line

SETTING = r"""
X=abc; Y="d e"; N=5; E=""; P=/a/b/c.tar.gz; A=(one "two three" four); CSV=1,2,3; U=HeLLo; NAME=X; i=3
declare -A M=([k]=v [k2]="v w"); L="a b
c   d"
unset Q
"""

CASES = [
    (r'''$X "$X" '$X' ${X}y x$Y"z w"$Y "$Y"''', ["abc", "abc", "$X", "abcy", "xd", "ez wd", "e", "d e"]),
    (r'''${X:-q} ${Q:-q r} "${Q:-q r}" ${E:-e} ${E-e} x${E-}y ${Q:+z} ${X:+z} "${X:+a b}"''',
     ["abc", "q", "r", "q r", "e", "xy", "z", "a b"]),
    (r"${P##*/} ${P#*/} ${P%.*} ${P%%.*} ${P%/*} ${P/b/Z} ${P//a/Z} ${P/#\/a/Q} ${P/%gz/Q}",
     ["c.tar.gz", "a/b/c.tar.gz", "/a/b/c.tar", "/a/b/c", "/a/b", "/a/Z/c.tar.gz", "/Z/b/c.tZr.gz", "Q/b/c.tar.gz",
      "/a/b/c.tar.Q"]),
    (r"${#X} ${#A[@]} ${#P} ${X:1} ${X:1:1} ${P: -3} ${P:(-3):2} ${X:0:-1}",
     ["3", "3", "13", "bc", "b", ".gz", ".g", "ab"]),
    (r'${U,,} ${U^^} ${U,} ${U^} ${!NAME} "${!A[@]}"', ["hello", "HELLO", "heLLo", "HeLLo", "abc", "0", "1", "2"]),
    (r'"${A[@]}" ${A[@]} "${A[*]}" ${A[1]} "${A[1]}" ${A[-1]}',
     ["one", "two three", "four", "one", "two", "three", "four", "one two three four", "two", "three", "two three",
      "four"]),
    (r'${A[@]:1} "${A[@]:1:1}" ${A[$((1+1))]} x"${A[@]}"y $A ${M[k]} "${M[k2]}" "${A[@]/o/0}"',
     ["two", "three", "four", "two three", "four", "xone", "two three", "foury", "one", "v", "v w", "0ne", "tw0 three",
      "f0ur"]),
    (r"{a,b}c x{1..3}y {a,{b,c}} {01..03} {a..c} {3..1} {1..10..3} a{b}c {} ${X}{1,2} {$X,$N}.t a{,b}",
     ["ac", "bc", "x1y", "x2y", "x3y", "a", "b", "c", "01", "02", "03", "a", "b", "c", "3", "2", "1", "1", "4", "7",
      "10", "a{b}c", "{}", "abc1", "abc2", "abc.t", "5.t", "a", "ab"]),
    (r'''"{a,b}" '{a,b}' {a,b}{1,2}''', ["{a,b}", "{a,b}", "a1", "a2", "b1", "b2"]),
    ('$L "$L" a$L', ["a", "b", "c", "d", "a b\nc   d", "aa", "b", "c", "d"]),
    (r'''$'a\tb' $'x\'y' $"hi $X" \$X \"q\" a\ b "a\"b" "a\$b" "a\nb" 'a\nb' ''',
     ["a\tb", "x'y", "hi abc", "$X", '"q"', "a b", 'a"b', "a$b", "a\\nb", "a\\nb"]),
    (r'''"" '' $E "$E" x""y "$Q" $Q "${Q[@]}" ${Q[@]}''', ["", "", "", "xy", ""]),
    (r'''--a=${X} --b="$Y" --c='q r' --d=$Y --e="${A[*]}"''',
     ["--a=abc", "--b=d e", "--c=q r", "--d=d", "e", "--e=one two three four"]),
    (r'''"a'b" 'a"b' a'b'c"d"e "$X'$X'" "${X:-'q'}" ${Q:-'a b'} "${Q:-"a b"}" ${Q:-"a b"} ${Q:=new} $Q''',
     ["a'b", 'a"b', "abcde", "abc'abc'", "abc", "a b", "a b", "a b", "new", "new"]),
    (r"*.nomatch [0,1] a?b x=[1,2] key={a:1} +a.b=1 ++x=y a~",
     ["*.nomatch", "[0,1]", "a?b", "x=[1,2]", "key={a:1}", "+a.b=1", "++x=y", "a~"]),
    (r"${X/b} ${P//\//_} ${Y/ /-} ${X/?/Q} ${X/[bc]/Q} ${X//[^a]/-}",
     ["ac", "_a_b_c.tar.gz", "d-e", "Qbc", "aQc", "a--"]),
]  # fmt: skip

SUBSTITUTIONS = [
    (r'''$(echo hi) $(echo "a  b") "$(echo "a  b")" $(printf '%s-%s' a b) $(printf '%02d' 7) $(printf '%s\n' a b)''',
     ["hi", "a", "b", "a  b", "a-b", "07", "a", "b"]),
    (r'''`echo x` "`echo \"q r\"`" "$(echo 'a)b')" $(echo "$(echo "deep $X")") $(echo ')')''',
     ["x", "q r", "a)b", "deep", "abc", ")"]),
    ("$(which python3) `command -v torchrun` $(type -P x)", ["python3", "torchrun", "x"]),
    (r"$(dirname /a/b) $(basename /a/b.txt .txt) $(basename /a/b/) $(dirname a) $(seq 1 3) $(seq 2) $(seq 1 2 5)",
     ["/a", "b", "b", ".", "1", "2", "3", "1", "2", "1", "3", "5"]),
    (r"$(echo $CSV | tr ',' '\n' | wc -l) $(echo $CSV | awk -F, '{print NF}') $(echo $CSV | cut -d, -f2)",
     ["3", "3", "2"]),
    (r'''$(echo $CSV | tr ',' ' ') $(echo a.b | sed 's/b/c/') $(echo "$CSV" | grep -o , | wc -l)''',
     ["1", "2", "3", "a.c", "2"]),
    (r"$(echo 3+4 | bc) $(expr 3 + 4) $(cat <<< hey)", ["7", "7", "hey"]),
    (r"$(if [ $N -gt 3 ]; then echo big; else echo small; fi) $([[ $X == a* ]] && echo yes || echo no)",
     ["big", "yes"]),
    (r"$(case $X in a*) echo A;; *) echo B;; esac) $(for q in 1 2 3; do echo $q; done)", ["A", "1", "2", "3"]),
]  # fmt: skip

ARITHMETIC = [
    ("N+1", 6), ("N*2-3", 7), (" N > 3 ? 1 : 2 ", 1), ("2**10", 1024), ("N/2", 2), ("N%2", 1), ("-7/2", -3),
    ("-7%3", -1), ("1<<4", 16), ("0x10", 16), ("010", 8), ("2#101", 5), ("N==5&&1", 1), ("${#A[@]}*2", 6),
    ("$N + N", 10), ("(1+2)*3", 9), ("!0 + ~0", 0), ("1,2,3", 3), ("A+1", 1), ("i++ + i", 7), ("i+=2", 5),
    ("5 & 3 | 8 ^ 1", 9), ("1 || 1/0", 1), ("0 && 1/0", 0), ("9223372036854775807 + 1", -(2**63)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_expansions(text: str, expected: list[str]):
    assert line(f"{SETTING}prog {text}\n")[1:] == expected


@pytest.mark.parametrize(("text", "expected"), SUBSTITUTIONS)
def test_command_substitutions(text: str, expected: list[str]):
    assert line(f"{SETTING}prog {text}\n")[1:] == expected


@pytest.mark.parametrize(("text", "expected"), ARITHMETIC)
def test_arithmetic(text: str, expected: int):
    assert line(f"{SETTING}A=(); prog $(({text}))\n")[1:] == [str(expected) if text != "${#A[@]}*2" else "0"]


@pytest.mark.parametrize("text", ["1/0", "2**-1", "1 +", "$UNSET_NAME + 1", "1 2", "a[1", "99999999999999999999x"])
def test_arithmetic_without_a_value(text: str):
    (value,) = line(f"prog $(({text}))\n")[1:]
    assert str(value).startswith("?")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$(date +%F)", "result of $(date +%F)"),
        ("$(nvidia-smi -L | wc -l)", "counted on the machine: nvidia-smi -L | wc -l"),
        ("`nproc`", "counted on the machine: nproc"),
        ("$1", "positional argument 1 of run.sh"),
        ("${12}", "positional argument 12 of run.sh"),
        ("$HOME", "environment variable HOME"),
        ("$NNODES", "environment variable NNODES, never set in run.sh"),
        ("$SLURM_NNODES", "environment variable SLURM_NNODES, set by Slurm"),
        ("~/x", "value of ~/x: the home directory"),
        ("<(ls)", "result of <(ls)"),
        ("$((NNODES * 8))", "environment variable NNODES, never set in run.sh"),
        ("${NNODES%x}", "environment variable NNODES, never set in run.sh"),
    ],
)
def test_reasons(text: str, reason: str):
    assert line(f"prog {text}\n")[1:] == [f"?{reason}"]


def test_defaults_stand_for_what_nobody_gives():
    assert line("N=${1:-8}\nX=$2\nprog $N ${X:-4} ${NNODES:-1} ${HOST-h}\n")[1:] == ["8", "4", "1", "h"]
