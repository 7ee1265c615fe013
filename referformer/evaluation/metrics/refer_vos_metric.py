# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J, F and J&F of referring video object segmentation."""

import json
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from referformer.evaluation.functional import (
    MaskOutline,
    shorten,
    write_atomic,
)
from referformer.evaluation.functional.davis import BOUND_TH
from referformer.evaluation.metrics.clip_reader import (
    predicted_mask,
    read_clip,
    true_mask,
)
from referformer.registry import METRICS


class ExpressionScore(NamedTuple):
    """Score of one expression on one video, fractions in [0, 1].

    Attributes:
        video_id (str): Name of the video.
        exp_id (str): Name of the expression.
        j (float): Region similarity, mean over the frames.
        f (float): Boundary accuracy, mean over the frames.
        num_frames (int): Frames scored.
        text (str): The expression.
    """

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
    counts once however long the video is.

    A clip is reduced to a few numbers as soon as it is predicted, so memory
    does not grow with the data set. A batch gives one result, the list of its
    expressions: an item of the data set may be a video with several of them,
    and mmengine wants no more results than items. What a distributed sampler
    repeats to fill its last round is recognised by its name.

    Args:
        outfile (str, optional): JSON file for the table of expressions,
            written by the main process. Defaults to None, no table.
        bound_th (float): Boundary tolerance as a fraction of the image
            diagonal. Defaults to 0.008, the value of DAVIS.
        collect_device (str): 'cpu' or 'gpu', how results are gathered.
        prefix (str, optional): Put before the names of the scores. Defaults
            to None, which means 'refer'.
        collect_dir (str, optional): Folder shared by the processes, to
            gather results on the CPU.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        outfile: str | None = None,
        bound_th: float = BOUND_TH,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(
            collect_device=collect_device,
            prefix=prefix,
            collect_dir=collect_dir,
        )
        self.outfile = outfile
        self.bound_th = bound_th

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch of clips.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): ``TrackDataSample.to_dict()`` of
                each clip, with ``pred_track_instances`` and ``gt_instances``
                in its frames.

        Raises:
            ValueError: If a frame has no ground truth, or sizes differ.
            KeyError: If a frame has no prediction or a meta key is missing.
        """
        self.results.append([self._score_clip(s) for s in data_samples])

    def _score_clip(self, data_sample: dict) -> ExpressionScore:
        clip = read_clip(data_sample)
        j_sum = f_sum = 0.0
        for index in range(len(clip.frames)):
            truth = true_mask(clip, index)
            if truth is None:
                raise ValueError(
                    f'Frame {index} of {clip.name} has no ground truth masks, '
                    'so it cannot be scored; the test set needs masks, a '
                    'pipeline that loads them, and the obj_id of every '
                    'expression (obj_id_file names a file that tells them). '
                    'Where none are published, use ReferSubmission, which '
                    'only writes the predictions.'
                )
            gt = MaskOutline(truth, bound_th=self.bound_th)
            pred = MaskOutline(
                predicted_mask(clip, index), bound_th=self.bound_th
            )
            j_sum += pred.iou(gt)
            f_sum += pred.boundary_f(gt)
        num_frames = len(clip.frames)
        return ExpressionScore(
            clip.video_id,
            clip.exp_id,
            j_sum / num_frames,
            f_sum / num_frames,
            num_frames,
            str(data_sample.get('text', '')),
        )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over expressions.

        Args:
            results (list[list[ExpressionScore]]): One entry a batch.

        Returns:
            dict[str, float]: ``J&F``, ``J`` and ``F`` in percent.

        Raises:
            ValueError: If there are no results.
        """
        logger = MMLogger.get_current_instance()
        if not results:
            raise ValueError(
                'ReferVOSMetric got no samples; is the data set empty?'
            )
        unique: dict[tuple[str, str], ExpressionScore] = {}
        repeated = []
        for score in map(ExpressionScore._make, chain.from_iterable(results)):
            key = (score.video_id, score.exp_id)
            if key in unique:
                repeated.append('/'.join(key))
            # The first stays: a repeat adds nothing to the mean.
            unique.setdefault(key, score)
        if repeated:
            logger.warning(
                'ReferVOSMetric got %d expressions more than once and counts '
                'each once: %s.',
                len(repeated),
                shorten(sorted(set(repeated))),
            )
        # Sorted and summed exactly: the score must not depend, not even in
        # its last digit, on which process scored which clip.
        scores = [unique[key] for key in sorted(unique)]
        metrics = _percent(
            math.fsum(score.j for score in scores) / len(scores),
            math.fsum(score.f for score in scores) / len(scores),
        )
        if self.outfile is not None:
            table = {
                'num_expressions': len(scores),
                **metrics,
                'per_expression': {
                    f'{score.video_id}/{score.exp_id}': {
                        **_percent(score.j, score.f),
                        'num_frames': score.num_frames,
                        'text': score.text,
                    }
                    for score in scores
                },
            }
            text = json.dumps(table, indent=2, ensure_ascii=False)
            write_atomic(self.outfile, text + '\n')
            logger.info('Scores of each expression are in %s.', self.outfile)
        return metrics


def _percent(j: float, f: float) -> dict[str, float]:
    """The three scores in percent."""
    return {'J&F': 50 * (j + f), 'J': 100 * j, 'F': 100 * f}
