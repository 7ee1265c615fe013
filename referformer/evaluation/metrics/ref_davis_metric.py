# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J, F and J&F of Ref-DAVIS17."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from referformer.errors import ConfigError, check_choice
from referformer.evaluation.functional import (
    PROTOCOLS,
    TargetScores,
    TrueLabels,
    VideoScores,
    measure_expression,
    merge_objects,
    split_annotators,
    summarize_annotators,
    summarize_expressions,
)
from referformer.evaluation.functional.protocols import remark_on_late_objects
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
from referformer.formats.davis_text import NUM_ANNOTATORS
from referformer.formats.label_maps import read_label_map, write_label_map
from referformer.formats.records import write_records
from referformer.formats.text_files import read_json
from referformer.formats.tracks import encode_track
from referformer.registry import METRICS
from referformer.utils.console import shorten

DavisProtocol = Literal['published', 'per-expression']
"""How Ref-DAVIS17 is scored, see :class:`RefDAVISMetric`."""
LabelForm = Literal['png', 'json', 'jsonl']
"""How label maps are written."""


class VideoResult(NamedTuple):
    """Scores of one video, of each annotator or by expression."""

    video_id: str
    scores: list[VideoScores] | dict[str, dict[str, Any]]


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
        form (str): What is written there: ``'png'``, or ``'json'`` or
            ``'jsonl'``, one file of run-length codes for each annotator.
        workers (int | None): Threads that score beside the model, see
            :class:`~.threads.ScoringThreads`. The scores are the same.
            Defaults to None: two beside a GPU.
        **kwargs: Arguments of mmengine's ``BaseMetric``; ``prefix`` is
            'refer' by default.

    Raises:
        ConfigError: If the protocol or the form is unknown, or the protocol
            is not the one that has label maps for ``out_dir``.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        protocol: DavisProtocol,
        outfile: str | None = None,
        out_dir: str | None = None,
        form: LabelForm = 'png',
        workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice('protocol', protocol, get_args(DavisProtocol))
        check_choice('form', form, get_args(LabelForm))
        if out_dir is not None and protocol != 'published':
            raise ConfigError(
                'out_dir is for the label maps of the published protocol; '
                "with protocol='per-expression' add a ReferSubmission to "
                'write masks.'
            )
        self.protocol = protocol
        self.form = form
        self.outfile = outfile
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.threads = ScoringThreads(workers)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch, in which the expressions of a video are neighbours.

        Maybe beside the model; errors may then be those of a batch before.

        Raises:
            DataError: If a file of the ground truth is unusable or sizes
                differ.
            ConfigError: If a video lacks expressions or ground truth, or a
                frame a prediction or a meta key.
        """
        self.results.append(self.threads.run(self._score, data_samples))

    def _score(self, data_samples: Sequence[dict]) -> list[VideoResult]:
        published = self.protocol == 'published'
        score = self._score_annotators if published else _score_expressions
        return [
            VideoResult(clips[0].video_id, score(clips))
            for clips in group_clips(data_samples)
        ]

    def evaluate(self, size: int) -> dict[str, float]:
        """Wait for what is being scored, then gather and average."""
        self.results = self.threads.finish(self.results)
        return super().evaluate(size)

    def _score_annotators(
        self, clips: list[PredictedClip]
    ) -> list[VideoScores]:
        """Score a video once for each annotator."""
        every_pair, combine = PROTOCOLS['unsupervised']
        annotators = _split_clips(clips)
        frames: list[list] = [[] for _ in annotators]
        drawn: list[list] = [[] for _ in annotators]
        for t in range(len(clips[0].frames)):
            truth = TrueLabels(_read_truth(clips[0], t))
            for index, objects in enumerate(annotators):
                labels = merge_objects([c.probabilities(t) for c in objects])
                frames[index].append(truth.compare(labels, every_pair))
                if self.out_dir is not None and self.form == 'png':
                    folder = self.out_dir / f'anno_{index}' / clips[0].video_id
                    path = folder / f'{clips[0].frame_name(t)}.png'
                    write_label_map(path, labels)
                elif self.out_dir is not None:
                    drawn[index].append(labels)
        for index, maps in enumerate(drawn):
            if maps:
                entries = [
                    encode_track(
                        clips[0].video_id, str(k), (m == k for m in maps)
                    )
                    for k in range(1, len(annotators[index]) + 1)
                ]
                write_records(self._part(index, clips[0].video_id), entries)
        return [combine(scores) for scores in frames]

    def _part(self, annotator: int, video: str) -> Path:
        """File of the label maps of a video, joined with others at the end."""
        return self.out_dir / 'parts' / f'anno_{annotator}' / f'{video}.json'

    def _join_parts(self, videos: Iterable[str]) -> None:
        """Write the label maps of all videos, a file for each annotator."""
        videos = list(videos)
        for index in range(NUM_ANNOTATORS):
            entries = (
                entry
                for video in videos
                for entry in read_json(self._part(index, video))
            )
            write_records(self.out_dir / f'anno_{index}.{self.form}', entries)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over objects and annotators, or over expressions.

        Returns:
            dict[str, float]: ``J&F``, ``J`` and ``F`` in percent, and those
            of each annotator, ``anno_<0..3>/J&F`` and so on.

        Raises:
            DataError: If there are no results.
        """
        videos = gather_records(
            results,
            VideoResult._make,
            lambda video: (video.video_id,),
            type(self).__name__,
        )
        logger = MMLogger.get_current_instance()
        # Their parts became plain tuples on the way here, too.
        if self.protocol == 'published':
            annotators = [
                {v.video_id: VideoScores._make(v.scores[a]) for v in videos}
                for a in range(NUM_ANNOTATORS)
            ]
            for name, scores in annotators[0].items():
                late = remark_on_late_objects(name, scores)
                if late is not None:
                    logger.warning(late)
            summary = summarize_annotators(annotators)
            if self.out_dir is not None and self.form != 'png':
                self._join_parts(annotators[0])
        else:
            expressions = {
                f'{video.video_id}/{expression}': measures
                for video in videos
                for expression, measures in video.scores.items()
            }
            summary = summarize_expressions(expressions)
            per_expression = summary['per_expression']
            summary['per_annotator'] = split_annotators(per_expression)
        logger.info(
            'Ref-DAVIS17, protocol %s, %d videos.', self.protocol, len(videos)
        )
        if self.outfile is not None:
            write_table(self.outfile, {'protocol': self.protocol, **summary})
        metrics = percent(summary)
        for name, entry in summary['per_annotator'].items():
            metrics |= percent(entry, f'{name}/')
        return metrics


def _score_expressions(clips: list[PredictedClip]) -> dict[str, dict]:
    """Measure the expressions of a video."""
    tables = np.stack(list(score_frames(clips)), axis=2)
    return {
        clip.exp_id: measure_expression(TargetScores(*tables[:, e]))
        for e, clip in enumerate(clips)
    }


def _split_clips(clips: Sequence[PredictedClip]) -> list[list[PredictedClip]]:
    """Clips of each annotator, objects in the order of their numbers."""
    numbered = {
        int(clip.exp_id): clip for clip in clips if clip.exp_id.isdecimal()
    }
    if len(clips) % NUM_ANNOTATORS or sorted(numbered) != [*range(len(clips))]:
        raise ConfigError(
            f'The video {clips[0].video_id} came with the expressions '
            f'{shorten(clip.exp_id for clip in clips)}, but all of its four '
            'annotators are needed at once, numbered from 0 on; set '
            'group_by_video=True in the dataset, and convert the set with '
            'tools/dataset_converters/davis_to_ytvos.py.'
        )
    ordered = [numbered[number] for number in range(len(clips))]
    return [ordered[a::NUM_ANNOTATORS] for a in range(NUM_ANNOTATORS)]


def _read_truth(clip: PredictedClip, index: int) -> np.ndarray:
    """True label map of a frame, void included."""
    path = clip.frames[index].get('mask_path')
    if path is None:
        raise ConfigError(
            f"Frame {index} of {clip.name} has no 'mask_path'; the published "
            'protocol reads the true label maps itself, so the dataset must '
            'know their folder (data_prefix.mask).'
        )
    return read_label_map(path, clip.shape(index))
