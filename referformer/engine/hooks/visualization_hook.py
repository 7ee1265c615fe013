# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that writes pictures of the results while they are scored."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmdet.structures import TrackDataSample
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from referformer.errors import ConfigError
from referformer.media.pictures import write_image
from referformer.media.reader import VideoReader
from referformer.media.writer import write_video
from referformer.registry import HOOKS


@HOOKS.register_module()
class ReferVisualizationHook(Hook):
    """Draw every ``interval``-th clip of validation and test.

    A clip becomes ``<folder>/<video>/<expression>/<frame>.png``, and with
    ``fps`` also ``<folder>/<video>/<expression>.mp4``. Each rank writes the
    clips it scores. The middle frame also goes to the visualizer's other
    backends, such as TensorBoard or W&B, under the name of the clip.

    Args:
        draw (bool): Whether to draw at all. Defaults to False.
        interval (int): Every how many batches of a rank. Defaults to 1.
        show_dir (str): Folder, below the work directory unless absolute.
            Defaults to ``'vis_data/clips'``.
        draw_gt (bool): Whether to outline the true masks. Defaults to False.
        fps (float, optional): Frames a second of the video. Defaults to
            None, no video.
    """

    priority = 'LOW'

    def __init__(
        self,
        draw: bool = False,
        interval: int = 1,
        show_dir: str = 'vis_data/clips',
        draw_gt: bool = False,
        fps: float | None = None,
    ) -> None:
        if interval < 1:
            raise ConfigError(f'interval must be at least 1, not {interval}.')
        self.draw = draw
        self.interval = interval
        self.show_dir = show_dir
        self.draw_gt = draw_gt
        self.fps = fps

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[TrackDataSample] | None = None,
        mode: str = 'train',
    ) -> None:
        """Draw the clips of every ``interval``-th batch.

        Those of a validation lie in a folder per iteration.
        """
        if not self.draw or mode == 'train' or outputs is None:
            return
        if batch_idx % self.interval:
            return
        folder = Path(runner.work_dir, self.show_dir)
        if mode == 'val':
            folder /= f'iter_{runner.iter}'
        images: list[np.ndarray] = []
        shown = None
        for clip in outputs:
            # expressions of one video follow each other
            if clip.metainfo.get('video_id') != shown or not images:
                images = _read_frames(clip)
                shown = clip.metainfo.get('video_id')
            drawn = runner.visualizer.draw_clip(
                images, clip, draw_gt=self.draw_gt
            )
            drawn = list(drawn)
            self._write_clip(clip, drawn, folder)
            self._show_elsewhere(runner, clip, drawn[len(drawn) // 2])

    @staticmethod
    def _show_elsewhere(
        runner: Runner, clip: TrackDataSample, image: np.ndarray
    ) -> None:
        """Send a picture to the backends that are not folders."""
        name = '/'.join(
            str(clip.metainfo.get(key, '')) for key in ('video_id', 'exp_id')
        )
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, LocalVisBackend):
                backend.add_image(name, image, step=runner.iter)

    def _write_clip(
        self, clip: TrackDataSample, drawn: Sequence[np.ndarray], folder: Path
    ) -> None:
        """Write the pictures of one clip, and its video where asked for."""
        # A video may lie deeper, as set/video.
        video = str(clip.metainfo.get('video_id', 'video'))
        place = folder.joinpath(
            *map(_file_name, video.split('/')),
            _file_name(clip.metainfo.get('exp_id', 'expression')),
        )
        for image, frame in zip(drawn, clip.video_data_samples, strict=True):
            name = frame.metainfo.get('frame_name')
            if name is None:
                name = Path(frame.metainfo['img_path']).stem
            write_image(place / f'{_file_name(name)}.png', image)
        if self.fps is not None:
            write_video(place.with_name(f'{place.name}.mp4'), drawn, self.fps)


def _read_frames(clip: TrackDataSample) -> list[np.ndarray]:
    """Read the frames of a clip at their original size.

    Args:
        clip (TrackDataSample): Its frames tell ``img_path``, or
            ``video_path`` and ``frame_id``.

    Returns:
        list[np.ndarray]: RGB, uint8, each of shape (H, W, 3).
    """
    facts = [frame.metainfo for frame in clip.video_data_samples]
    if 'img_path' in facts[0]:
        # as LoadReferFrame reads them: not turned as EXIF says
        return [
            mmcv.imread(
                f['img_path'],
                flag='color_ignore_orientation',
                channel_order='rgb',
                # OpenCV would give BGR with this flag
                backend='pillow',
            )
            for f in facts
        ]
    with VideoReader(facts[0]['video_path']) as video:
        frames = video.read([f['frame_id'] for f in facts])
    return [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]


def _file_name(part: Any) -> str:
    """Return ``part`` without what a file name must not hold."""
    name = re.sub(r'[^\w.\- ]', '_', str(part))
    return name if name.strip('.') else '_'
