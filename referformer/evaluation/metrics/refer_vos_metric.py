# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J, F and J&F of referring video object segmentation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmengine.evaluator import BaseMetric

from referformer.evaluation.functional.kernel import BOUND_TH
from referformer.evaluation.functional.protocols import mean_scores
from referformer.evaluation.metrics.predicted_clip import (
    group_clips,
    score_frames,
)
from referformer.evaluation.metrics.results import (
    gather_records,
    percent,
    write_table,
)
from referformer.registry import METRICS


class ExpressionScore(NamedTuple):
    """Mean J and F of one expression over the frames of its video."""

    video_id: str
    exp_id: str
    j: float
    f: float
    num_frames: int
    text: str


@METRICS.register_module()
class ReferVOSMetric(BaseMetric):
    """Mean J, F and J&F over expressions, in percent.

    Each expression is scored on all frames of its video, those where the
    object is out of sight included (an empty prediction is right there), and
    counts once however long the video is. A clip is reduced to a few numbers
    as soon as it is predicted, so memory does not grow with the data set.

    Args:
        outfile (str, optional): JSON file for the table of expressions,
            written by the main process. Defaults to None, no table.
        bound_th (float): Boundary tolerance as a fraction of the image
            diagonal. Defaults to 0.008, the value of DAVIS.
        **kwargs: Arguments of mmengine's ``BaseMetric``; ``prefix`` is
            'refer' by default.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        outfile: str | None = None,
        bound_th: float = BOUND_TH,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.outfile = outfile
        self.bound_th = bound_th

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score the clips of a batch, frame by frame.

        Raises:
            DataError: If the sizes of masks differ.
            ConfigError: If a frame has no ground truth, no prediction or
                lacks a meta key.
        """
        records = []
        for clips in group_clips(data_samples):
            num_frames = len(clips[0].frames)
            means = sum(score_frames(clips, self.bound_th)) / num_frames
            records += [
                ExpressionScore(
                    clip.video_id, clip.exp_id, j, f, num_frames, clip.text
                )
                for clip, j, f in zip(clips, *means.tolist(), strict=True)
            ]
        self.results.append(records)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over expressions: ``J&F``, ``J`` and ``F`` in percent.

        Raises:
            DataError: If there are no results.
        """
        scores = gather_records(
            results,
            ExpressionScore._make,
            lambda score: (score.video_id, score.exp_id),
            type(self).__name__,
        )
        means = [mean_scores([{'J': s.j, 'F': s.f}]) for s in scores]
        metrics = percent(mean_scores(means))
        if self.outfile is not None:
            per_expression = {
                f'{score.video_id}/{score.exp_id}': {
                    **percent(mean),
                    'num_frames': score.num_frames,
                    'text': score.text,
                }
                for score, mean in zip(scores, means, strict=True)
            }
            table = {'num_expressions': len(scores), **metrics}
            table['per_expression'] = per_expression
            write_table(self.outfile, table)
        return metrics
