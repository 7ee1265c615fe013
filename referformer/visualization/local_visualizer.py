# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Visualizer of referred objects in the frames of a clip."""

import colorsys
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import master_only
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from PIL import Image, ImageDraw, ImageFont

from referformer.media.writer import write_image
from referformer.registry import VISUALIZERS

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


def colour_of(index: int) -> Colour:
    """Return the RGB colour of an expression; no two are alike."""
    if index < len(PALETTE):
        return PALETTE[index]
    # golden steps around the wheel of hues, light and dark in turn
    hue = (0.12 + 0.618034 * index) % 1
    value = (1.0, 0.75)[index % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@functools.lru_cache(maxsize=64)
def _font_path(letters: frozenset[str]) -> str:
    """Return the font that knows most of the letters.

    DejaVu Sans, which comes with matplotlib, wherever it knows all: Latin,
    Greek, Cyrillic, Arabic and more. For others, such as Chinese, the fonts
    of the machine are searched.
    """
    best = str(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'))

    def unknown(path: str) -> int:
        known = FT2Font(path).get_charmap()
        return sum(ord(letter) not in known for letter in letters)

    fewest = unknown(best)
    for path in findSystemFonts() if fewest else ():
        try:
            number = unknown(path)
            ImageFont.truetype(path, 16)
        except (OSError, RuntimeError):
            continue  # bitmap fonts and others that cannot be scaled
        if number < fewest:
            best, fewest = path, number
    return best


@functools.lru_cache(maxsize=64)
def _font(size: int, text: str = '') -> ImageFont.FreeTypeFont:
    """Return a font for a text, ``size`` in pixels."""
    letters = frozenset(text) - frozenset(' \t\r\n')
    return ImageFont.truetype(_font_path(letters), size)


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
        strip = _strip((text,), *drawn.shape[:2], with_colours=False)
        return np.concatenate([drawn, strip])

    def draw_expressions(
        self,
        image: np.ndarray,
        texts: Sequence[str],
        masks: np.ndarray,
        scores: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
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

        Returns:
            np.ndarray: RGB picture of shape (h + strip, w, 3), uint8.
        """
        drawn = np.array(image, dtype=np.uint8)
        colours = [colour_of(index) for index in range(len(texts))]
        for mask, colour in zip(masks, colours, strict=True):
            self._fill(drawn, mask, colour)
        for index, colour in enumerate(colours):
            if boxes is not None and masks[index].any():
                score = None if scores is None else scores[index]
                self._box(drawn, boxes[index], colour, score)
            if points is not None and np.isfinite(points[index]).all():
                _point(drawn, points[index], colour)
        strip = _strip(tuple(texts), *drawn.shape[:2], with_colours=True)
        return np.concatenate([drawn, strip])

    def _draw_predictions(
        self, drawn: np.ndarray, instances: InstanceData
    ) -> None:
        """Draw masks, then boxes, then scores over ``drawn`` (h, w, 3)."""
        masks = _masks(instances, drawn.shape)
        # From the worst to the best, so that the best lies on top.
        for index in reversed(range(len(masks))):
            self._fill(drawn, masks[index], colour_of(index))
        boxes = _to_numpy(instances.get('bboxes', np.empty((0, 4))))
        scores = _to_numpy(instances.get('scores', np.empty(0)))
        for index in reversed(range(len(boxes))):
            score = scores[index] if index < len(scores) else None
            self._box(drawn, boxes[index], colour_of(index), score)

    def _fill(
        self, drawn: np.ndarray, mask: np.ndarray, colour: Colour
    ) -> None:
        """Tint a mask (h, w) and outline it."""
        mask = np.ascontiguousarray(mask).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        if not width:
            return
        part = np.s_[top : top + height, left : left + width]
        solid = np.full_like(drawn[part], colour)
        tinted = cv2.addWeighted(
            drawn[part], 1 - self.alpha, solid, self.alpha, 0
        )
        drawn[part] = cv2.copyTo(tinted, mask[part], drawn[part].copy())
        self._outline(drawn, mask, colour)

    @staticmethod
    def _box(
        drawn: np.ndarray,
        box: np.ndarray,
        colour: Colour,
        score: float | None,
    ) -> None:
        """Draw a box x1, y1, x2, y2 with its score."""
        if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
            return
        # Prediction boxes may leave the frame.
        left, top, right, bottom = np.clip(
            box.round().astype(int),
            0,
            [drawn.shape[1] - 1, drawn.shape[0] - 1] * 2,
        ).tolist()
        line = _line(drawn)
        if line > 1:
            cv2.rectangle(
                drawn, (left, top), (right, bottom), (0, 0, 0), line + 2
            )
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, line)
        if score is not None:
            _label(drawn, f'{score:.2f}', left, top, colour)

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
    """Return the thickness of lines for a frame: 1 at 240p, 9 at 4K.

    It is odd, so that a dark rim shows alike on both sides.
    """
    return 2 * round(min(drawn.shape[:2]) / 600) + 1


def _font_size(height: int, width: int) -> int:
    """Return the height of letters in pixels, legible when not enlarged."""
    return max(10, round(min(height, width) / 24))


def _point(drawn: np.ndarray, point: np.ndarray, colour: Colour) -> None:
    """Draw a dot of ``colour`` with a light and a dark rim."""
    line = _line(drawn)
    centre = tuple(point.round().astype(int).tolist())
    for radius, ink in (
        (4 * line, (0, 0, 0)),
        (3 * line, (255, 255, 255)),
        (2 * line, colour),
    ):
        cv2.circle(drawn, centre, radius, ink, -1, cv2.LINE_AA)


def _label(
    drawn: np.ndarray, text: str, left: int, top: int, colour: Colour
) -> None:
    """Write ``text`` on a patch of ``colour`` at the corner of a box."""
    height, width = drawn.shape[:2]
    font = _font(_font_size(height, width), text)
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


def _shorten(
    lines: list[str], most: int, font: ImageFont.FreeTypeFont, width: float
) -> list[str]:
    """Return at most so many lines, ending in an ellipsis if cut."""
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(f'{last}…') > width:
        last = last[:-1]
    return [*lines[: most - 1], f'{last}…']


@functools.lru_cache(maxsize=8)
def _strip(
    texts: tuple[str, ...], height: int, width: int, with_colours: bool
) -> np.ndarray:
    """Return the strip with the expressions for frames of (height, width).

    A single one has up to three lines, two or three have two each, more have
    one; a longer text ends in an ellipsis. The result is cached, as all
    frames of a clip share it, and must not be written to.

    Returns:
        np.ndarray: RGB strip of shape (strip, width, 3), uint8.
    """
    size = _font_size(height, width)
    pad = max(2, size // 3)
    step = round(size * 1.25)
    indent = size + pad if with_colours else 0
    room = max(1, width - 2 * pad - indent)
    most = {1: 3, 2: 2, 3: 2}.get(len(texts), 1)
    rows = []
    for text in texts:
        font = _font(size, text)
        lines = _wrap(text, font, room) or ['']
        rows.append((font, _shorten(lines, most, font, room)))
    strip_height = sum(len(lines) for _, lines in rows) * step + 2 * pad
    canvas = Image.new('RGB', (width, strip_height), _STRIP_COLOUR)
    draw = ImageDraw.Draw(canvas)
    top = pad
    for index, (font, lines) in enumerate(rows):
        if with_colours:
            y = top + (step - size) // 2
            draw.rectangle(
                (pad, y, pad + size - 1, y + size - 1), fill=colour_of(index)
            )
        for line in lines:
            draw.text(
                (pad + indent, top + step / 2),
                line,
                font=font,
                fill=_STRIP_TEXT,
                anchor='lm',
            )
            top += step
    strip = np.array(canvas)
    strip.flags.writeable = False
    return strip
