# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What metrics read out of the data sample of a clip.

The evaluator hands over ``TrackDataSample.to_dict()``: clip facts are keys at
the top, and ``video_data_samples`` lists one ``DetDataSample`` a frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Clip(NamedTuple):
    """One expression on one video.

    Attributes:
        video_id (str): Name of the video.
        exp_id (str): Name of the expression, unique within the video.
        frames (Sequence): T ``DetDataSample`` in order of time.
    """

    video_id: str
    exp_id: str
    frames: Sequence[Any]

    @property
    def name(self) -> str:
        """``<video>/<expression>``, for messages and tables."""
        return f'{self.video_id}/{self.exp_id}'


def read_clip(data_sample: Mapping[str, Any]) -> Clip:
    """Pick the facts of a clip out of its data sample.

    Args:
        data_sample (Mapping): ``TrackDataSample.to_dict()``.

    Returns:
        Clip: Its names and frames.

    Raises:
        KeyError: If the sample lacks ``video_id``, ``exp_id`` or frames.
    """
    for key in ('video_id', 'exp_id', 'video_data_samples'):
        if data_sample.get(key) is None:
            raise KeyError(
                f'A data sample has no {key!r} (it has '
                f'{sorted(data_sample)}); list it in the meta keys of the '
                'transform that packs the clip.'
            )
    clip = Clip(
        str(data_sample['video_id']),
        str(data_sample['exp_id']),
        data_sample['video_data_samples'],
    )
    if not len(clip.frames):
        raise KeyError(f'The clip {clip.name} has no frames.')
    return clip


def frame_name(clip: Clip, index: int) -> str:
    """File name of a frame of the clip, without extension."""
    name = clip.frames[index].get('frame_name')
    if name is None:
        raise KeyError(
            f"Frame {index} of {clip.name} has no 'frame_name'; list it in "
            'the meta keys of the transform that packs the clip.'
        )
    return str(name)


def _to_numpy(masks: Any) -> np.ndarray:
    """Masks of any container (mmdet's, PyTorch's, numpy's), (n, H, W)."""
    if hasattr(masks, 'to_ndarray'):
        return masks.to_ndarray()
    if hasattr(masks, 'cpu'):
        masks = masks.detach().cpu()
    return np.asarray(masks)


def _original_shape(clip: Clip, index: int) -> tuple[int, int]:
    """Height and width of the frame as it is on disk."""
    shape = clip.frames[index].get('ori_shape')
    if shape is None:
        raise KeyError(
            f"Frame {index} of {clip.name} has no 'ori_shape'; list it in "
            'the meta keys of the transform that packs the clip.'
        )
    return int(shape[0]), int(shape[1])


def _predicted_masks(clip: Clip, index: int) -> Any:
    """Masks of a frame, best sequence first, in whatever container."""
    instances = clip.frames[index].get('pred_track_instances')
    masks = None if instances is None else instances.get('masks')
    if masks is None:
        raise KeyError(
            f'Frame {index} of {clip.name} has no '
            "'pred_track_instances.masks'; the model must write it in "
            "mode='predict'."
        )
    return masks


def predicted_mask(clip: Clip, index: int) -> np.ndarray:
    """Best predicted mask of a frame.

    Args:
        clip (Clip): The clip, after prediction.
        index (int): Position of the frame in the clip.

    Returns:
        np.ndarray: bool, shape (ori_h, ori_w); empty if the model found
        nothing in this frame.

    Raises:
        KeyError: If the model left no prediction in the frame.
        TypeError: If the masks are not thresholded.
        ValueError: If their size is not that of the frame.
    """
    masks = predicted_masks(clip, index, limit=1)
    return masks[0] if len(masks) else np.zeros(masks.shape[1:], bool)


def predicted_masks(
    clip: Clip, index: int, limit: int | None = None
) -> np.ndarray:
    """Predicted masks of a frame, best sequence first.

    Args:
        clip (Clip): The clip, after prediction.
        index (int): Position of the frame in the clip.
        limit (int, optional): How many at most. Defaults to None, all.

    Returns:
        np.ndarray: bool, shape (k, ori_h, ori_w).

    Raises:
        KeyError: If the model left no prediction in the frame.
        TypeError: If the masks are not thresholded.
        ValueError: If their size is not that of the frame.
    """
    shape = _original_shape(clip, index)
    array = _to_numpy(_predicted_masks(clip, index)[:limit])
    if not len(array):
        return np.zeros((0, *shape), bool)
    if array.dtype.kind == 'f':
        raise TypeError(
            f'The predicted masks of {clip.name} are {array.dtype}; threshold '
            'them to bool before they reach a metric.'
        )
    if array.shape[1:] != shape:
        raise ValueError(
            f'The predicted mask of frame {index} of {clip.name} is '
            f'{array.shape[2]} x {array.shape[1]} pixels but the frame is '
            f'{shape[1]} x {shape[0]}; resize masks to ori_shape.'
        )
    return array != 0


def predicted_probabilities(clip: Clip, index: int) -> np.ndarray:
    """Foreground probability of the best sequence in a frame.

    Args:
        clip (Clip): The clip, after prediction.
        index (int): Position of the frame in the clip.

    Returns:
        np.ndarray: float32, shape (ori_h, ori_w); zero if the model found
        nothing in this frame.

    Raises:
        KeyError: If the model left no prediction in the frame.
        TypeError: If the prediction is thresholded already.
    """
    masks = _predicted_masks(clip, index)[:1]
    if not hasattr(masks, 'probabilities'):
        raise TypeError(
            f'The predicted masks of {clip.name} are thresholded, but this '
            'protocol weighs the objects of a video against each other; set '
            'group_by_video=True in the test dataset.'
        )
    if not len(masks):
        return np.zeros(_original_shape(clip, index), np.float32)
    return masks.probabilities()[0]


def true_mask(clip: Clip, index: int) -> np.ndarray | None:
    """True mask of a frame: the union of the referred objects.

    Args:
        clip (Clip): The clip, with or without annotation.
        index (int): Position of the frame in the clip.

    Returns:
        np.ndarray | None: bool, shape (ori_h, ori_w), empty where the object
        is out of sight; None if the frame is not annotated.

    Raises:
        ValueError: If the size of the masks is not that of the frame.
    """
    instances = clip.frames[index].get('gt_instances')
    masks = None if instances is None else instances.get('masks')
    if masks is None:
        return None
    shape = _original_shape(clip, index)
    array = _to_numpy(masks)
    if not len(array):
        return np.zeros(shape, bool)
    if array.shape[1:] != shape:
        raise ValueError(
            f'The true mask of frame {index} of {clip.name} is '
            f'{array.shape[2]} x {array.shape[1]} pixels but the frame is '
            f'{shape[1]} x {shape[0]}; in the test pipeline load annotations '
            'after the resize.'
        )
    return (array != 0).any(axis=0)
