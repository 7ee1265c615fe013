# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ground truth and predictions in COCO's JSON format, validated on reading."""

import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from referformer.errors import DataError
from referformer.formats.records import read_records, write_records
from referformer.formats.rle import MAX_SIDE, finite_number, to_rle
from referformer.formats.text_files import read_json, show
from referformer.utils.console import shorten

_FRAME_ID = re.compile(r'v_(.+)_f_\d+_i_\d+')

Box = tuple[float, float, float, float]


class TrueObject(NamedTuple):
    """What a sentence means.

    Attributes:
        rle: Mask, compressed run-length encoding of COCO.
        box: x1, y1, x2, y2 in pixels.
        area: Pixels, as the annotation has it; sorts the sample into small,
            medium or large.
        crowd: Whether AP ignores the sample (``iscrowd``).
        source: Name of the video or picture it is about, which several
            sentences may share.
    """

    rle: dict
    box: Box | None
    area: float
    crowd: bool = False
    source: str = ''


class Candidate(NamedTuple):
    """One prediction for a sample.

    Attributes:
        score: Confidence; larger is better.
        rle: Mask, compressed run-length encoding of COCO.
        box: x1, y1, x2, y2 in pixels.
        area: By what AP of small, medium and large objects sorts the
            prediction.
    """

    score: float
    rle: dict | None
    box: Box | None
    area: float


def read_tables(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read a COCO file.

    Args:
        path: The file.
        remedy: What to do if it is missing or another file.

    Returns:
        Its content; ``images`` and ``annotations`` are lists of tables.

    Raises:
        MissingDataError: If it does not exist.
        DataError: If it is no JSON or has no such tables.
    """
    content = read_json(path, remedy=remedy)
    for key in ('images', 'annotations'):
        table = content.get(key) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(
            isinstance(entry, dict) for entry in table
        ):
            raise DataError(
                f'{path} has no tables "images" and "annotations"',
                file=path,
                remedy=f'{remedy}.',
                code='table-wrong',
            )
    return content


def is_id(value: Any) -> bool:
    """Whether ``value`` can name an image: a whole number or a text."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def read_box(value: Any, box_format: str) -> Box:
    """Corners of a box.

    Raises:
        ValueError: If it is no box; the text says why.
    """
    if (
        not isinstance(value, list)
        or len(value) != 4
        or any(finite_number(number) is None for number in value)
    ):
        raise ValueError(
            f'has the bbox {show(value)}, not four finite numbers'
        )
    x1, y1, x2, y2 = map(float, value)
    if box_format == 'xywh':
        x2, y2 = x1 + x2, y1 + y2
    if x2 < x1 or y2 < y1:
        hint = {'xyxy': ', so they are not corners (x1, y1, x2, y2)'}
        raise ValueError(
            f'has the bbox {value}, whose side is negative'
            f'{hint.get(box_format, "")}'
        )
    return x1, y1, x2, y2


def read_truths(path: str | Path) -> dict[Hashable, TrueObject]:
    """Read a ground-truth file of one annotation per image entry.

    Args:
        path: COCO JSON; an image entry stands for a sentence.

    Returns:
        By the id of the image entry, in the order of the file.

    Raises:
        DataError: If the file is broken, or an entry has not
            exactly one annotation or is described wrongly.
    """
    content = read_tables(path, 'give ground truth in COCO form')
    images, annotations = content['images'], content['annotations']
    if not images:
        raise DataError(f'{path} has no images.')

    def wrong(message: str) -> DataError:
        return DataError(f'{path}: {message}.', file=path)

    sizes, sources = {}, {}
    for image in images:
        name = image.get('id')
        size = (image.get('height'), image.get('width'))
        if not is_id(name) or name in sizes:
            raise wrong(
                f'image id {name!r} is missing or appears twice; every '
                'sentence needs an image entry with an id of its own'
            )
        if any(type(n) is not int or not 0 < n <= MAX_SIDE for n in size):
            raise wrong(
                f'image {name!r} has height and width {size}, which is no '
                'size of a frame'
            )
        sizes[name] = size
        sources[name] = _source_of(image)
    truths: dict[Hashable, TrueObject] = {}
    for annotation in annotations:
        name = annotation.get('image_id')
        if not is_id(name) or name not in sizes:
            raise wrong(
                f'annotation {annotation.get("id")!r} belongs to image '
                f'{name!r}, which is not listed'
            )
        if name in truths:
            raise wrong(
                f'image {name!r} has more than one annotation; an image '
                'entry stands for one sentence and so for one mask'
            )
        try:
            truth = _read_truth(annotation, sizes[name])
            truths[name] = truth._replace(source=sources[name])
        except ValueError as error:
            raise wrong(f'the annotation of image {name!r} {error}') from None
    lost = [repr(name) for name in sizes if name not in truths]
    if lost:
        raise wrong(
            f'{len(lost)} of {len(sizes)} images have no annotation: '
            f'{shorten(lost)}'
        )
    return {name: truths[name] for name in sizes}


def _source_of(image: Mapping[str, Any]) -> str:
    """Video or picture of an image entry, which stands for a sentence.

    RefCOCO keeps the number of the picture; A2D and JHMDB name an entry
    ``v_<video>_f_<frame>_i_<object>``.
    """
    name = str(image.get('original_id', image['id']))
    frame = _FRAME_ID.fullmatch(name)
    return frame[1] if frame else name


def _read_truth(annotation: dict, size: tuple[int, int]) -> TrueObject:
    """One annotation of the ground truth."""
    rle = to_rle(annotation.get('segmentation'), *size)
    box = annotation.get('bbox')
    area = finite_number(annotation.get('area'))
    return TrueObject(
        rle,
        None if box is None else read_box(box, 'xywh'),
        float(mask_utils.area(rle)) if area is None else area,
        bool(annotation.get('iscrowd')),
    )


def read_candidates(
    path: str | Path,
    truths: dict[Hashable, TrueObject],
    box_format: str = 'xyxy',
    missing: str = 'error',
) -> dict[Hashable, list[Candidate]]:
    """Read predictions in the form of COCO results.

    Args:
        path: JSON list, or JSON lines, of ``{image_id, score, segmentation,
            bbox}``; masks, boxes or both, the same in all entries. Further
            keys are ignored.
        truths: What they are predictions for.
        box_format: ``'xyxy'``, corners, or ``'xywh'``, corner and size.
        missing: What becomes of samples without any prediction: ``'error'``,
            or ``'empty'``, which counts them as empty masks.

    Returns:
        In the order of the file, with an entry for every sample.

    Raises:
        DataError: If the file is broken or does not fit ``truths``.
    """
    content = read_records(path)
    if not isinstance(content, list):
        raise DataError(
            f'{path} is no list; --pred takes a list of COCO results, '
            '{"image_id", "score", "segmentation"}.'
        )
    found: dict[Hashable, list[Candidate]] = {name: [] for name in truths}
    seen = set()
    first: tuple[bool, bool] | None = None
    for number, entry in enumerate(content):
        where = f'{path}: prediction {number}'
        if not isinstance(entry, dict) or not is_id(entry.get('image_id')):
            raise DataError(f'{where} has no image_id.')
        name = entry['image_id']
        where += f' (image {name!r})'
        if name not in truths:
            raise DataError(
                f'{where}: the ground truth has no such image, its ids are '
                f'like {next(iter(truths))!r}; score the predictions against '
                'the split they were made for.'
            )
        kinds = ('segmentation' in entry, 'bbox' in entry)
        first = first or kinds
        if not any(kinds) or kinds != first:
            raise DataError(
                f'{where} has the keys {sorted(entry)}; all predictions need '
                '"segmentation", "bbox" or both, all of them the same.'
            )
        try:
            candidate = _read_candidate(entry, truths[name], box_format)
        except ValueError as error:
            raise DataError(f'{where} {error}.') from None
        found[name].append(candidate)
        # Empty masks may be equal; a copy of another mask is an error.
        if candidate.area:
            text = json.dumps(entry, sort_keys=True)
            copy = blake2b(text.encode(), digest_size=16).digest()
            if copy in seen:
                raise DataError(
                    f'{where} is there twice; take out the overlap when '
                    'joining results of several processes.'
                )
            seen.add(copy)
    lost = [name for name, candidates in found.items() if not candidates]
    if len(lost) == len(found) or (lost and missing == 'error'):
        raise DataError(
            f'{path} has no prediction for {len(lost)} of {len(found)} '
            f'images: {shorten(map(repr, lost))}; predict them, or say '
            '--missing empty to count them as empty masks.'
        )
    return found


def _read_candidate(
    entry: dict, truth: TrueObject, box_format: str
) -> Candidate:
    """One prediction."""
    score = finite_number(entry.get('score'))
    if score is None:
        raise ValueError(
            f'has the score {entry.get("score")!r}, not a finite number'
        )
    rle = box = None
    area = 0.0
    if 'segmentation' in entry:
        rle = to_rle(entry['segmentation'], *truth.rle['size'])
        area = float(mask_utils.area(rle))
    if 'bbox' in entry:
        if truth.box is None:
            raise ValueError('has a bbox, but the ground truth has none')
        box = read_box(entry['bbox'], box_format)
        # As COCO does, which expects a width and a height here: with corners
        # it is no area, but the published evaluation has it so.
        area = float(entry['bbox'][2]) * float(entry['bbox'][3])
    return Candidate(score, rle, box, area)


class NamedMask(NamedTuple):
    """A mask to be scored.

    Attributes:
        name: Id of the image entry.
        mask: bool, shape (H, W).
        box: x1, y1, x2, y2 in pixels; that of the mask if ``None``.
    """

    name: str
    mask: np.ndarray
    box: np.ndarray | None = None


def coco_truths(masks: Iterable[NamedMask]) -> dict:
    """Return ground truth with one annotation per image entry.

    Raises:
        DataError: If two masks have the same name.
    """
    images: dict[str, dict] = {}
    annotations = []
    for number, (name, mask, box) in enumerate(masks, 1):
        if name in images:
            raise DataError(
                f'Two sentences are about {name}; extract the text '
                'annotations again.'
            )
        (rle,) = encode_masks(mask[None])
        bbox = mask_utils.toBbox(rle).tolist()
        if box is not None:
            x1, y1, x2, y2 = box.tolist()
            bbox = [x1, y1, x2 - x1, y2 - y1]
        height, width = mask.shape
        images[name] = {'id': name, 'height': height, 'width': width}
        annotations.append(
            {
                'id': number,
                'image_id': name,
                'category_id': 1,
                'segmentation': rle,
                'area': float(mask_utils.area(rle)),
                'bbox': bbox,
                'iscrowd': 0,
            }
        )
    return {
        'categories': [{'id': 1, 'name': 'dummy_class'}],
        'images': list(images.values()),
        'annotations': annotations,
    }


def encode_masks(masks: np.ndarray) -> list[dict]:
    """Run-length encode masks in a form that JSON can hold.

    Args:
        masks: bool, shape (n, H, W).

    Returns:
        ``size`` and ``counts``, a text.
    """
    columns = np.asfortranarray(masks.transpose(1, 2, 0), np.uint8)
    return [
        {'size': [*map(int, rle['size'])], 'counts': rle['counts'].decode()}
        for rle in mask_utils.encode(columns)
    ]


def write_candidates(
    path: str | Path, found: Mapping[Hashable, Sequence[Candidate]]
) -> None:
    """Write predictions as COCO results, which :func:`read_candidates` reads.

    Args:
        path: The file, ``.jsonl`` for JSON lines, else a JSON list. Its
            folder is created.
        found: Predictions by the id of the image entry, their codes as
            :func:`encode_masks` gives them.
    """
    entries = []
    for name, candidates in found.items():
        for candidate in candidates:
            entry = {
                'image_id': name,
                'category_id': 1,
                'segmentation': candidate.rle,
                'score': candidate.score,
            }
            if candidate.box is not None:
                entry['bbox'] = candidate.box
            entries.append(entry)
    write_records(path, entries)
