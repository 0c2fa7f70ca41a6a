"""Independent pieces of work, shared out among processes where that is safe and worth it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vramlint.cli.errors import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from types import FrameType

Done = TypeVar("Done")

VARIABLE = "VRAMLINT_PROCESSES"
"""In the environment: processes at a time."""
MOST = 8
"""The same where nobody says: each may come to hold some 100 MiB of its own."""
THREADS = Path("/proc/self/task")
LOOK_AFTER = 1.0
"""Seconds without a share after which a process looks whether the one that shares out is still there."""


def each_of(work: Callable[[int], Done], count: int, least: int = 1) -> Iterator[Done]:
    """What comes of each of `count` pieces of work, in their order, as soon as it and those before it are done.

    What a process raises, or leaves when the system ends it, is done again in this one.

    Args:
        work: does the piece of a number from 0; what it returns can be pickled.
        count: how many pieces there are.
        least: pieces that are worth a process, and that one process takes at a time: neighbours often are alike.

    Raises:
        UsageError: the environment asks for what is no number of processes.
    """
    workers = min(count // least, _processors(), _asked())
    if workers < 2:
        yield from map(work, range(count))
        return
    shares = [range(first, min(first + least, count)) for first in range(0, count, least)]
    for found in _shared(work, shares, workers):
        yield from found


def _asked() -> int:
    text = os.environ.get(VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"{VARIABLE}: {text!r} is no number of processes such as 1")
    return int(text) if text else MOST


def _processors() -> int:
    """Processors that this process may use for copies of itself.

    One where it may have no copies: beside threads, whose locks a copy would find held, and elsewhere than on Linux,
    where libraries of the system do not survive it (CPython's Doc/library/multiprocessing.rst on `fork`).
    """
    if sys.platform != "linux" or not THREADS.is_dir() or len(list(THREADS.iterdir())) > 1:
        return 1
    return len(os.sched_getaffinity(0))


def _shared(work: Callable[[int], Done], shares: Sequence[range], workers: int) -> Iterator[Sequence[Done]]:
    """What comes of each share, from processes that are forked from this one and so have all that it read."""
    from multiprocessing import get_context
    from multiprocessing.connection import wait

    import vramlint.memory  # noqa: F401  all work simulates: loaded once, not in each process

    context = get_context("fork")
    crew: list[BaseProcess] = []
    busy: dict[object, tuple[Connection, int]] = {}
    done: dict[int, Sequence[Done] | None] = {}
    waiting = iter(range(len(shares)))
    before = None

    def give(pipe: Connection) -> None:
        number = next(waiting, None)
        if number is None:
            return
        try:
            pipe.send(shares[number])
        except OSError:
            done[number] = None
        else:
            busy[pipe] = (pipe, number)

    try:
        for _ in range(workers):
            pipe, end = context.Pipe()
            crew.append(context.Process(target=_serve, args=(work, end, os.getpid()), daemon=True))
            crew[-1].start()
            end.close()
            give(pipe)
        before = signal.signal(signal.SIGTERM, partial(_end, crew))
        for turn, share in enumerate(shares):
            while turn not in done and busy:
                for ready in wait([pipe for pipe, _ in busy.values()]):
                    pipe, number = busy.pop(ready)
                    done[number] = _received(pipe)
                    if done[number] is not None:
                        give(pipe)
            found = done.pop(turn, None)
            yield [work(number) for number in share] if found is None else found
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        for process in crew:
            process.terminate()
        for process in crew:
            process.join()


def _end(crew: Sequence[BaseProcess], number: int, frame: FrameType | None) -> None:
    """End these processes, then this one as if nothing had been asked."""
    for process in crew:
        process.terminate()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _received(pipe: Connection) -> Sequence[Any] | None:
    """What comes of a share; None where nothing does."""
    try:
        found: Sequence[Any] | None = pipe.recv()
    except (EOFError, OSError):
        return None
    return found


def _serve(work: Callable[[int], object], pipe: Connection, sharer: int) -> None:
    """Do shares as they come, until the process that shares out is gone. An interruption is that one's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # of the pipe, whose other end is gone with that process
        while os.getppid() == sharer:
            if pipe.poll(LOOK_AFTER) and not _served(work, pipe, sharer):
                return


def _served(work: Callable[[int], object], pipe: Connection, sharer: int) -> bool:
    """Do a share, as long as somebody waits for it; whether that went well."""
    share = pipe.recv()
    try:
        pipe.send([work(number) for number in share if os.getppid() == sharer])
    except Exception:  # it is raised where the share is done again
        pipe.send(None)
        return False
    return True
