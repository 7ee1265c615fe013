# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J, F and J&F of referring video object segmentation."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric

from referformer.errors import ConfigError
from referformer.evaluation.functional import (
    ExpressionProtocol,
    TargetScores,
    measure_expression,
    summarize_expressions,
)
from referformer.evaluation.functional.expression_scores import group_rows
from referformer.evaluation.functional.kernel import BOUND_TH
from referformer.evaluation.metrics.predicted_clip import (
    PredictedClip,
    group_clips,
    score_frames,
)
from referformer.evaluation.metrics.results import (
    gather_records,
    percent,
    write_table,
)
from referformer.evaluation.metrics.threads import ScoringThreads
from referformer.registry import METRICS


class ExpressionScore(NamedTuple):
    """Measures of one expression over the frames of its video.

    Attributes:
        video_id (str): Name of the video.
        exp_id (str): Name of the expression.
        measures (dict): What ``functional.measure_expression`` says, with the
            ``text`` and the ``attributes`` of the expression.
        together (int): Expressions of the video that were scored with it.
    """

    video_id: str
    exp_id: str
    measures: dict[str, Any]
    together: int


def score_clips(
    clips: Sequence[PredictedClip], bound_th: float = BOUND_TH
) -> list[ExpressionScore]:
    """Score the expressions of a video.

    Args:
        clips (Sequence[PredictedClip]): E expressions of one video.
        bound_th (float): Tolerance, see ``functional.kernel``.

    Raises:
        DataError: If the sizes of masks differ.
        ConfigError: If a frame has no ground truth, no prediction or lacks a
            meta key.
    """
    frames = list(score_frames(clips, bound_th))
    # Frame by frame, as always: numpy sums long rows in another order.
    means = (sum(frames) / len(frames))[:2].T.tolist()
    records = []
    for e, (clip, (j, f)) in enumerate(zip(clips, means, strict=True)):
        scores = TargetScores(*np.stack([frame[:, e] for frame in frames], 1))
        measures = measure_expression(scores)
        measures |= {'J&F': (j + f) / 2, 'J': j, 'F': f, 'text': clip.text}
        if clip.attributes:
            measures['attributes'] = dict(clip.attributes)
        records.append(
            ExpressionScore(clip.video_id, clip.exp_id, measures, len(clips))
        )
    return records


@METRICS.register_module()
class ReferVOSMetric(BaseMetric):
    """J, F, tIoU, vIoU and more, mean over expressions, in percent.

    Each expression is scored on all frames of its video, those where the
    object is out of sight included (an empty prediction is right there), and
    counts once however long the video is. A clip is reduced to a few numbers
    as soon as it is predicted, so memory does not grow with the data set.

    ``J&F``, ``J``, ``F``, ``tIoU`` and ``vIoU`` are always reported, ``N-acc``
    and ``T-acc`` if an expression has no target. They are defined in
    ``referformer/evaluation/functional/expression_scores.py``.

    Args:
        outfile (str, optional): JSON file for the table of expressions,
            written by the main process. Defaults to None, no table.
        bound_th (float): Boundary tolerance as a fraction of the image
            diagonal. Defaults to 0.008, the value of DAVIS.
        group_by (str | Sequence[str] | None): Attributes of expressions,
            such as ``'type'``: reports the means of the expressions with
            each value too, as ``type=static/J&F``. Defaults to None.
        robustness (bool): Whether to report ``R`` of ReVOS. All expressions
            of a video must arrive together: set ``group_by_video=True`` in
            the dataset. Defaults to False.
        workers (int | None): Threads that score beside the model, see
            :class:`~.threads.ScoringThreads`. The scores are the same.
            Defaults to None: two beside a GPU.
        **kwargs: Arguments of mmengine's ``BaseMetric``; ``prefix`` is
            'refer' by default.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        outfile: str | None = None,
        bound_th: float = BOUND_TH,
        group_by: str | Sequence[str] | None = None,
        robustness: bool = False,
        workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.outfile = outfile
        self.bound_th = bound_th
        names = [group_by] if isinstance(group_by, str) else group_by or ()
        self.protocol = ExpressionProtocol(tuple(names), robustness)
        self.threads = ScoringThreads(workers)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score the clips of a batch, frame by frame, maybe beside the model.

        Raises:
            DataError: If the sizes of masks differ, here or in a batch
                before.
            ConfigError: If a frame has no ground truth, no prediction or
                lacks a meta key, likewise.
        """
        self.results.append(self.threads.run(self._score, data_samples))

    def _score(self, data_samples: Sequence[dict]) -> list[ExpressionScore]:
        return [
            record
            for clips in group_clips(data_samples)
            for record in score_clips(clips, self.bound_th)
        ]

    def evaluate(self, size: int) -> dict[str, float]:
        """Wait for what is being scored, then gather and average."""
        self.results = self.threads.finish(self.results)
        return super().evaluate(size)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over expressions, all and by attribute, in percent.

        Raises:
            DataError: If there are no results.
            ConfigError: If no expression has an attribute to group by, or
                ``robustness`` lacks expressions of a video.
        """
        records = gather_records(
            results,
            ExpressionScore._make,
            lambda score: (score.video_id, score.exp_id),
            type(self).__name__,
        )
        if self.protocol.robustness:
            _check_together(records)
        entries = {f'{r.video_id}/{r.exp_id}': r.measures for r in records}
        summary = summarize_expressions(entries, self.protocol)
        metrics = percent(summary)
        for name, row in group_rows(summary).items():
            metrics |= percent(row, f'{name}/')
        if self.outfile is not None:
            table = {'num_expressions': len(records), **metrics}
            table['unit'] = 'percent'
            table['per_expression'] = {
                name: {**entry, **percent(entry)}
                for name, entry in summary['per_expression'].items()
            }
            write_table(self.outfile, table)
        return metrics


def _check_together(records: Sequence[ExpressionScore]) -> None:
    """Raise unless all expressions of each video were scored together."""
    numbers = Counter(record.video_id for record in records)
    for record in records:
        if record.together != numbers[record.video_id]:
            raise ConfigError(
                f'The {numbers[record.video_id]} expressions of the video '
                f'{record.video_id} came in several parts, but R compares '
                'with the objects of all of them; set group_by_video=True in '
                'the dataset.'
            )
