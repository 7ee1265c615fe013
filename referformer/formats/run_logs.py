# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What a training leaves in its work directory: logs and records.

mmengine makes a folder for each start of a run, named after the time, with one
JSON line for each line of the log in ``vis_data/scalars.json``.
``RecordRunHook`` adds ``run.json``: the command, versions and the commit.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from referformer.errors import DataError, MissingDataError
from referformer.formats.text_files import read_json

RECORD = 'run.json'
_SCALARS = 'vis_data/scalars.json'
# Keys of a line that are no measure.
_PLACES = ('step', 'iter', 'epoch')
_NOT_SCORES = ('time', 'data_time')


class Curve(NamedTuple):
    """A measure over a run.

    Attributes:
        iterations: When it was logged, ascending.
        values: One for each iteration; may hold NaN.
    """

    iterations: list[int]
    values: list[float]

    def best(self, greatest: bool) -> tuple[int, float] | None:
        """Return iteration and value of the best entry; None without one."""
        pairs = [p for p in zip(*self, strict=True) if math.isfinite(p[1])]
        if not pairs:
            return None
        return (max if greatest else min)(pairs, key=lambda pair: pair[1])


class RunLog(NamedTuple):
    """The log of a run, all of its starts joined.

    Attributes:
        folder: Its work directory.
        training: Measure of the training -> its curve.
        scores: Measure of the validation -> its curve. mmengine logs the
            epoch of a validation only; it stands at the last iteration that
            was logged before.
        resumed: First logged iteration of every start but the first.
        records: What ``run.json`` says of each start that has one.
        unreadable: Lines that are no JSON, such as the last one of a
            process that was killed.
    """

    folder: Path
    training: dict[str, Curve]
    scores: dict[str, Curve]
    resumed: list[int]
    records: list[dict[str, Any]]
    unreadable: int


def read_run(folder: str | Path) -> RunLog:
    """Read the logs of a run; later starts overrule earlier ones.

    Args:
        folder: The work directory, or the folder of one start.

    Raises:
        MissingDataError: If there is no such folder, or no log in it.
        DataError: If no line of the training is in the logs.
    """
    folder = Path(folder)
    starts = sorted(folder.glob(f'*/{_SCALARS}'))
    if (folder / _SCALARS).is_file():
        starts = [folder / _SCALARS]
    if not starts:
        raise MissingDataError(
            f'{folder} holds no log of a training (*/{_SCALARS})',
            file=folder,
            remedy='give the --work-dir of a training.',
        )
    run = RunLog(folder, {}, {}, [], [], 0)
    lines: list[tuple[int, Mapping[str, float], bool]] = []
    unreadable = 0
    for path in starts:
        record = path.parents[1] / RECORD
        if record.is_file():
            run.records.append(read_json(record))
        new, bad = _read_start(path)
        unreadable += bad
        begin = next((at for at, _, training in new if training), None)
        if begin is None:
            continue
        if lines:
            run.resumed.append(begin)
        # what the start before had logged, but not saved
        lines = [line for line in lines if line[0] < begin] + new
    for at, values, training in lines:
        curves = run.training if training else run.scores
        for key, value in values.items():
            curve = curves.setdefault(key, Curve([], []))
            curve.iterations.append(at)
            curve.values.append(value)
    if not run.training:
        raise DataError(
            f'the logs in {folder} hold no loss',
            file=folder,
            remedy='give the --work-dir of a training that logged something.',
        )
    return run._replace(unreadable=unreadable)


def _read_start(
    path: Path,
) -> tuple[list[tuple[int, Mapping[str, float], bool]], int]:
    """Return (iteration, values, of the training) of each line.

    And the number of lines that cannot be read.
    """
    found, unreadable, last = [], 0, 0
    for line in path.read_text(errors='replace').splitlines():
        try:
            values = json.loads(line)
            training = 'loss' in values
            if training:
                last = int(values['step'])
            numbers = dict(_numbers_of(values, training))
        except (ValueError, TypeError, KeyError, AttributeError):
            unreadable += 1
            continue
        found.append((last, numbers, training))
    return found, unreadable


def _numbers_of(
    values: Mapping[str, Any], training: bool
) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        known = key in _PLACES or (not training and key in _NOT_SCORES)
        if not known and isinstance(value, int | float):
            yield key, float(value)
