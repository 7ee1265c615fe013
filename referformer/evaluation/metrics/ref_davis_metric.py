# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J, F and J&F of Ref-DAVIS17."""

import json
from collections.abc import Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from referformer.evaluation.functional import (
    FrameScores,
    SequenceScores,
    TrueLabels,
    VideoScores,
    combine_unsupervised,
    merge_objects,
    read_label_map,
    score_frame_pairs,
    sequence_scores,
    shorten,
    split_annotators,
    summarize_annotators,
    summarize_expressions,
    write_atomic,
    write_label_map,
)
from referformer.evaluation.functional.ref_davis import NUM_ANNOTATORS
from referformer.evaluation.metrics.clip_reader import (
    Clip,
    frame_name,
    predicted_mask,
    predicted_probabilities,
    read_clip,
    true_mask,
)
from referformer.registry import METRICS

DavisProtocol = Literal['published', 'per-expression']
"""How Ref-DAVIS17 is scored, see :class:`RefDAVISMetric`."""


class VideoResult(NamedTuple):
    """Scores of one video.

    Attributes:
        video_id (str): Name of the video.
        scores (list | dict): By the published protocol ``VideoScores`` of
            each annotator, else ``SequenceScores`` by expression.
    """

    video_id: str
    scores: list[VideoScores] | dict[str, SequenceScores]


@METRICS.register_module()
class RefDAVISMetric(BaseMetric):
    """Mean J, F and J&F of Ref-DAVIS17 by either protocol, in percent.

    ``published`` (ReferFormer and its family): the objects an annotator
    describes compete for every pixel, and the label maps are scored by the
    DAVIS unsupervised measure, which pairs them with the true objects so that
    J&F is largest and ignores void pixels; mean over objects, then over the
    four annotators. ``per-expression`` (MeViS and its family): each
    expression is scored on its own, mean over expressions.

    All expressions of a video must arrive together: set
    ``group_by_video=True`` in the dataset.

    Args:
        protocol (str): ``'published'`` or ``'per-expression'``.
        outfile (str, optional): JSON file for the scores in detail (as
            fractions), written by the main process. Defaults to None.
        out_dir (str, optional): Folder for the label maps of the published
            protocol, ``anno_<0..3>/<video>/<frame>.png``; what
            ``tools/eval_masks.py ref-davis`` scores. Defaults to None.
        collect_device (str): 'cpu' or 'gpu', how results are gathered.
        prefix (str, optional): Put before the names of the scores. Defaults
            to None, which means 'refer'.
        collect_dir (str, optional): Folder shared by the processes, to
            gather results on the CPU.

    Raises:
        ValueError: If the protocol is unknown, or is not the one that has
            label maps for ``out_dir``.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        protocol: DavisProtocol,
        outfile: str | None = None,
        out_dir: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(
            collect_device=collect_device,
            prefix=prefix,
            collect_dir=collect_dir,
        )
        if protocol not in get_args(DavisProtocol):
            raise ValueError(
                f'protocol={protocol!r} is unknown; choose one of '
                f'{get_args(DavisProtocol)}.'
            )
        if out_dir is not None and protocol != 'published':
            raise ValueError(
                'out_dir is for the label maps of the published protocol; '
                "with protocol='per-expression' add a ReferSubmission to "
                'write masks.'
            )
        self.protocol = protocol
        self.outfile = outfile
        self.out_dir = None if out_dir is None else Path(out_dir)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch of videos.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): ``TrackDataSample.to_dict()`` of
                each expression, those of a video one after the other.

        Raises:
            ValueError: If a video lacks expressions or ground truth, or
                sizes differ.
            KeyError: If a frame has no prediction or a meta key is missing.
        """
        score = (
            self._score_published
            if self.protocol == 'published'
            else self._score_expressions
        )
        clips = map(read_clip, data_samples)
        self.results.append(
            [
                VideoResult(video, score(list(group)))
                for video, group in groupby(clips, lambda c: c.video_id)
            ]
        )

    def _score_published(self, clips: list[Clip]) -> list[VideoScores]:
        """Score a video once for each annotator."""
        annotators = _split_clips(clips)
        frames: list[list[FrameScores]] = [[] for _ in annotators]
        for t in range(len(clips[0].frames)):
            truth = TrueLabels(_read_truth(clips[0], t))
            for index, objects in enumerate(annotators):
                labels = merge_objects(
                    [predicted_probabilities(clip, t) for clip in objects]
                )
                frames[index].append(score_frame_pairs(labels, truth))
                if self.out_dir is not None:
                    name = f'{frame_name(clips[0], t)}.png'
                    folder = self.out_dir / f'anno_{index}'
                    write_label_map(folder / clips[0].video_id / name, labels)
        return [combine_unsupervised(scores) for scores in frames]

    def _score_expressions(
        self, clips: list[Clip]
    ) -> dict[str, SequenceScores]:
        """Score the expressions of a video."""
        scores = {}
        for clip in clips:
            indices = range(len(clip.frames))
            truths = [true_mask(clip, t) for t in indices]
            if any(truth is None for truth in truths):
                raise ValueError(
                    f'{clip.name} has frames without ground truth masks; load '
                    'annotations in the test pipeline.'
                )
            preds = (predicted_mask(clip, t) for t in indices)
            scores[clip.exp_id] = sequence_scores(preds, truths)
        return scores

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over objects and annotators, or over expressions.

        Args:
            results (list[list[VideoResult]]): One entry a batch.

        Returns:
            dict[str, float]: ``J&F``, ``J`` and ``F`` in percent, and those
            of each annotator, ``anno_<0..3>/J&F`` and so on.

        Raises:
            ValueError: If there are no results.
        """
        logger = MMLogger.get_current_instance()
        if not results:
            raise ValueError(
                'RefDAVISMetric got no samples; is the data set empty?'
            )
        unique: dict[str, Any] = {}
        repeated = set()
        for video, scores in chain.from_iterable(results):
            if video in unique:
                repeated.add(video)
            # The first stays: a repeat adds nothing to the mean.
            unique.setdefault(video, scores)
        if repeated:
            logger.warning(
                'RefDAVISMetric got %d videos more than once and counts each '
                'once: %s.',
                len(repeated),
                shorten(sorted(repeated)),
            )
        # mmengine turns named tuples into plain ones on the way here.
        if self.protocol == 'published':
            summary = summarize_annotators(
                [
                    {
                        video: VideoScores._make(scores[index])
                        for video, scores in unique.items()
                    }
                    for index in range(NUM_ANNOTATORS)
                ]
            )
        else:
            summary = summarize_expressions(
                {
                    (video, expression): SequenceScores._make(score)
                    for video, scores in unique.items()
                    for expression, score in scores.items()
                }
            )
            summary['per_annotator'] = split_annotators(
                summary['per_expression']
            )
        logger.info(
            'Ref-DAVIS17, protocol %s, %d videos.', self.protocol, len(unique)
        )
        if self.outfile is not None:
            table = {'protocol': self.protocol, **summary}
            write_atomic(self.outfile, json.dumps(table, indent=2) + '\n')
            logger.info('Scores in detail are in %s.', self.outfile)
        return {
            f'{prefix}{key}': 100 * entry[key]
            for prefix, entry in [
                ('', summary),
                *(
                    (f'{name}/', entry)
                    for name, entry in summary['per_annotator'].items()
                ),
            ]
            for key in ('J&F', 'J', 'F')
        }


def _split_clips(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Clips of each annotator, objects in the order of their numbers.

    Raises:
        ValueError: If the expressions are not 0 to 4 * k - 1.
    """
    numbered = {
        int(clip.exp_id): clip for clip in clips if clip.exp_id.isdecimal()
    }
    whole = range(len(clips))
    if len(clips) % NUM_ANNOTATORS or sorted(numbered) != list(whole):
        raise ValueError(
            f'The video {clips[0].video_id} came with the expressions '
            f'{shorten(clip.exp_id for clip in clips)}, but all of its four '
            'annotators are needed at once, numbered from 0 on; set '
            'group_by_video=True in the dataset, and convert the set with '
            'tools/dataset_converters/davis_to_ytvos.py.'
        )
    return [
        [numbered[i] for i in whole[annotator::NUM_ANNOTATORS]]
        for annotator in range(NUM_ANNOTATORS)
    ]


def _read_truth(clip: Clip, index: int) -> np.ndarray:
    """True label map of a frame, void included."""
    path = clip.frames[index].get('mask_path')
    if path is None:
        raise ValueError(
            f"Frame {index} of {clip.name} has no 'mask_path'; the published "
            'protocol reads the true label maps itself, so the dataset must '
            'know their folder (data_prefix.mask).'
        )
    return read_label_map(path, clip.frames[index].get('ori_shape'))
