# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Measuring time and memory of a step, stage by stage.

All clocks are read after the device has caught up. The time of a stage is its
own: while a stage inside another one runs, the outer clock stands still.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

MIB = 2**20
_STATUS = Path('/proc/self/status')
_CLEAR_REFS = Path('/proc/self/clear_refs')


class Spread(NamedTuple):
    """Median, least and greatest of several measurements."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread':
        """Summarise measurements.

        Args:
            values (Sequence[float]): At least one.
        """
        return cls(statistics.median(values), min(values), max(values))


class StepCost(NamedTuple):
    """One run of a step.

    Attributes:
        seconds (float): From start to end.
        stages (dict[str, float]): Seconds of each stage, without those of the
            stages inside it; ``other`` is what belongs to none.
        peak_mib (float): Most memory in use during the step: the
            allocator's on CUDA, the process's resident set elsewhere (NaN
            where the system does not tell).
        extra_mib (float): How much of it was not in use before.
    """

    seconds: float
    stages: dict[str, float]
    peak_mib: float
    extra_mib: float


def _status_mib(key: str) -> float:
    """Read a size out of ``/proc/self/status``; NaN where there is none."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f'{key}:'):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float('nan')


class StepMeter:
    """Measure steps of a model.

    Args:
        stages (Mapping[str, nn.Module]): Modules whose ``forward`` is a
            stage, by the stage's name.
        device (torch.device): Where the work is done.
    """

    def __init__(
        self, stages: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        self.device = torch.device(device)
        self._stages = dict(stages)
        self._running: list[str] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._since = 0.0

    def _synchronize(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def _switch(self) -> None:
        """Book the time since the last switch on the running stage."""
        self._synchronize()
        now = time.perf_counter()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as the stage ``name``."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: object) -> None:
            self._switch()
            self._running.append(name)

        return enter

    def _leave(self, *_: object) -> None:
        self._switch()
        self._running.pop()

    def measure(self, step: Callable[[], object]) -> StepCost:
        """Run a step once.

        Args:
            step (Callable): Does the work; may use :meth:`stage`.

        Returns:
            StepCost: What it took.
        """
        handles = []
        for name, module in self._stages.items():
            handles += [
                module.register_forward_pre_hook(self._enter(name)),
                module.register_forward_hook(self._leave),
            ]
        before = self._reset_memory()
        self._seconds.clear()
        self._running.clear()
        try:
            with self.stage('other'):
                step()
        finally:
            for handle in handles:
                handle.remove()
        stages = dict(self._seconds)
        peak = self._peak_memory()
        return StepCost(sum(stages.values()), stages, peak, peak - before)

    def _reset_memory(self) -> float:
        """Forget earlier peaks; return what is in use now, in MiB."""
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device) / MIB
        with suppress(OSError):
            _CLEAR_REFS.write_text('5')
        return _status_mib('VmRSS')

    def _peak_memory(self) -> float:
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device) / MIB
        return _status_mib('VmHWM')


class Measurement(NamedTuple):
    """Several runs of the same step.

    Attributes:
        seconds (Spread): Of the whole step.
        stages (dict[str, Spread]): Of each stage, in order of appearance.
        peak_mib (float): Greatest of the runs, see :class:`StepCost`.
        extra_mib (float): Likewise.
    """

    seconds: Spread
    stages: dict[str, Spread]
    peak_mib: float
    extra_mib: float


def summarise(costs: Sequence[StepCost]) -> Measurement:
    """Summarise the runs of a step.

    Args:
        costs (Sequence[StepCost]): At least one.
    """
    names = dict.fromkeys(n for cost in costs for n in cost.stages)
    return Measurement(
        Spread.of([cost.seconds for cost in costs]),
        {
            n: Spread.of([cost.stages.get(n, 0.0) for cost in costs])
            for n in names
        },
        max(cost.peak_mib for cost in costs),
        max(cost.extra_mib for cost in costs),
    )


def interleave(
    steps: Sequence[Callable[[], StepCost]], warmup: int, repeats: int
) -> list[list[StepCost]]:
    """Run several steps in turn, so that all meet the same disturbances.

    Args:
        steps (Sequence[Callable]): Each runs once and tells what it took.
        warmup (int): Rounds that do not count.
        repeats (int): Rounds that do. Every other one goes backwards.

    Returns:
        list[list[StepCost]]: The counted runs of each step.
    """
    costs: list[list[StepCost]] = [[] for _ in steps]
    for number in range(warmup + repeats):
        order = list(range(len(steps)))
        for i in reversed(order) if number % 2 else order:
            cost = steps[i]()
            if number >= warmup:
                costs[i].append(cost)
    return costs
