# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-YouTube-VOS and everything else in its layout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from referformer.datasets.doctor.frames import (
    Task,
    VideoFiles,
    check_names,
    check_text,
    check_video,
    is_plain_name,
    read_json,
)
from referformer.datasets.doctor.report import Report
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset

TITLE = 'Ref-YouTube-VOS'
DATASET = 'RefYouTubeVOSDataset'
SPLITS = ('train', 'valid', 'test')
#: Videos in the full set; valid without those of test.
FULL = {'train': 3471, 'valid': 202, 'test': 305}
CATEGORIES = RefYouTubeVOSDataset.CATEGORIES


class Split(NamedTuple):
    """Files of a split, relative to the root.

    Attributes:
        name (str): What it is called.
        ann_file (str): Expressions.
        img_dir (str): Frames.
        mask_dir (str | None): Masks; None without ground truth.
        meta_file (str | None): Objects and categories.
        exclude (str | None): Expressions whose videos are taken out.
        truth_file (str | None): Expressions that name the objects meant, if
            ``ann_file`` does not.
        expected (int | None): Videos which the config insists on.
        train (bool): Whether it is trained on.
        official (bool): Whether numbers are compared with the full set.
    """

    name: str
    ann_file: str
    img_dir: str
    mask_dir: str | None
    meta_file: str | None = None
    exclude: str | None = None
    truth_file: str | None = None
    expected: int | None = None
    train: bool = False
    official: bool = True


def standard_split(root: Path, name: str) -> Split:
    """A split in the place where it is extracted."""
    folder = f'meta_expressions/{name}'
    masks: str | None = f'{name}/Annotations'
    if name != 'train' and not (root / masks).is_dir():
        masks = None
    truth = f'{folder}/meta_expressions_gt.json'
    return Split(
        name,
        f'{folder}/meta_expressions.json',
        f'{name}/JPEGImages',
        masks,
        meta_file=f'{name}/meta.json' if name == 'train' else None,
        exclude='meta_expressions/test/meta_expressions.json'
        if name == 'valid'
        else None,
        truth_file=truth if (root / truth).is_file() else None,
        train=name == 'train',
    )


def config_split(root: Path, config: Mapping[str, Any]) -> list[Split]:
    """The split that a dataset config describes."""
    prefix = config.get('data_prefix') or {
        'img': 'train/JPEGImages',
        'mask': 'train/Annotations',
    }
    train = not config.get('test_mode', False)
    return [
        Split(
            'train' if train else 'test',
            config['ann_file'],
            prefix['img'],
            prefix.get('mask'),
            meta_file=config.get('meta_file'),
            exclude=config.get('exclude_ann_file'),
            truth_file=config.get('obj_id_file'),
            expected=config.get('expected_videos'),
            train=train,
            official=False,
        )
    ]


def read_videos(
    path: Path, report: Report, missing: str = 'file-missing'
) -> dict[str, dict] | None:
    """Return the ``videos`` of a JSON file, None if there are none."""
    content = read_json(path, report, missing)
    if content is None:
        return None
    videos = content.get('videos') if isinstance(content, dict) else None
    if not isinstance(videos, dict) or not all(
        isinstance(video, dict) for video in videos.values()
    ):
        report.add('table-wrong', path, 'no table "videos"')
        return None
    unsafe = [name for name in videos if not is_plain_name(name)]
    for name in unsafe:
        report.add('name-unsafe', path, f'video {name!r}')
    return {k: v for k, v in videos.items() if k not in unsafe}


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
        videos = read_expressions(root, split, report)
        if videos is None:
            continue
        if split.train:
            trained |= set(videos)
        else:
            for name in sorted(trained & set(videos)):
                path = root / split.ann_file
                report.add('split-overlap', path, f'video {name}')
        yield from check_split(root, split, videos, report, quick)


def read_expressions(
    root: Path, split: Split, report: Report
) -> dict[str, dict] | None:
    """Return the videos of a split."""
    path = root / split.ann_file
    videos = read_videos(path, report)
    if videos is None:
        return None
    if split.exclude is not None:
        excluded = read_videos(
            root / split.exclude, report, missing='test-list-missing'
        )
        if excluded is not None:
            if not set(excluded) & set(videos):
                report.add('test-list-foreign', root / split.exclude)
            videos = {k: v for k, v in videos.items() if k not in excluded}
        else:
            # Those without frames are most likely videos of test.
            folder = root / split.img_dir
            videos = {k: v for k, v in videos.items() if (folder / k).is_dir()}
    number = len(videos)
    if split.expected not in (None, number):
        text = f'{number} videos, expected {split.expected}'
        report.add('count-wrong', path, text)
    full = FULL.get(split.name)
    if split.official and full not in (None, number):
        report.add('count-differs', path, f'{number} videos of {full}')
    return videos


def check_split(
    root: Path,
    split: Split,
    videos: Mapping[str, dict],
    report: Report,
    quick: bool,
) -> Iterator[Task]:
    """Look at the tables of a split, and yield its videos."""
    path = root / split.ann_file
    img_dir = root / split.img_dir
    if not img_dir.is_dir():
        report.add('folder-missing', img_dir)
    mask_dir = None
    if split.mask_dir is not None:
        mask_dir = root / split.mask_dir
        if not mask_dir.is_dir():
            report.add('folder-missing', mask_dir)
    truth = videos
    if split.truth_file is not None:
        truth = read_videos(root / split.truth_file, report) or {}
    objects = None
    if split.meta_file is not None:
        objects = read_videos(root / split.meta_file, report, 'meta-missing')
    report.count('videos', len(videos))
    named = 0
    for name, video in videos.items():
        meant = _check_expressions(
            name, video, truth.get(name, {}), split, path, report
        )
        named += bool(meant)
        known = None
        if objects is not None:
            known = _check_objects(name, objects, meant, split, root, report)
        wrong = check_names(video.get('frames'), path, f'video {name}')
        report.extend(wrong)
        if any(o.code in ('frames-none', 'name-unsafe') for o in wrong):
            continue
        listed = list(dict.fromkeys(video['frames']))
        frames = sorted(listed)
        if frames != listed:
            report.add('frames-unsorted', path, f'video {name}')
        report.count('frames', len(frames))
        if img_dir.is_dir():
            has_masks = mask_dir is not None and mask_dir.is_dir() and meant
            files = VideoFiles(
                img_dir / name,
                frames,
                mask_dir / name if has_masks else None,
                frozenset(meant),
                known,
                quick,
            )
            yield Task(check_video, files, len(frames))
    if not split.train and (not named or mask_dir is None):
        report.add('truth-absent', path)
    if img_dir.is_dir():
        present = {p.name for p in img_dir.iterdir() if p.is_dir()}
        for name in sorted(present - set(videos)):
            report.add('video-unlisted', img_dir / name)


def _check_expressions(
    name: str,
    video: dict,
    truth: Any,
    split: Split,
    path: Path,
    report: Report,
) -> set[str]:
    """Look at the expressions of a video; return the objects they mean."""
    expressions = video.get('expressions')
    if not isinstance(expressions, dict) or not expressions:
        report.add('expression-none', path, f'video {name}')
        return set()
    named = truth.get('expressions') if isinstance(truth, dict) else None
    meant = set()
    report.count('expressions', len(expressions))
    for exp_id, expression in expressions.items():
        where = f'video {name}, expression {exp_id}'
        if not isinstance(expression, dict):
            report.add('table-wrong', path, where)
            continue
        code = check_text(expression.get('exp'))
        if code is not None:
            report.add(code, path, f'{where}: {expression.get("exp")!r}')
        obj_id = expression.get('obj_id')
        if obj_id is None and isinstance(named, dict):
            other = named.get(exp_id)
            obj_id = other.get('obj_id') if isinstance(other, dict) else None
        if obj_id is None:
            if split.train:
                report.add('object-id-missing', path, where)
            continue
        text = str(obj_id)
        if not text.isdecimal() or not 0 < int(text) < 256:
            report.add('object-id-wrong', path, f'{where}: {obj_id!r}')
            continue
        meant.add(text)
    return meant


def _check_objects(
    name: str,
    objects: Mapping[str, dict],
    meant: set[str],
    split: Split,
    root: Path,
    report: Report,
) -> frozenset[str] | None:
    """Look at a video in meta.json; return its objects."""
    path = root / str(split.meta_file)
    if name not in objects:
        report.add('meta-video-missing', path, f'video {name}')
        return None
    table = objects[name].get('objects')
    if not isinstance(table, dict):
        report.add('table-wrong', path, f'video {name} has no "objects"')
        return None
    for obj_id in sorted(meant - set(table)):
        report.add('object-not-in-meta', path, f'video {name}, id {obj_id}')
    for obj_id, entry in table.items():
        category = entry.get('category') if isinstance(entry, dict) else None
        if split.official and category not in CATEGORIES:
            text = f'video {name}, id {obj_id}: {category!r}'
            report.add('category-unknown', path, text)
    return frozenset(table)
