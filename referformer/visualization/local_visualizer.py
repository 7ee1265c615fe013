# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Visualizer of referred objects in the frames of a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.dist import master_only
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from referformer.errors import ConfigError
from referformer.media.pictures import write_image
from referformer.registry import VISUALIZERS
from referformer.structures import to_numpy
from referformer.visualization.drawing import (
    Colour,
    colour_of,
    contrasting_colours,
    draw_box,
    draw_point,
    fill_mask,
    outline_mask,
)
from referformer.visualization.lettering import draw_strip

#: Frames of a clip, at most, that decide about the colours of its masks.
_LOOKED_AT = 8


@VISUALIZERS.register_module()
class ReferLocalVisualizer(Visualizer):
    """Draw masks, boxes, scores and the expression.

    The expression stands in a strip of its own below the frame, hence
    covers nothing and reads the same on every background. Pictures are RGB
    on the way in and out.

    Args:
        name (str): Name of the instance.
        vis_backends (list, optional): Configs of mmengine's backends.
        save_dir (str, optional): Folder of the backends.
        alpha (float): Opacity of masks in [0, 1].

    Raises:
        ConfigError: If ``alpha`` is not.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        vis_backends: list[dict] | None = None,
        save_dir: str | None = None,
        alpha: float = 0.5,
    ) -> None:
        super().__init__(
            name=name, vis_backends=vis_backends, save_dir=save_dir
        )
        if not 0 <= alpha <= 1:
            raise ConfigError(f'alpha must be in [0, 1] but is {alpha}.')
        self.alpha = alpha

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        text: str | None = None,
        draw_gt: bool = False,
        draw_pred: bool = True,
        out_file: str | None = None,
        step: int = 0,
        **kwargs: Any,
    ) -> None:
        """Draw one frame and hand it to a file or to the backends.

        Args:
            name (str): Name of the picture for the backends.
            image (np.ndarray): See :meth:`draw_frame`.
            data_sample (DetDataSample, optional): Likewise.
            text (str, optional): Likewise.
            draw_gt (bool): Likewise.
            draw_pred (bool): Likewise.
            out_file (str, optional): Picture to write; without it the backends
                get the picture.
            step (int): Global step for the backends.
            **kwargs: Accepted so that mmengine's own calls fit.
        """
        drawn = self.draw_frame(
            image, data_sample, text, draw_gt=draw_gt, draw_pred=draw_pred
        )
        self.set_image(drawn)
        if out_file is not None:
            write_image(out_file, drawn)
        else:
            self.add_image(name, drawn, step)

    def draw_clip(
        self,
        images: Sequence[np.ndarray],
        clip: TrackDataSample,
        draw_gt: bool = False,
        draw_pred: bool = True,
    ) -> list[np.ndarray]:
        """Draw every frame of a clip, a sequence of masks in one colour.

        The colours contrast with what the masks cover.

        Args:
            images (Sequence[np.ndarray]): T frames, see :meth:`draw_frame`.
            clip (TrackDataSample): The clip; ``metainfo['text']`` is the
                expression, its frames hold ``pred_track_instances``.
            draw_gt (bool): See :meth:`draw_frame`.
            draw_pred (bool): Likewise.

        Returns:
            list[np.ndarray]: T RGB pictures of one size (h + strip, w, 3).

        Raises:
            ValueError: If the number of pictures is not that of the frames.
        """
        frames = clip.video_data_samples
        if len(images) != len(frames):
            raise ValueError(
                f'{len(images)} pictures were given for a clip of '
                f'{len(frames)} frames.'
            )
        text = clip.metainfo.get('text')
        colours = self._colours_of(images, frames) if draw_pred else None
        return [
            self.draw_frame(image, frame, text, draw_gt, draw_pred, colours)
            for image, frame in zip(images, frames, strict=True)
        ]

    @staticmethod
    def _colours_of(
        images: Sequence[np.ndarray], frames: Sequence[DetDataSample]
    ) -> tuple[Colour, ...] | None:
        """Choose a colour for each sequence of masks of a clip."""
        if any('pred_track_instances' not in frame for frame in frames):
            return None
        some = slice(None, None, len(frames) // _LOOKED_AT + 1)
        images = images[some]
        masks = [
            _masks(frame.pred_track_instances, image.shape)
            for image, frame in zip(images, frames[some], strict=True)
        ]
        if len(set(map(len, masks))) > 1:
            return None
        return contrasting_colours(
            np.concatenate(images), np.concatenate(masks, 1)
        )

    def draw_frame(
        self,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        text: str | None = None,
        draw_gt: bool = False,
        draw_pred: bool = True,
        colours: Sequence[Colour] | None = None,
    ) -> np.ndarray:
        """Draw one frame.

        Args:
            image (np.ndarray): RGB frame of shape (h, w, 3), uint8.
            data_sample (DetDataSample, optional): The frame's results and
                annotations.
            text (str, optional): The expression; none, no strip.
            draw_gt (bool): Whether to outline the true masks in white.
            draw_pred (bool): Whether to draw the predictions.
            colours (Sequence[Colour], optional): Of the predictions, those
                of the palette by default.

        Returns:
            np.ndarray: RGB picture of shape (h + strip, w, 3), uint8.
        """
        drawn = np.array(image, dtype=np.uint8)
        present = () if data_sample is None else data_sample.keys()
        if draw_pred and 'pred_track_instances' in present:
            instances = data_sample.pred_track_instances
            self._draw_predictions(drawn, instances, colours)
        if draw_gt and 'gt_instances' in present:
            for mask in _masks(data_sample.gt_instances, drawn.shape):
                outline_mask(drawn, mask, (255, 255, 255))
        if text is None:
            return drawn
        strip = draw_strip((text,), *drawn.shape[:2])
        return np.concatenate([drawn, strip])

    def draw_expressions(
        self,
        image: np.ndarray,
        texts: Sequence[str],
        masks: np.ndarray,
        scores: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        colours: Sequence[Colour] | None = None,
    ) -> np.ndarray:
        """Draw what several expressions mean in a frame.

        Each has a colour of its own, which the strip below explains.

        Args:
            image (np.ndarray): RGB frame of shape (h, w, 3), uint8.
            texts (Sequence[str]): E expressions.
            masks (np.ndarray): bool, shape (E, h, w).
            scores (np.ndarray, optional): Written on the boxes, shape (E,).
            boxes (np.ndarray, optional): x1, y1, x2, y2 in pixels, shape
                (E, 4). Those of empty masks are left out.
            points (np.ndarray, optional): x, y in pixels, shape (E, 2).
            colours (Sequence[Colour], optional): One per expression, those
                of the palette by default.

        Returns:
            np.ndarray: RGB picture of shape (h + strip, w, 3), uint8.
        """
        drawn = np.array(image, dtype=np.uint8)
        colours = tuple(colours or map(colour_of, range(len(texts))))
        for mask, colour in zip(masks, colours, strict=True):
            fill_mask(drawn, mask, colour, self.alpha)
        for index, colour in enumerate(colours):
            if boxes is not None and masks[index].any():
                score = None if scores is None else scores[index]
                draw_box(drawn, boxes[index], colour, score)
            if points is not None:
                draw_point(drawn, points[index], colour)
        strip = draw_strip(tuple(texts), *drawn.shape[:2], colours)
        return np.concatenate([drawn, strip])

    def _draw_predictions(
        self,
        drawn: np.ndarray,
        instances: InstanceData,
        colours: Sequence[Colour] | None = None,
    ) -> None:
        """Draw masks, then boxes, then scores over ``drawn`` (h, w, 3)."""
        masks = _masks(instances, drawn.shape)
        colours = colours or tuple(map(colour_of, range(len(masks))))
        # From the worst to the best, so that the best lies on top.
        for index in reversed(range(len(masks))):
            fill_mask(drawn, masks[index], colours[index], self.alpha)
        boxes = to_numpy(instances.get('bboxes', np.empty((0, 4))))
        scores = to_numpy(instances.get('scores', np.empty(0)))
        for index in reversed(range(len(boxes))):
            score = scores[index] if index < len(scores) else None
            draw_box(drawn, boxes[index], colours[index], score)


def _masks(instances: InstanceData, shape: tuple[int, ...]) -> np.ndarray:
    """Return the masks of instances as bool [K, h, w], empty if none."""
    masks = instances.get('masks')
    if masks is None or len(masks) == 0:
        return np.zeros((0, *shape[:2]), dtype=bool)
    masks = to_numpy(masks).astype(bool)
    if masks.shape[1:] != tuple(shape[:2]):
        raise ValueError(
            f'a mask of {masks.shape[1]} x {masks.shape[2]} pixels cannot be '
            f'drawn on a frame of {shape[0]} x {shape[1]}; give the frame at '
            'its original size.'
        )
    return masks
