# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Tasks in several processes, with a progress bar."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from referformer.errors import DataError

Task = TypeVar('Task')
Result = TypeVar('Result')


def count_cores() -> int:
    """Cores this process may use, which a container often limits."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ProgressBar:
    """Done, total, speed and time left on one line of stderr.

    On a terminal the line is redrawn; elsewhere (a log file) a new one
    appears every ten seconds at most.

    Args:
        total (int): Units of work in all.
        unit (str): What they are, in the plural.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit, self.done = total, unit, 0
        self.start = time.monotonic()
        self.live = sys.stderr.isatty()
        self.period = 0.1 if self.live else 10.0
        self.shown = self.start

    def update(self, amount: int) -> None:
        """Count ``amount`` more units as done."""
        self.done += amount
        now = time.monotonic()
        last = self.done >= self.total
        if now - self.shown < self.period and not last:
            return
        self.shown = now
        speed = self.done / max(now - self.start, 1e-6)
        left = round((self.total - self.done) / speed)
        share = self.done / self.total
        bar = ('#' * round(30 * share)).ljust(30, '.')
        line = (
            f'[{bar}] {self.done}/{self.total} {self.unit}, '
            f'{speed:.0f}/s, {left // 60}:{left % 60:02d} left'
        )
        end = '\n' if last or not self.live else ''
        start = '\r\x1b[K' if self.live else ''
        print(f'{start}{line}', end=end, file=sys.stderr, flush=True)


_shared: Any = None


def _start_worker(shared: Any) -> None:
    """Limit a worker to one core: there is one worker a core already."""
    import cv2

    global _shared
    _shared = shared
    cv2.setNumThreads(1)


def _run_task(function: Callable[..., Result], task: Any) -> Result:
    """Do a task in a worker."""
    return function(task) if _shared is None else function(_shared, task)


def run_tasks(
    function: Callable[..., Result],
    tasks: Sequence[Task],
    jobs: int,
    shared: Any = None,
) -> Iterator[tuple[int, Result]]:
    """Do the tasks, in this process or in others.

    Args:
        function (Callable): Does one task. For several processes it and what
            it takes and returns must be picklable.
        tasks (Sequence): The work, in pieces of some tens of milliseconds:
            short enough for a steady progress bar and an even load, long
            enough to make handing them out cheap.
        jobs (int): Processes; 1 = this one alone.
        shared (Any): What all tasks need; handed to each process once, and
            to ``function`` before the task, unless it is None.

    Yields:
        tuple[int, Result]: Position of a task and its result, as they come.

    Raises:
        DataError: If a process was killed.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        _start_worker(shared)
        yield from enumerate(_run_task(function, task) for task in tasks)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(
        jobs, initializer=_start_worker, initargs=(shared,)
    ) as pool:
        futures = {
            pool.submit(_run_task, function, task): index
            for index, task in enumerate(tasks)
        }
        try:
            for future in as_completed(futures):
                # The result is not needed here once it is handed over.
                yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise DataError(
                'a process was killed, most likely for want of '
                'memory; try again with a smaller --jobs.'
            ) from None
        finally:
            # After an error the rest is pointless; do not sit through it.
            pool.shutdown(cancel_futures=True)


def map_tasks(
    function: Callable[..., Result],
    tasks: Sequence[Task],
    jobs: int,
    sizes: Sequence[int],
    unit: str,
    shared: Any = None,
) -> list[Result]:
    """Do the tasks as :func:`run_tasks` does, and show a progress bar.

    Args:
        function (Callable): Does one task.
        tasks (Sequence): The work.
        jobs (int): Processes; 1 = this one alone.
        sizes (Sequence[int]): Units of work in each task.
        unit (str): What they are, in the plural.
        shared (Any): See :func:`run_tasks`.

    Returns:
        list: The results, in the order of the tasks.

    Raises:
        DataError: If a process was killed.
    """
    progress = ProgressBar(sum(sizes), unit)
    results: dict[int, Result] = {}
    for position, result in run_tasks(function, tasks, jobs, shared):
        results[position] = result
        progress.update(sizes[position])
    return [results[position] for position in range(len(tasks))]
