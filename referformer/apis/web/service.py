# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""One model for many visitors, who take turns.

.. code-block:: text

    visitors ── Visit.start ──► line of runs ──► one thread owns the model
        ▲                                             │
        └───────── Run.status, Run.outcome ◄──────────┘

The features of all videos share one memory (``FeatureMemory``), the files of
a visit lie in a folder with a name that cannot be guessed, and both go when
the visit ends.
"""

import logging
import queue
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from referformer.apis.inferencer import ReferInferencer
from referformer.apis.web.progress import Step
from referformer.apis.web.run import Run
from referformer.apis.web.visit import Visit
from referformer.errors import ConfigError
from referformer.prediction import FeatureMemory, Predictor
from referformer.prediction.predictor import device_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for.

    Attributes:
        max_mb (float): Megabytes of a video file.
        max_seconds (float): Seconds of a part of it.
        max_expressions (int): Expressions of a run.
        max_waiting (int): Runs of all visitors that wait.
        max_idle (float): Seconds after which a visit without any action
            ends.
    """

    max_mb: float = 200
    max_seconds: float = 30
    max_expressions: int = 6
    max_waiting: int = 50
    max_idle: float = 3600


class SegmentationService:
    """Segments the videos of several visitors, one run at a time.

    It is a context manager; leaving it ends all visits.

    Args:
        inferencer (ReferInferencer): The model.
        folder (Path): Folder for temporary files, its own.
        predictor (Predictor, optional): Windows, linking, thresholds. None is
            that of the model.
        limits (Limits): What a visitor may ask for.
        fps (float, optional): Frames per second to look at. None is all.
        feature_mb (float): Megabytes of features that are kept.
    """

    def __init__(
        self,
        inferencer: ReferInferencer,
        folder: Path,
        predictor: Predictor | None = None,
        limits: Limits = Limits(),
        fps: float | None = None,
        feature_mb: float = 2000,
    ) -> None:
        self.inferencer = inferencer
        self.folder = folder
        predictor = predictor or inferencer.model.predictor
        self.predictor = predictor.resolved(device_of(inferencer.model))
        self.limits = limits
        self.fps = fps
        self.memory = FeatureMemory(round(feature_mb * 1e6))
        #: Seconds a frame of each step took last.
        self.rates: dict[Step, float] = {}
        self._visits: dict[str, Visit] = {}
        self._uploads: Counter[Path] = Counter()
        self._line: list[Run] = []
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name='segment', daemon=True
        )
        self._thread.start()

    def __enter__(self) -> 'SegmentationService':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- visits ---------------------------------------------------------------

    def visit(self, key: str) -> Visit:
        """Return the visit of a visitor, a new one at the first call."""
        now = time.monotonic()
        with self._lock:
            idle = [
                each
                for each, visit in self._visits.items()
                if now - visit.used > self.limits.max_idle and each != key
            ]
            if key not in self._visits:
                folder = self.folder / 'visits' / secrets.token_urlsafe(16)
                self._visits[key] = Visit(self, folder)
            visit = self._visits[key]
            visit.used = now
        for each in idle:
            self.end(each)
        return visit

    def end(self, key: str) -> None:
        """End a visit: nothing of it stays."""
        with self._lock:
            visit = self._visits.pop(key, None)
        if visit is not None:
            visit.leave_video()
            shutil.rmtree(visit.folder, ignore_errors=True)
            # once more, after a run that was writing
            self.later(lambda: shutil.rmtree(visit.folder, ignore_errors=True))

    def close(self, timeout: float = 10) -> None:
        """End all visits; wait some seconds for the step at work."""
        for key in list(self._visits):
            self.end(key)
        self._tasks.put(None)
        self._thread.join(timeout)

    # -- uploads: the same file from two visitors is stored once --------------

    def take(self, path: Path) -> None:
        """Note that a visit uses a file."""
        with self._lock:
            self._uploads[path] += 1

    def leave(self, path: Path) -> None:
        """Note that a visit no longer uses a file; the last one removes it.

        Examples stay, and so do files elsewhere than in the service's folder.
        """
        with self._lock:
            self._uploads[path] -= 1
            if self._uploads[path] <= 0:
                del self._uploads[path]
                examples = self.folder / 'examples'
                if (
                    self.folder in path.parents
                    and examples not in path.parents
                ):
                    path.unlink(missing_ok=True)

    # -- the line -------------------------------------------------------------

    def submit(self, run: Run) -> None:
        """Put a run at the end of the line.

        Raises:
            ConfigError: If the line is too long.
        """
        with self._lock:
            self._line = [each for each in self._line if not each.over]
            if len(self._line) > self.limits.max_waiting:
                raise ConfigError(
                    f'{len(self._line)} runs are waiting; try again later.'
                )
            self._line.append(run)
        self.later(run.work)

    def runs_before(self, run: Run) -> int:
        """Return how many runs come before one; 0 if it is at work or over."""
        with self._lock:
            line = [each for each in self._line if not each.over]
        return line.index(run) if run in line else 0

    def later(self, task: Callable[[], object]) -> None:
        """Call something in the thread that owns the model, in order."""
        self._tasks.put(task)

    def report(self, error: BaseException) -> None:
        """Log an error that a visitor cannot mend."""
        logger.error('A run failed.', exc_info=error)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except BaseException as error:
                self.report(error)
            del task
