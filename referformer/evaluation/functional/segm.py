# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of single masks and boxes: A2D-, JHMDB-Sentences, RefCOCO/+/g.

A sample is one sentence about one frame. Masks stay run-length encoded
throughout, so memory does not depend on their size.
"""

import contextlib
import io
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from referformer.errors import check_choice
from referformer.formats.coco import Candidate, TrueObject

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
AP_NAMES = (
    'mAP 0.5:0.95',
    'AP 0.5',
    'AP 0.75',
    'AP 0.5:0.95 S',
    'AP 0.5:0.95 M',
    'AP 0.5:0.95 L',
)
# Makes the IoU of two empty masks 1.
_EPS = np.float32(1e-6)

Truths = Mapping[Hashable, TrueObject]
Candidates = Mapping[Hashable, Sequence[Candidate]]


def best_candidate(candidates: Sequence[Candidate]) -> Candidate | None:
    """The prediction with the highest score, of equals the last."""
    return max(reversed(candidates), key=lambda c: c.score, default=None)


def average_precision(truths: Truths, found: Candidates) -> dict[str, float]:
    """AP of masks by pycocotools, categories ignored.

    Args:
        truths (Truths): One per sample.
        found (Candidates): Any number per sample, none included.

    Returns:
        dict[str, float]: :data:`AP_NAMES`, fractions; -1, as COCO has it,
        where no sample is of that size.
    """
    ids = {name: number for number, name in enumerate(truths, 1)}
    true = [
        {
            'image_id': ids[name],
            'segmentation': truth.rle,
            'area': truth.area,
            'iscrowd': int(truth.crowd),
        }
        for name, truth in truths.items()
    ]
    predicted = [
        {
            'image_id': ids[name],
            'segmentation': candidate.rle,
            'score': candidate.score,
            'area': candidate.area,
            'iscrowd': 0,
        }
        for name in truths
        for candidate in found.get(name, ())
    ]
    # pycocotools reports on stdout; there is no switch.
    with contextlib.redirect_stdout(io.StringIO()):
        tables = [_coco_table(ids.values(), a) for a in (true, predicted)]
        evaluation = COCOeval(*tables, iouType='segm')
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(AP_NAMES, map(float, evaluation.stats), strict=False))


def _coco_table(ids: Iterable[int], annotations: list[dict]) -> COCO:
    """A table of one category, with numbered annotations."""
    table = COCO()
    table.dataset = {
        # annToRLE looks for the image; encoded masks know their size
        'images': [{'id': i, 'height': 0, 'width': 0} for i in ids],
        'annotations': [
            {**annotation, 'id': number, 'category_id': 1}
            for number, annotation in enumerate(annotations, 1)
        ],
        'categories': [{'id': 1, 'name': 'object'}],
    }
    table.createIndex()
    return table


def mask_overlaps(
    pairs: Sequence[tuple[dict | None, dict]],
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that two masks share, and pixels of either.

    Args:
        pairs (Sequence[tuple]): Predicted and true mask, run-length encoded,
            of one size; None is an empty prediction.

    Returns:
        tuple[np.ndarray, np.ndarray]: Intersections and unions, int64, (n,).
    """
    inter, union = np.zeros((2, len(pairs)), np.int64)
    for index, (predicted, true) in enumerate(pairs):
        union[index] = mask_utils.area(true)
        if predicted is None:
            continue
        both = mask_utils.merge([predicted, true], intersect=True)
        inter[index] = mask_utils.area(both)
        union[index] += int(mask_utils.area(predicted)) - inter[index]
    return inter, union


def box_overlaps(
    predicted: np.ndarray, true: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas that boxes share, and areas of either, row by row.

    Args:
        predicted (np.ndarray): x1, y1, x2, y2, shape (n, 4).
        true (np.ndarray): Likewise.

    Returns:
        tuple[np.ndarray, np.ndarray]: Intersections and unions, shape (n,).
    """
    top_left = np.maximum(predicted[:, :2], true[:, :2])
    bottom_right = np.minimum(predicted[:, 2:], true[:, 2:])
    inter = (bottom_right - top_left).clip(min=0).prod(axis=1)
    areas = [
        (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        for boxes in (predicted, true)
    ]
    return inter, areas[0] + areas[1] - inter


def generalized_iou(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU minus the share of the enclosing box that neither box covers.

    Arguments are those of :func:`box_overlaps`.

    Returns:
        np.ndarray: In [-1, 1], float64, shape (n,).
    """
    inter, union = box_overlaps(predicted, true)
    top_left = np.minimum(predicted[:, :2], true[:, :2])
    bottom_right = np.maximum(predicted[:, 2:], true[:, 2:])
    hull = (bottom_right - top_left).prod(axis=1)
    return _ratio(inter, union) - 1 + _ratio(union, hull)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, 1 where both are 0."""
    part, whole = part.astype(np.float64), whole.astype(np.float64)
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)


def iou_scores(inter: np.ndarray, union: np.ndarray) -> dict[str, float]:
    """P@K, overall and mean IoU.

    Args:
        inter (np.ndarray): Intersection of each sample, shape (n,), n > 0.
        union (np.ndarray): Union of each sample.

    Returns:
        dict[str, float]: Fractions: ``P@K``, the share of samples with an
        IoU *above* K; ``overall_iou``, the sum of the intersections over
        that of the unions; ``mean_iou``.
    """
    iou = published_iou(inter, union)
    shared, total = (n.sum(dtype=np.float64) for n in (inter, union))
    return {
        **{f'P@{k}': float((iou > k).mean()) for k in PRECISION_AT},
        'overall_iou': float(shared / total) if total else 1.0,
        'mean_iou': float(iou.mean()),
    }


def published_iou(inter: np.ndarray, union: np.ndarray) -> np.ndarray:
    """IoU to the last bit as the published code has it.

    It divides in single precision and compares in double, which decides
    ties: 3/5 is above 0.6 and 4/5 above 0.8, 70/100 is not above 0.7. It is
    1 where both are nothing.
    """
    part, whole = (np.asarray(n, np.float32) + _EPS for n in (inter, union))
    return (part / whole).astype(np.float64)


def mask_scores(truths: Truths, found: Candidates) -> dict[str, float]:
    """:func:`iou_scores` of the best masks; none at all counts as empty."""
    return iou_scores(*mask_overlaps(_best_masks(truths, found)))


def _best_masks(
    truths: Truths, found: Candidates
) -> list[tuple[dict | None, dict]]:
    """Best and true mask of every sample, for :func:`mask_overlaps`."""
    pairs = []
    for name, truth in truths.items():
        best = best_candidate(found.get(name, ()))
        pairs.append((None if best is None else best.rle, truth.rle))
    return pairs


def _best_boxes(
    truths: Truths, found: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Best and true boxes, (n, 4); no box is one without area.

    In single precision, as the published code computes with them.
    """
    pairs = []
    for name, truth in truths.items():
        best = best_candidate(found.get(name, ()))
        box = None if best is None else best.box
        pairs.append([corners or (0.0,) * 4 for corners in (box, truth.box)])
    boxes = np.array(pairs, np.float32).reshape(-1, 2, 4)
    return boxes[:, 0], boxes[:, 1]


def box_scores(truths: Truths, found: Candidates) -> dict[str, float]:
    """:func:`iou_scores` of the best boxes; none counts as without area."""
    return iou_scores(*box_overlaps(*_best_boxes(truths, found)))


def scores_of_each(
    truths: Truths, found: Candidates
) -> dict[str, dict[str, Any]]:
    """IoU of the best mask and box of every sample.

    Args:
        truths (Truths): One per sample.
        found (Candidates): Predictions.

    Returns:
        dict: Id of the sample -> ``IoU`` of masks and ``box IoU``, as far as
        there are such predictions, and ``video``, see ``TrueObject.source``.
    """
    entries = {str(n): {'video': t.source} for n, t in truths.items()}
    columns = {}
    if has_masks(found):
        columns['IoU'] = mask_overlaps(_best_masks(truths, found))
    if has_boxes(found):
        columns['box IoU'] = box_overlaps(*_best_boxes(truths, found))
    for name, overlaps in columns.items():
        ious = published_iou(*overlaps).tolist()
        for entry, iou in zip(entries.values(), ious, strict=True):
            entry[name] = iou
    return entries


def has_masks(found: Candidates) -> bool:
    """Whether the predictions have masks (all or none of them do)."""
    return any(c.rle is not None for cs in found.values() for c in cs)


def has_boxes(found: Candidates) -> bool:
    """Whether the predictions have boxes (all or none of them do)."""
    return any(c.box is not None for cs in found.values() for c in cs)


def sentence_scores(
    truths: Truths, found: Candidates, queries: str
) -> dict[str, float]:
    """Scores of A2D- and JHMDB-Sentences.

    Args:
        truths (Truths): One per sample, at least one.
        found (Candidates): Predictions, with masks.
        queries (str): What AP ranks. ``'all'``: every prediction, as
            published. ``'best'``: the one with the highest score of each
            sample; lower, because AP forgives further guesses. The other
            scores always take the best one.

    Returns:
        dict[str, float]: Fractions: AP, then :func:`iou_scores` of masks,
        then, if there are boxes, those of boxes as ``'bbox <name>'``.

    Raises:
        ConfigError: If ``queries`` is neither.
    """
    check_choice('queries', queries, ('all', 'best'))
    ranked = found
    if queries == 'best':
        ranked = {
            name: [best_candidate(candidates)]
            for name, candidates in found.items()
            if candidates
        }
    scores = average_precision(truths, ranked)
    scores.update(mask_scores(truths, found))
    if has_boxes(found):
        boxes = box_scores(truths, found)
        scores.update({f'bbox {name}': v for name, v in boxes.items()})
    return scores


def expression_scores(truths: Truths, found: Candidates) -> dict[str, float]:
    """Scores of RefCOCO, RefCOCO+ and RefCOCOg.

    Comprehension (REC) judges the box of the best prediction, segmentation
    (RIS) its mask. Two rules for a correct box are in use: IoU above 0.5,
    and generalised IoU of at least 0.5, which is stricter.

    Args:
        truths (Truths): One per sample, at least one, with boxes.
        found (Candidates): Predictions, with boxes or masks or both.

    Returns:
        dict[str, float]: Fractions: ``REC P@0.5`` and ``REC P@0.5 GIoU`` if
        there are boxes, ``RIS <name>`` of :func:`iou_scores` if there are
        masks.
    """
    scores = {}
    if has_boxes(found):
        predicted, true = _best_boxes(truths, found)
        iou = published_iou(*box_overlaps(predicted, true))
        giou = generalized_iou(predicted, true)
        scores['REC P@0.5'] = float((iou > 0.5).mean())
        scores['REC P@0.5 GIoU'] = float((giou >= 0.5).mean())
    if has_masks(found):
        masks = mask_scores(truths, found)
        scores['RIS overall_iou'] = masks.pop('overall_iou')
        scores['RIS mean_iou'] = masks.pop('mean_iou')
        scores.update({f'RIS {name}': v for name, v in masks.items()})
    return scores
