# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Building the datasets of a config and reading all they hold."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from referformer.datasets.doctor import public_sets, rules
from referformer.datasets.doctor.kinds import Source
from referformer.datasets.doctor.problems import ENTAILED
from referformer.datasets.doctor.report import Observation, Report
from referformer.datasets.doctor.split import (
    Split,
    forget_files,
    meta_objects,
)
from referformer.datasets.doctor.video import (
    Video,
    find_clips,
    observe,
    raw_item,
    show_video,
)
from referformer.datasets.refcoco import RefCOCODataset
from referformer.errors import ConfigError, collect_errors
from referformer.registry import DATASETS
from referformer.utils.parallel import ProgressBar, run_tasks

#: What is called a frame in videos.
_IMAGES = {'frame-missing': 'image-missing', 'frame-broken': 'image-broken'}


def check_datasets(
    sources: Sequence[Source],
    report: Report,
    jobs: int = 1,
    quick: bool = False,
) -> None:
    """Build datasets, read all their items, and look across their files.

    Args:
        sources: The datasets, of one folder.
        report: Where to note what is found.
        jobs: Processes that decode.
        quick: Decode only one frame of each video, but look whether all files
            are there.

    Raises:
        ConfigError: If there is no dataset of such a type.
    """
    if not report.root.is_dir():
        report.add('folder-missing', report.root)
        return
    forget_files()
    splits = []
    for source in sources:
        split = build_split(source, report)
        if split is not None:
            splits.append(split)
    for rule in (*rules.SET_RULES, *public_sets.SET_RULES):
        report.extend(rule(splits))
    for split in splits:
        for rule in (*rules.SPLIT_RULES, *public_sets.SPLIT_RULES):
            report.extend(rule(split))
    videos = find_videos(splits)
    report.count('videos', len(videos))
    report.count('expressions', sum(len(split.clips) for split in splits))
    report.count('frames', sum(video.weight for video in videos))
    if not videos:
        return
    progress = ProgressBar(sum(video.weight for video in videos), 'files')
    shared = ([split.dataset for split in splits], quick)
    for index, found in run_tasks(check_video, videos, jobs, shared):
        report.extend(found)
        progress.update(videos[index].weight)


def build_split(source: Source, report: Report) -> Split | None:
    """Build a dataset; note what its files have wrong.

    Returns:
        None if it cannot be built.

    Raises:
        ConfigError: If there is no dataset of this type.
    """
    name = source.config['type']
    if isinstance(name, str) and DATASETS.get(name) is None:
        raise ConfigError(
            f'dataset type {name} is not registered; import its module by '
            'custom_imports in the config.',
        )
    dataset = None
    with collect_errors() as errors:
        try:
            dataset = DATASETS.build(dict(source.config))
            dataset.full_init()
        except ConfigError:
            raise
        except Exception as error:  # of the user's own code, too
            if not errors or getattr(error, 'code', None) != 'expression-none':
                errors.append(error)
    found = [observe(error) for error in errors]
    codes = {observation.code for observation in found}
    entailed = {code for cause in codes for code in ENTAILED.get(cause, ())}
    faulty = {o.path for o in found if o.code != 'expression-none'}
    report.extend(
        o
        for o in found
        if o.code not in entailed
        # That nothing is left says nothing new if all was faulty.
        and not (o.code == 'expression-none' and o.path in faulty)
    )
    if dataset is None:
        return None
    clips = [
        {'video_id': f'item {index}', 'exp_id': 0, **_shorten(clip, index)}
        for index in range(len(dataset))
        for clip in find_clips(raw_item(dataset, index))
        if clip.get('anchor', 0) in (0, clip.get('annotated'))
    ]
    if 'test-list-missing' in codes:
        # Those without frames are most likely videos of test.
        clips = [clip for clip in clips if Path(clip['img_dir']).is_dir()]
    return Split(source.split, dataset, clips, source.full, frozenset(codes))


def _shorten(clip: dict, index: int) -> dict:
    """Return what rules need of a clip; there may be hundreds of thousands."""
    short = {k: v for k, v in clip.items() if k != 'frame_names'}
    if short.get('rles') is not None:
        short['rles'] = True
    return {**short, 'index': index}


def find_videos(splits: Sequence[Split]) -> list[Video]:
    """Put together what several items and datasets tell of a video."""
    items: dict[tuple, dict[tuple[int, int], None]] = defaultdict(dict)
    weights: dict[tuple, int] = {}
    known: dict[tuple, frozenset[str] | None] = {}
    for number, split in enumerate(splits):
        objects = {k: frozenset(v) for k, v in meta_objects(split).items()}
        if 'folder-misplaced' in split.codes:
            continue
        for clip in split.clips:
            place = tuple(
                str(clip.get(key)) for key in ('img_dir', 'video_path')
            )
            key = (*place, clip['video_id'])
            items[key][number, clip['index']] = None
            weights[key] = clip.get('num_frames', 1)
            known[key] = objects.get(clip['video_id'])
    return [
        Video(tuple(items[key]), weights[key], known[key]) for key in items
    ]


def check_video(
    shared: tuple[Sequence[Any], bool], video: Video
) -> list[Observation]:
    """Read a video and apply the rules to what it shows.

    Args:
        shared: The datasets, and whether to be quick.
        video: What to read.
    """
    shown = show_video(*shared, video)
    found = list(shown.found)
    if not shown.clips:
        return found
    for rule in (*rules.VIDEO_RULES, *public_sets.VIDEO_RULES):
        found += rule(shown)
    if isinstance(shown.clips[0].dataset, RefCOCODataset):
        found = [o._replace(code=_IMAGES.get(o.code, o.code)) for o in found]
    return found
