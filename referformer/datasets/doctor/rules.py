# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What only a look across frames, files and splits can tell.

A rule is a function that yields observations. Those of ``VIDEO_RULES`` take
what a video showed, and run where it was read; those of ``SPLIT_RULES`` take
a split, those of ``SET_RULES`` all splits. ``public_sets`` has the rules for
single sets.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from PIL import Image

from referformer.datasets.doctor.report import Observation
from referformer.datasets.doctor.split import (
    Split,
    beside,
    read_videos,
    told_in,
)
from referformer.datasets.doctor.video import Shown
from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.formats.frames import list_frames, sort_names
from referformer.formats.text_files import show

Found = Iterator[Observation]

# What UTF-8 looks like when read as Latin-1, and the mark of what could not
# be read at all.
_GARBLED = re.compile('\ufffd|[\u00c2-\u00f4][\u0080-\u00bf]|\u00e2\u20ac')
#: No annotator writes so many words; two columns may have run together.
_MANY_WORDS = 100
#: The tag of EXIF that says how a picture is to be turned.
_ORIENTATION = 0x0112


def frames_of_another_size(shown: Shown) -> Found:
    """Frames must have the size of the first one."""
    first = next(iter(shown.sizes.values()), None)
    for position, size in shown.sizes.items():
        if size != first:
            text = f'{_by(size)}, the first one {_by(first)}'
            path = shown.paths[position]
            yield Observation('frame-size-differs', path, text)


def frames_copied(shown: Shown) -> Found:
    """Frames that look exactly like the one before."""
    for position in shown.copies:
        if 'img_dir' in shown.item:
            yield Observation('frame-copied', shown.paths[position])


def pictures_turned(shown: Shown) -> Found:
    """Pictures that carry a note to be turned, which nothing here follows."""
    for path in shown.paths.values():
        if Path(path).suffix.lower() in ('.jpg', '.jpeg'):
            with Image.open(path) as image:
                turn = image.getexif().get(_ORIENTATION, 1)
            if turn != 1:
                yield Observation('frame-turned', path, f'orientation {turn}')


def frames_unlisted(shown: Shown) -> Found:
    """Frames and masks in the folders of a video that are not listed."""
    item = shown.item
    if isinstance(shown.clips[0].dataset, JHMDBSentencesDataset):
        if list_frames(item['img_dir']).get('00000'):
            yield Observation('frames-from-zero', item['img_dir'])
        return
    folders = {('frame', item.get('img_dir'))}
    folders |= {('mask', clip.item.get('mask_dir')) for clip in shown.clips}
    listed = {n for clip in shown.clips for n in clip.item['frame_names']}
    for kind, folder in sorted(folders, key=str):
        if (
            folder is None
            or Path(folder).name != Path(str(item.get('video_id'))).name
        ):
            continue
        for name, path in list_frames(folder).items():
            if name not in listed:
                yield Observation(f'{kind}-unlisted', str(path))


def objects_never_seen(shown: Shown) -> Found:
    """Objects that an expression means and no mask shows."""
    if not _is_complete(shown):
        return
    for clip, visible in zip(shown.clips, shown.visible, strict=True):
        item = clip.item
        if visible or item.get('obj_id') is None:
            continue
        text = f'id {item["obj_id"]}'
        if item.get('rles') is not None:
            yield Observation('mask-empty', shown.paths[0], text)
        elif item.get('annotated') is not None:
            text = f'frame {item["annotated"] + 1}, {text}'
            yield Observation('mask-empty', item['mask_path'], text)
        elif item.get('mask_dir') is not None:
            yield Observation('object-never-seen', item['mask_dir'], text)


def masks_black_and_white(shown: Shown) -> Found:
    """Masks of 0 and 255 only, where object ids are looked for."""
    if shown.whole and not shown.quick and not _is_complete(shown):
        for folder in shown.ids:
            yield Observation('mask-binary', str(folder))


def ids_of_meta(shown: Shown) -> Found:
    """Objects that only the masks, or only meta.json, know."""
    if shown.known is None or not _is_complete(shown):
        return
    meant = {clip.item.get('obj_id') for clip in shown.clips}
    for folder, values in shown.ids.items():
        seen = {str(value) for value in values - {0, 255}}
        for code, ids in (
            ('mask-id-unknown', seen - shown.known),
            ('meta-object-unseen', shown.known - seen - meant),
        ):
            for obj_id in sort_names(ids):
                yield Observation(code, str(folder), f'id {obj_id}')


def _is_complete(shown: Shown) -> bool:
    """Whether all masks were read, and are not 0 and 255 without objects."""
    values = set().union(*shown.ids.values())
    binary = 255 in values <= {0, 255} and not any(shown.visible)
    return shown.whole and not shown.quick and not binary


def _by(size: Sequence[int]) -> str:
    """Return a size, width first."""
    return f'{size[1]} x {size[0]}'


VIDEO_RULES = (
    frames_of_another_size,
    frames_copied,
    pictures_turned,
    frames_unlisted,
    objects_never_seen,
    masks_black_and_white,
    ids_of_meta,
)


def sentences_odd(split: Split) -> Found:
    """Expressions that are blank, garbled, very long or ambiguous."""
    objects: dict[tuple, set] = defaultdict(set)
    for clip in split.clips:
        text, path = clip.get('text'), told_in(split, clip)
        if not isinstance(text, str):
            continue
        where = f'video {clip["video_id"]}, expression {clip["exp_id"]}'
        words = text.lower().split()
        code = None
        if not words:
            code = 'sentence-blank'
        elif _GARBLED.search(text):
            code = 'expression-garbled'
        elif len(words) > _MANY_WORDS:
            code = 'expression-long'
        if code is not None:
            yield Observation(code, path, f'{where}: {show(text)}')
        if clip.get('obj_id') is not None and 'text_obj_id' not in clip:
            key = (path, clip['video_id'], *words)
            objects[key].add(clip['obj_id'])
    for (path, video, *words), ids in objects.items():
        if len(ids) > 1:
            text = f'video {video}: {show(" ".join(words))} means {len(ids)}'
            yield Observation('expression-ambiguous', path, text)


def truth_absent(split: Split) -> Found:
    """Splits of which nothing can be scored."""
    if not any(
        clip.get(key) is not None
        for clip in split.clips
        for key in ('mask_dir', 'mask_path', 'rles')
    ):
        yield Observation('truth-absent', *_missing_truth(split))


def _missing_truth(split: Split) -> tuple[str, str]:
    """What a split without ground truth lacks: a file, or what it says."""
    prefix = split.dataset.data_prefix or {}
    folder = Path(prefix.get('img', '.')).parent
    if isinstance(split.dataset, MeViSDataset):
        return str(folder / 'mask_dict.json'), f'split {split.name}'
    if (
        isinstance(split.dataset, RefYouTubeVOSDataset)
        and 'mask' not in prefix
    ):
        return str(folder / 'Annotations'), f'split {split.name}'
    nameless = all(clip.get('obj_id') is None for clip in split.clips)
    return split.path, 'no obj_id' if nameless else 'no masks'


def videos_unlisted(split: Split) -> Found:
    """Videos in the folder that no expression names."""
    prefix = (split.dataset.data_prefix or {}).get('img')
    folders = {clip.get('img_dir') for clip in split.clips} - {None}
    if prefix is None or not folders or folders == {prefix}:
        return
    root = Path(prefix)
    used = {name.split('/')[0] for name in read_videos(split.path)} | {
        Path(folder).relative_to(root).parts[0]
        for folder in folders
        if Path(folder).is_relative_to(root)
    }
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir() and used and path.name not in used:
            yield Observation('video-unlisted', str(path))


def videos_of_table(split: Split) -> Found:
    """What the loader passes over in an expressions file."""
    videos = read_videos(split.path)
    names = {clip['video_id'] for clip in split.clips}
    left_out = read_videos(beside(split, 'exclude_ann_file'))
    for name, video in videos.items():
        where, frames = f'video {name}', video.get('frames')
        if name in left_out or not isinstance(frames, list):
            continue
        if video.get('expressions') in ({}, [], None):
            yield Observation('expression-none', split.path, where)
        if name in names and not isinstance(split.dataset, MeViSDataset):
            listed = list(dict.fromkeys(map(str, frames)))
            if listed != sort_names(listed):
                yield Observation('frames-unsorted', split.path, where)
        least = getattr(split.dataset, 'min_frames', 0)
        if split.train and len(frames) < least:
            yield Observation('video-too-short', split.path, where)


def videos_to_exclude(split: Split) -> Found:
    """Videos of test that must not be in valid."""
    path = beside(split, 'exclude_ann_file')
    if path is None or not (others := read_videos(path)):
        return
    if not others.keys() & read_videos(split.path).keys():
        yield Observation('test-list-foreign', str(path))


SPLIT_RULES = (
    sentences_odd,
    truth_absent,
    videos_unlisted,
    videos_of_table,
    videos_to_exclude,
)


def splits_overlap(splits: Sequence[Split]) -> Found:
    """Videos or images that are both trained on and tested."""
    shown: dict[tuple[bool, str, str], set] = defaultdict(set)
    for split in splits:
        for clip in split.clips:
            key = (split.train, clip.get('subset', ''), told_in(split, clip))
            shown[key].add(str(clip['video_id']))
    for (train, subset, _), (test, other, path) in product(shown, shown):
        both = shown[train, subset, _] & shown[test, other, path]
        if not train or test or not both:
            continue
        if not other:
            for name in sort_names(both):
                yield Observation('split-overlap', path, f'video {name}')
            continue
        kind, name = subset.rpartition('_')[0], other.rpartition('_')[0]
        text = f'{len(both)} images also in {subset}, first {min(both)}'
        if kind != name:
            yield Observation('sets-overlap', path, text)
        elif not kind.endswith('-google'):  # which is split by object
            yield Observation('split-overlap', path, text)


SET_RULES = (splits_overlap,)
