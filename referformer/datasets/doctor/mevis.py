# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""MeViS."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from referformer.datasets.doctor.frames import (
    Task,
    VideoFiles,
    check_frames,
    check_names,
    check_text,
)
from referformer.datasets.doctor.ref_youtube_vos import read_videos
from referformer.datasets.doctor.report import Observation, Report
from referformer.errors import DataError
from referformer.formats.mask_dict import (
    MaskTable,
    open_mask_table,
)
from referformer.formats.rle import to_rle

TITLE = 'MeViS'
DATASET = 'MeViSDataset'
SPLITS = ('train', 'valid_u', 'valid')
#: Videos in the full set.
FULL = {'train': 1662, 'valid_u': 50, 'valid': 140}


class Split(NamedTuple):
    """Files of a split, relative to the root.

    Attributes:
        name (str): What it is called.
        ann_file (str): Expressions.
        img_dir (str): Frames.
        mask_file (str | None): Table of masks; None without ground truth.
        train (bool): Whether it is trained on.
        official (bool): Whether numbers are compared with the full set.
    """

    name: str
    ann_file: str
    img_dir: str
    mask_file: str | None
    train: bool = False
    official: bool = True


class Annotations(NamedTuple):
    """A video and its masks.

    Attributes:
        files (VideoFiles): Its frames.
        table (Path | None): Table of masks.
        anno_ids (tuple[str, ...]): Those of the video, all in the table.
    """

    files: VideoFiles
    table: Path | None
    anno_ids: tuple[str, ...]


def standard_split(root: Path, name: str) -> Split:
    """A split in the place where it is extracted."""
    masks = f'{name}/mask_dict.json'
    if name == 'valid' and not (root / masks).is_file():
        masks = None
    return Split(
        name,
        f'{name}/meta_expressions.json',
        f'{name}/JPEGImages',
        masks,
        train=name == 'train',
    )


def config_split(root: Path, config: Mapping[str, Any]) -> list[Split]:
    """The split that a dataset config describes."""
    train = not config.get('test_mode', False)
    return [
        Split(
            'train' if train else 'test',
            config['ann_file'],
            config.get('img_dir', 'train/JPEGImages'),
            config.get('mask_file', 'train/mask_dict.json'),
            train=train,
            official=False,
        )
    ]


def check(
    root: Path, splits: Sequence[Split], report: Report, quick: bool
) -> Iterator[Task]:
    """Look at the tables, and yield the videos to be looked at.

    Args:
        root (Path): Folder of the set.
        splits (Sequence[Split]): What to look at.
        report (Report): Where to note what is found.
        quick (bool): Decode the first frame of a video only.

    Yields:
        Task: One a video.
    """
    trained: set[str] = set()
    for split in sorted(splits, key=lambda split: not split.train):
        path = root / split.ann_file
        videos = read_videos(path, report)
        if videos is None:
            continue
        if split.train:
            trained |= set(videos)
        for name in sorted(trained & set(videos)) if not split.train else ():
            report.add('split-overlap', path, f'video {name}')
        full = FULL.get(split.name)
        if split.official and full not in (None, len(videos)):
            report.add(
                'count-differs', path, f'{len(videos)} videos of {full}'
            )
        yield from _check_split(root, split, videos, report, quick)


def _open_table(path: Path, report: Report) -> MaskTable | None:
    """Open a table of masks."""
    try:
        return open_mask_table(str(path))
    except FileNotFoundError:
        report.add('file-missing', path)
    except DataError as error:
        report.add('table-wrong', path, str(error))
    return None


def _check_split(
    root: Path,
    split: Split,
    videos: Mapping[str, dict],
    report: Report,
    quick: bool,
) -> Iterator[Task]:
    """Look at the tables of a split, and yield its videos."""
    path, img_dir = root / split.ann_file, root / split.img_dir
    if not img_dir.is_dir():
        report.add('folder-missing', img_dir)
    table = None
    if split.mask_file is None:
        report.add('truth-absent', path)
    else:
        table = _open_table(root / split.mask_file, report)
    report.count('videos', len(videos))
    owners: dict[str, str] = {}
    for name, video in videos.items():
        anno_ids = _check_expressions(name, video, split, path, table, report)
        for anno_id in sorted(anno_ids):
            owner = owners.setdefault(anno_id, name)
            if owner != name:
                text = f'videos {owner} and {name}, annotation {anno_id}'
                report.add('annotation-shared', path, text)
        names = video.get('frames')
        wrong = check_names(names, path, f'video {name}')
        report.extend(wrong)
        if any(o.code in ('frames-none', 'name-unsafe') for o in wrong):
            continue
        if names != sorted(names):
            report.add('frames-disordered', path, f'video {name}')
        if split.train and len(names) < 2:
            report.add('video-too-short', path, f'video {name}')
        report.count('frames', len(names))
        if img_dir.is_dir():
            argument = Annotations(
                VideoFiles(img_dir / name, names, quick=quick),
                None if table is None else table.path,
                tuple(sorted(anno_ids)),
            )
            yield Task(_check_video, argument, len(names))
    if img_dir.is_dir():
        present = {p.name for p in img_dir.iterdir() if p.is_dir()}
        for name in sorted(present - set(videos)):
            report.add('video-unlisted', img_dir / name)


def _check_expressions(
    name: str,
    video: dict,
    split: Split,
    path: Path,
    table: MaskTable | None,
    report: Report,
) -> set[str]:
    """Look at the expressions of a video; return its annotations."""
    expressions = video.get('expressions')
    if not isinstance(expressions, dict) or not expressions:
        report.add('expression-none', path, f'video {name}')
        return set()
    anno_ids: set[str] = set()
    report.count('expressions', len(expressions))
    for exp_id, expression in expressions.items():
        where = f'video {name}, expression {exp_id}'
        if not isinstance(expression, dict):
            report.add('table-wrong', path, where)
            continue
        code = check_text(expression.get('exp'))
        if code is not None:
            report.add(code, path, f'{where}: {expression.get("exp")!r}')
        if split.mask_file is None:
            continue
        objects, annotations = (
            expression.get(key) for key in ('obj_id', 'anno_id')
        )
        if (
            not isinstance(objects, list)
            or not isinstance(annotations, list)
            or len(objects) != len(annotations)
        ):
            report.add('target-wrong', path, where)
            continue
        names = {str(number) for number in annotations}
        if table is not None:
            for lost in sorted(anno for anno in names if anno not in table):
                text = f'{where}, annotation {lost}'
                report.add('annotation-unknown', path, text)
            anno_ids |= {anno for anno in names if anno in table}
    return anno_ids


def _check_video(argument: Annotations) -> list[Observation]:
    """Look at the frames and run-length codes of a video."""
    files = argument.files
    found, sizes = check_frames(files)
    if argument.table is None:
        return found
    table = open_mask_table(str(argument.table))
    size = next(iter(sizes.values()), None)
    for anno_id in argument.anno_ids:
        where = f'video {files.img_dir.name}, annotation {anno_id}'
        try:
            masks = table[anno_id]
        except DataError as error:
            found.append(
                Observation('table-wrong', str(table.path), str(error))
            )
            continue
        for code, detail in _check_masks(masks, len(files.names), size):
            found.append(
                Observation(code, str(table.path), f'{where}{detail}')
            )
    return found


def _check_masks(
    masks: Sequence[dict | None],
    num_frames: int,
    size: tuple[int, int] | None,
) -> Iterator[tuple[str, str]]:
    """Look at the masks of an annotation; yield codes and details."""
    if len(masks) != num_frames:
        detail = f': {len(masks)} masks, {num_frames} frames'
        yield 'masks-of-frames-differ', detail
    if not any(masks):
        yield 'annotation-never-seen', ''
    for position, mask in enumerate(masks):
        if mask is None:
            continue
        height, width = mask['size']
        if size is not None and (height, width) != size:
            turned = (width, height) == size
            yield (
                'mask-transposed' if turned else 'mask-size-differs',
                f', position {position}: {width} x {height}, '
                f'the frame {size[1]} x {size[0]}',
            )
            return
        try:
            to_rle(mask, height, width)
        except ValueError as error:
            yield 'rle-broken', f', position {position} {error}'
            return
