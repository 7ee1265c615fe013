# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""One video with its ground truth."""

from typing import NamedTuple

import numpy as np

from referformer.errors import ConfigError
from referformer.testing.scenes.cast import draw_cast
from referformer.testing.scenes.objects import SyntheticObject, draw_object
from referformer.testing.scenes.params import SyntheticParams
from referformer.testing.scenes.rendering import (
    draw_background,
    draw_surface,
    is_well_visible,
    paste,
)
from referformer.testing.scenes.sentences import Expression, describe

# A scene whose objects are not visible enough is drawn again. Only frames of
# an extreme aspect ratio reach the limit.
_MAX_ATTEMPTS = 500


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

    Args:
        params: Parameters of the set.
        split: ``'train'`` or ``'valid'``.
        index: Number of the video within the split.

    Returns:
        The frames, ids, objects and expressions.

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
