from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramlint.readers.dockerfile import Stage, Start, read_dockerfile
from vramlint.text import Document
from vramlint.values import Scalar, Unknown, plain


def stages(text: str) -> tuple[Stage, ...]:
    return read_dockerfile(Document.of("Dockerfile", text))


def words(start: Start | None) -> object:
    assert start is not None
    return plain(start.words) if start.words is not None else start.text.text


def test_instructions_of_every_form() -> None:
    text = """\
# syntax=docker/dockerfile:1
ARG CUDA=12.4
FROM nvidia/cuda:${CUDA} AS base
ARG MODEL=gpt2
ENV MODEL_ID=$MODEL LEVEL="high up" \\
    # in between
    OTHER=1
ENV OLD way of saying it
WORKDIR /app
RUN <<EOF
CMD ["not", "this"]
EOF
COPY --chown=1:1 . /app
ENTRYPOINT ["torchrun", \\
  "--nproc_per_node=8"]
CMD ["train.py", "--model", "x"]
FROM base
WORKDIR src
CMD python train.py --lr 1e-4 \\
      --out $OUT
"""
    base, last = stages(text)
    assert base.name == "base"
    assert [(entry.key, entry.value.value) for entry in base.environment if isinstance(entry.value, Scalar)] == [
        ("MODEL_ID", "gpt2"),
        ("LEVEL", "high up"),
        ("OTHER", "1"),
        ("OLD", "way of saying it"),
    ]
    assert words(base.entrypoint) == ["torchrun", "--nproc_per_node=8"]
    assert words(base.command) == ["train.py", "--model", "x"]
    assert base.copies == ((".", "/app"),)
    assert isinstance(last.folder, Scalar)
    assert last.folder.value == "/app/src"
    command = words(last.command)
    assert isinstance(command, str)
    assert command.split() == ["python", "train.py", "--lr", "1e-4", "--out", "$OUT"]


def test_words_have_their_places() -> None:
    text = 'FROM x\nCMD ["python", \\\n     "train.py"]\n'
    (stage,) = stages(text)
    assert stage.command is not None
    assert stage.command.words is not None
    place = stage.command.words.values[1].place
    assert place is not None
    assert Document.of("Dockerfile", text).slice(place.span) == '"train.py"'


def test_build_arguments_without_a_default_are_unknown() -> None:
    (stage,) = stages("FROM x\nARG A\nENV B=$A C=${D:-d}\n")
    first, second = (entry.value for entry in stage.environment)
    assert isinstance(first, Unknown)
    assert isinstance(second, Scalar)
    assert second.value == "d"


def test_windows_escapes_and_text_in_brackets() -> None:
    (stage,) = stages("# escape=`\nFROM x\nCMD [ -f a ] && python `\n  train.py\n")
    command = words(stage.command)
    assert isinstance(command, str)
    assert command.split()[-1] == "train.py"


@given(st.text(alphabet="FROMCDENVARG cmd[]\",'$={}\\\n#<EOF-", max_size=120))
def test_any_text_is_read(text: str) -> None:
    stages(text)
    stages("FROM a\n" + text)
