"""Independent work in several processes of few threads: on processors, faster than the reverse."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from attribution.errors import InputError

GRACE_SECONDS = 10.0

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")


class ProcessError(InputError):
    """A process died without a word."""


def in_processes(
    jobs: Mapping[Name, Callable[[], Result]], processes: int, threads: int = 1
) -> Iterator[tuple[Name, Result]]:
    """The jobs' results as they come, with the jobs' names.

    Jobs are started in the mapping's order, and must survive pickling.  Whoever stops listening,
    or is interrupted, stops the processes too.  One process is this one.
    """
    if processes == 1 or len(jobs) < 2:
        yield from _here(jobs, threads)
        return
    executor = ProcessPoolExecutor(
        max_workers=max(1, min(processes, len(jobs))),
        mp_context=multiprocessing.get_context("spawn"),  # torch's threads do not survive a fork
        initializer=_start,
        initargs=(threads,),
    )
    try:
        waiting = {executor.submit(job): name for name, job in jobs.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool:
        raise ProcessError("a process was killed: is there memory for so many at once?") from None
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        # To the end: an executor that still ends while Python does fails with a traceback.
        executor.shutdown(wait=True, cancel_futures=True)


def _here(jobs: Mapping[Name, Callable[[], Result]], threads: int) -> Iterator[tuple[Name, Result]]:
    before = torch.get_num_threads()
    for name, job in jobs.items():
        torch.set_num_threads(threads)
        try:
            result = job()
        finally:
            torch.set_num_threads(before)
        yield name, result


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, _give_way)


def _give_way(number: int, frame: object) -> None:
    """Ctrl-C reaches every process: the first one ends the others, and says what there is to say.

    One that ended by itself before would look to the first like one that was killed.
    """
    time.sleep(GRACE_SECONDS)
    os._exit(130)
