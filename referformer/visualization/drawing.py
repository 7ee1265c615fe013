# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Drawing onto frames: masks, boxes, points, each in its colour.

Frames are RGB, uint8, of shape (h, w, 3), and are drawn on in place. Sizes of
lines and letters follow the frame, from thumbnails of 96 pixels to 4K.
"""

import colorsys
from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment

from referformer.visualization.lettering import (
    find_font,
    font_size,
)

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
#: Distance in CIELAB from which on two colours are told apart at a glance,
#: even where one of them is half transparent.
_CLEAR = 60.0


def colour_of(index: int) -> Colour:
    """Return the RGB colour of an expression; no two are alike."""
    if index < len(PALETTE):
        return PALETTE[index]
    # golden steps around the wheel of hues, light and dark in turn
    hue = (0.12 + 0.618034 * index) % 1
    value = (1.0, 0.75)[index % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def contrasting_colours(
    image: np.ndarray, masks: Iterable[np.ndarray]
) -> tuple[Colour, ...]:
    """Choose colours that stand out from what the masks cover.

    A colour is clear on an object if it is far, in CIELAB, from three
    quarters of the object's pixels. Expressions keep the colours of
    :func:`colour_of`, except where another one is clearer; no two are alike.

    Args:
        image (np.ndarray): RGB frame of shape (h, w, 3), uint8. Several
            frames may lie below each other, and their masks likewise.
        masks (Iterable[np.ndarray]): E masks, bool, (h, w).

    Returns:
        tuple[Colour, ...]: A colour per mask.
    """
    objects = [image[mask] for mask in masks]
    choice = range(max(len(objects), len(PALETTE)))
    palette = np.array([colour_of(index) for index in choice], np.uint8)
    # [E, P]
    clearness = np.zeros((len(objects), len(palette)))
    for number, pixels in enumerate(objects):
        if len(pixels):
            some = _to_lab(pixels[:: len(pixels) // 1000 + 1])
            distances = np.linalg.norm(
                some[:, None] - _to_lab(palette), axis=2
            )
            far = np.quantile(distances, 0.25, axis=0)
            clearness[number] = np.minimum(far, _CLEAR)
    # among colours that are equally clear: its own, then the earlier ones
    clearness -= 0.01 * np.arange(len(palette))
    np.fill_diagonal(clearness, clearness.diagonal() + 1)
    _, chosen = linear_sum_assignment(clearness, maximize=True)
    return tuple(map(colour_of, chosen.tolist()))


def _to_lab(colours: np.ndarray) -> np.ndarray:
    """Convert RGB colours, uint8, (n, 3), to CIELAB, float32, (n, 3)."""
    pixels = np.ascontiguousarray(colours[None], np.float32) / 255
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0]


def enlarge(
    image: np.ndarray, scale: int, filter: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Enlarge a picture, uint8, (h, w, 3), or a mask, bool, (h, w)."""
    if scale == 1:
        return image
    size = (image.shape[1] * scale, image.shape[0] * scale)
    if image.dtype == bool:
        share = cv2.resize(
            image.astype(np.float32), size, interpolation=filter
        )
        return share > 0.5
    return cv2.resize(image, size, interpolation=filter)


def fill_mask(
    drawn: np.ndarray, mask: np.ndarray, colour: Colour, alpha: float
) -> None:
    """Tint a mask, bool, (h, w), with an opacity in [0, 1], and outline it."""
    mask = np.ascontiguousarray(mask).view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return
    part = np.s_[top : top + height, left : left + width]
    solid = np.full_like(drawn[part], colour)
    tinted = cv2.addWeighted(drawn[part], 1 - alpha, solid, alpha, 0)
    drawn[part] = cv2.copyTo(tinted, mask[part], drawn[part].copy())
    outline_mask(drawn, mask, colour)


def draw_box(
    drawn: np.ndarray,
    box: np.ndarray,
    colour: Colour,
    score: float | None,
) -> None:
    """Draw a box, x1, y1, x2, y2 in pixels, with a score at its corner.

    It is not drawn if empty or not finite, and cut where it leaves the frame.
    """
    if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
        return
    # Prediction boxes may leave the frame.
    most = [drawn.shape[1] - 1, drawn.shape[0] - 1] * 2
    left, top, right, bottom = box.round().clip(0, most).astype(int).tolist()
    line = _line(drawn)
    if line > 1:
        cv2.rectangle(drawn, (left, top), (right, bottom), (0, 0, 0), line + 2)
    cv2.rectangle(drawn, (left, top), (right, bottom), colour, line)
    if score is not None:
        _label(drawn, f'{score:.2f}', left, top, colour)


def outline_mask(drawn: np.ndarray, mask: np.ndarray, colour: Colour) -> None:
    """Draw the border of a mask, with a dark rim where there is room."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    line = _line(drawn)
    if line > 1:
        cv2.drawContours(drawn, contours, -1, (0, 0, 0), line + 2)
    cv2.drawContours(drawn, contours, -1, colour, line)


def _line(drawn: np.ndarray) -> int:
    """Return the thickness of lines for a frame: 1 at 240p, 9 at 4K.

    It is odd, so that a dark rim shows alike on both sides.
    """
    return 2 * round(min(drawn.shape[:2]) / 600) + 1


def draw_point(drawn: np.ndarray, point: np.ndarray, colour: Colour) -> None:
    """Draw a dot at x, y, with a light and a dark rim; none if not finite."""
    if not np.isfinite(point).all():
        return
    line = _line(drawn)
    centre = tuple(point.round().astype(int).tolist())
    for size, ink in ((4, (0, 0, 0)), (3, (255, 255, 255)), (2, colour)):
        cv2.circle(drawn, centre, size * line, ink, -1, cv2.LINE_AA)


def _label(
    drawn: np.ndarray, text: str, left: int, top: int, colour: Colour
) -> None:
    """Write ``text`` on a patch of ``colour`` at the corner of a box."""
    height, width = drawn.shape[:2]
    font = find_font(font_size(height, width), text)
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
