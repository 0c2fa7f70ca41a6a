from __future__ import annotations

from vramlint.api.loading import ENOUGH, Idle
from vramlint.values import Scalar, Value


def words(text: str) -> tuple[Value, ...]:
    return tuple(Scalar(word) for word in text.split())


def test_a_script_that_never_trains_is_left_alone() -> None:
    idle = Idle()
    for number in range(ENOUGH):
        assert not idle.knows("eval.py", words(f"--n {number}"))
        idle.note("eval.py", words(f"--n {number}"), trains=False)
    assert idle.knows("eval.py", words("--other"))
    assert not idle.knows("train.py", words("--other"))


def test_words_tell_the_jobs_of_a_script_apart() -> None:
    idle = Idle()
    for _ in range(ENOUGH):
        idle.note("main.py", words("evaluate --n 1"), trains=False)
    assert idle.knows("main.py", words("evaluate --n 2"))
    assert not idle.knows("main.py", words("train --n 2"))


def test_one_that_trained_is_always_read() -> None:
    idle = Idle()
    idle.note("main.py", (), trains=True)
    for _ in range(ENOUGH):
        idle.note("main.py", (), trains=False)
    assert not idle.knows("main.py", ())
