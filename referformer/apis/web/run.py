# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A run of a visitor: what is wanted, how it goes, what came out."""

import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from referformer.apis.web.progress import Progress, Step

if TYPE_CHECKING:
    from referformer.apis.web.visit import Visit

State = Literal['waiting', 'working', 'done', 'failed', 'cancelled']
FileKind = Literal['overlay', 'masks', 'results', 'coco']


class Cancelled(Exception):
    """The visitor wants the run no longer."""


class RowResult(NamedTuple):
    """What was found for an expression.

    Attributes:
        text (str): The expression.
        scores (np.ndarray): Score of each frame, in [0, 1], shape (n,).
        found (int): Frames with a mask.
    """

    text: str
    scores: np.ndarray
    found: int


class Outcome(NamedTuple):
    """Results of a run.

    Attributes:
        rows (list[RowResult]): In the order of the expressions.
        times (np.ndarray): Seconds from the beginning of the overlay at which
            each frame is shown, shape (n,).
        seconds (float): Length of the overlay.
        files (dict[FileKind, Path]): Files to download.
        missing (int): Frames lost because the file is cut off.
    """

    rows: list[RowResult]
    times: np.ndarray
    seconds: float
    files: dict[FileKind, Path]
    missing: int


@dataclass
class Status:
    """How a run is going.

    Attributes:
        state (State): Where it is.
        ahead (int): Runs before it.
        doing (str): What is done at the moment.
        fraction (float): Share that is done, in [0, 1].
        seconds_left (float | None): Estimate; None if nothing is known.
    """

    state: State
    ahead: int = 0
    doing: str = ''
    fraction: float = 0.0
    seconds_left: float | None = None


class Run:
    """Segmentation of a part of a video by some expressions.

    Args:
        visit (Visit): Whose it is.
        texts (Sequence[str]): The expressions.
        start (float, optional): Seconds at which the part starts.
        end (float, optional): Seconds at which it ends.

    Attributes:
        outcome (Outcome | None): The results, when it is done.
        error (str | None): A sentence for the visitor, when it failed.
    """

    def __init__(
        self,
        visit: 'Visit',
        texts: Sequence[str],
        start: float | None,
        end: float | None,
    ) -> None:
        self.visit = visit
        self.texts = list(texts)
        self.part = (start, end)
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.doing = ''
        self.progress: Progress | None = None
        self._state: State = 'waiting'
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def over(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self._over.is_set()

    @property
    def status(self) -> Status:
        """How it is going."""
        status = Status(self._state, self.visit.service.runs_before(self))
        if self._state == 'working' and self.progress is not None:
            status.doing = self.doing
            status.fraction = self.progress.fraction
            status.seconds_left = self.progress.seconds_left
        return status

    def wait(self, timeout: float) -> bool:
        """Wait until it is over; return whether it is."""
        return self._over.wait(timeout)

    def cancel(self) -> None:
        """End it. The step at work goes on, but nobody waits for it."""
        self._end('cancelled')

    def check(self) -> None:
        """Raise an exception if it was cancelled.

        Raises:
            Cancelled: In that case.
        """
        if self.over:
            raise Cancelled

    def tick(self, step: Step, frames: int = 1) -> None:
        """Note that frames are done, unless it was cancelled."""
        self.check()
        self.progress.tick(step, frames)

    def work(self) -> None:
        """Do it, in the thread that owns the model."""
        with self._lock:
            if self.over:
                return
            self._state = 'working'
        folder = self.visit.folder / secrets.token_urlsafe(16)
        try:
            outcome = self.visit.segment(self, folder)
        except BaseException as error:
            # files of a cancelled run may vanish under it
            if not self.over:
                self.error = self.visit.explain(error)
                self._end('failed')
        else:
            self.outcome = outcome
            if self._end('done'):
                self.visit.replace_files(folder)
                return
        shutil.rmtree(folder, ignore_errors=True)

    def _end(self, state: State) -> bool:
        """Enter a final state, unless it is in one; say whether it did."""
        with self._lock:
            if self.over:
                return False
            self._state = state
            self._over.set()
            return True
