# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Which checkpoint of a work directory an interrupted training goes on from.

Only the folder itself is looked at. Paths that mmengine recorded in it lead
to another folder once the directory was copied or moved.
"""

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

from referformer.checkpoints.io import load_checkpoint_safely
from referformer.errors import CheckpointError

__all__ = [
    'Resumable',
    'checkpoints_in',
    'count_not_finite',
    'find_resumable',
]

_NAMES = re.compile(r'(epoch|iter)_\d+\.pth')


class Resumable(NamedTuple):
    """The checkpoint to go on from.

    Attributes:
        path: The newest one that can be read; None if there is none.
        damaged: Newer ones that cannot, each with the reason.
    """

    path: Path | None
    damaged: list[tuple[Path, str]]


def checkpoints_in(folder: str | Path) -> list[Path]:
    """Files of a folder that a training has written while it ran."""
    files = sorted(Path(folder).glob('*.pth'))
    return [path for path in files if _NAMES.fullmatch(path.name)]


def find_resumable(work_dir: str | Path) -> Resumable:
    """Find the newest checkpoint of a folder that can be read to its end.

    Raises:
        CheckpointError: If there are checkpoints and all are damaged:
            starting from nothing would hide that.
    """
    damaged: list[tuple[Path, str]] = []
    ages: list[tuple[int, Path]] = []
    for path in checkpoints_in(work_dir):
        try:
            ages.append((_iterations(path), path))
        except CheckpointError as error:
            damaged.append((path, str(error)))
    for _, path in sorted(ages, reverse=True):
        reason = _check_content(path)
        if reason is None:
            return Resumable(path, damaged)
        damaged.append((path, reason))
    if damaged:
        raise CheckpointError(
            f'none of the {len(damaged)} checkpoints in {work_dir} can be '
            f'read ({damaged[-1][1].rstrip(".")})',
            file=work_dir,
            remedy='to begin anew, remove them or choose another --work-dir.',
        )
    return Resumable(None, [])


def _iterations(path: Path) -> int:
    """After how many iterations a checkpoint was written."""
    # 'meta' keeps the tensors on the disk
    meta = load_checkpoint_safely(path, map_location='meta').get('meta', {})
    count = meta.get('iter') if isinstance(meta, dict) else None
    if not isinstance(count, int):
        raise CheckpointError(
            f'{path} does not say after how many iterations it was written.',
            file=path,
        )
    return count


def _check_content(path: Path) -> str | None:
    """Read the whole file; say what is wrong with it, None if nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return f'{path} cannot be read ({error}).'
    return None if broken is None else f'{path} is damaged in {broken}.'


def count_not_finite(state: dict[str, torch.Tensor]) -> int:
    """How many tensors hold a number that is not finite."""
    return sum(
        value.is_floating_point() and not torch.isfinite(value).all().item()
        for value in state.values()
    )
