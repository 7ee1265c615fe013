# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The data doctor: looks at a prepared data set before training does.

A module a kind of data set. It has ``TITLE``, ``DATASET`` (the class that
reads it), ``SPLITS``, ``standard_split(root, name)`` and
``config_split(root, config)``, which say where the files of a split are, and
``check(root, splits, report, quick)``, which looks at the tables at once and
yields a ``Task`` for whatever takes time.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from referformer.datasets.doctor.frames import Task, run_task
from referformer.datasets.doctor.problems import LEVELS, PROBLEMS
from referformer.datasets.doctor.report import (
    Finding,
    Observation,
    Report,
)
from referformer.utils.parallel import ProgressBar, run_tasks

__all__ = [
    'KINDS',
    'LEVELS',
    'PROBLEMS',
    'Finding',
    'Observation',
    'Report',
    'check_dataset',
    'load_kind',
    'standard_splits',
]

KINDS = {
    'ref-youtube-vos': 'ref_youtube_vos',
    'ref-davis17': 'ref_davis',
    'a2d': 'a2d',
    'jhmdb': 'jhmdb',
    'refcoco': 'refcoco',
    'mevis': 'mevis',
}
"""Kind of data set -> its module."""


def load_kind(kind: str) -> ModuleType:
    """Import the module of a kind."""
    return import_module(f'{__name__}.{KINDS[kind]}')


def standard_splits(
    kind: str, root: Path, names: Sequence[str] | None, report: Report
) -> list[Any]:
    """Splits in the places where the documentation puts them.

    Args:
        kind (str): A key of :data:`KINDS`.
        root (Path): Folder of the set.
        names (Sequence[str] | None): Splits to look at; None for all that
            are there.
        report (Report): Where to note what is not there.

    Returns:
        list[Any]: Splits as the module has them.
    """
    module = load_kind(kind)
    wanted = module.SPLITS if names is None else names
    splits = {name: module.standard_split(root, name) for name in wanted}
    there = {
        name: split
        for name, split in splits.items()
        if (root / split.ann_file).is_file()
        and (names is not None or _has_folder(root, split))
    }
    raw = getattr(module, 'find_download', lambda root: None)(root)
    for name, split in splits.items():
        if name in there:
            continue
        if names is None and there:
            report.add('split-absent', root / split.ann_file, name)
        elif raw is not None:
            report.add('not-converted', raw, f'{split.ann_file} is missing')
        else:
            report.add('split-missing', root / split.ann_file, name)
    return list(there.values())


def _has_folder(root: Path, split: Any) -> bool:
    """Whether anything of a split but its expressions is there.

    The expressions of all splits come in one archive, and not everybody
    needs the frames of all.
    """
    frames = Path(getattr(split, 'img_dir', 'frames'))
    return (root / frames.parent).is_dir()


def check_dataset(
    kind: str,
    root: Path,
    splits: Sequence[Any],
    report: Report,
    jobs: int = 1,
    quick: bool = False,
) -> None:
    """Look at a data set.

    Args:
        kind (str): A key of :data:`KINDS`.
        root (Path): Its folder.
        splits (Sequence[Any]): Splits of the module.
        report (Report): Where to note what is found.
        jobs (int): Processes that decode.
        quick (bool): Decode only the beginning of each video.
    """
    tasks: list[Task] = list(
        load_kind(kind).check(root, splits, report, quick)
    )
    if not tasks:
        return
    progress = ProgressBar(sum(task.weight for task in tasks), 'files')
    for index, found in run_tasks(run_task, tasks, jobs):
        report.extend(found)
        progress.update(tasks[index].weight)
