"""Independent pieces of work, shared out among processes where that is safe and worth it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

Done = TypeVar("Done")

MOST = 8
"""Processes at a time, each of which may come to hold some 100 MiB of its own."""
THREADS = Path("/proc/self/task")

_work: Callable[[int], object] | None = None


def each_of(work: Callable[[int], Done], count: int, least: int = 1) -> Iterator[Done]:
    """What comes of each of `count` pieces of work, in their order, as soon as it and those before it are done.

    Args:
        work: does the piece of a number from 0; what it returns, or raises, can be pickled.
        count: how many pieces there are.
        least: pieces that are worth a process, and that one process takes at a time: neighbours often are alike.
    """
    workers = processes(count, least)
    if workers < 2:
        yield from map(work, range(count))
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    done = 0
    try:
        # forked, they share all that was read before
        with ProcessPoolExecutor(workers, get_context("fork"), _begin, (work,)) as pool:
            for found in pool.map(_do, range(count), chunksize=least):
                yield cast("Done", found)
                done += 1
    except BrokenProcessPool:  # the system has ended one, for its memory as a rule
        yield from map(work, range(done, count))


def processes(count: int, least: int = 1) -> int:
    """How many processes `each_of` has for so many pieces, or so many for each; 0 or 1: it needs none."""
    return min(count // least, _processors(), MOST)


def _processors() -> int:
    """Processors that this process may use for copies of itself.

    One where it may have no copies: beside threads, whose locks a copy would find held, and elsewhere than on Linux,
    where libraries of the system do not survive it (CPython's Doc/library/multiprocessing.rst on `fork`).
    """
    if sys.platform != "linux" or not THREADS.is_dir() or len(list(THREADS.iterdir())) > 1:
        return 1
    return len(os.sched_getaffinity(0))


def _begin(work: Callable[[int], object]) -> None:
    """Take what this process works at; an interruption is the first process's to answer."""
    global _work  # noqa: PLW0603  what a process was forked with reaches its pieces in no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work = work


def _do(number: int) -> object:
    if _work is None:
        raise RuntimeError("a process without work")
    return _work(number)
