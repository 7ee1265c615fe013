# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scoring in threads beside the model.

Almost all of the work is done by OpenCV, NumPy and PyTorch, which let other
threads run meanwhile: a model that waits for its GPU goes on with the next
video. Threads need no copy of the masks, and end with their process.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from referformer.errors import ConfigError
from referformer.utils.parallel import count_cores

# Below, the loader and the model need the cores.
_MIN_CORES = 4
_USUAL = 2


class ScoringThreads:
    """Score batches in the background, in whatever order.

    Args:
        workers (int | None): Threads; 0 scores at once. None: two where
            there are a GPU and at least four cores, else 0.

    Raises:
        ConfigError: If ``workers`` is negative.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers is None:
            enough = count_cores() >= _MIN_CORES
            beside = torch.cuda.is_available() and enough
            workers = _USUAL if beside else 0
        if workers < 0:
            raise ConfigError(
                f'workers is {workers}; give a number of threads, or 0.',
                value=workers,
            )
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._unfinished: list[Future] = []

    def run(self, score: Callable[[Any], list], batch: Any) -> list | Future:
        """Score a batch, or begin to.

        At most two batches per thread wait, so that masks do not pile up: a
        further one waits here for the oldest.

        Args:
            score (Callable): Takes the batch and gives its records.
            batch (Any): Is not changed by anybody from now on.

        Returns:
            list | Future: The records, or what will hold them.

        Raises:
            Exception: What ``score`` raised for this batch or one before.
        """
        if not self.workers:
            return score(batch)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, 'score')
        if len(self._unfinished) >= 2 * self.workers:
            self._unfinished.pop(0).result()
        for future in [f for f in self._unfinished if f.done()]:
            future.result()
            self._unfinished.remove(future)
        self._unfinished.append(self._pool.submit(score, batch))
        return self._unfinished[-1]

    def finish(self, results: Iterable[list | Future]) -> list[list]:
        """Wait for the records of all batches, and end the threads.

        Raises:
            Exception: What scoring raised.
        """
        try:
            return [finished(result) for result in results]
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
            self._pool, self._unfinished = None, []


def finished(result: Any) -> Any:
    """Wait for a result that is still being computed."""
    return result.result() if isinstance(result, Future) else result
