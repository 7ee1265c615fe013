# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos from casts: sprites with texture, outline, shadow; ground truth."""

import functools
from typing import NamedTuple

import cv2
import numpy as np

from referformer.testing.motion_scenes.cast import (
    CUES,
    Cast,
    MovingObject,
    draw_cast,
)
from referformer.testing.motion_scenes.kinds import KINDS
from referformer.testing.motion_scenes.looks import COLOURS
from referformer.testing.motion_scenes.params import MotionSceneParams
from referformer.testing.motion_scenes.sentences import Expression, describe

#: Drawn so many times larger, then averaged.
_OVERSAMPLING = 2
#: Pixels of the unit circle's radius in a sprite, and the sprite's half side.
_UNIT, _HALF = 56, 64
_SUBPIXEL_BITS = 4
#: Least visible part of an object on average, and in any frame.
_SEEN_MEAN, _SEEN_MIN = 0.8, 0.35
#: Least part of an object that another one covers in any frame, where the
#: sentences say so.
_HIDDEN_MIN = 0.12
#: Farthest that the camera moves, in units of the frame's short side.
_CAMERA = 0.09


class MotionScene(NamedTuple):
    """A rendered video.

    Attributes:
        frames: RGB, uint8, shape (T, H, W, 3).
        ids: Number of the visible object, 0 for none, uint8, (T, H, W).
        objects: Object number k is ``objects[k - 1]``.
        expressions: About the objects.
        cue: In what the first two objects differ alone.
    """

    frames: np.ndarray
    ids: np.ndarray
    objects: tuple[MovingObject, ...]
    expressions: list[Expression]
    cue: str


class Sprite(NamedTuple):
    """An object as it looks unturned.

    Attributes:
        colour: RGB, float32, shape (S, S, 3).
        cover: 1 inside its outline, float32, shape (S, S).
        shadow: Blurred cover, float32, shape (S, S).
    """

    colour: np.ndarray
    cover: np.ndarray
    shadow: np.ndarray


def _fill(points: np.ndarray) -> np.ndarray:
    """Draw a polygon in units of the sprite, float32 in [0, 1]."""
    canvas = np.zeros((2 * _HALF, 2 * _HALF), np.uint8)
    fixed = (points * _UNIT + _HALF - 0.5) * (1 << _SUBPIXEL_BITS)
    cv2.fillPoly(
        canvas,
        [np.round(fixed).astype(np.int32)],
        255,
        cv2.LINE_AA,
        shift=_SUBPIXEL_BITS,
    )
    return canvas.astype(np.float32) / 255


def _tones(colour: str) -> dict[str, np.ndarray]:
    """Return the tones of a colour: of body, pattern, parts, outline."""
    body = np.array(COLOURS[colour], np.float32)
    dark = body.mean() < 150
    accent = body * 0.3 + 178 if dark else body * 0.4
    if colour == 'black':
        accent = np.full(3, 160, np.float32)
    return {
        'body': body,
        'accent': accent,
        'shade': body * 0.72,
        'light': body * 0.55 + 112,
        'outline': body * 0.28,
    }


def _pattern(name: str) -> np.ndarray:
    """Where the accent goes, float32 in [0, 1], shape (S, S)."""
    side = (np.arange(2 * _HALF, dtype=np.float32) - _HALF) / _UNIT
    x, y = side[None, :], side[:, None]
    steep = 12.0  # how sharp the borders are
    if name == 'striped':
        wave = np.cos(2 * np.pi * (x + 0.6 * y) / 0.78) - 0.25
    elif name == 'spotted':
        period = 0.62
        row = np.floor(y / period)
        u = (x / period + 0.5 * (row % 2)) % 1 - 0.5
        v = (y / period) % 1 - 0.5
        wave = 0.31 - np.sqrt(u * u + v * v)
        steep = 40.0
    elif name == 'checked':
        wave = np.sin(np.pi * x / 0.46) * np.sin(np.pi * y / 0.46)
    else:
        return np.zeros((2 * _HALF, 2 * _HALF), np.float32)
    return np.clip(0.5 + steep * wave, 0, 1)


@functools.lru_cache(maxsize=1024)
def draw_sprite(
    kind: str, colour: str, pattern: str, mirrored: bool
) -> Sprite:
    """Draw an object of the given looks."""
    tones = _tones(colour)
    side = 2 * _HALF
    picture = np.zeros((side, side, 3), np.float32)
    cover = np.zeros((side, side), np.float32)
    texture = _pattern(pattern)[..., None]
    body = tones['body'] * (1 - texture) + tones['accent'] * texture
    for outline, paint in KINDS[kind]:
        alpha = _fill(outline)
        if paint == 'hole':
            cover *= 1 - alpha
            continue
        if isinstance(paint, str):
            fill = body if paint == 'body' else tones[paint]
        else:
            fill = np.array(paint, np.float32)
        picture += alpha[..., None] * (fill - picture)
        cover = np.maximum(cover, alpha)
    # light from above, and a dark outline that lies inside
    light = np.linspace(1.12, 0.86, side, dtype=np.float32)[:, None, None]
    picture *= light
    inner = cv2.erode(cover, np.ones((5, 5), np.uint8))
    inner = cv2.GaussianBlur(inner, (0, 0), 0.8)[..., None]
    picture = tones['outline'] * (1 - inner) + picture * inner
    if mirrored:
        picture, cover = picture[:, ::-1].copy(), cover[:, ::-1].copy()
    shadow = cv2.GaussianBlur(cover, (0, 0), 5)
    return Sprite(picture.clip(0, 255), cover, shadow)


def _background(
    rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
    """Draw hills under a sky, muted, float32, shape (height, width, 3)."""
    base = rng.uniform(120, 200, 3)
    base += 0.65 * (base.mean() - base)
    ground = np.clip(base + rng.uniform(-28, 28, 3), 90, 210)
    top = np.clip(base + rng.uniform(0, 30), 0, 225)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture = np.repeat(top + ramp * (base - top), width, axis=1)
    x = np.arange(width) / height
    for level, weight in ((0.45, 0.45), (0.65, 0.8)):
        hill = np.full(width, level)
        for order in (1, 2, 4):
            wave = rng.uniform(0, 2 * np.pi)
            hill += 0.07 / order * np.sin(2 * np.pi * order * x / 1.7 + wave)
        below = np.arange(height)[:, None] - height * hill[None, :]
        mask = np.clip(0.5 + below / 2, 0, 1)[..., None]
        picture += mask * weight * (ground - picture)
    coarse = rng.normal(0, 1, (height // 12, width // 12, 1))
    fine = rng.normal(0, 1, (height // 2, width // 2, 1))
    noise = 5 * cv2.resize(
        coarse, (width, height), interpolation=cv2.INTER_CUBIC
    ) + 4 * cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)
    return (picture + noise[..., None]).astype(np.float32)


def _draw_frame(
    picture: np.ndarray,
    cast: Cast,
    frame: int,
    shift: np.ndarray,
    short: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw all objects over ``picture``, which is changed.

    Returns:
        Number of the visible object of each pixel, and the whole cover of
        every object, boolean.
    """
    height, width = picture.shape[:2]
    ids = np.zeros((height, width), np.uint8)
    covers = [np.zeros(0, bool)] * len(cast.objects)
    order = sorted(
        range(len(cast.objects)), key=lambda k: cast.objects[k].depth
    )
    for k in order:
        obj = cast.objects[k]
        sprite = draw_sprite(obj.kind, obj.colour, obj.pattern, obj.mirrored)
        scale = obj.radius * obj.scales[frame] * short / _UNIT
        angle = obj.angles[frame]
        turn = scale * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        centre = (obj.centres[frame] + shift) * short - 0.5
        reach = obj.radius * obj.scales[frame] * short * 1.25 + 2
        # only the part of the frame where the object is
        left, top = np.maximum(np.floor(centre - reach), 0).astype(int)
        right, bottom = np.ceil(centre + reach).astype(int) + 1
        right, bottom = min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            covers[k] = np.zeros((height, width), bool)
            continue
        region = slice(top, bottom), slice(left, right)
        offset = centre - (left, top) - turn @ np.full(2, _HALF - 0.5)
        matrix = np.column_stack([turn, offset])
        size = (right - left, bottom - top)

        def warp(
            image: np.ndarray, by: np.ndarray, size: tuple[int, int] = size
        ) -> np.ndarray:
            return cv2.warpAffine(image, by, size, flags=cv2.INTER_LINEAR)

        alpha = warp(sprite.cover, matrix)
        lower = matrix.copy()
        lower[:, 2] += 0.035 * short
        under = 0.35 * warp(sprite.shadow, lower)[..., None]
        part = picture[region] * (1 - under)
        part += alpha[..., None] * (warp(sprite.colour, matrix) - part)
        picture[region] = part
        solid = alpha > 0.5
        ids[region][solid] = k + 1
        covers[k] = np.zeros((height, width), bool)
        covers[k][region] = solid
    return ids, covers


def _is_order_visible(cast: Cast, covers: list[np.ndarray]) -> bool:
    """Tell whether a frame shows which twin is behind the third object."""
    for twin, relation in enumerate(cast.relations):
        if relation in ('behind', 'before'):
            hidden = covers[twin if relation == 'behind' else 2]
            common = covers[twin] & covers[2]
            if common.sum() < _HIDDEN_MIN * hidden.sum():
                return False
    return True


def _reduce(ids: np.ndarray, count: int, size: tuple[int, int]) -> np.ndarray:
    """Return the most frequent number of each oversampled pixel."""
    shares = [
        cv2.resize(
            (ids == number).astype(np.float32),
            size,
            interpolation=cv2.INTER_AREA,
        )
        for number in range(count + 1)
    ]
    return np.argmax(shares, axis=0).astype(np.uint8)


def render_scene(
    params: MotionSceneParams, split: str, index: int
) -> MotionScene:
    """Draw a video; the same arguments give the same video.

    Args:
        params: Parameters of the set.
        split: ``'train'`` or ``'valid'``.
        index: Number of the video.
    """
    rng = params.stream(split, index)
    short = params.height
    extent = np.array([params.width, params.height]) / short
    cues = CUES if params.cue == 'all' else {params.cue: 1.0}
    while True:
        cast = draw_cast(rng, params.kind_names, params.frames, extent, cues)
        expressions = describe(rng, cast)
        if expressions is None:
            continue
        scene = _render(rng, cast, expressions, params)
        if scene is not None:
            return scene


def _render(
    rng: np.random.Generator,
    cast: Cast,
    expressions: list[Expression],
    params: MotionSceneParams,
) -> MotionScene | None:
    """Draw a cast; None if an object is hidden too much."""
    size = params.width, params.height
    short = params.height * _OVERSAMPLING
    width, height = (side * _OVERSAMPLING for side in size)
    pad = int(np.ceil(_CAMERA * short)) + 1
    wide = _background(rng, height + 2 * pad, width + 2 * pad)
    way = rng.uniform(-1, 1, (2, 2)) * _CAMERA * (rng.random() < 0.5)
    time = np.linspace(0, 1, params.frames)[:, None]
    # Objects keep to the frame; the camera moves half as far to either side.
    shifts = (way[0] * (time - 0.5)) + 0.15 * way[1] * np.sin(2 * np.pi * time)
    frames, ids = [], []
    seen = np.zeros((params.frames, len(cast.objects)))
    for t, shift in enumerate(shifts):
        x, y = np.round(pad - shift * short).astype(int)
        picture = wide[y : y + height, x : x + width].copy()
        number, covers = _draw_frame(picture, cast, t, shift, short)
        for k, cover in enumerate(covers):
            whole = max(cover.sum(), 1)
            seen[t, k] = (number[cover] == k + 1).sum() / whole
            if whole == 1:
                return None
        if not _is_order_visible(cast, covers):
            return None
        frames.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        ids.append(_reduce(number, len(cast.objects), size))
    hidden = {'behind', 'before'} & set(cast.relations)
    least = 0.55 if hidden else _SEEN_MEAN
    if (seen.mean(axis=0) < least).any() or (seen < _SEEN_MIN).any():
        return None
    return MotionScene(
        np.round(np.clip(frames, 0, 255)).astype(np.uint8),
        np.stack(ids),
        cast.objects,
        expressions,
        cast.cue,
    )
