"""Work that is shared out among processes; each test has a process of its own, since one with threads is not forked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vramlint.cli.processes import each_of

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, sys, time
from vramlint.cli.processes import each_of
os.sched_getaffinity = lambda _: {0, 1, 2}
os.environ.pop("VRAMLINT_PROCESSES", None)
first = os.getpid()
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


def alone(body: str) -> subprocess.CompletedProcess[str]:
    """A run of some statements in a process with three processors and no threads."""
    command = [sys.executable, "-W", "error", "-c", HEAD + body]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@linux
def test_pieces_are_done_in_several_processes_and_come_in_their_order() -> None:
    done = alone(
        "def work(number):\n"
        "    time.sleep(0.2 if number == 0 else 0.0)\n"
        "    return number, os.getpid()\n"
        "found = list(each_of(work, 6))\n"
        "print([number for number, _ in found], first in dict(found).values(), 1 < len({p for _, p in found}) <= 3)\n"
    )
    assert done.stdout == "[0, 1, 2, 3, 4, 5] False True\n", done.stderr


@linux
def test_what_a_piece_raises_is_raised_in_its_turn() -> None:
    done = alone(
        "def work(number):\n"
        "    if number == 1:\n"
        "        raise LookupError('piece 1')\n"
        "    return number\n"
        "found = []\n"
        "try:\n"
        "    for number in each_of(work, 3):\n"
        "        found.append(number)\n"
        "except LookupError as error:\n"
        "    print(found, error)\n"
    )
    assert done.stdout == "[0] piece 1\n", done.stderr


@linux
def test_what_cannot_be_sent_is_done_by_the_first() -> None:
    done = alone(
        "import threading\nprint([type(found).__name__ for found in each_of(lambda _: threading.Lock(), 3)])\n"
    )
    assert done.stdout == "['lock', 'lock', 'lock']\n", done.stderr


@linux
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_with_the_first_process_all_others_end(sent: signal.Signals) -> None:
    body = (
        "def work(number):\n"
        "    os.write(1, b'%d\\n' % os.getpid())\n"
        "    time.sleep(0.5 if number < 3 else 60)\n"
        "list(each_of(work, 6))\n"
    )
    command = [sys.executable, "-c", HEAD + body]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        assert first.stdout is not None
        others = {int(first.stdout.readline()) for _ in range(3)}
        first.send_signal(sent)
        assert first.wait(timeout=20) != 0
        ends = time.monotonic() + 20
        while any(map(is_there, others)) and time.monotonic() < ends:
            time.sleep(0.05)
        assert not [other for other in others if is_there(other)]


def is_there(process: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@linux
def test_what_a_process_that_was_ended_leaves_is_done_by_the_first() -> None:
    done = alone(
        "def work(number):\n"
        "    if os.getpid() != first and number == 2:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return number\n"
        "print(list(each_of(work, 5)))\n"
    )
    assert done.stdout == "[0, 1, 2, 3, 4]\n", done.stderr


@linux
def test_nothing_is_forked_beside_threads_or_for_one_piece() -> None:
    done = alone(
        "import threading\n"
        "print([pid == first for pid in each_of(lambda _: os.getpid(), 1)])\n"
        "wait = threading.Event()\n"
        "threading.Thread(target=wait.wait, daemon=True).start()\n"
        "print([pid == first for pid in each_of(lambda _: os.getpid(), 3)])\n"
        "wait.set()\n"
    )
    assert done.stdout == "[True]\n[True, True, True]\n", done.stderr


@linux
def test_the_environment_says_how_many() -> None:
    done = alone(
        "def work(number):\n"
        "    time.sleep(0.05)\n"
        "    return os.getpid()\n"
        "def asked(value):\n"
        "    os.environ['VRAMLINT_PROCESSES'] = value\n"
        "    return len(set(each_of(work, 9)))\n"
        "print([asked(value) for value in ('', '1', '2', '64')])\n"
        "asked('two')\n"
    )
    assert done.stdout == "[3, 1, 2, 3]\n"
    assert done.stderr.endswith("UsageError: VRAMLINT_PROCESSES: 'two' is no number of processes such as 1\n")


def test_elsewhere_one_piece_comes_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    done: list[int] = []
    found = each_of(done.append, 3)
    next(found)
    assert done == [0]
    assert list(found) == [None, None]
    assert done == [0, 1, 2]
