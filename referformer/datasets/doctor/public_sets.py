# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Rules for single public sets; see ``rules``."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from referformer.datasets.a2d_sentences import A2DSentencesDataset
from referformer.datasets.doctor.kinds import (
    A2D_SENTENCES,
    SCORED_FRAMES,
)
from referformer.datasets.doctor.report import Observation
from referformer.datasets.doctor.rules import Found
from referformer.datasets.doctor.split import (
    Split,
    beside,
    meta_objects,
    read_content,
    read_videos,
)
from referformer.datasets.doctor.video import Shown
from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.datasets.ref_davis import RefDAVISDataset
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.datasets.refcoco import RefCOCODataset
from referformer.errors import DataError
from referformer.formats.davis_text import MISSPELT
from referformer.formats.frames import sort_names
from referformer.formats.jhmdb import identify_frames
from referformer.formats.mask_dict import open_mask_table
from referformer.formats.refcoco import NUM_SENTENCES
from referformer.formats.text_files import read_json, read_table, show

#: Pixels by which a polygon may reach out of its image.
_MARGIN = 2.0


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


def categories_unknown(split: Split) -> Found:
    """Categories that training with categories refuses."""
    path = beside(split, 'meta_file')
    if type(split.dataset) is not RefYouTubeVOSDataset:
        return
    known = split.dataset.CATEGORIES
    for name, objects in meta_objects(split).items():
        for obj_id, entry in objects.items():
            category = entry.get('category') if isinstance(entry, dict) else ''
            if split.full is not None and category not in known:
                text = f'video {name}, id {obj_id}: {show(category)}'
                yield Observation('category-unknown', str(path), text)


def videos_misspelt(split: Split) -> Found:
    """Videos of DAVIS as the text files spell them."""
    if isinstance(split.dataset, RefDAVISDataset):
        for name in sorted(read_videos(split.path).keys() & MISSPELT.keys()):
            text = f'{name}, not {MISSPELT[name]}'
            yield Observation('video-misspelt', split.path, text)


def annotations_shared(split: Split) -> Found:
    """Annotations of MeViS that two videos name."""
    owners: dict[str, str] = {}
    if not isinstance(split.dataset, MeViSDataset):
        return
    for name, video in read_videos(split.path).items():
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


def frames_of_jhmdb(split: Split) -> Found:
    """Which of the files in circulation chooses the frames."""
    if not isinstance(split.dataset, JHMDBSentencesDataset):
        return
    choice = identify_frames(clip['image_id'] for clip in split.clips)
    if choice is not None:
        code = 'frames-published' if choice.published else 'frames-unpublished'
        yield Observation(code, split.path, choice.text)


def entries_of_refcoco(split: Split) -> Found:
    """Names and sets in the files that do not belong together."""
    if not isinstance(split.dataset, RefCOCODataset):
        return
    for path in split.dataset.ann_files:
        name = path.stem.removeprefix('instances_')
        images = read_content(path).get('images')
        images = images if isinstance(images, list) else []
        other = {count: name for name, count in NUM_SENTENCES.items()}
        if NUM_SENTENCES.get(name, len(images)) != len(images) in other:
            text = f'{len(images)} sentences, as {other[len(images)]}'
            yield Observation('set-mixed', str(path), text)
        sets = {full.rpartition('_')[0] for full in NUM_SENTENCES}
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
        images = read_content(split.dataset.ann_files[0]).get('images')
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


VIDEO_RULES = (
    annotations_of_mevis,
    polygons_outside,
    masks_of_semisupervised_davis,
)
SPLIT_RULES = (
    categories_unknown,
    videos_misspelt,
    annotations_shared,
    videoset_of_a2d,
    truth_of_sentences,
    frames_of_jhmdb,
    entries_of_refcoco,
    size_of_split,
)
SET_RULES = (sentences_of_a2d,)
