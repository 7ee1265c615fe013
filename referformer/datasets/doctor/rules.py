# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What only a look across frames, files and splits can tell.

A rule is a function that yields observations. Those of ``VIDEO_RULES`` take
what a video showed, and run where it was read; those of ``SPLIT_RULES`` take
a split, those of ``SET_RULES`` all splits.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from referformer.datasets.a2d_sentences import A2DSentencesDataset
from referformer.datasets.doctor.kinds import (
    A2D_SENTENCES,
    SCORED_FRAMES,
    SENTENCES,
)
from referformer.datasets.doctor.report import Observation
from referformer.datasets.doctor.video import Shown
from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.datasets.ref_davis import RefDAVISDataset
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.datasets.refcoco import RefCOCODataset
from referformer.errors import DataError
from referformer.formats.frames import list_frames, sort_names
from referformer.formats.mask_dict import open_mask_table
from referformer.formats.text_files import read_json, read_table, show

Found = Iterator[Observation]

# What UTF-8 looks like when read as Latin-1, and the mark of what could not
# be read at all.
_GARBLED = re.compile('\ufffd|[\u00c2-\u00f4][\u0080-\u00bf]|\u00e2\u20ac')
#: No annotator writes so many words; two columns may have run together.
_MANY_WORDS = 100
#: Pixels by which a polygon may reach out of its image.
_MARGIN = 2.0
#: The tag of EXIF that says how a picture is to be turned.
_ORIENTATION = 0x0112


class Split(NamedTuple):
    """A dataset, built.

    Attributes:
        name (str): Name of the split, or of the dataloader.
        dataset (Any): The dataset.
        clips (list[dict]): Each video with each expression once; ``index`` is
            the position of its first item.
        full (int | None): Size of the full split, if that is to be compared.
        codes (frozenset[str]): What building it found.
    """

    name: str
    dataset: Any
    clips: list[dict]
    full: int | None
    codes: frozenset[str] = frozenset()

    @property
    def train(self) -> bool:
        """Whether it is trained on."""
        return not self.dataset.test_mode

    @property
    def path(self) -> str:
        """The annotation file."""
        return str(self.dataset.ann_file)


# ------------------------------------------------------------- one video
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


def annotations_of_mevis(shown: Shown) -> Found:
    """Annotations that are null in all frames, or longer than the video."""
    item = shown.item
    if not item.get('anno_ids') or not isinstance(
        shown.clips[0].dataset, MeViSDataset
    ):
        return
    table = open_mask_table(item['mask_path'])
    ids = {a for clip in shown.clips for a in clip.item['anno_ids'] or ()}
    for anno_id in sorted(ids):
        where = f'video {item["video_id"]}, annotation {anno_id}'
        try:
            masks = table[anno_id]
        except DataError:
            continue  # already reported
        if len(masks) > item['num_frames']:
            text = f'{where}: {len(masks)} masks, {item["num_frames"]} frames'
            yield Observation('masks-of-frames-differ', str(table.path), text)
        if not any(masks):
            yield Observation('annotation-never-seen', str(table.path), where)


def polygons_outside(shown: Shown) -> Found:
    """Polygons that reach out of their image."""
    for clip in shown.clips:
        polygons = clip.item.get('rles')
        for polygon in polygons if isinstance(polygons, list) else ():
            if not shown.sizes or not isinstance(polygon, list):
                continue
            height, width = shown.sizes[0]
            points = ((polygon[::2], width), (polygon[1::2], height))
            if any(
                min(values) < -_MARGIN or max(values) > limit + _MARGIN
                for values, limit in points
                if values and all(isinstance(v, int | float) for v in values)
            ):
                text = f'id {clip.item["obj_id"]}'
                yield Observation('polygon-outside', shown.paths[0], text)


def masks_of_semisupervised_davis(shown: Shown) -> Found:
    """Masks whose ids are those of the other edition of DAVIS."""
    if isinstance(shown.clips[0].dataset, RefDAVISDataset):
        folder = shown.item.get('mask_dir') or '.'
        if Path(folder).resolve().parts[-3:-1] == ('Annotations', '480p'):
            yield Observation('masks-semisupervised', folder)


VIDEO_RULES = (
    frames_of_another_size,
    frames_copied,
    pictures_turned,
    frames_unlisted,
    objects_never_seen,
    masks_black_and_white,
    ids_of_meta,
    annotations_of_mevis,
    polygons_outside,
    masks_of_semisupervised_davis,
)


# ------------------------------------------------------------- one split
def sentences_odd(split: Split) -> Found:
    """Expressions that are blank, garbled, very long or ambiguous."""
    objects: dict[tuple, set] = defaultdict(set)
    for clip in split.clips:
        text, path = clip.get('text'), _told_in(split, clip)
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
        yield Observation('truth-absent', split.path)


def videos_unlisted(split: Split) -> Found:
    """Videos in the folder that no expression names."""
    prefix = (split.dataset.data_prefix or {}).get('img')
    folders = {clip.get('img_dir') for clip in split.clips} - {None}
    if prefix is None or not folders or folders == {prefix}:
        return
    root = Path(prefix)
    used = {name.split('/')[0] for name in _videos(split.path)} | {
        Path(folder).relative_to(root).parts[0]
        for folder in folders
        if Path(folder).is_relative_to(root)
    }
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir() and used and path.name not in used:
            yield Observation('video-unlisted', str(path))


def videos_of_table(split: Split) -> Found:
    """What the loader passes over in an expressions file."""
    videos = _videos(split.path)
    names = {clip['video_id'] for clip in split.clips}
    left_out = _videos(_beside(split, 'exclude_ann_file'))
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
    path = _beside(split, 'exclude_ann_file')
    if path is None or not (others := _videos(path)):
        return
    if not others.keys() & _videos(split.path).keys():
        yield Observation('test-list-foreign', str(path))


def categories_unknown(split: Split) -> Found:
    """Categories that training with categories refuses."""
    path = _beside(split, 'meta_file')
    if type(split.dataset) is not RefYouTubeVOSDataset:
        return
    known = split.dataset.CATEGORIES
    for name, objects in _meta_objects(split).items():
        for obj_id, entry in objects.items():
            category = entry.get('category') if isinstance(entry, dict) else ''
            if split.full is not None and category not in known:
                text = f'video {name}, id {obj_id}: {show(category)}'
                yield Observation('category-unknown', str(path), text)


def videos_misspelt(split: Split) -> Found:
    """Videos of DAVIS as the text files spell them."""
    spelt = {
        'clasic-car': 'classic-car',
        'dog-scale': 'dogs-scale',
        'motor-bike': 'motorbike',
    }
    if isinstance(split.dataset, RefDAVISDataset):
        for name in sorted(_videos(split.path).keys() & spelt.keys()):
            text = f'{name}, not {spelt[name]}'
            yield Observation('video-misspelt', split.path, text)


def annotations_shared(split: Split) -> Found:
    """Annotations of MeViS that two videos name."""
    owners: dict[str, str] = {}
    if not isinstance(split.dataset, MeViSDataset):
        return
    for name, video in _videos(split.path).items():
        for anno_id in _anno_ids(video):
            owner = owners.setdefault(anno_id, name)
            if owner != name:
                text = f'videos {owner} and {name}: {anno_id}'
                yield Observation('annotation-shared', split.path, text)


def _anno_ids(video: dict) -> list[str]:
    """Return the annotations that the expressions of a video name."""
    expressions = video.get('expressions')
    expressions = expressions if isinstance(expressions, dict) else {}
    lists = (e.get('anno_id') for e in expressions.values() if type(e) is dict)
    ids = {str(a) for part in lists if isinstance(part, list) for a in part}
    return sort_names(ids)


def videoset_of_a2d(split: Split) -> Found:
    """Videos that videoset.csv puts into the other split."""
    path = Path(split.dataset.data_root or '.') / 'Release/videoset.csv'
    if not isinstance(split.dataset, A2DSentencesDataset):
        return
    said = {}
    if path.is_file():
        said = {row[0]: row[-1] for row in read_table(path)}
    for name in sorted({clip['video_id'] for clip in split.clips}):
        number = said.get(name)
        if number is not None and number != '01'[not split.train]:
            text = f'video {name} is of {["train", "test"][number != "0"]}'
            yield Observation('split-wrong', split.path, text)


def truth_of_sentences(split: Split) -> Found:
    """Truth for prediction files that is about other sentences."""
    name = {
        A2DSentencesDataset: 'a2d_sentences_test_annotations',
        JHMDBSentencesDataset: 'jhmdb_sentences_gt_annotations',
    }.get(type(split.dataset))
    if name is None or split.train or split.codes:
        return  # rows that were left out would be missed
    path = Path(split.dataset.data_root or '.') / f'{name}_in_coco_format.json'
    if not path.is_file():
        yield Observation('truth-file-absent', str(path))
        return
    try:
        content = read_json(path)
    except DataError as error:
        yield Observation(error.code, str(path), error.message)
        return
    images = content.get('images') if isinstance(content, dict) else None
    if not isinstance(images, list):
        yield Observation('table-wrong', str(path), 'no list "images"')
        return
    told = {str(i.get('id')) for i in images if isinstance(i, dict)}
    meant = {clip['image_id'] for clip in split.clips}
    if told != meant:
        text = f'{len(told ^ meant)} ids differ, first {min(told ^ meant)}'
        yield Observation('truth-differs', str(path), text)


def entries_of_refcoco(split: Split) -> Found:
    """Names and sets in the files that do not belong together."""
    if not isinstance(split.dataset, RefCOCODataset):
        return
    for path in split.dataset.ann_files:
        name = path.stem.removeprefix('instances_')
        images = _content(path).get('images')
        images = images if isinstance(images, list) else []
        other = {count: name for name, count in SENTENCES.items()}
        if SENTENCES.get(name, len(images)) != len(images) in other:
            text = f'{len(images)} sentences, as {other[len(images)]}'
            yield Observation('set-mixed', str(path), text)
        sets = {full.rpartition('_')[0] for full in SENTENCES}
        for image in images:
            if not isinstance(image, dict):
                continue
            where = f'sentence {image.get("id")}'
            file_name = str(image.get('file_name'))
            digits = re.search(r'_(\d+)\.\w+$', file_name)
            original = image.get('original_id')
            if digits and original not in (None, int(digits[1])):
                text = f'{where}: {file_name}, original_id {original}'
                yield Observation('image-id-mismatch', str(path), text)
            said = image.get('dataset_name')
            expected = name.rpartition('_')[0].removesuffix('-google')
            if isinstance(said, str) and said in sets and said != expected:
                text = f'{where} is of {said}'
                yield Observation('set-mixed', str(path), text)
            blank = not str(image.get('caption')).strip()
            if split.train and blank:  # the loader leaves it out
                yield Observation('sentence-blank', str(path), where)


def size_of_split(split: Split) -> Found:
    """Splits that are not as large as published."""
    if split.full is None:
        return
    what, number = 'videos', len({clip['video_id'] for clip in split.clips})
    if isinstance(split.dataset, RefCOCODataset):
        images = _content(split.dataset.ann_files[0]).get('images')
        what, number = 'sentences', len(images or ())
    if number != split.full:
        text = f'{number} {what} of {split.full}'
        yield Observation('count-differs', split.path, text)
    if isinstance(split.dataset, JHMDBSentencesDataset):
        frames = Counter(clip['video_id'] for clip in split.clips)
        for name, count in frames.items():
            if count != SCORED_FRAMES:
                text = f'video {name}: {count} frames of {SCORED_FRAMES}'
                yield Observation('count-differs', split.path, text)


SPLIT_RULES = (
    sentences_odd,
    truth_absent,
    videos_unlisted,
    videos_of_table,
    videos_to_exclude,
    categories_unknown,
    videos_misspelt,
    annotations_shared,
    videoset_of_a2d,
    truth_of_sentences,
    entries_of_refcoco,
    size_of_split,
)


# ------------------------------------------------------------- all splits
def splits_overlap(splits: Sequence[Split]) -> Found:
    """Videos or images that are both trained on and tested."""
    shown: dict[tuple[bool, str, str], set] = defaultdict(set)
    for split in splits:
        for clip in split.clips:
            key = (split.train, clip.get('subset', ''), _told_in(split, clip))
            shown[key].add(clip['video_id'])
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


def sentences_of_a2d(splits: Sequence[Split]) -> Found:
    """A part of the sentences of A2D."""
    for split in splits:
        root = Path(split.dataset.data_root or '.')
        path = root / 'text_annotations/a2d_annotation.txt'
        if isinstance(split.dataset, A2DSentencesDataset) and path.is_file():
            number = len(read_table(path)) - 1  # the first names the columns
            if number != A2D_SENTENCES:
                text = f'{number} sentences of {A2D_SENTENCES}'
                yield Observation('count-differs', str(path), text)


SET_RULES = (splits_overlap, sentences_of_a2d)


# ------------------------------------------------------------- helpers
def known_objects(split: Split) -> dict[str, frozenset[str]]:
    """Return the objects of each video in ``meta.json``."""
    return {k: frozenset(v) for k, v in _meta_objects(split).items()}


def _meta_objects(split: Split) -> dict[str, dict]:
    videos = _videos(_beside(split, 'meta_file'))
    objects = {name: video.get('objects') for name, video in videos.items()}
    return {k: v for k, v in objects.items() if isinstance(v, dict)}


def _beside(split: Split, argument: str) -> Path | None:
    """Return a file that an argument of a dataset names."""
    name = getattr(split.dataset, argument, None)
    return name and Path(split.dataset.data_root or '.') / name


@lru_cache(maxsize=2)
def _content(path: Path | str | None) -> dict:
    """Return a table, empty if the file, as reported, holds none."""
    try:
        content = {} if path is None else read_json(path)
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}


def forget_files() -> None:
    """Read files again that may have changed since."""
    _content.cache_clear()


def _videos(path: Path | str | None) -> dict[str, dict]:
    videos = _content(path).get('videos')
    videos = videos if isinstance(videos, dict) else {}
    return {k: v for k, v in videos.items() if isinstance(v, dict)}


def _told_in(split: Split, clip: Mapping) -> str:
    """Return the annotation file that a clip comes from."""
    name = f'instances_{clip.get("subset")}.json'
    files = getattr(split.dataset, 'ann_files', ())
    return str(next((f for f in files if f.name == name), split.path))


def _is_complete(shown: Shown) -> bool:
    """Whether all masks were read, and are not 0 and 255 without objects."""
    values = set().union(*shown.ids.values())
    binary = 255 in values <= {0, 255} and not any(shown.visible)
    return shown.whole and not shown.quick and not binary


def _by(size: Sequence[int]) -> str:
    """Return a size, width first."""
    return f'{size[1]} x {size[0]}'
