"""Files that scripts write, and batch headers."""

from __future__ import annotations

from pathlib import PurePosixPath

from tests.readers.shell.reading import shell, shown
from vramlint.readers.json import read_json
from vramlint.text import Document
from vramlint.values import Scalar, plain


def written(script: str) -> dict[object, str]:
    return {shown(file.name): file.document.text for file in shell(script).files if file.document}


def test_files_whose_text_only_run_time_knows():
    script = "jq .a x.json > a.json\nsed s/A/B/ t > b.yaml\ncat c d | tee c.json\npython a.py > log.txt\n"
    found = shell(script).files
    assert [(shown(file.name), file.document) for file in found] == [(n, None) for n in ("a.json", "b.yaml", "c.json")]


def test_a_heredoc_is_a_document_of_its_own():
    script = 'LR=1e-4\ncat > conf/ds.json <<EOF\n{\n  "lr": $LR, "m": "$MODEL",\n  "n": ${N:-2}\n}\nEOF\npython a.py\n'
    (file,) = shell(script).files
    assert shown(file.name) == "conf/ds.json"
    assert file.document.text == '\n\n{\n  "lr": 1e-4, "m": "$MODEL",\n  "n": 2\n}\n'
    assert PurePosixPath(file.document.path) == PurePosixPath("run.sh")


def test_places_in_a_written_file_are_those_in_the_script():
    script = "cat <<'EOF' > ds.json\n{\n    \"train_batch_size\": 4\n}\nEOF\n"
    (file,) = shell(script).files
    root = read_json(file.document).root
    value = root.get("train_batch_size")
    assert isinstance(value, Scalar)
    assert value.place is not None
    assert Document.of("run.sh", script).slice(value.place.span) == "4"


def test_ways_to_write_a_file():
    script = r"""
    cat <<EOF | tee a.json
    {"a": 1}
    EOF
    echo '{"b": 2}' > b.json
    printf '{"c": %s}\n' "$((1 + 2))" > c.json
    echo "{" > d.json
    echo "  \"d\": [4," >> d.json
    echo "5]}" >> d.json
    CONFIG='{
        "e": '$((2 * 3))'
    }'
    echo "$CONFIG" > e.json
    tee f.json >/dev/null <<-EOF
		{"f": 7}
	EOF
    { echo '{"g":'; echo '8}'; } > g.json
    G=$(cat <<EOF
    {"h": 9}
    EOF
    )
    echo $G > h.json
    """
    found = written(script.replace("\n    ", "\n"))
    contents = {name: read_json(Document.of("x.json", text)) for name, text in found.items()}
    assert {name: plain(reading.root) for name, reading in contents.items()} == {
        "a.json": {"a": 1}, "b.json": {"b": 2}, "c.json": {"c": 3}, "d.json": {"d": [4, 5]}, "e.json": {"e": 6},
        "f.json": {"f": 7}, "g.json": {"g": 8}, "h.json": {"h": 9},
    }  # fmt: skip


def test_yaml_keeps_its_indentation():
    script = 'if [ -n "$X" ]; then\n  echo "a:" > c.yaml\n  echo "  b: 1" >> c.yaml\nfi\necho "d: $((1+1))" >> c.yaml\n'
    assert written(script) == {"c.yaml": "\na:\n  b: 1\n\nd: 2\n"}


def test_what_is_not_known_is_not_written():
    assert written("date > a.txt\npython x.py > log\necho $(date) > b.txt\necho x > /dev/null\ncat other > c\n") == {
        "b.txt": "\n\n" + " " * 5 + "$(date)\n",
    }  # fmt: skip


def test_a_program_in_a_heredoc():
    (file,) = shell("python - <<'EOF'\nprint(1)\nEOF\n").files
    assert (shown(file.name), file.document.text) == ("-", "\nprint(1)\n")
    assert file.place.span.line == 1


def test_headers():
    script = """#!/bin/bash
#SBATCH --gres=gpu:h100:4 -N 2   # two nodes
#SBATCH --job-name "my job"
#SBATCH --exclusive
##SBATCH --nodes=9
#PBS -l select=1:ngpus=4
#$ -l gpu=2
#BSUB -gpu "num=4:mode=shared"
echo "#SBATCH --no"
"""
    found = shell(script).headers
    assert [(entry.key, plain(entry.value)) for entry in found] == [
        ("--gres", "gpu:h100:4"), ("-N", "2"), ("--job-name", "my job"), ("--exclusive", ""),
        ("-l", "select=1:ngpus=4"), ("-l", "gpu=2"), ("-gpu", "num=4:mode=shared"),
    ]  # fmt: skip
    first = found[0].value
    assert isinstance(first, Scalar)
    assert first.place is not None
    assert Document.of("run.sh", script).slice(first.place.span) == "gpu:h100:4"


def test_slurm_sets_variables_from_headers():
    script = (
        "#SBATCH -N 2\n#SBATCH --gres=gpu:a100:4\nsrun torchrun --nnodes $SLURM_NNODES --n ${SLURM_GPUS_ON_NODE:-8}\n"
    )
    (command,) = shell(script).commands
    nodes, gpus = command.words[3], command.words[5]
    assert isinstance(nodes, Scalar)
    assert isinstance(gpus, Scalar)
    assert (nodes.value, gpus.value) == ("2", "4")
    assert gpus.place is not None
    assert gpus.place.span[:2] == (2, 25)
