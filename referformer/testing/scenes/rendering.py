# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos from objects: silhouettes, surfaces, background, ground truth."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from referformer.errors import ConfigError
from referformer.testing.scenes.objects import (
    SyntheticObject,
    draw_cast,
    draw_object,
)
from referformer.testing.scenes.params import SyntheticParams
from referformer.testing.scenes.sentences import Expression, describe
from referformer.testing.scenes.shapes import SHAPES
from referformer.testing.scenes.vocabulary import COLOURS

_SUBPIXEL_BITS = 4
# Size at which a drawn scene is judged before it is rendered.
_JUDGE_SHORT_SIDE = 96
# A frame counts as showing an object when this part of the whole, unclipped
# and unoccluded, silhouette is visible.
_SEEN_FRACTION = 0.4
_MIN_SEEN_FRAMES = 1 / 3
# A scene whose objects are not visible enough is drawn again. Only frames of
# an extreme aspect ratio reach the limit.
_MAX_ATTEMPTS = 500


def _fill(
    canvas: np.ndarray, points: np.ndarray, value: int, thickness: int = 0
) -> None:
    """Draw an anti-aliased polygon (filled, or outlined) on ``canvas``."""
    fixed = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    if thickness:
        cv2.polylines(
            canvas,
            [fixed],
            True,
            value,
            thickness,
            cv2.LINE_AA,
            shift=_SUBPIXEL_BITS,
        )
    else:
        cv2.fillPoly(canvas, [fixed], value, cv2.LINE_AA, shift=_SUBPIXEL_BITS)


def _draw_alpha(
    obj: SyntheticObject, frame: int, short: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one object's coverage and outline in one frame."""
    angle = obj.angles[frame]
    spin = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    shape = SHAPES[obj.shape]
    unit = shape.outline @ spin * obj.radius * short
    # Pixel centres lie on whole numbers for OpenCV.
    centre = obj.centres[frame] * short - 0.5
    cover = np.zeros(size, np.uint8)
    edge = np.zeros(size, np.uint8)
    width = max(1, round(0.012 * short))
    _fill(cover, unit + centre, 255)
    _fill(edge, unit + centre, 255, width)
    if shape.hole:
        hole = np.zeros(size, np.uint8)
        _fill(hole, unit * shape.hole + centre, 255)
        cover = cv2.subtract(cover, hole)
        _fill(edge, unit * shape.hole + centre, 255, width)
    return cover, cv2.min(edge, cover)


def _draw_ids(
    objects: Sequence[SyntheticObject], frame: int, height: int, width: int
) -> np.ndarray:
    """Draw the visible part of every object."""
    short = min(height, width)
    ids = np.zeros((height, width), np.uint8)
    for number, obj in enumerate(objects, start=1):
        cover, _ = _draw_alpha(obj, frame, short, (height, width))
        ids[cover > 127] = number
    return ids


def is_well_visible(
    objects: Sequence[SyntheticObject], height: int, width: int
) -> bool:
    """Tell whether every object can be seen well in enough frames.

    Judged at a small size, so that the decision, and with it the scene, does
    not depend on the resolution of the set, only on its aspect ratio.
    """
    short = min(height, width)
    height = round(height * _JUDGE_SHORT_SIDE / short)
    width = round(width * _JUDGE_SHORT_SIDE / short)
    whole = [
        SHAPES[o.shape].area * (o.radius * _JUDGE_SHORT_SIDE) ** 2
        for o in objects
    ]
    frames = len(objects[0].angles)
    seen = np.zeros(len(objects), int)
    for frame in range(frames):
        ids = _draw_ids(objects, frame, height, width)
        visible = np.bincount(ids.ravel(), minlength=len(objects) + 1)[1:]
        seen += visible >= _SEEN_FRACTION * np.asarray(whole)
    need = max(
        1 if frames == 1 else 2, int(np.ceil(frames * _MIN_SEEN_FRAMES))
    )
    return bool((seen >= min(need, frames)).all())


def _noise(
    rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Return smooth noise in [-1, 1] with ``cells`` blobs, shape ``size``."""
    grid = rng.uniform(-1, 1, (max(cells[0], 2), max(cells[1], 2)))
    return cv2.resize(
        grid.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
    )


def draw_background(
    rng: np.random.Generator, frames: int, height: int, width: int
) -> Iterator[np.ndarray]:
    """Yield the background of every frame, float32 RGB, shape (H, W, 3).

    Muted colours with coarse and fine texture and faint stripes, sliding
    under the camera by a few pixels a frame.
    """
    short = min(height, width)
    drift = rng.uniform(-0.16, 0.16, 2) * short
    margin = int(np.ceil(0.17 * short)) + 1
    size = (height + 2 * margin, width + 2 * margin)
    rows, cols = size[0] / short, size[1] / short

    grey = rng.uniform(95, 160)
    base = grey + rng.uniform(-22, 22, 3)
    light = np.zeros(size, np.float32)
    for cells, strength in ((3, 22), (9, 12), (30, 7)):
        light += strength * _noise(
            rng, (round(cells * rows), round(cells * cols)), size
        )
    turn = rng.uniform(0, np.pi)
    wave = rng.uniform(6, 14) * 2 * np.pi / short
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    light += rng.uniform(0, 11) * np.sin(
        wave * (np.cos(turn) * x + np.sin(turn) * y)
    )
    hue = np.stack(
        [_noise(rng, (round(3 * rows), round(3 * cols)), size)] * 3, axis=-1
    ) * rng.uniform(-16, 16, 3)
    canvas = (base + light[..., None] + hue).astype(np.float32)

    for time in np.linspace(-1, 1, frames) if frames > 1 else [0.0]:
        shift = margin + drift * time
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        yield cv2.warpAffine(
            canvas,
            move,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )


def draw_surface(
    rng: np.random.Generator, obj: SyntheticObject, short: int
) -> np.ndarray:
    """Return the paint of an object, float32 RGB, a square patch.

    Its own colour with a soft sheen and some grain.
    """
    side = 2 * int(np.ceil(obj.radius * short)) + 5
    paint = np.asarray(COLOURS[obj.colour], np.float32) + obj.tint
    grain = 9 * _noise(rng, (6, 6), (side, side))
    sheen = np.linspace(12, -14, side, dtype=np.float32)[:, None]
    return (paint + (grain + sheen)[..., None]).astype(np.float32)


def paste(
    image: np.ndarray,
    obj: SyntheticObject,
    surface: np.ndarray,
    frame: int,
) -> np.ndarray:
    """Blend one object onto ``image`` in place.

    Returns:
        The silhouette inside the frame, bool, shape (H, W).
    """
    height, width = image.shape[:2]
    short = min(height, width)
    cover, edge = _draw_alpha(obj, frame, short, (height, width))
    side = surface.shape[0]
    left, top = np.round(obj.centres[frame] * short - side / 2).astype(int)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    if x0 < x1 and y0 < y1:
        area = np.s_[y0:y1, x0:x1]
        paint = surface[y0 - top : y1 - top, x0 - left : x1 - left]
        # The rim is a darker shade of the object, a lighter one of black.
        rim = paint * 0.55 if obj.colour != 'black' else paint + 70
        share = edge[area].astype(np.float32)[..., None] / 255
        paint = paint * (1 - share) + rim * share
        alpha = cover[area].astype(np.float32)[..., None] / 255
        image[area] = image[area] * (1 - alpha) + paint * alpha
    return cover > 127


class SyntheticVideo(NamedTuple):
    """A rendered video with its ground truth.

    Attributes:
        frames: RGB images, uint8, shape (T, H, W, 3).
        ids: Object id of the visible object at each pixel, 0 = background,
            uint8, shape (T, H, W).
        objects: The objects; the first one has id 1.
        expressions: All expressions of the video.
    """

    frames: np.ndarray
    ids: np.ndarray
    objects: list[SyntheticObject]
    expressions: list[Expression]


def render_video(
    params: SyntheticParams, split: str, index: int
) -> SyntheticVideo:
    """Make one video.

    Raises:
        ConfigError: If no scene with visible objects could be drawn.
    """
    rng = params.stream(split, index)
    height, width = params.height, params.width
    for _ in range(_MAX_ATTEMPTS):
        cast = draw_cast(rng, params)
        objects = [
            draw_object(rng, member, params.frames, height, width)
            for member in cast
        ]
        if is_well_visible(objects, height, width):
            break
    else:
        raise ConfigError(
            f'Found no scene for {width}x{height} frames in '
            f'{_MAX_ATTEMPTS} attempts; use a less extreme aspect ratio.'
        )
    expressions = describe(rng, objects)

    short = min(height, width)
    surfaces = [draw_surface(rng, obj, short) for obj in objects]
    frames = np.empty((params.frames, height, width, 3), np.uint8)
    ids = np.zeros((params.frames, height, width), np.uint8)
    backdrop = draw_background(rng, params.frames, height, width)
    for t, image in enumerate(backdrop):
        for number, obj in enumerate(objects, start=1):
            inside = paste(image, obj, surfaces[number - 1], t)
            ids[t][inside] = number
        image += rng.normal(0, 2.5, image.shape).astype(np.float32)
        frames[t] = image.clip(0, 255).round()
    return SyntheticVideo(frames, ids, objects, expressions)
