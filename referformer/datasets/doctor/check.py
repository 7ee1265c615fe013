# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Building the datasets of a config and reading all they hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from referformer.datasets.doctor.kinds import Source
from referformer.datasets.doctor.problems import ENTAILED
from referformer.datasets.doctor.report import Observation, Report
from referformer.datasets.doctor.split import Split, read_content
from referformer.datasets.doctor.split_rules import (
    SPLIT_RULES,
    splits_overlap,
    videos_unlisted,
)
from referformer.datasets.doctor.video import (
    Shown,
    Video,
    find_clips,
    observe,
    raw_item,
    show_video,
)
from referformer.datasets.doctor.video_rules import VIDEO_RULES
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
    """Build datasets, read all their items, and compare their files.

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
    read_content.cache_clear()
    built = (build_split(source, report) for source in sources)
    splits = [split for split in built if split is not None]
    report.extend(splits_overlap(splits))
    report.extend(videos_unlisted(splits))
    for split in splits:
        report.extend(apply_rules(SPLIT_RULES, split))
    videos = find_videos(splits)
    frames = sum(video.weight for video in videos)
    report.counts = {
        'videos': len(videos),
        'expressions': sum(len(split.clips) for split in splits),
        'frames': frames,
    }
    if not videos:
        return
    progress = ProgressBar(frames, 'files')
    shared = ([split.dataset for split in splits], quick)
    for index, found in run_tasks(check_video, videos, jobs, shared):
        report.extend(found)
        progress.update(videos[index].weight)


def apply_rules(
    rules: Mapping[type, Sequence[Callable]], looked_at: Split | Shown
) -> Iterator[Observation]:
    """Yield what the rules for the class of a dataset find."""
    for kind, its_rules in rules.items():
        if isinstance(looked_at.dataset, kind):
            for rule in its_rules:
                yield from rule(looked_at)


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
        except Exception as error:  # also of custom datasets
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
        # "No expressions" follows if all expressions are faulty.
        and not (o.code == 'expression-none' and o.path in faulty)
    )
    if dataset is None:
        return None
    clips = [
        {'video_id': f'item {index}', 'exp_id': 0, **_shorten(clip, index)}
        for index in range(len(dataset))
        for clip in find_clips(raw_item(dataset, index))
        if clip.get('start_frame', 0) in (0, clip.get('annotated_frame_id'))
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
    """Merge the data of several items and datasets on a video."""
    videos: dict[tuple, Video] = {}
    for number, split in enumerate(splits):
        if 'folder-misplaced' in split.codes:
            continue
        objects = split.objects
        for clip in split.clips:
            name = clip['video_id']
            key = (*map(str, map(clip.get, ('img_dir', 'video_path'))), name)
            items = videos[key].items if key in videos else {}
            items[number, clip['index']] = None
            known = objects.get(name)
            videos[key] = Video(
                items,
                clip.get('video_length', 1),
                None if known is None else frozenset(known),
            )
    return list(videos.values())


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
    if shown.clips:
        found += apply_rules(VIDEO_RULES, shown)
    if isinstance(shown.dataset, RefCOCODataset):
        found = [o._replace(code=_IMAGES.get(o.code, o.code)) for o in found]
    return found
