# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Which objects a video shows, how they look and how they move."""

import dataclasses

import numpy as np

from referformer.testing.scenes.params import SyntheticParams
from referformer.testing.scenes.shapes import SHAPES
from referformer.testing.scenes.vocabulary import (
    ATTRIBUTES,
    COLOURS,
    MOTIONS,
    SIZES,
    pick,
    pick_two,
)

#: How often the two objects of a video with ``objects=2`` differ in an
#: attribute. Attributes that are hard to learn have more weight.
PAIR_ODDS = {'colour': 0.1, 'shape': 0.55, 'size': 0.3, 'motion': 0.05}


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

    @property
    def category(self) -> str:
        """What a data set calls its class."""
        return self.shape


def _draw_pair(
    rng: np.random.Generator, values: dict[str, tuple[str, ...]]
) -> list[dict[str, str]]:
    """Draw two objects that differ in one attribute."""
    names = [name for name in ATTRIBUTES if len(values[name]) > 1]
    odds = np.array([PAIR_ODDS[name] for name in names])
    name = str(rng.choice(names, p=odds / odds.sum()))
    shared = {key: pick(rng, values[key]) for key in ATTRIBUTES}
    return [{**shared, name: value} for value in pick_two(rng, values[name])]


def draw_cast(
    rng: np.random.Generator, params: SyntheticParams
) -> list[dict[str, str]]:
    """Draw the attributes of the two to four objects of a video.

    Two attributes with two values each give four combinations, for example
    ``{red, blue} x {circle, star}``. With all four as objects, each attribute
    of an object is shared by another object, so that only both together
    identify it. With three objects this holds for one of them; two objects
    share one of the two attributes. The remaining attributes are mostly equal
    for all objects.
    """
    with_motion = params.frames > 1
    values = {
        'colour': tuple(COLOURS)[: params.colours],
        'shape': tuple(SHAPES)[: params.shapes],
        'size': tuple(SIZES),
        'motion': tuple(MOTIONS) if with_motion else ('still',),
    }
    if params.objects == 2:
        return _draw_pair(rng, values)
    planes = [('colour', 'shape'), ('colour', 'size'), ('shape', 'size')]
    odds = [0.46, 0.22, 0.16]
    if with_motion:
        planes += [('colour', 'motion'), ('shape', 'motion')]
        odds += [0.08, 0.08]
    odds = np.asarray(odds) / sum(odds)
    first, second = planes[int(rng.choice(len(planes), p=odds))]
    a, b = pick_two(rng, values[first]), pick_two(rng, values[second])

    counts, shares = [2, 3, 4], np.array([0.2, 0.3, 0.5])
    shares = shares * (np.array(counts) <= params.objects)
    count = int(rng.choice(counts, p=shares / shares.sum()))
    # Of three objects, the first shares an attribute with each other one.
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    if count == 3:
        corners = corners[:3]
    elif count == 2:
        corners = [(0, 0), (0, 1) if rng.random() < 0.5 else (1, 0)]

    shared = {name: pick(rng, values[name]) for name in ATTRIBUTES}
    cast = []
    for i, j in corners:
        member = dict(shared)
        # Half of the objects get a motion of their own, so that a model
        # cannot rely on the other attributes being equal.
        if rng.random() < 0.5:
            member['motion'] = pick(rng, values['motion'])
        member[first] = a[i]
        member[second] = b[j]
        cast.append(member)
    order = rng.permutation(len(cast))
    return [cast[k] for k in order]


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
    """
    time = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    inset = np.minimum(0.75 * radius, 0.45 * extent)
    start = rng.uniform(inset, extent - inset)
    # Objects jitter, far less than they move.
    phase = rng.uniform(0, 2 * np.pi, 2)
    jitter = 0.008 * np.sin(2 * np.pi * time[:, None] + phase)
    if motion == 'still':
        return start + jitter
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
    return centres + jitter


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
