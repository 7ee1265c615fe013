# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of one frame a sentence: A2D-, JHMDB-Sentences, RefCOCO/+/g."""

import json
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from pycocotools import mask as mask_utils

from referformer.evaluation.functional import shorten, write_atomic
from referformer.evaluation.functional.segm import (
    expression_scores,
    sentence_scores,
)
from referformer.evaluation.metrics.clip_reader import (
    Clip,
    predicted_masks,
    read_clip,
    true_mask,
)
from referformer.formats.coco import Box, Candidate, TrueObject
from referformer.registry import METRICS

Kind = Literal['a2d', 'jhmdb', 'refcoco']
TITLES: dict[str, str] = {
    'a2d': 'A2D-Sentences',
    'jhmdb': 'JHMDB-Sentences',
    'refcoco': 'RefCOCO/+/g',
}


class SentenceResult(NamedTuple):
    """TrueObject and predictions of one sentence, masks run-length encoded.

    Attributes:
        subset (str): Part of the data set which is scored on its own, such
            as ``refcoco_testA``; empty if there is only one.
        video_id (str): Name of the video or image.
        exp_id (str): Name of the expression.
        image_id (int | str): Id in the ground-truth file of the data set.
        truth (TrueObject): What is right.
        candidates (list[Candidate]): Predictions, best first.
    """

    subset: str
    video_id: str
    exp_id: str
    image_id: int | str
    truth: TrueObject
    candidates: list[Candidate]


def _encode(masks: np.ndarray) -> list[dict]:
    """Run-length encode masks, (n, H, W), as JSON can hold it."""
    columns = np.asfortranarray(masks.transpose(1, 2, 0), np.uint8)
    return [
        {'size': [*map(int, rle['size'])], 'counts': rle['counts'].decode()}
        for rle in mask_utils.encode(columns)
    ]


@METRICS.register_module()
class ReferSegMetric(BaseMetric):
    """AP, P@K and IoU of single frames, in percent.

    ``kind='a2d'`` and ``'jhmdb'`` report ``mAP 0.5:0.95``, ``AP 0.5`` ...,
    ``P@K``, ``overall_iou`` and ``mean_iou``; ``'refcoco'`` reports ``REC
    P@0.5`` (IoU above 0.5), ``REC P@0.5 GIoU``, ``RIS overall_iou``, ``RIS
    mean_iou`` and ``RIS P@K``, for each ``subset`` if there are several.
    ``referformer/evaluation/functional/segm.py`` defines them. AP of a size
    that no object has is left out.

    Scored is the frame ``annotated_frame`` of a clip, or the only one.
    Nothing but run-length codes is kept.

    Args:
        kind (str): ``'a2d'``, ``'jhmdb'`` or ``'refcoco'``.
        queries (str): What AP ranks: ``'all'`` predictions of a sentence, as
            published, or the ``'best'`` one. Not for ``'refcoco'``.
        outfile (str, optional): JSON file for the predictions, as COCO
            results; ``tools/eval_masks.py`` scores it to the same numbers.
            With several subsets, their names go before the extension.
            Defaults to None, no file.
        collect_device (str): 'cpu' or 'gpu', how results are gathered.
        prefix (str, optional): Put before the names of the scores. Defaults
            to None, which means 'refer'.
        collect_dir (str, optional): Folder shared by the processes, to
            gather results on the CPU.

    Raises:
        ValueError: If ``kind`` or ``queries`` is unknown.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        kind: Kind,
        queries: Literal['all', 'best'] = 'all',
        outfile: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(
            collect_device=collect_device,
            prefix=prefix,
            collect_dir=collect_dir,
        )
        if kind not in TITLES:
            raise ValueError(f'kind is {kind!r}; use one of {list(TITLES)}.')
        if queries not in ('all', 'best'):
            raise ValueError(f"queries is {queries!r}; use 'all' or 'best'.")
        self.kind = kind
        self.queries = queries
        self.outfile = outfile

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Encode truth and predictions of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): ``TrackDataSample.to_dict()`` of
                each clip, with ``pred_track_instances`` and ``gt_instances``
                in the frame that is scored.

        Raises:
            ValueError: If there is no ground truth, or sizes differ, or a
                score is not finite.
            KeyError: If a prediction or a meta key is missing.
        """
        self.results.append([self._read_sample(s) for s in data_samples])

    def _read_sample(self, data_sample: dict) -> SentenceResult:
        """One sentence."""
        clip = read_clip(data_sample)
        index = data_sample.get('annotated_frame')
        if index is None:
            if len(clip.frames) > 1:
                raise KeyError(
                    f'{clip.name} has {len(clip.frames)} frames but no '
                    "'annotated_frame' that says which one is scored."
                )
            index = 0
        mask = true_mask(clip, index)
        if mask is None:
            raise ValueError(
                f'Frame {index} of {clip.name} has no ground truth masks; '
                'load annotations in the test pipeline.'
            )
        box = None
        if self.kind == 'refcoco':
            box = self._true_box(clip, index, data_sample)
        (rle,) = _encode(mask[None])
        return SentenceResult(
            str(data_sample.get('subset', '')),
            clip.video_id,
            clip.exp_id,
            data_sample.get('image_id', clip.name),
            TrueObject(rle, box, float(mask.sum())),
            self._read_candidates(clip, index),
        )

    @staticmethod
    def _true_box(clip: Clip, index: int, data_sample: dict) -> Box:
        """The annotated box, which need not be that of the mask."""
        box = data_sample.get('ori_bbox')
        if box is None:
            instances = clip.frames[index].get('gt_instances')
            boxes = instances.get('bboxes', ())
            if len(boxes) != 1:
                raise ValueError(
                    f'{clip.name} has {len(boxes)} true boxes, not one; '
                    "give the annotated box as 'ori_bbox'."
                )
            box = boxes[0].tolist()
        return tuple(float(number) for number in box)

    def _read_candidates(self, clip: Clip, index: int) -> list[Candidate]:
        """All predictions for the frame."""
        masks = predicted_masks(clip, index)
        instances = clip.frames[index].pred_track_instances
        scores = [float(score) for score in instances.scores]
        if not all(map(math.isfinite, scores)):
            raise ValueError(
                f'The predictions for {clip.name} have the scores {scores}; '
                'has the training diverged?'
            )
        # Boxes change what AP takes for the size of a prediction, and the
        # published predictions of A2D and JHMDB have none.
        boxes: list[Box | None] = [None] * len(scores)
        if self.kind == 'refcoco':
            boxes = [tuple(box) for box in instances.bboxes.tolist()]
        areas = masks.sum(axis=(1, 2)).tolist()
        return [
            Candidate(score, rle, box, float(area))
            for score, rle, box, area in zip(
                scores, _encode(masks), boxes, areas, strict=True
            )
        ]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score everything.

        Args:
            results (list[list[SentenceResult]]): One entry a batch.

        Returns:
            dict[str, float]: The scores in percent.

        Raises:
            ValueError: If there are no results or ids repeat.
        """
        subsets = self._gather(results)
        metrics = {}
        for subset, sentences in subsets.items():
            truths = {s.image_id: s.truth for s in sentences}
            if len(truths) < len(sentences):
                raise ValueError(
                    f'{len(sentences)} sentences {subset} have only '
                    f'{len(truths)} different image_id; the data set must '
                    'give each its own.'
                )
            found = {s.image_id: s.candidates for s in sentences}
            if self.kind == 'refcoco':
                said, scores = '', expression_scores(truths, found)
            else:
                said = f', queries = {self.queries}'
                scores = sentence_scores(truths, found, self.queries)
            MMLogger.get_current_instance().info(
                '%s%s: %d sentences, %d predictions',
                f'{TITLES[self.kind]} {subset}'.strip(),
                said,
                len(truths),
                sum(map(len, found.values())),
            )
            start = f'{subset}/' if len(subsets) > 1 else ''
            metrics.update(
                {
                    f'{start}{name}': 100 * value
                    for name, value in scores.items()
                    if value >= 0
                }
            )
            if self.outfile is not None:
                self._write(sentences, subset if start else '')
        return metrics

    @staticmethod
    def _gather(results: list) -> dict[str, list[SentenceResult]]:
        """Sentences of each subset, in an order that is always the same."""
        unique: dict[tuple[str, ...], SentenceResult] = {}
        repeated = []
        for item in chain.from_iterable(results):
            # Gathering makes plain tuples of them, taking notes lists.
            sentence = SentenceResult._make(item)
            key = sentence[:3]
            if key in unique:
                repeated.append('/'.join(filter(None, key)))
            unique.setdefault(
                key,
                sentence._replace(
                    truth=TrueObject._make(sentence.truth),
                    candidates=[*map(Candidate._make, sentence.candidates)],
                ),
            )
        if not unique:
            raise ValueError(
                'ReferSegMetric got no samples; is the data set empty?'
            )
        if repeated:
            MMLogger.get_current_instance().warning(
                'ReferSegMetric got %d sentences more than once and counts '
                'each once: %s.',
                len(repeated),
                shorten(sorted(set(repeated))),
            )
        subsets: dict[str, list[SentenceResult]] = {}
        for key in sorted(unique):
            subsets.setdefault(key[0], []).append(unique[key])
        return subsets

    def _write(self, sentences: list[SentenceResult], subset: str) -> None:
        """Write the predictions as COCO results."""
        path = Path(self.outfile)
        if subset:
            path = path.with_suffix(f'.{subset}{path.suffix}')
        entries = []
        for sentence in sentences:
            for candidate in sentence.candidates:
                entry = {
                    'image_id': sentence.image_id,
                    'category_id': 1,
                    'segmentation': candidate.rle,
                    'score': candidate.score,
                }
                if candidate.box is not None:
                    entry['bbox'] = candidate.box
                entries.append(entry)
        write_atomic(path, json.dumps(entries) + '\n')
        MMLogger.get_current_instance().info('Predictions are in %s.', path)
