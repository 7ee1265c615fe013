# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Rules that compare the files of a split, or of several splits.

A rule is a function that yields observations. The rules of ``SPLIT_RULES``
run on datasets of their class.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

from referformer.datasets.a2d_sentences import A2DSentencesDataset
from referformer.datasets.doctor.report import Observation
from referformer.datasets.doctor.split import (
    Split,
    read_content,
    read_videos,
)
from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.datasets.ref_davis import RefDAVISDataset
from referformer.datasets.ref_youtube_vos import RefYouTubeVOSDataset
from referformer.datasets.refcoco import RefCOCODataset
from referformer.errors import DataError
from referformer.formats.davis_text import MISSPELT
from referformer.formats.frames import sort_names
from referformer.formats.jhmdb import identify_frames
from referformer.formats.refcoco import NUM_SENTENCES
from referformer.formats.text_files import read_json, read_table, show

Found = Iterator[Observation]

# What UTF-8 looks like when read as Latin-1, and the mark of what could not
# be read at all.
_GARBLED = re.compile('\ufffd|[\u00c2-\u00f4][\u0080-\u00bf]|\u00e2\u20ac')
#: No annotator writes so many words; two columns may have run together.
_MANY_WORDS = 100
#: Sentences of A2D, each about three to five frames.
_A2D_SENTENCES = 6655
#: Frames of a video of JHMDB that are scored.
_SCORED_FRAMES = 3


def sentences_odd(split: Split) -> Found:
    """Expressions that are blank, garbled, very long or ambiguous."""
    objects: dict[tuple, set] = defaultdict(set)
    for clip in split.clips:
        text, path = clip.get('text'), split.told_in(clip)
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
    """Splits of which nothing can be scored, and what they lack."""
    if any(
        clip.get(key) is not None
        for clip in split.clips
        for key in ('mask_dir', 'masks_file', 'rles')
    ):
        return
    prefix = split.dataset.data_prefix or {}
    nameless = all(clip.get('obj_id') is None for clip in split.clips)
    path, text = split.path, 'no obj_id' if nameless else 'no masks'
    masks = ''
    if isinstance(split.dataset, MeViSDataset):
        masks = 'mask_dict.json'
    elif isinstance(split.dataset, RefYouTubeVOSDataset):
        masks = '' if 'mask' in prefix else 'Annotations'
    if masks:
        path = str(Path(prefix.get('img', '.')).parent / masks)
        text = f'split {split.name}'
    yield Observation('truth-absent', path, text)


def videos_unlisted(splits: Sequence[Split]) -> Found:
    """Videos in a folder that no expression names.

    Splits may share a folder, in which the names of videos may be paths.
    """
    used: dict[str, set[str]] = defaultdict(set)
    for split in splits:
        prefix = (split.dataset.data_prefix or {}).get('img')
        folders = {clip.get('img_dir') for clip in split.clips} - {None}
        if prefix is None or not folders or folders == {prefix}:
            continue
        root = Path(prefix)
        used[prefix] |= {n.split('/')[0] for n in read_videos(split.path)}
        used[prefix] |= {
            Path(folder).relative_to(root).parts[0]
            for folder in folders
            if Path(folder).is_relative_to(root)
        }
    for prefix, names in used.items():
        root = Path(prefix)
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if path.is_dir() and names and path.name not in names:
                yield Observation('video-unlisted', str(path))


def videos_of_table(split: Split) -> Found:
    """What the loader passes over in an expressions file."""
    videos = read_videos(split.path)
    names = {clip['video_id'] for clip in split.clips}
    left_out = read_videos(split.beside('exclude_ann_file'))
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
    path = split.beside('exclude_ann_file')
    if path is None or not (others := read_videos(path)):
        return
    if not others.keys() & read_videos(split.path).keys():
        yield Observation('test-list-foreign', str(path))


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
            if count != _SCORED_FRAMES:
                text = f'video {name}: {count} frames of {_SCORED_FRAMES}'
                yield Observation('count-differs', split.path, text)


def categories_unknown(split: Split) -> Found:
    """Categories that training with categories refuses."""
    if type(split.dataset) is not RefYouTubeVOSDataset or split.full is None:
        return
    for name, objects in split.objects.items():
        for obj_id, entry in objects.items():
            category = entry.get('category') if isinstance(entry, dict) else ''
            if category not in split.dataset.CATEGORIES:
                text = f'video {name}, id {obj_id}: {show(category)}'
                path = str(split.beside('meta_file'))
                yield Observation('category-unknown', path, text)


def videos_misspelt(split: Split) -> Found:
    """Videos of DAVIS as the text files spell them."""
    for name in sorted(read_videos(split.path).keys() & MISSPELT.keys()):
        text = f'{name}, not {MISSPELT[name]}'
        yield Observation('video-misspelt', split.path, text)


def annotations_shared(split: Split) -> Found:
    """Annotations of MeViS that two videos name."""
    owners: dict[str, str] = {}
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
    path = split.root / 'Release/videoset.csv'
    if not path.is_file():
        return
    said = {row[0]: row[-1] for row in read_table(path)}
    for name in sorted({clip['video_id'] for clip in split.clips}):
        number = said.get(name)
        if number is not None and number != '01'[not split.train]:
            text = f'video {name} is of {["train", "test"][number != "0"]}'
            yield Observation('split-wrong', split.path, text)


def sentences_of_a2d(split: Split) -> Found:
    """A part of the sentences of A2D."""
    path = split.root / 'text_annotations/a2d_annotation.txt'
    if path.is_file():
        number = len(read_table(path)) - 1  # the first names the columns
        if number != _A2D_SENTENCES:
            text = f'{number} sentences of {_A2D_SENTENCES}'
            yield Observation('count-differs', str(path), text)


def truth_of_sentences(split: Split) -> Found:
    """Truth for prediction files that is about other sentences."""
    name = {
        A2DSentencesDataset: 'a2d_sentences_test_annotations',
        JHMDBSentencesDataset: 'jhmdb_sentences_gt_annotations',
    }.get(type(split.dataset))
    if name is None or split.train or split.codes:
        return  # rows that were left out would be missed
    path = split.root / f'{name}_in_coco_format.json'
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
    choice = identify_frames(clip['image_id'] for clip in split.clips)
    if choice is not None:
        code = 'frames-published' if choice.published else 'frames-unpublished'
        yield Observation(code, split.path, choice.text)


def entries_of_refcoco(split: Split) -> Found:
    """Names and sets in the files that do not belong together."""
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


def splits_overlap(splits: Sequence[Split]) -> Found:
    """Videos or images that are both trained on and tested."""
    shown: dict[tuple[bool, str, str], set] = defaultdict(set)
    for split in splits:
        for clip in split.clips:
            key = (split.train, clip.get('subset', ''), split.told_in(clip))
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


SPLIT_RULES: dict[type, tuple[Callable[[Split], Found], ...]] = {
    object: (
        sentences_odd,
        truth_absent,
        videos_of_table,
        videos_to_exclude,
        size_of_split,
    ),
    RefYouTubeVOSDataset: (categories_unknown,),
    RefDAVISDataset: (videos_misspelt,),
    A2DSentencesDataset: (
        videoset_of_a2d,
        sentences_of_a2d,
        truth_of_sentences,
    ),
    JHMDBSentencesDataset: (truth_of_sentences, frames_of_jhmdb),
    RefCOCODataset: (entries_of_refcoco,),
    MeViSDataset: (annotations_shared,),
}
