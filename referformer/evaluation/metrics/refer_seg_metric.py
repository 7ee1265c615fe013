# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of one frame a sentence: A2D-, JHMDB-Sentences, RefCOCO/+/g."""

import math
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from referformer.errors import ConfigError, DataError, check_choice
from referformer.evaluation.functional.segm import (
    expression_scores,
    sentence_scores,
)
from referformer.evaluation.metrics.predicted_clip import (
    PredictedClip,
    read_clip,
)
from referformer.evaluation.metrics.results import gather_records
from referformer.formats.coco import (
    Box,
    Candidate,
    TrueObject,
    encode_masks,
    write_candidates,
)
from referformer.registry import METRICS

# Batches after which it is sure how many predictions a sentence brings.
_CHECK_AFTER = 50

Kind = Literal['a2d', 'jhmdb', 'refcoco']
TITLES: dict[str, str] = {
    'a2d': 'A2D-Sentences',
    'jhmdb': 'JHMDB-Sentences',
    'refcoco': 'RefCOCO/+/g',
}


class SentenceResult(NamedTuple):
    """Truth and predictions of one sentence, masks run-length encoded.

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


@METRICS.register_module()
class ReferSegMetric(BaseMetric):
    """AP, P@K and IoU of single frames, in percent.

    ``kind='a2d'`` and ``'jhmdb'`` report ``mAP 0.5:0.95``, ``AP 0.5`` ...,
    ``P@K``, ``overall_iou`` and ``mean_iou``; ``'refcoco'`` reports ``REC
    P@0.5`` (IoU above 0.5), ``REC P@0.5 GIoU``, ``RIS overall_iou``, ``RIS
    mean_iou`` and ``RIS P@K``, for each ``subset`` if there are several.
    ``referformer/evaluation/functional/segm.py`` defines them. AP of a size
    that no object has is left out.

    Scored is the frame ``annotated_position`` of a clip, or the only one.
    Nothing but run-length codes is kept.

    Args:
        kind (str): ``'a2d'``, ``'jhmdb'`` or ``'refcoco'``.
        queries (str): What AP ranks: ``'all'`` predictions of a sentence, as
            published, or the ``'best'`` one. Not for ``'refcoco'``.
        outfile (str, optional): JSON file for the predictions, as COCO
            results; ``tools/eval_masks.py`` scores it to the same numbers.
            With several subsets, their names go before the extension.
            Defaults to None, no file.
        **kwargs: Arguments of mmengine's ``BaseMetric``; ``prefix`` is
            'refer' by default.

    Raises:
        ConfigError: If ``kind`` or ``queries`` is unknown.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        kind: Kind,
        queries: Literal['all', 'best'] = 'all',
        outfile: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice('kind', kind, TITLES)
        check_choice('queries', queries, ('all', 'best'))
        self.kind = kind
        self.queries = queries
        self.outfile = outfile

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Encode truth and predictions of a batch.

        Raises:
            DataError: If sizes differ or a score is not finite.
            ConfigError: If there is no ground truth or prediction, a meta
                key is missing, or ``queries='all'`` makes no sense.
        """
        self.results.append([self._read_sample(s) for s in data_samples])
        if len(self.results) == _CHECK_AFTER:
            self._check_queries(chain.from_iterable(self.results))

    def _check_queries(self, sentences: Iterable[SentenceResult]) -> None:
        """Raise if AP is to rank all predictions but no sentence has several.

        The scores would carry the name of another protocol.
        """
        if self.kind == 'refcoco' or self.queries == 'best':
            return
        if all(len(sentence.candidates) < 2 for sentence in sentences):
            raise ConfigError(
                "queries='all' ranks all predictions of a sentence, as "
                'published, but the model gives one at most, which lowers the '
                'mAP by some three points; let it keep more (in the config '
                'model.head.selector.topk=5) or say '
                "queries='best' in the evaluator.",
                value=self.queries,
            )

    def _read_sample(self, data_sample: dict) -> SentenceResult:
        """One sentence."""
        clip = read_clip(data_sample)
        index = clip.annotated_position
        if index is None:
            if len(clip.frames) > 1:
                raise ConfigError(
                    f'{clip.name} has {len(clip.frames)} frames but no '
                    "'annotated_position' that says which one is scored."
                )
            index = 0
        mask = clip.true_mask(index)
        (rle,) = encode_masks(mask[None])
        box = _true_box(clip, index) if self.kind == 'refcoco' else None
        return SentenceResult(
            clip.subset,
            clip.video_id,
            clip.exp_id,
            clip.image_id,
            TrueObject(rle, box, float(mask.sum())),
            self._read_candidates(clip, index),
        )

    def _read_candidates(
        self, clip: PredictedClip, index: int
    ) -> list[Candidate]:
        """All predictions for the frame."""
        masks = clip.masks(index)
        instances = clip.frames[index].pred_track_instances
        scores = [float(score) for score in instances.scores]
        if not all(map(math.isfinite, scores)):
            raise DataError(
                f'The predictions for {clip.name} have the scores {scores}; '
                'has the training diverged?'
            )
        # Boxes change what AP takes for the size of a prediction, and the
        # published predictions of A2D and JHMDB have none.
        boxes: list[Box | None] = [None] * len(scores)
        if self.kind == 'refcoco':
            boxes = [tuple(box) for box in instances.bboxes.tolist()]
        areas = map(float, masks.sum(axis=(1, 2)))
        facts = (scores, encode_masks(masks), boxes, areas)
        return [*map(Candidate._make, zip(*facts, strict=True))]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score everything, in percent.

        Raises:
            DataError: If there are no results or ids repeat.
            ConfigError: If ``queries='all'`` makes no sense.
        """
        records = gather_records(
            results,
            _restore,
            lambda sentence: sentence[:3],
            type(self).__name__,
        )
        self._check_queries(records)
        # With several subsets their names tell the scores apart.
        several = len({sentence.subset for sentence in records}) > 1
        metrics = {}
        for subset, sentences in groupby(records, lambda s: s.subset):
            scores = self._score(subset, several, list(sentences))
            start = f'{subset}/' if several else ''
            metrics |= {
                f'{start}{k}': 100 * v for k, v in scores.items() if v >= 0
            }
        return metrics

    def _score(
        self, subset: str, several: bool, sentences: list[SentenceResult]
    ) -> dict[str, float]:
        """Score one subset, and write its predictions."""
        logger = MMLogger.get_current_instance()
        truths = {s.image_id: s.truth for s in sentences}
        found = {s.image_id: s.candidates for s in sentences}
        if len(truths) < len(sentences):
            raise DataError(
                f'{len(sentences)} sentences {subset} have only '
                f'{len(truths)} different image_id; the data set must give '
                'each its own.'
            )
        said = f'{TITLES[self.kind]} {subset}'.strip()
        if self.kind == 'refcoco':
            scores = expression_scores(truths, found)
        else:
            said += f', queries = {self.queries}'
            scores = sentence_scores(truths, found, self.queries)
        number = sum(map(len, found.values()))
        logger.info(
            '%s: %d sentences, %d predictions', said, len(truths), number
        )
        if self.outfile is not None:
            path = Path(self.outfile)
            if several:
                path = path.with_suffix(f'.{subset}{path.suffix}')
            write_candidates(path, found)
            logger.info('Predictions are in %s.', path)
        return scores


def _true_box(clip: PredictedClip, index: int) -> Box:
    """The annotated box, which need not be that of the mask."""
    if clip.box is not None:
        return clip.box
    boxes = clip.frames[index].get('gt_instances').get('bboxes', ())
    if len(boxes) != 1:
        raise ConfigError(
            f'{clip.name} has {len(boxes)} true boxes, not one; give the '
            "annotated box as 'ori_bbox'."
        )
    return tuple(map(float, boxes[0].tolist()))


def _restore(record: Sequence[Any]) -> SentenceResult:
    """A sentence of the plain tuples, or lists in notes, it has become."""
    sentence = SentenceResult._make(record)
    return sentence._replace(
        truth=TrueObject._make(sentence.truth),
        candidates=[*map(Candidate._make, sentence.candidates)],
    )
