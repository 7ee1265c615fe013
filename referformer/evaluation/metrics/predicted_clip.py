# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What metrics read out of the data sample of a clip.

The evaluator hands over ``TrackDataSample.to_dict()``: clip facts are keys at
the top, and ``video_data_samples`` lists one ``DetDataSample`` a frame. Here,
and nowhere else, it becomes a :class:`PredictedClip`.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional import score_targets
from referformer.evaluation.functional.kernel import BOUND_TH
from referformer.formats.coco import Box
from referformer.formats.rle import decode_union
from referformer.structures import to_numpy

_ADD_META_KEY = 'list it in the meta keys of the transform that packs the clip'


class PredictedClip(NamedTuple):
    """One expression on one video, with the masks predicted for it.

    Attributes:
        video_id (str): Name of the video.
        exp_id (str): Name of the expression, unique within the video.
        frames (Sequence): T ``DetDataSample`` in order of time.
        text (str): The expression.
        annotated_position (int | None): Position of the only frame that is
            scored.
        subset (str): Part of the data set that is scored on its own.
        image_id (int | str): Id in the ground-truth file of the data set.
        box (Box | None): The annotated box, x1, y1, x2, y2 in pixels.
        attributes (Mapping[str, str] | None): Of the expression, such as its
            type.
    """

    video_id: str
    exp_id: str
    frames: Sequence[Any]
    text: str = ''
    annotated_position: int | None = None
    subset: str = ''
    image_id: int | str = ''
    box: Box | None = None
    attributes: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """``<video>/<expression>``, for messages and tables."""
        return f'{self.video_id}/{self.exp_id}'

    def meta(self, index: int, key: str) -> Any:
        """A fact about a frame; ``ConfigError`` if it was not packed."""
        value = self.frames[index].get(key)
        if value is None:
            raise ConfigError(
                f'Frame {index} of {self.name} has no {key!r}; '
                f'{_ADD_META_KEY}.'
            )
        return value

    @property
    def score(self) -> float | None:
        """Score of the best sequence; None if the model gives none."""
        instances = self.frames[0].get('pred_track_instances')
        scores = () if instances is None else instances.get('scores', ())
        return float(scores[0]) if len(scores) else None

    def frame_name(self, index: int) -> str:
        """File name of a frame, without extension."""
        return str(self.meta(index, 'frame_name'))

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a frame as it is on disk."""
        height, width = self.meta(index, 'ori_shape')[:2]
        return int(height), int(width)

    def _masks(self, index: int, kind: str, fault: str) -> Any:
        """Masks of a frame in whatever container, best sequence first."""
        instances = self.frames[index].get(kind)
        masks = None if instances is None else instances.get('masks')
        if masks is None:
            raise ConfigError(f'Frame {index} of {self.name} has no {fault}')
        return masks

    def _predictions(self, index: int) -> Any:
        return self._masks(
            index,
            'pred_track_instances',
            "'pred_track_instances.masks'; the model must write it in "
            "mode='predict'.",
        )

    def _truth(self, index: int) -> Any:
        return self._masks(
            index,
            'gt_instances',
            'ground truth masks, so it cannot be scored; the test set needs '
            'masks, a pipeline that loads them, and the obj_id of every '
            'expression (obj_id_file names a file that tells them). Where '
            'none are published, use ReferSubmission, which only writes the '
            'predictions.',
        )

    def _check_size(
        self, index: int, size: Sequence[int], kind: str, remedy: str
    ) -> None:
        """Raise unless masks have the size of their frame."""
        shape = self.shape(index)
        if tuple(size) != shape:
            raise DataError(
                f'The {kind} mask of frame {index} of {self.name} is '
                f'{size[1]} x {size[0]} pixels but the frame is {shape[1]} x '
                f'{shape[0]}; {remedy}.'
            )

    def masks(self, index: int, limit: int | None = None) -> np.ndarray:
        """Predicted masks of a frame, best sequence first.

        Args:
            index (int): Position of the frame in the clip.
            limit (int, optional): How many at most.

        Returns:
            np.ndarray: bool, shape (k, ori_h, ori_w).

        Raises:
            ConfigError: If the model left no prediction in the frame.
            TypeError: If the masks are not thresholded.
            DataError: If their size is not that of the frame.
        """
        array = to_numpy(self._predictions(index)[:limit])
        if not len(array):
            return np.zeros((0, *self.shape(index)), bool)
        if array.dtype.kind == 'f':
            raise TypeError(
                f'The predicted masks of {self.name} are {array.dtype}; '
                'threshold them to bool before they reach a metric.'
            )
        self._check_size(
            index, array.shape[1:], 'predicted', 'resize masks to ori_shape'
        )
        return _as_bool(array)

    def mask(self, index: int) -> np.ndarray:
        """Best of :meth:`masks`, bool, shape (ori_h, ori_w); empty if none."""
        masks = self.masks(index, limit=1)
        return masks[0] if len(masks) else np.zeros(masks.shape[1:], bool)

    def probabilities(self, index: int) -> np.ndarray:
        """Foreground probability of the best sequence in a frame.

        Returns:
            np.ndarray: float32, shape (ori_h, ori_w); zero if the model found
            nothing in this frame.

        Raises:
            ConfigError: If the model left no prediction in the frame, or one
                that is thresholded already.
        """
        masks = self._predictions(index)[:1]
        if not hasattr(masks, 'probabilities'):
            raise ConfigError(
                f'The predicted masks of {self.name} are thresholded, but '
                'this protocol weighs the objects of a video against each '
                'other; set group_by_video=True in the test dataset.'
            )
        if not len(masks):
            return np.zeros(self.shape(index), np.float32)
        return masks.probabilities()[0]

    def true_mask(self, index: int) -> np.ndarray:
        """True mask of a frame: the union of the referred objects.

        Returns:
            np.ndarray: bool, shape (ori_h, ori_w), empty where the object is
            out of sight.

        Raises:
            ConfigError: If the frame is not annotated.
            DataError: If the size of the masks is not that of the frame.
        """
        shape = self.shape(index)
        masks = self._truth(index)
        if not len(masks):
            return np.zeros(shape, bool)
        encoded = hasattr(masks, 'rles')
        array = masks if encoded else to_numpy(masks)
        remedy = 'in the test pipeline load annotations after the resize'
        self._check_size(index, array.shape[1:], 'true', remedy)
        if encoded:
            return decode_union(masks.rles, shape)
        return _as_bool(array).any(axis=0)

    def truth_key(self, index: int) -> Hashable:
        """What tells the true mask of a frame from others.

        Run-length codes do. Other masks are not worth comparing: the key is
        the name of the expression, so nothing is shared.
        """
        masks = self._truth(index)
        if not hasattr(masks, 'rles'):
            return self.exp_id
        return (self.shape(index), *(rle['counts'] for rle in masks.rles))


def _as_bool(masks: np.ndarray) -> np.ndarray:
    """Masks as bool, without a copy if they are."""
    return masks if masks.dtype == bool else masks != 0


def read_clip(data_sample: Mapping[str, Any]) -> PredictedClip:
    """Read the data sample of a clip, ``TrackDataSample.to_dict()``.

    Raises:
        ConfigError: If the sample lacks ``video_id``, ``exp_id`` or frames.
    """
    for key in ('video_id', 'exp_id', 'video_data_samples'):
        if data_sample.get(key) is None:
            raise ConfigError(
                f'A data sample has no {key!r} (it has '
                f'{sorted(data_sample)}); {_ADD_META_KEY}.'
            )
    video = str(data_sample['video_id'])
    expression = str(data_sample['exp_id'])
    frames = data_sample['video_data_samples']
    if not len(frames):
        raise DataError(f'The clip {video}/{expression} has no frames.')
    box = data_sample.get('ori_bbox')
    return PredictedClip(
        video,
        expression,
        frames,
        text=str(data_sample.get('text', '')),
        annotated_position=data_sample.get('annotated_position'),
        subset=str(data_sample.get('subset', '')),
        image_id=data_sample.get('image_id', f'{video}/{expression}'),
        box=None if box is None else tuple(map(float, box)),
        attributes=data_sample.get('attributes'),
    )


def group_clips(
    data_samples: Iterable[Mapping[str, Any]],
) -> Iterator[list[PredictedClip]]:
    """Read the clips of a batch; those of a video, neighbours, together."""
    clips = map(read_clip, data_samples)
    for _, group in groupby(clips, lambda c: (c.video_id, len(c.frames))):
        yield list(group)


def score_frames(
    clips: Sequence[PredictedClip], bound_th: float = BOUND_TH
) -> Iterator[np.ndarray]:
    """Score the expressions of a video frame by frame.

    Expressions that mean the same share the outline of the true mask.

    Args:
        clips (Sequence[PredictedClip]): E expressions of one video.
        bound_th (float): Tolerance, see ``functional.kernel``.

    Yields:
        np.ndarray: The values of ``functional.TargetScores`` of the next
        frame, float64, shape (6, E).
    """
    for index in range(len(clips[0].frames)):
        targets = [clip.truth_key(index) for clip in clips]
        owners = dict(zip(targets, clips, strict=True))
        yield score_targets(
            (clip.mask(index) for clip in clips),
            targets,
            lambda key, _, o=owners, t=index: o[key].true_mask(t),
            bound_th,
        )
