# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How an object of given attributes looks and moves."""

import dataclasses

import numpy as np

from referformer.testing.scenes.draws import pick
from referformer.testing.scenes.shapes import SHAPES
from referformer.testing.scenes.vocabulary import ATTRIBUTES, MOTIONS, SIZES


@dataclasses.dataclass(frozen=True)
class SyntheticObject:
    """One object: its attributes and how it moves and looks.

    Lengths are in units of the frame's short side.

    Args:
        colour: Key of :data:`COLOURS`.
        shape: Member of :data:`SHAPES`.
        size: Key of :data:`SIZES`.
        motion: Key of :data:`MOTIONS`.
        radius: Radius of the circle around the silhouette.
        centres: Centre (x, y) in every frame, shape (T, 2).
        angles: Rotation in radians in every frame, shape (T,).
        tint: Offset added to the RGB colour, shape (3,).
    """

    colour: str
    shape: str
    size: str
    motion: str
    radius: float
    centres: np.ndarray
    angles: np.ndarray
    tint: np.ndarray

    @property
    def attributes(self) -> dict[str, str]:
        """The four attributes by name."""
        return {name: getattr(self, name) for name in ATTRIBUTES}


def _draw_path(
    rng: np.random.Generator,
    motion: str,
    radius: float,
    frames: int,
    extent: np.ndarray,
) -> np.ndarray:
    """Draw the centres of an object over time.

    A moving object crosses a good part of the frame in a straight line. One
    in three of them enters the frame from outside or leaves it.

    Args:
        rng: Random stream of the video.
        motion: Key of :data:`MOTIONS`.
        radius: Radius in units of the short side.
        frames: Number of frames T.
        extent: Frame size (x, y) in units of the short side, shape (2,).

    Returns:
        Centres (x, y), shape (T, 2).
    """
    time = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    inset = np.minimum(0.75 * radius, 0.45 * extent)
    start = rng.uniform(inset, extent - inset)
    # Objects tremble a little, far less than they move.
    phase = rng.uniform(0, 2 * np.pi, 2)
    wobble = 0.008 * np.sin(2 * np.pi * time[:, None] + phase)
    if motion == 'still':
        return start + wobble
    direction = np.asarray(MOTIONS[motion])
    axis = 0 if direction[0] else 1
    length = extent[axis]
    kind = pick(rng, ('inside', 'inside', 'inside', 'inside', 'enter', 'exit'))
    if kind == 'inside':
        room = length - 2 * inset[axis]
        travel = room * rng.uniform(0.55, 0.95)
        begin = inset[axis] + rng.uniform(0, room - travel)
    else:
        # Fully outside for the first part, or, played backwards, the last.
        depth = length * rng.uniform(0.5, 0.75) + 1.1 * radius
        hidden = rng.uniform(0.05, 0.45)
        travel = depth / (1 - hidden)
        begin = -1.1 * radius - hidden * travel
        if kind == 'exit':
            begin = length - (begin + travel)
    along = begin + travel * time
    if direction[axis] < 0:
        along = length - along
    centres = np.repeat(start[None], frames, axis=0)
    centres[:, axis] = along
    return centres + wobble


def draw_object(
    rng: np.random.Generator,
    attributes: dict[str, str],
    frames: int,
    height: int,
    width: int,
) -> SyntheticObject:
    """Draw size, path and look of an object with given attributes."""
    short = min(height, width)
    extent = np.array([width, height]) / short
    fraction = rng.uniform(*SIZES[attributes['size']])
    area = fraction * extent.prod()
    radius = float(np.sqrt(area / SHAPES[attributes['shape']].area))
    radius = min(radius, 0.36)
    time = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    swing = rng.uniform(-0.18, 0.18, 2)
    return SyntheticObject(
        **attributes,
        radius=radius,
        centres=_draw_path(rng, attributes['motion'], radius, frames, extent),
        angles=swing[0] + swing[1] * time,
        tint=rng.uniform(-10, 10, 3),
    )
