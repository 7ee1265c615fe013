# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Choosing the frames of a clip.

The samplers turn the item of a dataset, which describes a whole video, into
a dict in which *every* value is a list with one entry per frame. Only then
can mmcv's ``TransformBroadcaster`` hand each frame to an image transform: it
splits every sequence, also a string, which it would split into letters.
"""

import random
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from referformer.errors import ConfigError
from referformer.registry import TRANSFORMS

#: Keys of an item that only serve to find the files of a frame.
_FILE_KEYS = (
    'frame_names',
    'img_dir',
    'img_suffix',
    'mask_dir',
    'mask_suffix',
    'start_frame',
)


def to_frames(item: dict, indices: Sequence[int]) -> dict[str, list]:
    """Turn an item into per-frame lists.

    Args:
        item: Item of a :class:`~referformer.datasets.BaseReferDataset`.
        indices: Frames to take, T positions in the video.

    Returns:
        Lists of length T: ``img_path`` (unless the frames lie in a video
        file), ``mask_path`` (``None`` without files of masks),
        ``frame_name``, ``frame_id`` (position in the video),
        ``annotated_position`` (position in the clip) if only one frame is
        annotated, and each remaining key of the item, its value repeated.
    """
    names = [item['frame_names'][i] for i in indices]
    frames: dict[str, list] = {
        key: [value] * len(names)
        for key, value in item.items()
        if key not in _FILE_KEYS
    }
    frames['frame_id'] = list(indices)
    frames['frame_name'] = names
    for kind in ('img', 'mask'):
        folder, suffix = item.get(f'{kind}_dir'), item.get(f'{kind}_suffix')
        if folder is not None:
            paths = [f'{folder}/{name}{suffix}' for name in names]
            frames[f'{kind}_path'] = paths
    frames.setdefault('mask_path', [None] * len(names))
    if item.get('annotated_frame_id') is not None:
        position = list(indices).index(item['annotated_frame_id'])
        frames['annotated_position'] = [position] * len(names)
    return frames


class _SampleSome(BaseTransform):
    """Base of the samplers that take ``num_frames`` frames."""

    def __init__(self, num_frames: int) -> None:
        if num_frames < 1:
            raise ConfigError(
                f'num_frames is {num_frames}; it must be at least 1.'
            )
        self.num_frames = num_frames

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_frames={self.num_frames})'


@TRANSFORMS.register_module()
class SampleClipFrames(_SampleSome):
    """Sample a training clip around the item's start frame.

    The clip holds the start frame, one frame 1 to 3 before and one 1 to 3
    after it (clamped to the video), and T - 3 further frames from outside
    this window, without replacement; all in temporal order. The sampling of
    the published training is kept with its peculiarities:

    * at either end of the video clamping repeats the start frame;
    * the last frame of the window still counts as outside, so that it may
      come twice;
    * when there are no more than T - 3 frames outside, the further frames
      come from the whole video, and so may repeat any frame;
    * a video of less than T - 3 frames gives all its frames and then some of
      them again;
    * of the three frames around the start frame, T = 2 keeps the first two.

    Args:
        num_frames: Length T of the clip.

    Raises:
        ConfigError: If ``num_frames`` is less than 1.
    """

    def sample(self, start_frame: int, video_length: int) -> list[int]:
        """Draw the positions of the frames.

        Args:
            start_frame: Start frame.
            video_length: Frames of the video.

        Returns:
            T positions, not decreasing.
        """
        if self.num_frames == 1:
            return [start_frame]
        before = max(0, start_frame - random.randint(1, 3))
        after = min(video_length - 1, start_frame + random.randint(1, 3))
        chosen = [before, start_frame, after]
        missing = self.num_frames - 3
        if missing > 0:
            everything = range(video_length)
            outside = [*everything[:before], *everything[after:]]
            if len(outside) > missing:
                chosen += random.sample(outside, missing)
            else:
                # Whole rounds of the video first; no more than one in the
                # published code, which fails for videos shorter still.
                rounds, rest = divmod(missing, video_length)
                chosen += list(everything) * rounds
                chosen += random.sample(everything, rest)
        return sorted(chosen)[: self.num_frames]

    def transform(self, results: dict) -> dict[str, list]:
        """Turn an item into the frames of a clip; see :func:`to_frames`."""
        start_frame = results.get('start_frame')
        if start_frame is None:
            raise ConfigError(
                'SampleClipFrames needs the key "start_frame", which datasets '
                'give in training only; use SampleAllFrames with '
                'test_mode=True.'
            )
        return to_frames(
            results, self.sample(start_frame, results['video_length'])
        )


@TRANSFORMS.register_module()
class SampleAllFrames(BaseTransform):
    """Take all frames of the video, in order."""

    def transform(self, results: dict) -> dict[str, list]:
        """Turn an item into all its frames; see :func:`to_frames`."""
        return to_frames(results, range(results['video_length']))

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class SampleWindow(_SampleSome):
    """Take consecutive frames around the annotated one, for evaluation.

    Frames beyond either end of the video are repetitions of its first or
    last one (published A2D- and JHMDB-Sentences evaluation).

    Args:
        num_frames: Length T of the window; of an even one, the annotated
            frame begins the second half.

    Raises:
        ConfigError: If ``num_frames`` is less than 1.
    """

    def transform(self, results: dict) -> dict[str, list]:
        """Turn an item into the frames of a window; see :func:`to_frames`."""
        centre = results.get('annotated_frame_id')
        if centre is None:
            raise ConfigError(
                'SampleWindow needs the key "annotated_frame_id"; use '
                'SampleAllFrames where all frames are annotated.'
            )
        start = centre - self.num_frames // 2
        window = np.arange(start, start + self.num_frames)
        window = window.clip(0, results['video_length'] - 1)
        return to_frames(results, window.tolist())


@TRANSFORMS.register_module()
class KeepOneMask(BaseTransform):
    """Train on one frame of a clip, drawn at random; the rest is context.

    A video backbone sees the whole clip, the later parts of the model only
    this frame, as if it were the only one annotated. They take most of the
    time, so a batch of the same duration holds many more expressions.

    It stands between the sampler of frames and ``LoadReferAnnotations``.
    """

    def transform(self, results: dict[str, list]) -> dict[str, list]:
        """Choose the frame; the others lose their ``mask_path``."""
        paths = results['mask_path']
        position = random.randrange(len(paths))
        results['annotated_position'] = [position] * len(paths)
        results['mask_path'] = [
            path if t == position else None for t, path in enumerate(paths)
        ]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
