# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-DAVIS17, converted into the layout of Ref-YouTube-VOS."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from referformer.datasets.doctor import ref_youtube_vos as layout
from referformer.datasets.doctor.frames import Task
from referformer.datasets.doctor.ref_youtube_vos import Split
from referformer.datasets.doctor.report import Report
from referformer.datasets.ref_davis import NUM_ANNOTATORS

TITLE = 'Ref-DAVIS17'
DATASET = 'RefDAVISDataset'
SPLITS = ('train', 'valid')
#: Videos in the full set.
FULL = {'train': 60, 'valid': 30}
#: Videos as the text files spell them.
MISSPELT = {
    'clasic-car': 'classic-car',
    'dog-scale': 'dogs-scale',
    'motor-bike': 'motorbike',
}


def standard_split(root: Path, name: str) -> Split:
    """A split in the place where the converter puts it."""
    meta = f'{name}/meta.json'
    return Split(
        name,
        f'meta_expressions/{name}/meta_expressions.json',
        f'{name}/JPEGImages',
        f'{name}/Annotations',
        # comes from a third archive, which nothing here needs
        meta_file=meta if (root / meta).is_file() else None,
        train=name == 'train',
    )


def config_split(root: Path, config: Mapping[str, Any]) -> list[Split]:
    """The split that a dataset config describes."""
    return layout.config_split(root, config)


def check(
    root: Path, splits: Sequence[Split], report: Report, quick: bool
) -> Iterator[Task]:
    """Look at the tables, and yield the videos to be looked at.

    See :func:`referformer.datasets.doctor.ref_youtube_vos.check`.
    """
    # Categories are those of DAVIS, and numbers too.
    plain = [split._replace(official=False) for split in splits]
    yield from layout.check(root, plain, report, quick)
    silent = Report('', root)
    for split in splits:
        videos = layout.read_videos(root / split.ann_file, silent) or {}
        full = FULL.get(split.name)
        if split.official and full not in (None, len(videos)):
            text = f'{len(videos)} videos of {full}'
            report.add('count-differs', root / split.ann_file, text)
        for name, video in videos.items():
            _check_video(root, split, name, video, report)


def _check_video(
    root: Path, split: Split, name: str, video: dict, report: Report
) -> None:
    """Look at what is particular to DAVIS."""
    path = root / split.ann_file
    if name in MISSPELT:
        report.add('video-misspelt', path, f'{name}, not {MISSPELT[name]}')
    folder = (root / str(split.mask_dir) / name).resolve()
    if folder.parts[-3:-1] == ('Annotations', '480p'):
        report.add('masks-semisupervised', root / str(split.mask_dir) / name)
    spoken: dict[str, list[str]] = defaultdict(list)
    expressions = video.get('expressions')
    if not isinstance(expressions, dict):
        return
    for exp_id, expression in expressions.items():
        if isinstance(expression, dict) and 'obj_id' in expression:
            spoken[str(expression['obj_id'])].append(exp_id)
    for obj_id, said in spoken.items():
        numbers = sorted(int(n) for n in said if n.isdecimal())
        first = numbers[0] if numbers else 0
        wanted = [*range(first, first + NUM_ANNOTATORS)]
        if first % NUM_ANNOTATORS or numbers != wanted or len(said) != 4:
            text = f'video {name}, id {obj_id}: expressions {", ".join(said)}'
            report.add('annotators-incomplete', path, text)


def find_download(root: Path) -> Path | None:
    """What is there if the set was not converted."""
    names = ('DAVIS', 'davis_text_annotations', 'JPEGImages/480p')
    present = (root / name for name in names if (root / name).is_dir())
    return next(present, None)
