# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Visualizer of referred objects in the frames of a clip."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import master_only
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from PIL import Image, ImageDraw, ImageFont

from referformer.registry import VISUALIZERS
from referformer.visualization.video_writer import write_image

Colour = tuple[int, int, int]

# Told apart by people of every colour vision, on dark and light frames (after
# the palette of Okabe and Ito).
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)
_STRIP_COLOUR: Colour = (24, 24, 24)
_STRIP_TEXT: Colour = (245, 245, 245)


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font that knows more than Latin letters, ``size`` in pixels."""
    path = Path(matplotlib.get_data_path()) / 'fonts/ttf/DejaVuSans.ttf'
    return ImageFont.truetype(str(path), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break text into lines of at most ``width`` pixels, words whole."""
    lines: list[str] = []
    for word in text.split():
        joined = f'{lines[-1]} {word}' if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            while font.getlength(word) > width and len(word) > 1:
                cut = len(word) - 1
                while cut > 1 and font.getlength(word[:cut]) > width:
                    cut -= 1
                lines.append(word[:cut])
                word = word[cut:]
            lines.append(word)
    return lines


@VISUALIZERS.register_module()
class ReferLocalVisualizer(Visualizer):
    """Draw masks, boxes, scores and the expression.

    Sizes of lines and letters follow the frame, from thumbnails of 96 pixels
    to 4K. The expression stands in a strip of its own below the frame, hence
    covers nothing and reads the same on every background. Pictures are RGB
    on the way in and out.

    Args:
        name (str): Name of the instance. Defaults to ``'visualizer'``.
        vis_backends (list, optional): Configs of mmengine's backends.
            Defaults to None.
        save_dir (str, optional): Folder of the backends. Defaults to None.
        alpha (float): Opacity of masks in [0, 1]. Defaults to 0.5.
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
            raise ValueError(f'alpha must be in [0, 1] but is {alpha}.')
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
            image (np.ndarray): RGB frame of shape (h, w, 3), uint8.
            data_sample (DetDataSample, optional): The frame's results and
                annotations. Defaults to None.
            text (str, optional): The expression. Defaults to None.
            draw_gt (bool): Whether to outline the true masks. Defaults to
                False.
            draw_pred (bool): Whether to draw the predictions. Defaults to
                True.
            out_file (str, optional): Picture to write. Defaults to None:
                the backends get it.
            step (int): Global step for the backends. Defaults to 0.
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
        """Draw every frame of a clip.

        Args:
            images (Sequence[np.ndarray]): The T frames, RGB, of shape
                (h, w, 3), uint8.
            clip (TrackDataSample): The clip; ``metainfo['text']`` is the
                expression, its frames hold ``pred_track_instances``.
            draw_gt (bool): Whether to outline the true masks. Defaults to
                False.
            draw_pred (bool): Whether to draw the predictions. Defaults to
                True.

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
        return [
            self.draw_frame(image, frame, text, draw_gt, draw_pred)
            for image, frame in zip(images, frames, strict=True)
        ]

    def draw_frame(
        self,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        text: str | None = None,
        draw_gt: bool = False,
        draw_pred: bool = True,
    ) -> np.ndarray:
        """Draw one frame.

        Args:
            image (np.ndarray): RGB frame of shape (h, w, 3), uint8.
            data_sample (DetDataSample, optional): See
                :meth:`add_datasample`.
            text (str, optional): The expression. Defaults to None, no strip.
            draw_gt (bool): Whether to outline the true masks in white.
            draw_pred (bool): Whether to draw the predictions.

        Returns:
            np.ndarray: RGB picture of shape (h + strip, w, 3), uint8.
        """
        drawn = np.array(image, dtype=np.uint8)
        present = () if data_sample is None else data_sample.keys()
        if draw_pred and 'pred_track_instances' in present:
            self._draw_predictions(drawn, data_sample.pred_track_instances)
        if draw_gt and 'gt_instances' in present:
            for mask in _masks(data_sample.gt_instances, drawn.shape):
                self._outline(drawn, mask, (255, 255, 255))
        if text is None:
            return drawn
        return np.concatenate([drawn, _strip(text, *drawn.shape[:2])])

    def _draw_predictions(
        self, drawn: np.ndarray, instances: InstanceData
    ) -> None:
        """Draw masks, then boxes, then scores over ``drawn`` (h, w, 3)."""
        masks = _masks(instances, drawn.shape)
        colours = [PALETTE[i % len(PALETTE)] for i in range(len(instances))]
        # From the worst to the best, so that the best lies on top.
        for mask, colour in reversed(list(zip(masks, colours, strict=False))):
            blend = (
                self.alpha * np.array(colour)
                + (1 - self.alpha) * (drawn[mask])
            )
            drawn[mask] = blend.round().astype(np.uint8)
            self._outline(drawn, mask, colour)
        boxes = _to_numpy(instances.get('bboxes', np.empty((0, 4))))
        scores = _to_numpy(instances.get('scores', np.empty(0)))
        for index in reversed(range(len(boxes))):
            box, colour = boxes[index], colours[index]
            if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
                continue
            # Prediction boxes may leave the frame.
            left, top, right, bottom = np.clip(
                box.round().astype(int),
                0,
                [drawn.shape[1] - 1, drawn.shape[0] - 1] * 2,
            ).tolist()
            cv2.rectangle(
                drawn, (left, top), (right, bottom), colour, _line(drawn)
            )
            if index < len(scores):
                _label(drawn, f'{scores[index]:.2f}', left, top, colour)

    @staticmethod
    def _outline(drawn: np.ndarray, mask: np.ndarray, colour: Colour) -> None:
        """Draw the border of a mask, with a dark rim where there is room."""
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        line = _line(drawn)
        if line > 1:
            cv2.drawContours(drawn, contours, -1, (0, 0, 0), line + 2)
        cv2.drawContours(drawn, contours, -1, colour, line)


def _to_numpy(value: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return a tensor of any device as an array."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def _masks(instances: InstanceData, shape: tuple[int, ...]) -> np.ndarray:
    """Return the masks of instances as bool [K, h, w], empty if none.

    Raises:
        ValueError: If the masks have another size than the frame.
    """
    masks = instances.get('masks')
    if masks is None or len(masks) == 0:
        return np.zeros((0, *shape[:2]), dtype=bool)
    if isinstance(masks, BitmapMasks):
        masks = masks.masks
    masks = _to_numpy(masks).astype(bool)
    if masks.shape[1:] != tuple(shape[:2]):
        raise ValueError(
            f'a mask of {masks.shape[1]} x {masks.shape[2]} pixels cannot be '
            f'drawn on a frame of {shape[0]} x {shape[1]}; give the frame at '
            'its original size.'
        )
    return masks


def _line(drawn: np.ndarray) -> int:
    """Return the thickness of lines for a frame: 2 at 480p, 7 at 4K."""
    return max(1, round(min(drawn.shape[:2]) / 300))


def _font_size(height: int, width: int) -> int:
    """Return the height of letters in pixels, legible when not enlarged."""
    return max(10, round(min(height, width) / 24))


def _label(
    drawn: np.ndarray, text: str, left: int, top: int, colour: Colour
) -> None:
    """Write ``text`` on a patch of ``colour`` at the corner of a box."""
    height, width = drawn.shape[:2]
    font = _font(_font_size(height, width))
    pad = max(1, font.size // 6)
    patch_w = int(font.getlength(text)) + 2 * pad + 1
    patch_h = font.size + 2 * pad
    left = max(0, min(left, width - patch_w))
    top = top - patch_h if top >= patch_h else top
    luminance = np.dot(colour, (0.299, 0.587, 0.114))
    canvas = Image.new('RGB', (patch_w, patch_h), colour)
    ImageDraw.Draw(canvas).text(
        (pad, patch_h / 2),
        text,
        font=font,
        fill=(0, 0, 0) if luminance > 128 else (255, 255, 255),
        anchor='lm',
    )
    place = drawn[top : top + patch_h, left : left + patch_w]
    place[:] = np.asarray(canvas)[: place.shape[0], : place.shape[1]]


@functools.lru_cache(maxsize=8)
def _strip(text: str, height: int, width: int) -> np.ndarray:
    """Return the strip with the expression for frames of (height, width).

    At most three lines; a longer text ends in an ellipsis. The result is
    cached, as all frames of a clip share it, and must not be written to.

    Returns:
        np.ndarray: RGB strip of shape (strip, width, 3), uint8.
    """
    font = _font(_font_size(height, width))
    pad = max(2, font.size // 3)
    lines = _wrap(text, font, width - 2 * pad)
    if len(lines) > 3:
        lines = lines[:3]
        while lines[2] and font.getlength(f'{lines[2]}…') > width - 2 * pad:
            lines[2] = lines[2][:-1]
        lines[2] += '…'
    step = round(font.size * 1.25)
    strip_height = max(1, len(lines)) * step + 2 * pad
    canvas = Image.new('RGB', (width, strip_height), _STRIP_COLOUR)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text(
            (pad, pad + (number + 0.5) * step),
            line,
            font=font,
            fill=_STRIP_TEXT,
            anchor='lm',
        )
    strip = np.array(canvas)
    strip.flags.writeable = False
    return strip
